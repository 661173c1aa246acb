"""Activation of a CM Device over its own connection, S2 steps 12 to 16 (PROTOCOL section 6, profile `cm-server`).

Two messages: the CM Device's code comes with the first, so anyone can send it again. The server's session counts only
when the first message opens under it.
"""
