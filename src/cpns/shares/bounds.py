"""How much of each finite thing one party may have, and all together."""

from dataclasses import dataclass
from typing import Final

from cpns.shares.turns import Limits


@dataclass(frozen=True, slots=True)
class Requests:
    """How many requests of others an endpoint takes.

    Attributes:
        waiting: for their turn.
        running: that it works on at once.
        strangers: of these, those of strangers.
    """

    waiting: Limits
    running: Limits
    strangers: int


REQUESTS: Final = Requests(Limits(session=32, uplink=512, total=4096), Limits(session=32, uplink=512, total=2048), 1024)
AT_SERVER: Final = Requests(
    Limits(session=32, uplink=512, total=4096), Limits(session=32, uplink=1024, total=8192), 4096 + 512
)
"""Those at the server: an ACTIVATE run is worked on until it is proved or given up, and has its place otherwise."""
OF_SERVER: Final = Requests(Limits(session=64, uplink=2048, total=2048), Limits(session=64, uplink=2048, total=2048), 0)
"""Those at a PN GW's uplink: the server is the one party there, and speaks for all PNEs of that PN GW."""
