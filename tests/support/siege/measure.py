"""What the honest parties notice while an attack goes on."""

import asyncio
import contextlib
import itertools
import math
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from tests.support.siege.site import GATEWAYS, Site, timed

HOME, NEXT_DOOR = GATEWAYS
PAUSE = 0.5
"""Seconds between two newcomers of one kind."""
BEGUN = 1.0
"""Seconds until an attack is at its rate."""


@dataclass
class Noticed:
    """What was noticed, in seconds; None: in vain.

    Attributes:
        elsewhere: new devices behind the gateway whose PAN is left alone.
        here: new devices behind the gateway whose PAN is attacked.
        gateways: new gateways that connect.
        slow: devices behind that first gateway that take 1.5 s for each answer.
        readings: by gateway, the latencies of the established devices.
        memory: bytes at server and gateway at the end.
        cpu: the part of a core that server and gateway took meanwhile.
    """

    elsewhere: list[float | None] = field(default_factory=list)
    here: list[float | None] = field(default_factory=list)
    gateways: list[float | None] = field(default_factory=list)
    slow: list[float | None] = field(default_factory=list)
    readings: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)


def worst(found: Sequence[float | None]) -> float:
    """Return the longest; infinity where one was in vain, or there is none."""
    return max((math.inf if one is None else one for one in found), default=math.inf)


def percentile(found: Sequence[float], share: float) -> float:
    """Return the value below which *share* of *found* lie; infinity where there is none."""
    if len(found) < 2:
        return math.inf
    return statistics.quantiles(found, n=1000, method="inclusive")[round(share * 1000) - 1]


def seconds_told(value: float) -> str:
    """Return seconds for people."""
    return "never" if math.isinf(value) else f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def worst_of_how_many(found: Sequence[float | None]) -> str:
    """Return the longest, and how many there are, for people."""
    return f"{seconds_told(worst(found))} ({len(found)})"


def readings_goal(quiet: Sequence[float]) -> float:
    """Return the seconds that p99 of readings may take whose latencies were *quiet* before."""
    return max(0.050, 3 * percentile(quiet, 0.99))


def middle_and_most(latencies: Sequence[float]) -> str:
    """Return p50 and p99 for people."""
    return " / ".join(seconds_told(percentile(latencies, share)) for share in (0.5, 0.99))


class Siege:
    """Attacks on one site, one after the other, with newcomers that were never seen before."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._names = itertools.count()

    async def measure(
        self,
        attackers: Sequence[AbstractAsyncContextManager[object]],
        seconds: float,
        patience: float = 30.0,
        *,
        slow: bool = True,
    ) -> Noticed:
        """Let *attackers* at it for *seconds*; return what was noticed in that time, by a *slow* device too or not."""
        noticed = Noticed()
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            for one in attackers:
                await stack.enter_async_context(one)
            await asyncio.sleep(BEGUN)
            end = loop.time() + seconds
            with self.watched(noticed):
                await asyncio.gather(
                    self._come(noticed.elsewhere, NEXT_DOOR, end, patience),
                    self._come(noticed.here, HOME, end, patience),
                    self._connect(noticed.gateways, end, patience),
                    *([self._come(noticed.slow, HOME, loop.time(), patience, slow=True)] if slow else []),
                )
            noticed.memory = self.site.memory()
        return noticed

    @contextlib.contextmanager
    def watched(self, noticed: Noticed) -> Iterator[None]:
        """Note what the established devices notice inside, and what it costs."""
        counts = {name: len(self.site.readings[name]) for name in GATEWAYS}
        before, begun = self.site.cpu(), time.monotonic()
        yield
        took = time.monotonic() - begun
        noticed.cpu = {name: (spent - before[name]) / took for name, spent in self.site.cpu().items()}
        noticed.readings = {name: [one for _, one in self.site.readings[name][counts[name] :]] for name in GATEWAYS}

    async def _come(
        self, into: list[float | None], gateway: str, end: float, patience: float, *, slow: bool = False
    ) -> None:
        async for number in self._each(end):
            into.append(await timed(lambda number=number: self._visit(f"new-{number}", gateway, slow, patience)))  # type: ignore[misc]

    async def _visit(self, name: str, gateway: str, slow: bool, patience: float) -> None:
        pne = await self.site.device(name, gateway, slow=slow, patience=patience)
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, pne.close())

    async def _connect(self, into: list[float | None], end: float, patience: float) -> None:
        async for number in self._each(end):
            into.append(await timed(lambda number=number: self.site.gateway(f"gw-{number}", patience)))  # type: ignore[misc]

    async def _each(self, end: float) -> AsyncIterator[int]:
        """Yield numbers of newcomers until *end*, at least one."""
        while True:
            yield next(self._names)
            if asyncio.get_running_loop().time() + PAUSE >= end:
                return
            await asyncio.sleep(PAUSE)
