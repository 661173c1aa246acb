"""The operator's door to one server: an HTTP API on a Unix socket in its data folder, and the client for it."""
