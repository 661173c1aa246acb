"""The system's clock and randomness, as the ports want them; what it may see of our memory; and Python's collector."""

import ctypes
import gc
import os
import resource
import sys
import time
from typing import Final

COLLECTED_AFTER: Final = (10_000, 20, 20)
"""New containers before the youngest are looked through for cycles, and how many of those looks before older ones are.
At Python's own 700 a server with one PNE in a batch spent a tenth of its time on that."""


_PR_SET_DUMPABLE: Final = 4
"""``linux/prctl.h``."""


class SystemClock:
    """`cpns.ports.Clock` of this machine."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()


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
