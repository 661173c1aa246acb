"""cpns: a Converged Personal Network Service.

A device (PNE) proves itself to the CPNS Server through a gateway (PN GW) that neither has to trust.
"""

__version__ = "0.1.0"
