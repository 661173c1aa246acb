"""What a device that hosts both functions is told at its start."""

from dataclasses import dataclass
from enum import StrEnum

from cpns.pne.config import PneConfig
from cpns.wire.registry import Mode


class Prefer(StrEnum):
    """When a device goes direct, over its own broadband, and when through an external PN GW."""

    DIRECT = "direct"
    """Whenever its broadband leads to the server."""
    GATEWAY = "gateway"
    """Only while no external PN GW carries it."""
    METERED = "metered"
    """As GATEWAY, and only when something waits to be sent; its broadband costs, and is not tried without need."""


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """See ``cpns node run --help`` for the meaning of each.

    Attributes:
        pne: of its PNE; its `gateways` are the external PN GWs.
        server: host and port of the server, over its own broadband.
        mode: what it starts as.
        may_change: whether it becomes a PN GW when it is asked to.
        prefer: how it chooses its mode by itself; None: it stays as it is told.
        look: seconds between looks at its ways.
    """

    pne: PneConfig
    server: tuple[str, int]
    mode: Mode = Mode.PNE
    may_change: bool = False
    prefer: Prefer | None = None
    look: float = 1.0
