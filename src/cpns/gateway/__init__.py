"""The PN GW: gathers its PNEs into one SETUP, shares a hop key with each, and relays what it can't read."""
