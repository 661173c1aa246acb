"""Servers that a user would name, measured beside this one in the same run: ``python -m bench.peers``."""
