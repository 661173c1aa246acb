"""Requests of ours that wait for answers, as those who await them see it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from secrets import randbelow
from typing import Any, Final

from cpns.coap.events import Exchange, ExchangeFailed, RequestArrived, ResponseArrived
from cpns.coap.message import Message
from cpns.coap.numbers import FORMS, Option
from cpns.transport.errors import Code

ECHO: Final = int(Option.ECHO)
HINT_GRACE: Final = 0.3
"""Seconds to wait on for a protected answer after an unprotected one, which anyone could have sent."""


def wait_on_a_little(limit: asyncio.Timeout) -> None:
    """Have *limit* end in `HINT_GRACE`, where it does not end before."""
    soon = asyncio.get_running_loop().time() + HINT_GRACE
    limit.reschedule(min(soon, limit.when() or soon))


_FORM: Final = FORMS[ECHO]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a socket tells: of a request, with the remote that it came from; of a connection that is gone."""

    arrived: Callable[[Any, RequestArrived], None]
    lost: Callable[[Any], None]


class Waiting:
    """A request of ours, and the answers that came so far; `close` it when done."""

    __slots__ = ("_answers", "_arrived", "_failure", "_take", "_withdraw")

    def __init__(self) -> None:
        self._withdraw: Callable[[], None] = _nothing
        self._answers: list[Message] = []
        self._take: Callable[[Message], None] = self._answers.append
        self._failure: str | None = None
        self._arrived: asyncio.Future[None] | None = None

    def opened(self, withdraw: Callable[[], None]) -> None:
        """Its exchange is open until *withdraw* is called."""
        self._withdraw = withdraw

    def again(self, answer: Message) -> Message | None:
        """Return what *answer* wants to be asked in its place; None: it is an answer."""
        return None

    def offer(self, answer: Message) -> None:
        """Take an answer from the wire."""
        self._take(answer)
        self._wake()

    def hand_on(self, take: Callable[[Message], None]) -> None:
        """Give *take* each further answer, in place of `next`, until it is closed."""
        for answer in self._answers:
            take(answer)
        self._take = take

    def fail(self, why: str) -> None:
        """The way to the peer is gone."""
        self._failure = why
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def next(self) -> Message:
        """Return the next answer.

        Raises:
            ConnectionError: the way to the peer is gone.
        """
        while not self._answers:
            if self._failure is not None:
                raise ConnectionError(self._failure)
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        return self._answers.pop(0)

    def close(self) -> None:
        """No more answers are wanted; the request is not repeated, and blocks no other."""
        self._withdraw()


class Repeated(Waiting):
    """A request that is sent again with an Echo that its peer asks for (RFC 9175 2.3), in an exchange of its own.

    The older exchanges stay open: who asks for an Echo may not be the peer.

    Args:
        request: what is sent.
        most: how often it is sent again.
    """

    __slots__ = ("_echoes", "_failed", "_most", "_request", "_withdraws")

    def __init__(self, request: Message, most: int) -> None:
        super().__init__()
        self._request = request
        self._most = most
        self._echoes: list[bytes] = []
        self._withdraws: list[Callable[[], None]] = []
        self._failed = 0

    def opened(self, withdraw: Callable[[], None]) -> None:
        """One more of its exchanges is open."""
        self._withdraws.append(withdraw)

    def again(self, answer: Message) -> Message | None:
        """Return the request with the Echo that *answer* asks for, where that may be."""
        echo = answer.value(ECHO)
        if echo is None or answer.code != Code.UNAUTHORIZED or not _FORM.least <= len(echo) <= _FORM.most:
            return None
        if echo in self._echoes or len(self._echoes) >= self._most:
            return None
        self._echoes.append(echo)
        return self._request._replace(options=(*self._request.options, (ECHO, echo)))

    def fail(self, why: str) -> None:
        """The way is gone in one exchange; it is lost where that holds for all."""
        self._failed += 1
        if self._failed >= len(self._withdraws):
            super().fail(why)

    def close(self) -> None:
        """No more answers are wanted from any of them."""
        for withdraw in self._withdraws:
            withdraw()


def _nothing() -> None:
    """There is no exchange yet."""


class Asked:
    """The requests of one socket that wait."""

    def __init__(self) -> None:
        self._waiting: dict[Exchange, Waiting] = {}
        self._number = randbelow(0x10000)

    def __len__(self) -> int:
        return len(self._waiting)

    def next_token(self) -> bytes:
        """Return a token for a request."""
        self._number = (self._number + 1) % 2**64
        return self._number.to_bytes(8, "big").lstrip(b"\0")

    def add(self, waiting: Waiting, exchange: Exchange, withdraw: Callable[[Exchange], None]) -> Waiting:
        """Let *waiting* have the answers of *exchange*, and *withdraw* it when they are wanted no more."""

        def close() -> None:
            if self._waiting.pop(exchange, None) is not None:
                withdraw(exchange)

        waiting.opened(close)
        self._waiting[exchange] = waiting
        return waiting

    def answered(self, event: ResponseArrived) -> tuple[Waiting, Message] | None:
        """Hand an answer to who waits for it; where it wants to be asked something else, return who asks, and what."""
        waiting = self._waiting.get(event.exchange)
        if waiting is None:
            return None
        again = waiting.again(event.message)
        if again is None:
            waiting.offer(event.message)
            return None
        return waiting, again

    def failed(self, event: ExchangeFailed) -> None:
        """Tell who waits that there is no way."""
        waiting = self._waiting.get(event.exchange)
        if waiting is not None:
            waiting.fail(event.reason)

    def fail(self, why: str) -> None:
        """There is no way for any."""
        for waiting in list(self._waiting.values()):
            waiting.fail(why)
