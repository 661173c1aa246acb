"""A siege: what parties without a key, or with one, do to the others at a given rate, and what these notice of it.

``python -m tests.support.siege`` prints the table (``make siege``). Server, gateways and attackers are processes.
"""
