"""The system's clock and randomness, as the ports want them; and Python's garbage collector."""

import gc
import os
import time
from typing import Final

COLLECTED_AFTER: Final = (10_000, 20, 20)
"""New containers before the youngest are looked through for cycles, and how many of those looks before older ones are.
At Python's own 700 a server with one PNE in a batch spent a tenth of its time on that."""


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


def settle_collector() -> None:
    """Tell the collector that a server or PN GW is up: there is no garbage yet, and hardly any will be in cycles.

    Looking for some in the modules and the web framework would halt all devices.
    """
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)
