"""The judge of implementations of LiveKit's RPC, and the room server that it and the tests use."""
