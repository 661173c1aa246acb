"""The blind relay of a PN GW (SES-3): protected messages between PNE and server, untouched.

This file may not import a key, a session or the crypto library; the import walls see to it. It forwards payload, code
and OSCORE option as they are, and nothing that has no OSCORE option.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Protocol

from cpns.errors import CpnsError, NoAnswer, Refused, Result

MAX_IN_FLIGHT: Final = 16
"""Relayed requests of one source on a PAN that may wait for an answer at once."""
MAX_IN_FLIGHT_DOWN: Final = 1024
"""Those of the server, which is one source and reaches all PNEs."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a relay sees of a message; `oscore` is None in an answer that a hop made itself (an unprotected error)."""

    code: int
    oscore: bytes | None
    payload: bytes


class Carrier(Protocol):
    """A way to the next hop."""

    async def carry(self, destination: str, sealed: Sealed) -> Sealed:
        """Send on to *destination* and return the answer.

        Raises:
            NoAnswer: none came, or the way is gone.
        """
        ...


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """What a relay keeps while it has no way on: ciphertext, in memory.

    Attributes:
        destination: the entity whose way may come back; nothing is kept for others.
        seconds: how old a message may get.
        messages: of one source at once.
        total_bytes: of all sources.
    """

    destination: str
    seconds: float = 60.0
    messages: int = 16
    total_bytes: int = 1024 * 1024


@dataclass(eq=False, slots=True)
class _Held:
    destination: str
    sealed: Sealed
    done: asyncio.Future[Sealed]


class Relay:
    """Forwards by destination.

    Args:
        route: tells the way to an entity ID, or None where it is out of reach.
        limit: requests of one source that may wait for an answer at once.
        hold: keeps messages that have no way on until `resume`, in the order of their source; None refuses them.
    """

    def __init__(
        self, route: Callable[[str], Carrier | None], limit: int = MAX_IN_FLIGHT, hold: HoldLimits | None = None
    ) -> None:
        self._route = route
        self._limit = limit
        self._hold = hold
        self._in_flight: Counter[Hashable] = Counter()
        self._queues: dict[Hashable, deque[_Held]] = {}
        self._bytes = 0
        self._pumps: dict[Hashable, asyncio.Task[None]] = {}

    async def forward(self, source: Hashable, destination: str, sealed: Sealed, held: Callable[[], None]) -> Sealed:
        """Carry *sealed* to *destination* and its answer back.

        Args:
            source: where it came from.
            destination: the entity that it is for.
            sealed: the message.
            held: is called where it has to wait for a way on.

        Raises:
            Refused: no OSCORE option (NOT_AUTHENTICATED), no way (OUT_OF_REACH), too much at once (TOO_MANY).
            NoAnswer: the next hop did not answer, or no way came in time.
        """
        if sealed.oscore is None:
            raise Refused(Result.NOT_AUTHENTICATED, "unprotected_message_to_relay")
        if self._in_flight[source] >= self._limit:
            raise Refused(Result.TOO_MANY, "too_many_relayed_requests")
        carrier = self._route(destination)
        hold = self._hold
        if hold is not None and destination == hold.destination and (carrier is None or source in self._queues):
            return await self._wait(hold, source, destination, sealed, held)
        if carrier is None:
            raise Refused(Result.OUT_OF_REACH, "no_route")
        self._in_flight[source] += 1
        try:
            return await carrier.carry(destination, sealed)
        finally:
            self._in_flight[source] -= 1
            if not self._in_flight[source]:
                del self._in_flight[source]

    async def _wait(
        self, limits: HoldLimits, source: Hashable, destination: str, sealed: Sealed, held: Callable[[], None]
    ) -> Sealed:
        queue = self._queues.get(source, deque())
        size = len(sealed.payload)
        if len(queue) >= limits.messages or self._bytes + size > limits.total_bytes:
            raise Refused(Result.TOO_MANY, "too_much_held")
        item = _Held(destination, sealed, asyncio.get_running_loop().create_future())
        queue.append(item)
        self._queues[source] = queue
        self._bytes += size
        held()
        try:
            async with asyncio.timeout(limits.seconds):
                return await item.done
        except TimeoutError:
            raise NoAnswer("held_too_long") from None
        finally:
            self._bytes -= size
            if item in queue:
                queue.remove(item)
            if not queue and self._queues.get(source) is queue:
                del self._queues[source]

    def resume(self) -> None:
        """There is a way on again: carry what is held, that of each source in its order."""
        for source in self._queues:
            if source not in self._pumps:
                self._pumps[source] = asyncio.get_running_loop().create_task(self._pump(source))

    async def _pump(self, source: Hashable) -> None:
        try:
            await self._empty(source)
        finally:
            del self._pumps[source]

    async def _empty(self, source: Hashable) -> None:
        while queue := self._queues.get(source):
            item = queue[0]
            carrier = self._route(item.destination)
            if carrier is None:
                return
            try:
                answer = await carrier.carry(item.destination, item.sealed)
            except CpnsError as error:
                if self._route(item.destination) is None:
                    return  # the way was lost again: it waits on
                if not item.done.done():
                    item.done.set_exception(error)
            else:
                if not item.done.done():
                    item.done.set_result(answer)
            await asyncio.sleep(0)  # its waiter takes it out of the queue
            if queue and queue[0] is item:
                queue.popleft()

    def drop(self, source: Hashable) -> None:
        """Give up what is held of *source*: the session that protects it is gone."""
        for item in self._queues.get(source, ()):
            if not item.done.done():
                item.done.set_exception(Refused(Result.NOT_AUTHENTICATED, "session_gone"))

    @property
    def holding(self) -> int:
        """How many messages wait."""
        return sum(map(len, self._queues.values()))
