"""How much of what connections bring is worked on: frames and bytes of a host, counted before they are parsed.

A ping costs as much as any frame, and answers that nobody waits for too; so frames count, whatever they say.
"""

import time
from typing import Final

from cpns.shares.rate import RateLimit

FRAMES: Final = (20000.0, 40000.0)
"""Frames a second, and at once, of one host that proved itself; a ping costs 3 us."""
STRANGER_FRAMES: Final = (2000.0, 8000.0)
"""Likewise, of a host by connections that proved nothing."""
BYTES: Final = (32 * 1024 * 1024.0, 64 * 1024 * 1024.0)
STRANGER_BYTES: Final = (1024 * 1024.0, 4 * 1024 * 1024.0)
BLOCK: Final = 32
"""Frames that are taken off at once: the count costs less than a frame then."""
PATIENCE: Final = 10.0
"""Seconds on end that a connection may be over its budget; then it is ended."""


class Budget:
    """Of one kind of connections at one listener."""

    def __init__(self, frames: tuple[float, float], sizes: tuple[float, float]) -> None:
        self._frames = RateLimit(*frames, time.monotonic)
        self._bytes = RateLimit(*sizes, time.monotonic)

    def wait_for_bytes(self, host: str, size: int) -> float:
        """Count so many bytes of *host*; return 0, or the seconds until there is room for them: none is counted."""
        return 0.0 if self._bytes.allows(host, size) else max(self._bytes.wait(host, size), 0.001)

    def wait_for_frames(self, host: str) -> float:
        """Count a block of frames of *host*, likewise."""
        return 0.0 if self._frames.allows(host, BLOCK) else max(self._frames.wait(host, BLOCK), 0.001)
