"""PN GW authentication, 7.5.5: ``claimant`` proves first, ``verifier`` last.

PN GW and server run it with the PN GW's EUKey; PNE and PN GW with the LocalEUKey, the PNE as claimant (AUTH-P6,
AUTH-G4).
"""
