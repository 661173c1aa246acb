"""Who is at the other end, as far as shares go: made by the endpoint, handed to whoever counts."""

import ipaddress
from contextvars import ContextVar
from typing import Final, NamedTuple

from cpns.ids import EntityId

PAN_PREFIX: Final = 128
"""All devices of a PAN share one /64, so there each address counts by itself."""
UPLINK_PREFIX: Final = 64
"""On the uplink one customer commonly has a /64 of IPv6."""


class Party(NamedTuple):
    """One peer.

    Attributes:
        host: the address that it sends from; IPv6 on the uplink by its /64. It proves nothing.
        port: of that address.
        entity: the entity that the message's session proved, or None.
        via: the PN GW that a `pne-server` session runs through; None for the others.
    """

    host: str
    port: int
    entity: EntityId | None = None
    via: EntityId | None = None

    @property
    def uplink(self) -> str:
        """Its PN GW, or itself where it needs none; the host of one that proved nothing."""
        return self.via or self.entity or self.host

    @property
    def session(self) -> str | int:
        """It itself, among those of its uplink."""
        return self.entity or self.port


acting: ContextVar[Party | None] = ContextVar("acting", default=None)
"""Whose request the running task works on; None: nobody's, it is our own work."""


def host_of(address: str, prefix: int) -> str:
    """Return the host that *address* counts as: itself, or its network of *prefix* bits where it is IPv6.

    Args:
        address: an IP address, with a zone or without; another text stands for itself.
        prefix: `PAN_PREFIX` or `UPLINK_PREFIX`.
    """
    if ":" not in address:
        return address  # IPv4, without the cost of parsing it for each datagram
    try:
        plain = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if plain.ipv4_mapped is not None:
        return str(plain.ipv4_mapped)
    if prefix == PAN_PREFIX:
        return address
    return str(ipaddress.IPv6Network((plain.packed, prefix), strict=False))
