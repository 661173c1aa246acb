"""PNE authentication through the PN GW, 7.5.4: ``pne``, ``gateway`` and ``server``, one part each.

PNE                        PN GW                          CPNS Server
 | -- SETUP Request -------> |                                |      step 1
 |                           | -- SETUP Request (all PNEs) -> |      step 2
 |                           | <- AUTHENTICATE Request ------ |      step 3
 | <- AUTHENTICATE Request - |                                |      step 4
 | -- AUTHENTICATE Response> |                                |      step 5
 |                           | -- AUTHENTICATE Response ----> |      step 6
 |                           | <- SETUP Response ------------ |      step 7
 | <- SETUP Response ------- |                                |      step 8, 9
"""
