"""What a device that hosts both functions is told at its start."""

from dataclasses import dataclass

from cpns.gateway.config import GatewayConfig
from cpns.pne.config import PneConfig
from cpns.wire.registry import Mode


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """See ``cpns node run --help`` for the meaning of each.

    Attributes:
        pne: of its PNE; its `gateways` are the external PN GWs.
        gateway: of its PN GW, with one open PAN for its own PNE and others.
        mode: what it starts as.
        may_change: whether it becomes a PN GW when it is asked to.
    """

    pne: PneConfig
    gateway: GatewayConfig
    mode: Mode = Mode.PNE
    may_change: bool = False
