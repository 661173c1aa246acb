"""Device ID/Key Assignment, S2 steps 1 to 10 (PROTOCOL section 6), between server and external PN GW.

``mediator`` is the external PN GW, ``server`` the server. Nothing is kept before step 10, at either.
"""
