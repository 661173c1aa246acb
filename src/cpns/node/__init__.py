"""A CPNS Device that hosts a PNE and a PN GW, and runs as either or as both, changing while it runs (DEF-1, DEF-2)."""
