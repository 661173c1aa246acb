"""What is asked of the system, as the ports want it: time, randomness, room; what it may see of our memory."""

import asyncio
import ctypes
import gc
import os
import resource
import socket
import sys
import time
from pathlib import Path
from typing import Final

from cpns.ports import Clock

COLLECTED_AFTER: Final = (10_000, 20, 20)
"""New containers before the youngest are looked through for cycles, and how many of those looks before older ones are.
At Python's own 700 a server with one PNE in a batch spent a tenth of its time on that."""
CLOCK_OFF_SECONDS: Final = 1.0
"""A clock that differs from the store's by no more is right."""

_PR_SET_DUMPABLE: Final = 4
"""``linux/prctl.h``."""


class SystemClock:
    """`cpns.ports.Time` of this machine."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)


class StoreClock:
    """`cpns.ports.Time` of a process that shares its store: where the machine's clock is off, the store's counts.

    So all processes of one server have one time, whatever their machines say.

    Args:
        machine: the clock of this machine.

    Attributes:
        ahead: seconds that it is ahead of the store's at the least; negative where it is behind.
    """

    def __init__(self, machine: Clock) -> None:
        self._machine = machine
        self.ahead = 0.0

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return self._machine.now() - (self.ahead if abs(self.ahead) > CLOCK_OFF_SECONDS else 0.0)

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self._machine.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)

    def of_machine(self) -> float:
        """Return what the machine's clock says."""
        return self._machine.now()

    def compare(self, asked: float, store: float, answered: float) -> None:
        """Take up what the store's clock said between two moments of the machine's."""
        self.ahead = min(max(self.ahead, asked - store), answered - store)


def this_process() -> tuple[str, int]:
    """Return the name of this machine, and the number of this process on it."""
    return socket.gethostname(), os.getpid()


def room_at(path: Path) -> tuple[int, int]:
    """Return the bytes that are free, for us, on the disk of *path*, and all that it has."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize


def random_bytes(size: int) -> bytes:
    """`cpns.ports.Randomness` of this machine: ``os.urandom``."""
    return os.urandom(size)


def hide_memory() -> None:
    """Have no core dump written of this process, and let no other one of its user look into it: it holds keys.

    The limit alone would not do: a system that pipes core dumps to a program does not heed it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def settle_collector() -> None:
    """Tell the collector that a server or PN GW is up: there is no garbage yet, and hardly any will be in cycles.

    Looking for some in the modules and the web framework would halt all devices.
    """
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)
