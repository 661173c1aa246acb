"""The blind relay of a PN GW (SES-3): protected messages between PNE and server, untouched.

This file may not import a key, a session or the crypto library; the import walls see to it. It forwards payload, code
and OSCORE option as they are, and nothing that has no OSCORE option.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from cpns.errors import CpnsError, NoAnswer, Refused, Result

MAX_IN_FLIGHT: Final = 16
"""Requests of one PNE, by its address, that may wait for an answer of the server at once."""
MAX_UP: Final = 1024
"""Those of a whole PAN, shared by its hosts."""
MAX_DOWN: Final = 1024
"""Those of the server, shared by the PNEs that they are for."""
MAX_DOWN_EACH: Final = 64
"""Those for one PNE, however few there are for others."""
MAX_HELD_BYTES: Final = 1024 * 1024
"""What is held of all sources of a PAN, shared by its hosts."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a relay sees of a message.

    Attributes:
        oscore: None in an answer that a hop made itself (an unprotected error).
        more: of an answer that others than the peer could have sent: hands on what else comes as one, for a moment.
    """

    code: int
    oscore: bytes | None
    payload: bytes
    more: "Callable[[Callable[[Sealed], None]], None] | None" = field(default=None, compare=False, repr=False)


class Run(Protocol):
    """A place that is held; *proved*: the peer has answered."""

    proved: bool


class Place(Protocol):
    """Gives places of something finite, so that nobody takes another's share."""

    def __call__(self, party: Hashable, size: int = 1) -> AbstractAsyncContextManager[Run]:
        """Hold a place for *party* while the block runs.

        Raises:
            Refused: TOO_MANY: it has its share; or, out of the block, its place goes to another.
        """
        ...


class Carrier(Protocol):
    """A way to the next hop."""

    def carry(self, destination: str, sealed: Sealed) -> Coroutine[Any, Any, Sealed]:
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
        place: gives places of so many bytes to a host.
        messages: of one source at once.
    """

    destination: str
    seconds: float
    place: Place
    messages: int = 16


@dataclass(eq=False, slots=True)
class _Held:
    destination: str
    sealed: Sealed
    done: asyncio.Future[Sealed]


class Relay:
    """Forwards by destination.

    Args:
        route: tells the way to an entity ID, or None where it is out of reach.
        place: gives a place to each message that waits for an answer: up, for the host that it came from; down, for
            the destination.
        hold: keeps messages that have no way on until `resume`, in the order of their source; None refuses them.
        up: whether it carries messages of many sources to one server; else those of the server to many PNEs.
        opened: is told of each message that its destination has opened, as the answer is sealed: where it came from,
            and its OSCORE option.
    """

    def __init__(
        self,
        route: Callable[[str], Carrier | None],
        place: Place,
        hold: HoldLimits | None = None,
        *,
        up: bool = False,
        opened: Callable[[Hashable, bytes], None] = lambda source, option: None,
    ) -> None:
        self._route = route
        self._place = place
        self._hold = hold
        self._up = up
        self._opened = opened
        self._in_flight: Counter[Hashable] = Counter()
        self._queues: dict[Hashable, deque[_Held]] = {}
        self._pumps: dict[Hashable, asyncio.Task[None]] = {}

    async def forward(
        self, source: Hashable, host: str, destination: str, sealed: Sealed, held: Callable[[], None]
    ) -> Sealed:
        """Carry *sealed* to *destination* and its answer back.

        Args:
            source: where it came from.
            host: the host of that.
            destination: the entity that it is for.
            sealed: the message.
            held: is called where it has to wait for a way on.

        Raises:
            Refused: no OSCORE option (NOT_AUTHENTICATED), no way (OUT_OF_REACH), too much at once (TOO_MANY).
            NoAnswer: the next hop did not answer, or no way came in time.
        """
        if sealed.oscore is None:
            raise Refused(Result.NOT_AUTHENTICATED, "unprotected_message_to_relay")
        if self._up and self._in_flight[source] >= MAX_IN_FLIGHT:
            raise Refused(Result.TOO_MANY, "too_many_relayed_requests")
        if self._route(destination) is None and not self._is_held(destination):
            raise Refused(Result.OUT_OF_REACH, "no_route")
        async with self._place(host if self._up else destination) as run:
            answer = await self._forwarded(source, host, destination, sealed, held)
            run.proved = answer.oscore is not None
            if run.proved:
                self._opened(source, sealed.oscore)
            return answer

    def _is_held(self, destination: str) -> bool:
        return self._hold is not None and destination == self._hold.destination

    async def _forwarded(
        self, source: Hashable, host: str, destination: str, sealed: Sealed, held: Callable[[], None]
    ) -> Sealed:
        carrier = self._route(destination)
        if self._hold is not None and self._is_held(destination) and (carrier is None or source in self._queues):
            async with self._hold.place(host, len(sealed.payload)):
                return await self._wait(self._hold, source, destination, sealed, held)
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
        if len(queue) >= limits.messages:
            raise Refused(Result.TOO_MANY, "too_much_held")
        item = _Held(destination, sealed, asyncio.get_running_loop().create_future())
        queue.append(item)
        self._queues[source] = queue
        held()
        try:
            async with asyncio.timeout(limits.seconds):
                return await item.done
        except TimeoutError:
            raise NoAnswer("held_too_long") from None
        finally:
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
