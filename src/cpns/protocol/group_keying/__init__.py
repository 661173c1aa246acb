"""How a Group Key reaches the members behind one PN GW and nobody else (DEF-6, DEF-7, PROTOCOL section 7).

``tree`` is the PN GW: the GKEK, whose tree gives each member its GKDK, and the broadcast that the present members
open. ``member`` is the PNE.
"""
