"""The processes of the server that a PN GW may go to, and which of them it prefers."""

import hashlib

from cpns.gateway.config import GatewayConfig
from cpns.transport.address import at

Address = tuple[str, int]


class Servers:
    """Host and port of each, and which is tried or used now.

    PN GWs spread by rendezvous hashing: each has an order of its own, so those of a process that is away spread over
    all others, and no other PN GW moves.
    """

    def __init__(self, config: GatewayConfig) -> None:
        named = list(dict.fromkeys([(config.server_host, config.server_port), *config.more_servers]))
        self._in_order = tuple(named if config.server_order else sorted(named, key=lambda one: _rank(config, one)))
        self._turn = 0
        self._failed: dict[str, str] = {}
        """Why there was no uplink at which of them, since all of them were told."""

    @property
    def present(self) -> Address:
        """The one that is tried or used now."""
        return self._in_order[self._turn]

    @property
    def better(self) -> tuple[Address, ...]:
        """Those that are preferred to the present one, best first."""
        return self._in_order[: self._turn]

    def did(self, server: Address) -> None:
        """There is an uplink at *server*."""
        self._turn = self._in_order.index(server)
        self._failed.clear()

    def failed(self, why: str) -> str | None:
        """There is none at the present one: try the next. Return why there is none at any, where all were tried."""
        self._failed[at(*self.present)] = why
        self._turn = (self._turn + 1) % len(self._in_order)
        if len(self._failed) < len(self._in_order):
            return None
        told = "; ".join(f"at {where}: {one}" for where, one in sorted(self._failed.items()))
        self._failed.clear()
        return told


def _rank(config: GatewayConfig, server: Address) -> bytes:
    return hashlib.sha256(f"{config.gateway_id} {at(*server)}".encode()).digest()
