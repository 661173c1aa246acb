"""The command line: one file for each noun; it talks to the admin API, or runs a role."""
