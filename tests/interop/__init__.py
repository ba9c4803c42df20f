"""Rooms with real clients in them: a room server for tests, official clients, and ours."""
