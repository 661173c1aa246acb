"""The processes of a load, and what they use."""

import asyncio
import contextlib
import json
import os
import sys
from typing import Any, Final

import psutil

from cpns.errors import Unavailable
from cpns.loadgen.figures import Use
from cpns.loadgen.job import LONGEST_LINE, Job

END_SECONDS: Final = 30.0


class Worker:
    """One process of load."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    async def start(cls, role: str, job: Job) -> "Worker":
        """Start one with *role* and *job*; see `cpns.loadgen.worker`."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cpns.loadgen.worker", role),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            start_new_session=True,  # Ctrl-C is for us; it ends with its standard input
        )
        worker = cls(process)
        await worker.tell(job)
        return worker

    async def tell(self, line: Job) -> None:
        """Give it a line."""
        if self._process.stdin is not None:
            with contextlib.suppress(ConnectionError):  # what it says last, or that it says nothing, tells
                self._process.stdin.write(json.dumps(line).encode() + b"\n")
                await self._process.stdin.drain()

    async def line(self) -> dict[str, Any]:
        """Return what it says next.

        Raises:
            Unavailable: it failed; the code and sentence are its own, or ``load_failed``.
        """
        line = await self._process.stdout.readline() if self._process.stdout is not None else b""
        if not line:
            raise Unavailable("load_failed", "A process of load has ended by itself.")
        said: dict[str, Any] = json.loads(line)
        if "failed" in said:
            raise Unavailable(*said["failed"])
        return said

    def end(self) -> None:
        """Ask it to end, and to say what it still has to say."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def close(self) -> None:
        """Have it ended."""
        self.end()
        try:
            await asyncio.wait_for(self._process.communicate(), END_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Meter:
    """What the processes of one role use; nothing, where they can't be seen from here."""

    def __init__(self, pids: list[int]) -> None:
        self._processes = [psutil.Process(pid) for pid in pids if pid]
        self.read()  # the first tells of no time

    def read(self) -> Use:
        """Return cores since the last call, and memory now; zero for what has ended."""
        cores, rss = 0.0, 0
        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                cores += process.cpu_percent() / 100
                rss += process.memory_info().rss
        return Use(round(cores, 3), rss)


class Meters:
    """What each role uses, and the rest of the machine.

    Args:
        pids: the processes of each role.
    """

    def __init__(self, pids: dict[str, list[int]]) -> None:
        self._roles = {role: Meter(of_role) for role, of_role in pids.items()}
        self._own = Meter([os.getpid()])
        psutil.cpu_percent()

    def read(self) -> tuple[dict[str, Use], float]:
        """Return what each role uses, and cores that others kept busy, since the last call."""
        uses = {role: meter.read() for role, meter in self._roles.items()}
        known = self._own.read().cores + sum(use.cores for use in uses.values())
        busy = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
        return uses, round(max(0.0, busy - known), 3)  # clocks of different grain may give less than nothing
