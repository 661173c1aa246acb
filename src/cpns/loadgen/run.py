"""A load from its beginning to its end."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from cpns.errors import Unavailable
from cpns.loadgen.figures import Figures, Sample, Second, together
from cpns.loadgen.plan import Plan
from cpns.loadgen.processes import Meters, Worker
from cpns.loadgen.site import Site, Told

STALL_SECONDS: Final = 45.0
"""PNEs that do not come to be established for so long are waited for no longer."""
SETTLE_SECONDS: Final = 1.0
"""Between the last PNE and the reading of memory, and the first reading."""

Watch = Callable[[Sample], None]


class Run:
    """One load.

    Args:
        told: is told what is being done.
        watch: is told of each second.
        stop: is set when it is to end early; `figures` then has what there was.
    """

    def __init__(self, plan: Plan, site: Site, told: Told, watch: Watch, stop: asyncio.Event) -> None:
        self.figures = Figures()
        self._plan = plan
        self._site = site
        self._told = told
        self._watch = watch
        self._stop = stop
        self._seconds: list[Second] = []
        self._since = 0.0
        self._measuring = False
        self._established = asyncio.Event()

    async def run(self) -> None:
        """Do all of it.

        Raises:
            UserError: from the admin API, or a process of load failed.
        """
        async with contextlib.AsyncExitStack() as stack:
            await self._load(stack)

    async def _load(self, stack: contextlib.AsyncExitStack) -> None:
        self._told(f"starting {self._plan.gateways} gateways")
        gateways, pans = await self._gateways(stack)
        self._told(f"establishing {self._plan.total} PNEs")
        pnes = await self._pnes(pans, stack)
        for worker in pnes:
            await worker.line()
        self._since = asyncio.get_running_loop().time()
        meters = Meters(
            {
                "server": [self._site.pid],
                "gateways": [worker.pid for worker in gateways],
                "pnes": [worker.pid for worker in pnes],
            }
        )
        before, _ = meters.read()
        listening = asyncio.create_task(self._listen(pnes, meters))
        try:
            if await self._until_established(listening):
                self._told("settling")
                for worker in gateways:
                    await worker.tell({"rest": True})
                await self._unless_stopped(asyncio.sleep(SETTLE_SECONDS), listening)
                for role, use in meters.read()[0].items():
                    self.figures.bytes_per_pne[role] = round((use.rss - before[role].rss) / self._plan.total)
                await self._measure(pnes, listening)
            for worker in pnes:
                worker.end()
            await asyncio.wait({listening})
            listening.result()
        finally:
            listening.cancel()
        self.figures.sum_up(self._seconds)

    async def _gateways(self, stack: contextlib.AsyncExitStack) -> tuple[list[Worker], list[list[Any]]]:
        """Start the processes of gateways; return them, and the addresses of the gateways of each."""
        made, workers = self._site.made, []
        for number in range(self._plan.processes):
            job = {
                "server": self._site.address,
                "credentials": [made.credentials[name] for name in made.gateways[number :: self._plan.processes]],
                "loss": self._plan.loss,
                "suite": self._plan.suite,
                "batch": self._plan.batch,
                "tls": self._plan.tls,
                "tls_ca": None if self._site.tls_ca is None else str(self._site.tls_ca),
            }
            workers.append(await _worker("gateways", job, stack))
        return workers, [(await worker.line())["pans"] for worker in workers]

    async def _pnes(self, pans: list[list[Any]], stack: contextlib.AsyncExitStack) -> list[Worker]:
        """Start the processes of PNEs, each with those behind the gateways of one process."""
        made, workers = self._site.made, []
        devices = iter(made.devices)
        for addresses in pans:
            share = len(addresses) / self._plan.gateways
            lines = [[made.credentials[next(devices)] for _ in range(self._plan.pnes)] for _ in addresses]
            job = {
                "places": list(zip(addresses, lines, strict=True)),
                "batch": self._plan.batch,
                "suite": self._plan.suite,
                "presence": self._plan.presence,
                "rate": self._plan.rate * share,
                "duration": self._plan.duration,
                "churn": self._plan.churn * share,
            }
            workers.append(await _worker("pnes", job, stack))
        return workers

    async def _listen(self, workers: list[Worker], meters: Meters) -> None:
        """Take what the PNEs count, the same second of all processes together, until each has said that it is done."""
        ready: set[Worker] = set()
        standing: dict[Worker, int] = {}

        async def next_of(worker: Worker) -> Second | None:
            while True:
                said = await worker.line()
                if "second" in said:
                    second = Second(**said["second"])
                    standing[worker] = second.established
                    return second
                if "done" in said:
                    self.figures.unanswered += said["done"]
                    return None
                ready.add(worker)
                if len(ready) == len(workers):
                    self.figures.establish_s = round(asyncio.get_running_loop().time() - self._since, 2)
                    self._established.set()

        while workers:
            parts = dict(zip(workers, await asyncio.gather(*map(next_of, workers)), strict=True))
            workers = [worker for worker, part in parts.items() if part is not None]
            told = [part for part in parts.values() if part is not None]
            if told:
                whole = together(told)
                whole.established = sum(standing.values())  # also those of a process that is done
                self._take(whole, meters)

    def _take(self, second: Second, meters: Meters) -> None:
        sample = Sample.of(second, asyncio.get_running_loop().time() - self._since, *meters.read())
        self.figures.established = second.established
        if self._measuring:
            self._seconds.append(second)
            self.figures.samples.append(sample)
        self._watch(sample)

    async def _until_established(self, listening: asyncio.Task[None]) -> bool:
        """Wait until all PNEs stand; False where they do not come to, or it is to end."""
        clock = asyncio.get_running_loop().time
        most, since = -1, clock()
        while not self._established.is_set():
            if listening.done() or not await self._unless_stopped(asyncio.sleep(0.2), listening):
                return False
            if self.figures.established > most:
                most, since = self.figures.established, clock()
            if clock() - since > STALL_SECONDS:
                if most <= 0:
                    raise Unavailable("not_established", "No PNE could be established: look at the server's log.")
                return False
        return True

    async def _measure(self, pnes: list[Worker], listening: asyncio.Task[None]) -> None:
        if self._stop.is_set():
            return
        self._told(f"offering {self._plan.rate:g} readings a second for {self._plan.duration:g} s")
        before = await self._site.stored()
        self._measuring, self._since = True, asyncio.get_running_loop().time()
        for worker in pnes:
            await worker.tell({"go": True})
        await self._unless_stopped(asyncio.wait({listening}), listening)
        if not listening.done():
            self._told("ending early")
        for worker in pnes:
            worker.end()
        await asyncio.wait({listening})
        self.figures.stored = await self._site.stored() - before

    async def _unless_stopped(self, work: Coroutine[Any, Any, Any], listening: asyncio.Task[None]) -> bool:
        """Wait for *work*; False where it is to end before that, or a process failed."""
        task = asyncio.ensure_future(work)
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, stopped, listening}, return_when=asyncio.FIRST_COMPLETED)
            return task.done() and not self._stop.is_set()
        finally:
            task.cancel()
            stopped.cancel()


async def _worker(role: str, job: dict[str, Any], stack: contextlib.AsyncExitStack) -> Worker:
    worker = await Worker.start(role, job)
    stack.push_async_callback(worker.close)
    return worker
