"""A PNE's way to the server: through the PN GW it is behind, under the session that stands, end to end."""

import asyncio
from typing import Any, TypeVar

from cpns.errors import NoAnswer, WireError
from cpns.pne.life import PneLife
from cpns.pne.states import Held, HomeNamed, TakenUp
from cpns.ports import Clock
from cpns.session.table import Session, Sessions
from cpns.transport.endpoint import Link
from cpns.transport.errors import Answer, read
from cpns.wire import application, codec
from cpns.wire.registry import CPNS_PATH, MAX_PAN_BODY

M = TypeVar("M")


class ToGateway:
    """What a PNE says to its own PN GW.

    Args:
        life: of the PNE.
        sessions: the hop session is one of them.
    """

    def __init__(self, life: PneLife, sessions: Sessions) -> None:
        self._life = life
        self._sessions = sessions

    def __call__(self) -> tuple[Link, Session | None] | None:
        """Return link and hop session, which is None on a Secure PAN; None where no sessions stand."""
        at = self._life.stands
        if at is None:
            return None
        return at.link, None if at.joined.pan_secure else self._sessions.with_peer(at.joined.gateway_id)


class ToServer:
    """Sends requests of one PNE to the server.

    Args:
        timeout: seconds that an answer may take.
        life: of the PNE; it is told where the PN GW holds a request, as its uplink is away.

    Attributes:
        held_up: whether the PN GW held the last request that it was given.
        heard_at: monotonic seconds of the newest message of the server.
    """

    def __init__(self, timeout: float, life: PneLife, clock: Clock) -> None:
        self._timeout = timeout
        self._life = life
        self._clock = clock
        self.held_up = False
        self.heard_at = clock.monotonic()
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        life.follow(TakenUp, self._taken_up)

    @property
    def link(self) -> Link | None:
        """The way to the PN GW; None before sessions stood."""
        return self._life.link

    @property
    def session(self) -> Session | None:
        """The one with the server; None before one stood."""
        return self._life.session

    def _taken_up(self, event: TakenUp) -> None:
        """Go this way from now on; whoever waits for an answer under an older session waits in vain."""
        self.heard()
        self.let_go("session_replaced")

    def heard(self) -> None:
        """A message of the server has opened."""
        self.heard_at = self._clock.monotonic()

    def let_go(self, why: str) -> None:
        """Whoever waits for an answer waits no more: `NoAnswer`, for the reason *why*."""
        self.held_up = False
        over, self._over = self._over, asyncio.get_running_loop().create_future()
        over.set_result(why)

    async def exchange(self, path: str, payload: bytes, timeout: float | None = None) -> Answer:
        """Send ``POST /path``; return the answer, whatever it says.

        Raises:
            NoAnswer: none came, or the session was replaced meanwhile, or the PN GW held it for too long.
        """
        at = self._life.last
        if at is None:
            raise NoAnswer("not_established")
        request = asyncio.ensure_future(
            at.link.request(
                path,
                payload,
                timeout=self._timeout if timeout is None else timeout,
                session=at.session,
                accept=lambda answer: answer,
                held=self._held,
            )
        )
        try:
            over = self._over
            either: list[asyncio.Future[Any]] = [request, over]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                raise NoAnswer(over.result())
            answer = request.result()
            self.held_up = False
            self.heard()
            return answer
        finally:
            request.cancel()

    async def ask(self, message: codec.Message, shape: type[M], timeout: float | None = None) -> M:
        """Send a CPNS message; return its answer. Raises `Refused`: `NoAnswer`, or as the server answers."""
        answer = await self.exchange(CPNS_PATH, codec.encode(message), timeout)
        return read(answer, shape, limit=MAX_PAN_BODY)

    async def say_status(self, text: str) -> None:
        """Say how we are. Raises `NoAnswer`."""
        answer = await self.exchange(application.STATUS_PATH, application.encode_text(text))
        try:
            home = application.decode_home(answer.payload)
        except WireError:  # an older server says nothing
            return
        self._life.happens(HomeNamed(home))

    def _held(self) -> None:
        first, self.held_up = not self.held_up, True
        if first:
            self._life.happens(Held())
