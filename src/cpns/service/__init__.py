"""Load, step, commit, send: the procedures with store, vault, clock and randomness around them."""
