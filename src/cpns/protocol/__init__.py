"""The procedures as pure functions: state, message, keys, random values in; next state and message out, or an error.

A state is a frozen type that holds only what exists then; a function that raises has changed nothing.
"""
