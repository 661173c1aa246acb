"""How much of what connections bring is worked on: frames and bytes of a host, counted before they are parsed.

A ping costs as much as any frame, and answers that nobody waits for too; so frames count, whatever they say.
"""

import time
from collections import Counter
from typing import Final

from cpns.shares.rate import RateLimit

FRAMES: Final = (20000.0, 40000.0)
"""Frames a second, and at once, of one host that proved itself; a ping costs 3 us."""
STRANGER_FRAMES: Final = (2000.0, 8000.0)
"""Likewise, of a host by connections that proved nothing."""
BYTES: Final = (32 * 1024 * 1024.0, 64 * 1024 * 1024.0)
STRANGER_BYTES: Final = (1024 * 1024.0, 4 * 1024 * 1024.0)
FIRST_BLOCK: Final = 4
"""Frames that are taken off when a connection begins: most send no more before they prove themselves, or end."""
BLOCK: Final = 32
"""Those that are taken off at once later on: the count costs less than a frame then."""
HELD: Final = 64 * 1024 * 1024
"""Bytes that came already, of connections of one host that wait: each may hold this, divided by how many wait.

So a thousand of them hold no more than a few times what one may: 1/1 and 1/2 and 1/3 of it, and so on.
"""
STRANGER_HELD: Final = 4 * 1024 * 1024
"""Likewise, of connections that proved nothing; who means to prove itself holds a few hundred bytes."""
PATIENCE: Final = 10.0
"""Seconds on end that a connection may be over its budget; then it is ended."""
RESPITE: Final = 1.0
"""Seconds without a wait after which it was within its budget meanwhile."""


class Budget:
    """Of one kind of connections at one listener."""

    def __init__(self, frames: tuple[float, float], sizes: tuple[float, float], held: int) -> None:
        self._frames = RateLimit(*frames, time.monotonic)
        self._bytes = RateLimit(*sizes, time.monotonic)
        self._held = held
        self._waiting: Counter[str] = Counter()

    def wait_for_bytes(self, host: str, size: int) -> float:
        """Count so many bytes of *host*; return 0, or the seconds until there is room for them: none is counted."""
        return 0.0 if self._bytes.allows(host, size) else max(self._bytes.wait(host, size), 0.001)

    def wait_for_frames(self, host: str, count: int) -> float:
        """Count so many frames of *host*, likewise."""
        return 0.0 if self._frames.allows(host, count) else max(self._frames.wait(host, count), 0.001)

    def has_room(self, host: str, held: int) -> bool:
        """Whether one more connection of *host* may wait that holds so many bytes."""
        return held * (self._waiting[host] + 1) <= self._held

    def line_up(self, host: str, seconds: float) -> float:
        """Let one more connection of *host* wait; return for how long, where each alone would wait so many seconds.

        It waits longer for each that waits already: a thousand connections wake no more often than one.
        """
        self._waiting[host] += 1
        return seconds * self._waiting[host]

    def step_out(self, host: str) -> None:
        """One connection of *host* waits no more."""
        self._waiting[host] -= 1
        if not self._waiting[host]:
            del self._waiting[host]
