"""CPU time of a process, and how far the machine can be trusted while it is taken."""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


def cpu_ns(pid: int) -> int:
    """Return nanoseconds that the live threads of *pid* have run, user and system: the scheduler's own count."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except OSError:  # the thread has ended meanwhile
            continue
    return total


def yardstick() -> float:
    """Return CPU microseconds of SHA-256 over 1 KiB, the best of three: how fast this core is right now."""
    block, best = bytes(1024), float("inf")
    for _ in range(3):
        start = time.thread_time_ns()
        for _ in range(2000):
            hashlib.sha256(block).digest()
        best = min(best, (time.thread_time_ns() - start) / 2000 / 1000)
    return best


@dataclass(slots=True)
class Others:
    """How busy the rest of the machine was while figures were taken: CPU seconds, and seconds that passed."""

    cpu_s: float = 0.0
    wall_s: float = 0.0

    @contextlib.contextmanager
    def watched(self, own: set[int]) -> Iterator[None]:
        """Count all but the processes *own*."""
        before, start = _others_s(own), time.monotonic()
        yield
        self.cpu_s += max(0.0, _others_s(own) - before)  # clocks of different grain may give less than nothing
        self.wall_s += time.monotonic() - start

    @property
    def cores(self) -> float:
        """Cores that they kept busy."""
        return self.cpu_s / self.wall_s


def _others_s(own: set[int]) -> float:
    """Return CPU seconds so far of all on this machine but the processes *own*; the difference of two is load."""
    ticks = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, ticks)
    busy = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
    return busy - sum(cpu_ns(pid) for pid in own) / 1e9
