"""The pure engine: no I/O, no clock, no random source, no log, no async below this line."""
