"""A state machine that lives: the state that it is in, those who wait for another one, and those who are told."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from types import UnionType
from typing import Any, Generic, TypeVar

from cpns.machine import Transitions
from cpns.ports import Time

S = TypeVar("S")
E = TypeVar("E")
T = TypeVar("T")


class Life(Generic[S, E]):
    """Follows a table from state to state.

    Args:
        table: where which event leads.
        state: the first one.
    """

    def __init__(self, table: Transitions[S, E], state: S) -> None:
        self._table = table
        self.state = state
        self._changed: asyncio.Future[None] | None = None
        self._followers: defaultdict[type[Any], list[Callable[[Any], None]]] = defaultdict(list)

    def follow(self, event: type[T], told: Callable[[T], None]) -> None:
        """Have *told* called with each such event that the table knows in the state of that moment, after it.

        Who follows is above what it follows: nothing has to know who does.
        """
        self._followers[event].append(told)

    def happens(self, event: E) -> bool:
        """Go where *event* leads; return False where it changes nothing."""
        after = self._table.after(self.state, event)
        if after is None:
            return False
        self.state = after
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None
        for told in self._followers.get(type(event), ()):
            told(event)
        return True

    async def until(self, found: Callable[[S], T | None]) -> T:
        """Wait for a state in which *found* finds something; return that."""
        while (there := found(self.state)) is None:
            await self._change()
        return there

    async def until_not(self, kind: type[Any] | UnionType) -> S:
        """Wait for a state that is none of that kind; return it."""
        return await self.until(lambda state: None if isinstance(state, kind) else state)

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)  # others wait for the same one


async def within(time: Time, seconds: float, awaited: Awaitable[T]) -> T:
    """Return what *awaited* returns.

    Raises:
        TimeoutError: it did not for so many seconds; it is cancelled.
    """
    work = asyncio.ensure_future(awaited)
    over = asyncio.ensure_future(time.sleep(seconds))
    try:
        await asyncio.wait([work, over], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise TimeoutError
        return work.result()
    finally:
        work.cancel()
        over.cancel()
        await asyncio.gather(work, over, return_exceptions=True)
