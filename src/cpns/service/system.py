"""The system's clock and randomness, as the ports want them."""

import os
import time


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
