"""Bytes to messages and back: the registry, the message types, the strict codec. No I/O, no keys."""
