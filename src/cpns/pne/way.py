"""A PNE's way to the server: through the PN GW it is behind, under the session that stands, end to end."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from cpns.errors import NoAnswer
from cpns.ports import Clock
from cpns.session.table import Session
from cpns.transport.endpoint import Link
from cpns.transport.errors import Answer, read
from cpns.wire import codec
from cpns.wire.registry import CPNS_PATH, MAX_PAN_BODY

M = TypeVar("M")

Hop = Callable[[], tuple[Link, Session | None] | None]
"""Tells the link to our PN GW and the hop session (None on a Secure PAN), or None where there is none."""


class ToServer:
    """Sends requests of one PNE to the server.

    Args:
        timeout: seconds that an answer may take.
        on_held: is told when the PN GW says that it holds a request, as its uplink is away.

    Attributes:
        link: the way to the PN GW; None before sessions stood.
        session: the one with the server.
        held_up: whether the PN GW held the last request that it was given.
        heard_at: monotonic seconds of the newest message of the server.
    """

    def __init__(self, timeout: float, clock: Clock, on_held: Callable[[], None]) -> None:
        self._timeout = timeout
        self._clock = clock
        self._on_held = on_held
        self.link: Link | None = None
        self.session: Session | None = None
        self.held_up = False
        self.heard_at = clock.monotonic()
        self._over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def take_up(self, link: Link, session: Session) -> None:
        """Go this way from now on; whoever waits for an answer under an older session waits in vain."""
        self.link, self.session = link, session
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
        if self.link is None or self.session is None:
            raise NoAnswer("not_established")
        request = asyncio.ensure_future(
            self.link.request(
                *(path, payload),
                timeout=self._timeout if timeout is None else timeout,
                session=self.session,
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

    def _held(self) -> None:
        first, self.held_up = not self.held_up, True
        if first:
            self._on_held()
