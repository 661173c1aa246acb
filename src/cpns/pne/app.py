"""One PNE: joins, stays joined, and lets an application send and receive end to end."""

import asyncio
import contextlib
import logging
import random as jitter
from collections.abc import Callable, Sequence
from typing import Final

from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId, PnId
from cpns.pne.config import PneConfig
from cpns.pne.join import Join
from cpns.ports import Clock, Randomness
from cpns.protocol.pne_auth.pne import Joined
from cpns.session.table import Session, Sessions
from cpns.transport import discovery
from cpns.transport.endpoint import Endpoint, Hinted, Inbound, Link, Watch
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code
from cpns.transport.oscore import MESSAGE_LIMIT, sent
from cpns.wire import application, codec, registry
from cpns.wire.application import Reading
from cpns.wire.messages import ErrorBody

_log = logging.getLogger("cpns.pne")

BACKOFF: Final = (0.3, 15.0)
"""First and longest pause, in seconds, between attempts; each is drawn from half of it up to all of it."""
SILENCES: Final = 3
"""Application messages in a row without any answer after which the PNE joins anew."""

Inbox = Callable[[str], str]
"""Takes a text that the server pushed; returns the text of the answer."""


class Pne:
    """A PNE.

    Args:
        config: see `PneConfig`.
        inbox: takes what the server sends to ``/inbox``.
        watch: is told of every message sent.
        on_established: is told of PN GW and PN each time the sessions stand.
    """

    def __init__(
        self,
        config: PneConfig,
        clock: Clock,
        random: Randomness,
        inbox: Inbox,
        watch: Watch | None = None,
        on_established: Callable[[EntityId, PnId], None] = lambda gateway, pn: None,
    ) -> None:
        self.config = config
        self._clock = clock
        self._random = random
        self._inbox = inbox
        self._on_established = on_established
        self.sessions = Sessions()
        self._join = Join(config, self.sessions, clock, random)
        self._endpoint = Endpoint(config.pne_id, self.sessions, self._handle, watch=watch)
        self._link: Link | None = None
        self._server: Session | None = None
        self.joined: Joined | None = None
        self._ready = asyncio.Event()
        self._lost = asyncio.Event()
        self._doubt = asyncio.Event()
        self._serial = 0
        self._turn = 0
        self._boot = random(application.READING_ID_BYTES - 4)

    async def start(self) -> str:
        """Bind an own UDP port; return it. Call before `run`."""
        return await self._endpoint.open_pan(await _own_side(self.config.gateways), 0)

    async def close(self) -> None:
        """End the sessions and close the socket."""
        await self._endpoint.close()

    async def run(self) -> None:
        """Join, and join again whenever the way is lost, until cancelled."""
        pause = BACKOFF[0]
        while True:
            self._lost.clear()
            try:
                await self._establish()
                pause = BACKOFF[0]
                await self._stay()
            except (Refused, OSError) as error:
                reason = error.reason if isinstance(error, Refused) else type(error).__name__
                _log.warning("%s: not established: %s; trying again", self.config.pne_id, reason)
                self._turn += 1
            finally:
                self._ready.clear()
            await asyncio.sleep(pause * jitter.uniform(0.5, 1.0))  # noqa: S311  # spreads load, hides nothing
            pause = min(pause * 2, BACKOFF[1])

    async def wait_established(self) -> EntityId:
        """Wait until the sessions stand; return the PN GW, which the server vouched for."""
        await self._ready.wait()
        return self.config.gateway_id if self.joined is None else self.joined.gateway_id  # type: ignore[return-value]

    async def _find(self) -> tuple[str, int]:
        if self.config.gateways:
            return self.config.gateways[self._turn % len(self.config.gateways)]
        found = await discovery.find(self.config.timer, self.config.gateway_id, self.config.pan_secure)
        if found is None:
            raise NoAnswer("no_gateway_found_on_the_pan")
        _log.info("%s: found gateway %s at %s:%d", self.config.pne_id, found.gateway_id, found.host, found.port)
        return found.host, found.port

    async def _establish(self) -> None:
        link = await self._endpoint.link_to(*await self._find())
        self._endpoint.name(link, self.config.gateway_id or "PN GW")
        joined, server = await self._join.setup(link)
        self._endpoint.name(link, joined.gateway_id)
        if not joined.pan_secure:
            await self._join.hop(link, joined)
        self._link, self._server, self.joined = link, server, joined
        await self._present()
        self._ready.set()
        await self._status("connected")
        _log.info("%s: established through %s in %s", self.config.pne_id, joined.gateway_id, joined.pn_id)
        self._on_established(joined.gateway_id, joined.pn_id)

    async def _stay(self) -> None:
        """Return when the sessions are lost or due for renewal; give signs of life until then."""
        while not self._lost.is_set():
            self._doubt.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.presence):
                    await self._doubt.wait()
            if self._lost.is_set() or self._server is None:
                return
            too_old = self._clock.monotonic() - self._server.since > self.config.session_age
            if too_old or sent(self._server) > MESSAGE_LIMIT:
                return
            await self._present_again()

    async def _present(self) -> None:
        """Tell the PN GW where we are: in the hop session, or plainly on a Secure PAN."""
        link, joined = self._link, self.joined
        if link is None or joined is None:
            return
        hop = None if joined.pan_secure else self.sessions.with_peer(joined.gateway_id)
        payload = application.encode_text(self.config.pne_id) if joined.pan_secure else b""
        await link.request(
            application.PRESENCE_PATH, payload, timeout=self.config.request_timeout, session=hop, accept=_accepted
        )

    async def _present_again(self) -> None:
        try:
            await self._present()
        except Hinted:  # it is there, and does not know our hop session
            link, joined = self._link, self.joined
            if link is None or joined is None or joined.pan_secure:
                raise
            older = self.sessions.with_peer(joined.gateway_id)
            if older is not None:
                self.sessions.remove(older)
            await self._join.hop(link, joined)  # a PN GW that restarted still has the LocalEUKey
            await self._present()

    async def _status(self, text: str) -> None:
        await self._exchange(application.STATUS_PATH, application.encode_text(text))

    async def _exchange(self, path: str, payload: bytes) -> Answer:
        link, server = self._link, self._server
        if link is None or server is None:
            raise NoAnswer("not_established")
        return await link.request(
            path, payload, timeout=self.config.request_timeout, session=server, accept=lambda answer: answer
        )

    def next_reading(self, body: dict[str, application.Json]) -> Reading:
        """Return *body* as a reading with an ID that this PNE never gives again."""
        self._serial += 1
        return Reading(self._boot + self._serial.to_bytes(4, "big"), body)

    async def send(self, reading: Reading) -> None:
        """Send a reading until the server has acknowledged that it is committed.

        It survives a loss of the PN GW or the server: it is sent again, and stored once.

        Raises:
            Refused: the server does not take it, with the reason.
        """
        payload = application.encode_reading(reading)
        silences = 0
        while True:
            await self._ready.wait()
            used = self._server
            try:
                answer = await self._exchange(application.READINGS_PATH, payload)
            except Hinted as hint:
                self._suspect(used, lost=hint.answer.code == Code.UNAUTHORIZED)
                await asyncio.sleep(BACKOFF[0])
                continue
            except NoAnswer:
                silences += 1
                self._suspect(used, lost=silences % SILENCES == 0)
                continue
            if answer.ok:
                return
            if answer.code == Code.UNAUTHORIZED:  # the session does not hold where we are
                self._suspect(used, lost=True)
            elif answer.code != Code.SERVICE_UNAVAILABLE:
                raise Refused(
                    Result.BAD_REQUEST, f"server_refused_with_{codec.decode(answer.payload, ErrorBody).result}"
                )
            await asyncio.sleep(BACKOFF[0])

    def _suspect(self, used: Session | None, *, lost: bool) -> None:
        """Something failed under *used*: look after the PN GW at once, or (*lost*) join anew."""
        if used is not self._server:
            return  # joined anew meanwhile
        if lost:
            self._lost.set()
            self._ready.clear()
        self._doubt.set()

    async def _handle(self, inbound: Inbound) -> Answer | None:
        source = inbound.source
        if source is None:
            return self._join.challenged(inbound) if inbound.path == registry.CPNS_PATH else UNIFORM_REFUSAL
        if inbound.path == application.PING_PATH:
            return Answer(Code.CHANGED, application.encode_text("here"))
        if source.peer_id != self.config.server_id:
            return UNIFORM_REFUSAL
        if inbound.path == application.INBOX_PATH:
            reply = self._inbox(application.decode_text(inbound.payload))
            return Answer(Code.CHANGED, application.encode_text(reply))
        raise Refused(Result.NOT_ALLOWED, "no_such_resource")


def _accepted(answer: Answer) -> None:
    if not answer.ok:
        raise Refused(Result.NOT_AUTHENTICATED, "presence_refused")


async def _own_side(gateways: Sequence[tuple[str, int]]) -> str:
    """Return the any-address of the family in which *gateways* are reached."""
    for gateway in gateways:
        found = await asyncio.get_running_loop().getaddrinfo(*gateway)
        if len(found[0][4]) == 4:
            return "::"
    return "0.0.0.0"  # noqa: S104  # one socket on whatever PAN leads there
