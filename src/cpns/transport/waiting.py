"""Requests of ours that wait for answers, as those who await them see it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from secrets import randbelow
from typing import Any

from cpns.coap.events import Exchange, ExchangeFailed, RequestArrived, ResponseArrived
from cpns.coap.message import Message


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a socket tells: of a request, with the remote that it came from; of a connection that is gone."""

    arrived: Callable[[Any, RequestArrived], None]
    lost: Callable[[Any], None]


class Waiting:
    """A request of ours, and the answers that came so far; `close` it when done."""

    __slots__ = ("_answers", "_arrived", "_failure", "_withdraw")

    def __init__(self, withdraw: Callable[[], None]) -> None:
        self._withdraw = withdraw
        self._answers: list[Message] = []
        self._failure: str | None = None
        self._arrived: asyncio.Future[None] | None = None

    def offer(self, answer: Message) -> None:
        """Take an answer from the wire."""
        self._answers.append(answer)
        self._wake()

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

    def add(self, exchange: Exchange, withdraw: Callable[[Exchange], None]) -> Waiting:
        """Wait for the answers of *exchange*, and *withdraw* it when they are wanted no more."""

        def close() -> None:
            if self._waiting.pop(exchange, None) is not None:
                withdraw(exchange)

        waiting = self._waiting[exchange] = Waiting(close)
        return waiting

    def answered(self, event: ResponseArrived) -> None:
        """Hand an answer to who waits for it."""
        waiting = self._waiting.get(event.exchange)
        if waiting is not None:
            waiting.offer(event.message)

    def failed(self, event: ExchangeFailed) -> None:
        """Tell who waits that there is no way."""
        waiting = self._waiting.get(event.exchange)
        if waiting is not None:
            waiting.fail(event.reason)

    def fail(self, why: str) -> None:
        """There is no way for any."""
        for waiting in list(self._waiting.values()):
            waiting.fail(why)
