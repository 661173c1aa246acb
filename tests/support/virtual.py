"""A time that goes on only when a test says so: what takes a year takes no time, and comes out the same each time."""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

TURNS: Final = 40
"""Turns of the event loop in which whoever was woken comes to wait for something again."""
LEAST: Final = 1e-6
"""Seconds that a sleep takes at the least: one of fewer than the clock can tell apart would never end."""


class VirtualTime:
    """`cpns.ports.Time` of a test."""

    def __init__(self) -> None:
        self._now = 0.0
        self._serial = 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._serial += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self._now + max(seconds, LEAST), self._serial, woken))
        await woken

    async def settle(self) -> None:
        """Let everybody who can go on go on."""
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def passes(self, seconds: float) -> None:
        """Let so many seconds pass: each sleeper wakes at its time, and does what it does before the next one."""
        until = self._now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            self._now, _, woken = heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
                await self.settle()
        self._now = until

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let as much time pass as it takes; fail where that is a year."""
        most = self._now + 365 * 24 * 3600
        await self.settle()
        while not holds():
            if not self._sleepers or self._sleepers[0][0] > most:
                raise AssertionError("it never holds")
            await self.passes(self._sleepers[0][0] - self._now)
