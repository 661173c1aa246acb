"""The CPNS Server: authenticates PN GWs, and PNEs through them; stores what PNEs send; reaches them."""
