"""How a PNE finds a PN GW: where it is told to look, or by asking on the PAN (FN-8)."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from cpns.errors import NoAnswer, Refused
from cpns.ids import EntityId
from cpns.pne.config import PneConfig, Where
from cpns.shares.noted import by
from cpns.shares.party import Party
from cpns.transport import discovery
from cpns.transport.endpoint import Endpoint, Link
from cpns.transport.pan import split_address
from cpns.wire.pn_messages import EntityDiscoveryRequest, EntityDiscoveryResponse
from cpns.wire.registry import MAX_PAN_BODY, Mode

_log = logging.getLogger("cpns.pne")

TRIES: Final = 4
"""Attempts to reach the PN GW that our PN was given to, before any other will do."""
ASK_SECONDS: Final = 2.0
"""What one address has to say who is there."""


class Finder:
    """Looks for PN GWs; whether one is what it says, the handshake shows.

    Attributes:
        where: it looks at the moment.
    """

    def __init__(self, config: PneConfig, endpoint: Endpoint) -> None:
        self._config = config
        self.where = config.where
        self._endpoint = endpoint
        self._turn = 0
        self._found: EntityId | None = None
        self._avoid: EntityId | None = None
        self._preferred: EntityId | None = None
        self._hints: Sequence[str] = ()
        self._tries = 0

    def look_at(self, where: Where) -> None:
        """Look there from now on."""
        self.where = where
        self._turn, self._tries = 0, 0

    def failed(self) -> None:
        """What was found last did not do: try another one next."""
        self._tries -= 1
        if self.preferred is None:
            self._turn += 1
            self._avoid = self._found

    def found(self) -> None:
        """What was found last did."""
        self._tries = 0

    def prefer(self, gateway: EntityId, hints: Sequence[str]) -> None:
        """Our PN is served by *gateway* from now on: look for that one first, and more than once."""
        self._preferred, self._hints, self._tries = gateway, hints, TRIES

    @property
    def preferred(self) -> EntityId | None:
        """The PN GW that serves our PN now, as long as it may still be found."""
        return self._preferred if self._tries > 0 else None

    async def link(self) -> Link:
        """Return the link to a PN GW to try. Raises `NoAnswer`, or OSError, where there is none."""
        if self.preferred is not None:
            return await self.way_to(self.preferred, self._hints)
        return await self._endpoint.link_to(*await self.find())

    async def find(self) -> tuple[str, int]:
        """Return host and port of a PN GW to try.

        Raises:
            NoAnswer: none is to be found.
        """
        config = self._config
        if self.where.gateways:
            return self.where.gateways[self._turn % len(self.where.gateways)]
        search = (config.pne_id, self.where.gateway_id, self.where.pan_secure)
        found = None
        if self._avoid is not None:
            found = await discovery.find(ASK_SECONDS, *search, avoid=self._avoid)
        found = found or await discovery.find(config.timer, *search)
        if found is None:
            raise NoAnswer("no_gateway_found_on_the_pan")
        self._found = found.gateway_id
        said = "%s: found gateway %s at %s:%d"
        _log.info(
            said, config.pne_id, found.gateway_id, found.host, found.port, extra=by(Party(found.host, found.port))
        )
        return found.host, found.port

    async def way_to(self, gateway: EntityId, hints: Sequence[str]) -> Link:
        """Return the link to a PN GW that is to be among *hints* (``host:port``), our own addresses, or on the PAN.

        Raises:
            NoAnswer: it is not.
        """
        config = self._config
        for host, port in [*map(split_address, hints), *self.where.gateways]:
            try:
                link = await self._endpoint.link_to(host, port)
                if (await self.ask(link)).entity_id == gateway:
                    return link
            except (OSError, Refused):
                continue
        found = await discovery.find(config.timer, config.pne_id, gateway, self.where.pan_secure)
        if found is None:
            raise NoAnswer("gateway_not_found_on_the_pan")
        return await self._endpoint.link_to(found.host, found.port)

    async def ask(self, link: Link) -> EntityDiscoveryResponse:
        """Ask who is at *link*, and say that we are here.

        Raises:
            NoAnswer: nobody answers.
        """
        request = EntityDiscoveryRequest(self._config.pne_id, Mode.PNE)
        return await link.ask(request, EntityDiscoveryResponse, timeout=ASK_SECONDS, limit=MAX_PAN_BODY)


async def own_side(gateways: Sequence[tuple[str, int]]) -> str:
    """Return the any-address of the family in which *gateways* are reached."""
    for gateway in gateways:
        found = await asyncio.get_running_loop().getaddrinfo(*gateway)
        if len(found[0][4]) == 4:
            return "::"
    return "0.0.0.0"  # noqa: S104  # one socket on whatever PAN leads there
