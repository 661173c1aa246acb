"""A process of PNEs: they set up in batches, send readings at a given pace, and some leave and come back."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cpns.domain.credential import parse_credential
from cpns.domain.inventory import Kind
from cpns.errors import Refused
from cpns.loadgen.job import Job, at_rest, say
from cpns.loadgen.pace import Pace
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig, Where
from cpns.pne.inbox import Inbox
from cpns.service.background import Background
from cpns.service.system import SystemClock, random_bytes
from cpns.wire.application import Json

GATEWAYS_AT_ONCE: Final = 3
"""Gateways at which a batch sets up at once: so the server has work while a gateway gathers."""
DRAIN_SECONDS: Final = 10.0
"""What the last readings have to be acknowledged."""
AWAY_SECONDS: Final = 1.0
"""How long one that left stays away."""
READING: Final[dict[str, Json]] = {"temperature": 21.5, "unit": "C"}


@dataclass(slots=True)
class Counts:
    """What happened since the last look, at *since* of the monotonic clock; the loop's may be coarse."""

    since: float
    offered: int = 0
    churned: int = 0
    latencies: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


class Device:
    """One PNE, and its readings, one after the other."""

    def __init__(self, config: PneConfig, counts: Callable[[], Counts]) -> None:
        self._config = config
        self._counts = counts
        self._pne: Pne | None = None
        self._run: asyncio.Task[None] | None = None
        self._due: deque[float] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self.here = False

    @property
    def stands(self) -> bool:
        """Whether its sessions stand."""
        return self._pne is not None and self._pne.is_carried

    @property
    def waiting(self) -> int:
        """How many of its readings are not acknowledged."""
        return len(self._due)

    async def join(self) -> None:
        """Come, and return when the sessions stand."""
        self._pne = Pne(self._config, SystemClock(), random_bytes, Inbox(lambda text: text))
        await self._pne.start()
        self._run = asyncio.create_task(self._pne.run())
        await self._pne.wait_established()
        self.here = True
        self._wake()

    def due(self, moment: float) -> None:
        """Have a reading sent that is due at *moment* of the monotonic clock."""
        self._due.append(moment)
        self._wake()

    def _wake(self) -> None:
        if self._due and self._idle.is_set():
            self._idle.clear()
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self._due and self._pne is not None:
            try:
                await self._pne.send(self._pne.next_reading(READING))
            except Refused as error:
                self._counts().refused[error.reason] += 1
            else:
                self._counts().latencies.append(time.monotonic() - self._due[0])
            self._due.popleft()
        self._idle.set()

    async def leave(self) -> None:
        """Take no more readings, have those that are due acknowledged, leave the network, and go."""
        self.here = False
        await self._idle.wait()
        if self._pne is not None:
            with contextlib.suppress(Refused):  # then it goes without a word
                await self._pne.leave()
        await self.close()

    async def close(self) -> None:
        """Be gone."""
        for task in (self._sending, self._run):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._pne is not None:
            await self._pne.close()
        self._pne = None


class Load:
    """The PNEs of one process.

    Args:
        job: `places` is address and credentials for each gateway; rate and churn are of this process alone.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.counts = Counts(time.monotonic())
        self._places = [[self._device(line, (host, port)) for line in lines] for (host, port), lines in job["places"]]
        self.devices: list[Device] = [device for place in zip(*self._places, strict=True) for device in place]
        self._turn = 0
        self._away = 0
        self._work = Background()

    def _device(self, line: str, place: tuple[str, int]) -> Device:
        credential = parse_credential(line, Kind.PNE)
        config = PneConfig(
            credential.entity_id,
            credential.server_id,
            credential.eukey,
            Where((place,)),
            suite=self._job["suite"],
            presence=self._job["presence"],
        )
        return Device(config, lambda: self.counts)

    async def establish(self) -> None:
        """Have all PNEs set up, a batch at a few gateways at once. Raises OSError where no socket is to be had."""
        at_once = asyncio.Semaphore(GATEWAYS_AT_ONCE)
        size = self._job["batch"]

        async def fill(devices: list[Device]) -> None:
            async with at_once:
                for first in range(0, len(devices), size):
                    async with asyncio.TaskGroup() as batch:
                        for device in devices[first : first + size]:
                            batch.create_task(device.join())

        async with asyncio.TaskGroup() as group:
            for devices in self._places:
                group.create_task(fill(devices))
        at_rest()
        say(ready=True)

    async def offer(self) -> None:
        """Have readings sent at the pace of the job, spread evenly over the PNEs."""
        pace = Pace(self._job["rate"], time.monotonic(), int(self._job["rate"] * self._job["duration"]))
        while (moment := pace.next) is not None:
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            for due in pace.take(time.monotonic()):
                self._next().due(due)
                self.counts.offered += 1

    def _next(self) -> Device:
        """Return the PNE whose turn it is; who is away has none."""
        for _ in self.devices:
            self._turn = (self._turn + 1) % len(self.devices)
            if self.devices[self._turn].here:
                break
        return self.devices[self._turn]

    async def churn(self) -> None:
        """Have one PNE after the other leave and come back, as often as the job says."""
        if not self._job["churn"]:
            return
        for device in itertools.cycle(self.devices):
            await asyncio.sleep(60.0 / self._job["churn"])
            if device.here:
                self._away += 1
                self._work.start(self._come_back(device))

    async def _come_back(self, device: Device) -> None:
        await device.leave()
        await asyncio.sleep(AWAY_SECONDS)
        await device.join()
        self._away -= 1
        self.counts.churned += 1

    async def drain(self) -> None:
        """Wait for what is not acknowledged yet and who is not back, as long as that makes sense."""
        until = time.monotonic() + DRAIN_SECONDS
        while (self.waiting or self._away) and time.monotonic() < until:
            await asyncio.sleep(0.05)

    @property
    def waiting(self) -> int:
        """Readings that were due and are not acknowledged."""
        return sum(device.waiting for device in self.devices)

    def tell(self) -> None:
        """Say what happened since the last time, for `cpns.loadgen.figures.Second`."""
        now = time.monotonic()
        counts, self.counts = self.counts, Counts(now)
        say(
            second={
                "seconds": now - counts.since,
                "established": sum(device.stands for device in self.devices),
                "offered": counts.offered,
                "latencies_ms": [round(seconds * 1000, 2) for seconds in counts.latencies],
                "refused": counts.refused,
                "churned": counts.churned,
            }
        )

    async def tell_on(self) -> None:
        """Say it every second."""
        while True:
            await asyncio.sleep(1)
            self.tell()

    async def close(self) -> None:
        """End all."""
        await self._work.close()
        for device in self.devices:
            await device.close()


async def role(job: Job, lines: asyncio.StreamReader) -> None:
    """Establish the PNEs of *job*; at the next of *lines*, offer readings until it is done or *lines* end.

    Raises:
        OSError: no socket could be had.
    """
    load = Load(job)
    say(here=len(load.devices))
    try:
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(load.tell_on())
            establishing = group.create_task(load.establish())
            if await lines.readline():
                load.counts = Counts(time.monotonic())
                churning = group.create_task(load.churn())
                offering = group.create_task(load.offer())
                ending = group.create_task(lines.read())
                await asyncio.wait({offering, ending}, return_when=asyncio.FIRST_COMPLETED)
                offering.cancel()
                churning.cancel()
                load.tell()  # so that a second is one of offering, or not
                await load.drain()
                ending.cancel()
            for task in (telling, establishing):
                task.cancel()
        load.tell()
        say(done=load.waiting)
    finally:
        await load.close()
