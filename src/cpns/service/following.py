"""Whoever follows what grows by number: first what is stored, then each as it is committed, none left out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar


class Numbered(Protocol):
    """What has a number."""

    @property
    def number(self) -> int:
        """Its number, which grows by commit."""
        ...


T = TypeVar("T", bound=Numbered)
Page = Callable[[int, int], Awaitable[Sequence[T]]]
"""Returns up to so many with a number over the one given, oldest first."""

PAGE: Final = 200


class Following(Generic[T]):
    """What one process commits, and those that follow it.

    Args:
        look_every: seconds after which who follows looks into the store, as other processes commit too; None: never.
    """

    def __init__(self, look_every: float | None) -> None:
        self._look_every = look_every
        self._next: asyncio.Event | None = None
        """Set by what is committed next; made where somebody waits for it."""

    def wake(self) -> None:
        """Something was committed."""
        if self._next is not None:
            self._next.set()
            self._next = None

    async def follow(self, page: Page[T], after: int) -> AsyncIterator[T]:
        """Yield all that *page* gives with a number over *after*; raises as that does."""
        while True:
            if self._next is None:
                self._next = asyncio.Event()
            committed = self._next  # of before the look: what is committed meanwhile wakes us
            found = await page(after, PAGE)
            for one in found:
                after = one.number
                yield one
            if not found:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look_every):
                        await committed.wait()
