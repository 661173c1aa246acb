"""How a PNE finds a PN GW: where it is told to look, or by asking on the PAN (FN-8)."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Final

from cpns.domain.reasons import sentence
from cpns.errors import NoAnswer, Refused
from cpns.ids import EntityId
from cpns.pne.candidates import Candidates, Named
from cpns.pne.config import PneConfig, Where
from cpns.ports import Time
from cpns.shares.noted import by
from cpns.shares.party import Party
from cpns.transport import discovery
from cpns.transport.address import at, split_address
from cpns.transport.endpoint import Endpoint, Link
from cpns.transport.errors import Answer, read
from cpns.wire import codec
from cpns.wire.pn_messages import EntityDiscoveryRequest, EntityDiscoveryResponse
from cpns.wire.registry import CPNS_PATH, MAX_PAN_BODY, Mode

_log = logging.getLogger("cpns.pne")

TRIES: Final = 4
"""Attempts to reach the PN GW that our PN was given to, before any other will do."""
ASK_SECONDS: Final = 2.0
"""What one address has to say who is there; and how long a search waits for one that did not fail before."""
FIRST_SECONDS: Final = 4.0
"""What one that was found on the PAN has to begin, the first time: it proved nothing, and others may be waiting."""
SAID_TO: Final = 8
"""PN GWs on the PAN that are told of a PNE that waits to be invited."""


class Finder:
    """Looks for PN GWs; whether one is what it says, the handshake shows.

    Attributes:
        where: it looks at the moment.
        asked: host and port of what was found last, for people; empty: nothing was.
        patience: seconds that it has to begin.
    """

    def __init__(self, config: PneConfig, endpoint: Endpoint, time: Time) -> None:
        self._config = config
        self._time = time
        self.where = config.where
        self.asked = ""
        self.patience = config.timer
        self._endpoint = endpoint
        self._named = Named()
        self._candidates = Candidates()
        self._wanted: EntityId | None = None
        self._heard = asyncio.Event()
        self._search: asyncio.Task[None] | None = None
        self._preferred: EntityId | None = None
        self._hints: Sequence[str] = ()
        self._tries = 0
        self._led_to: EntityId | None = None

    @property
    def has_choice(self) -> bool:
        """Whether another PN GW may be found than the present one."""
        return len(self.where.gateways) != 1

    async def close(self) -> None:
        """Search no more."""
        if self._search is not None:
            self._search.cancel()
            await asyncio.gather(self._search, return_exceptions=True)
            self._search = None

    def look_at(self, where: Where) -> None:
        """Look there from now on."""
        self.where, self._tries = where, 0
        self._named, self._candidates = Named(), Candidates()

    def failed(self) -> bool:
        """What was found last did not do: try another one next. Return whether one that is named was not tried."""
        self._tries -= 1
        self._candidates.failed()
        return self.preferred is None and self._named.failed(len(self.where.gateways))

    def told(self, error: Refused | OSError) -> str:
        """Return what people are told of an attempt that failed: where, why, and what to do."""
        where = f" at {self.asked}" if self.asked else ""
        if isinstance(error, OSError):
            return f"{where}: {error.strerror or type(error).__name__}; trying again"
        return f"{where}: {error.reason}; trying again. {sentence(error)}"

    async def found(self) -> None:
        """What was found last did: where it is the one that our PN was given to, that one is looked for first again."""
        led_to, self._led_to = self._led_to, None
        self._tries = 0 if led_to is None or led_to != self._preferred else TRIES
        self._candidates.did()
        self._named.did()
        await self.close()

    def prefer(self, gateway: EntityId, hints: Sequence[str]) -> None:
        """Our PN is served by *gateway* from now on: look for that one first, and more than once."""
        self._preferred, self._hints, self._tries = gateway, hints, TRIES

    def prefer_none(self) -> None:
        """Any will do as well as the one that our PN was given to."""
        self._tries = 0

    @property
    def preferred(self) -> EntityId | None:
        """The PN GW that serves our PN now, as long as it may still be found."""
        return self._preferred if self._tries > 0 else None

    async def link(self) -> Link:
        """Return the link to a PN GW to try. Raises `NoAnswer`, or OSError, where there is none."""
        self.asked = ""
        link = await self._link()
        self.asked = repr(link.remote)
        return link

    async def _link(self) -> Link:
        self._led_to = None
        if self.preferred is not None:
            return await self.way_to(self.preferred, self._hints)
        self.patience = self._config.timer
        if not self.where.gateways:
            return await self._searched(self.where.gateway_id)
        host, port = self._named.turn(self.where.gateways)
        self.asked = at(host, port)
        return self._named.next(await self._endpoint.links_to(host, port))

    async def _searched(self, gateway: EntityId | None) -> Link:
        """Return the link to the PN GW on the PAN that is next: *gateway*, or any.

        The search goes on meanwhile, so that there is another one where this one does not do.
        """
        if gateway != self._wanted:
            await self.close()
            self._wanted, self._candidates = gateway, Candidates()
        if self._search is None or self._search.done():
            secure, candidates, heard = self.where.pan_secure, self._candidates, self._heard

            def told(found: discovery.Found) -> None:
                candidates.heard(found)
                heard.set()

            def suits(one: EntityId, is_secure: bool) -> bool:
                return is_secure == secure and gateway in (None, one)

            searching = discovery.search(self._config.timer, self._config.pne_id, suits, told)
            self._search = asyncio.get_running_loop().create_task(searching)
        found = await self._next(self._search)
        first = self._candidates.failures(found.host) == 0
        self._candidates.take(found)
        self.patience = min(FIRST_SECONDS, self._config.timer) if first else self._config.timer
        _log.info(
            *("%s: found gateway %s at %s:%d", self._config.pne_id, found.gateway_id, found.host, found.port),
            extra=by(Party(found.host, found.port)),
        )
        return await self._endpoint.link_to(found.host, found.port)

    async def _next(self, search: "asyncio.Task[None]") -> discovery.Found:
        """Return the candidate that is next; one that failed before only where no other answers for a while."""
        better_until = self._time.monotonic() + ASK_SECONDS
        while True:
            self._heard.clear()
            best = next(iter(self._candidates.in_order()), None)
            left = better_until - self._time.monotonic()
            patient = best is not None and self._candidates.failures(best.host) > 0 and left > 0
            if best is not None and not patient:
                return best
            if search.done():
                if best is not None:
                    return best
                raise NoAnswer("no_gateway_found_on_the_pan")
            waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._heard.wait())]
            if patient:
                waiting.append(asyncio.ensure_future(self._time.sleep(left)))
            try:
                await asyncio.wait([search, *waiting], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waiting:
                    one.cancel()

    async def way_to(self, gateway: EntityId, hints: Sequence[str]) -> Link:
        """Return the link to a PN GW that is to be among *hints* (``host:port``), our own addresses, or on the PAN.

        Raises:
            NoAnswer: it is not.
        """
        link = await self._way_to(gateway, hints)
        self._led_to = gateway
        return link

    async def _way_to(self, gateway: EntityId, hints: Sequence[str]) -> Link:
        self.patience = self._config.timer
        may_be: list[tuple[int, Link]] = []
        for turn, (host, port) in enumerate([*map(split_address, hints), *self.where.gateways], -len(hints)):
            with contextlib.suppress(OSError):
                for link in await self._endpoint.links_to(host, port):
                    with contextlib.suppress(NoAnswer):
                        who = await self._who_is(link)
                        if who == gateway:
                            return self._led(turn, link)
                        if who is None:
                            may_be.append((turn, link))
        return self._led(*may_be[0]) if may_be else await self._searched(gateway)

    async def _who_is(self, link: Link) -> EntityId | None:
        """Return who is at *link*; None where it refuses to say: it takes an older session of ours for one that stands.

        Raises:
            NoAnswer: nobody answers.
        """
        refuses = False

        def accept(answer: Answer) -> EntityDiscoveryResponse:
            nonlocal refuses
            refuses = refuses or not answer.ok
            return read(answer, EntityDiscoveryResponse, limit=MAX_PAN_BODY)

        body = codec.encode(EntityDiscoveryRequest(self._config.pne_id, Mode.PNE))
        try:
            return (await link.request(CPNS_PATH, body, timeout=ASK_SECONDS, accept=accept)).entity_id
        except Refused:
            if refuses:
                return None
            raise

    def _led(self, turn: int, link: Link) -> Link:
        return self._named.led(turn, link) if turn >= 0 else link

    async def say_we_wait(self, link: Link) -> None:
        """Say to the PN GW at *link* that we are here, and to the others that were found: any of them may invite us.

        Raises:
            NoAnswer: the one at *link* does not answer.
        """
        others = [] if self.where.gateways else self._candidates.in_order()[:SAID_TO]
        links = [link, *[await self._endpoint.link_to(one.host, one.port) for one in others]]
        answers = await asyncio.gather(*map(self.ask, links), return_exceptions=True)
        if isinstance(answers[0], BaseException):
            raise answers[0]

    async def ask(self, link: Link) -> EntityDiscoveryResponse:
        """Ask who is at *link*, and say that we are here.

        Raises:
            NoAnswer: nobody answers.
        """
        request = EntityDiscoveryRequest(self._config.pne_id, Mode.PNE)
        return await link.ask(request, EntityDiscoveryResponse, timeout=ASK_SECONDS, limit=MAX_PAN_BODY)
