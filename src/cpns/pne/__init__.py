"""The PNE: a device that proves itself to the server through whatever PN GW it finds, and talks to it end to end."""
