"""What is kept for a time ends by a clock, and clocks jump: what a jump ahead would end is kept, and that is said.

A look compares the clock with how much time went by. One that is ahead of that by more than an hour has jumped, or the
machine slept.
"""

import logging
from typing import Final

from cpns.ports import Clock
from cpns.ports.messages import MessageStore
from cpns.shares.noted import by

_log = logging.getLogger("cpns.server")

JUMP_SECONDS: Final = 3600.0
"""What the clock goes ahead between two looks to count as a jump; and for so long after it nothing else ends."""
EXPIRY_SECONDS: Final = 60.0
"""How often what is over is dropped."""


class Kept:
    """The texts and group messages that a server keeps for who is away."""

    def __init__(self, store: MessageStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._looked = clock.now(), clock.monotonic()
        self._dropped_at = self._looked[1]
        self._jumped_at: float | None = None

    async def sweep(self) -> bool:
        """Look at the clock, and drop what is over; return whether other things may end by the clock now."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        expected = self._looked[0] + monotonic - self._looked[1]
        if now - expected > JUMP_SECONDS:
            count = await self._store.spare_kept(expected, now)
            self._jumped_at = monotonic
            said = (
                "the clock went ahead by %.0f min at once: %d texts that would be over by that are kept so much longer"
            )
            _log.warning(said, (now - expected) / 60, count, extra=by("clock"))
        self._looked = now, monotonic
        if monotonic - self._dropped_at >= EXPIRY_SECONDS:
            self._dropped_at = monotonic
            while await self._store.drop_kept(now):
                pass
        return self._jumped_at is None or monotonic - self._jumped_at >= JUMP_SECONDS
