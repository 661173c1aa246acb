"""Copies of things whose truth is the server's: each is fetched once at a time, and nothing late is taken up.

What is late is decided by `cpns.domain.order`; here is who asks, and when.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cpns.domain.order import Order
from cpns.errors import CpnsError, Refused, Result

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Read = Callable[[K, Callable[[], None]], Awaitable[tuple[int, V] | None]]
"""Asks for one thing, and returns its version and our copy of it, or None: we have the newest. It calls what it is
given at the moment at which it asks, each time that it does so anew."""


@dataclass(slots=True)
class _Turns:
    """The fetches of one thing.

    Attributes:
        users: how many wait for one.
        begun, ended: how many have.
        error: what the one that ended last raised.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    begun: int = 0
    ended: int = 0
    error: CpnsError | None = None


class OneAtATime(Generic[K]):
    """Fetches things by their names, each once at a time: so many who ask cost as much as two.

    Args:
        fetch: asks for one thing, and takes up the answer.
    """

    def __init__(self, fetch: Callable[[K], Awaitable[None]]) -> None:
        self._fetch = fetch
        self._turns: dict[K, _Turns] = {}

    def __contains__(self, key: object) -> bool:
        """Whether a fetch of a thing is under way."""
        return key in self._turns

    async def fetch(self, key: K) -> None:
        """Return when a fetch that began after this call has ended; all who call while one is under way share the next.

        Raises:
            CpnsError: as the fetch did.
        """
        turns = self._turns.setdefault(key, _Turns())
        mine = turns.begun + 1
        turns.users += 1
        try:
            async with turns.lock:
                if turns.ended < mine:
                    await self._take_turn(key, turns)
                if turns.error is not None:
                    raise turns.error
        finally:
            turns.users -= 1
            if turns.users == 0:
                del self._turns[key]

    async def _take_turn(self, key: K, turns: _Turns) -> None:
        turns.begun += 1
        turns.error = None
        try:
            await self._fetch(key)
        except CpnsError as error:
            turns.error = error
        turns.ended = turns.begun


class Copies(Generic[K, V]):
    """Our copies, by name.

    Args:
        read: asks for one.
        gone: what is answered about a thing that is none of ours.
        on_taken: is told of a thing that was answered, and of our copy before that, None where there was none.
        on_gone: is told of a thing that is none of ours any more.
    """

    def __init__(
        self,
        read: "Read[K, V]",
        gone: Result,
        on_taken: Callable[[K, V | None], None] = lambda key, before: None,
        on_gone: Callable[[K], None] = lambda key: None,
    ) -> None:
        self._read = read
        self._gone = gone
        self._on_taken = on_taken
        self._on_gone = on_gone
        self.of: dict[K, V] = {}
        self._orders: dict[K, Order] = {}
        """Of the things that we have a copy of, or ask for one."""
        self._fetches: OneAtATime[K] = OneAtATime(self._fetch)

    async def fetch(self, key: K) -> None:
        """Bring our copy of a thing up to date, by a request that leaves after this call.

        Raises:
            Refused: as *read* does; where it says `gone`, it is dropped.
        """
        await self._fetches.fetch(key)

    async def _fetch(self, key: K) -> None:
        order = self._orders.setdefault(key, Order())
        asked = order.ask()

        def asks() -> None:
            nonlocal asked
            asked = order.ask()

        try:
            found = await self._read(key, asks)
            before = self.of.get(key)
            if found is not None and order.answered(asked, found[0]):
                self.of[key] = found[1]
            if key in self.of:
                self._on_taken(key, before)
        except Refused as error:
            if error.result is self._gone and order.refused(asked):
                self._drop(key)
            raise
        finally:
            if key not in self.of:
                del self._orders[key]

    def told(self, key: K, version: int, changed: V) -> bool:
        """Take up a change that we were told of with what it made of our copy; False where we know something newer."""
        order = self._orders.setdefault(key, Order())
        if not order.told(version, again=True):
            return False
        self.of[key] = changed
        return True

    def told_gone(self, key: K, version: int) -> bool:
        """Take up that a thing is none of ours since *version*; False where we know something newer, so have to ask."""
        order = self._orders.get(key)
        if order is not None and not order.told(version):
            return False
        self._drop(key)
        return True

    def left(self, key: K) -> None:
        """A thing is none of ours from now on: we gave it up ourselves."""
        order = self._orders.get(key)
        if order is not None:
            order.left()
        self._drop(key)

    def _drop(self, key: K) -> None:
        self.of.pop(key, None)
        if key not in self._fetches:
            self._orders.pop(key, None)
        self._on_gone(key)
