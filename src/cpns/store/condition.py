"""Whether a store works: one line of the log when it fails, and one when it works again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from cpns.errors import StoreFails, UserError
from cpns.shares.noted import AGAIN_SECONDS, by

_log = logging.getLogger("cpns.store")

PROBE_SECONDS: Final = 2.0
"""How often a store that fails is tried."""


class Condition:
    """The condition of the store *name*.

    It fails from the first operation that finds so until an attempt to write succeeds; nothing else would do, as a full
    disk can be read, and takes changes that need no room.

    Args:
        name: of the store.
        probe: writes something that takes room, and takes it away again.
    """

    def __init__(self, name: str, probe: Callable[[], Awaitable[object]]) -> None:
        self._name = name
        self._probe = probe
        self._trouble: StoreFails | None = None
        self._probing: asyncio.Task[None] | None = None
        self._said_at = 0.0

    @property
    def trouble(self) -> str:
        """What fails, in a sentence; empty while the store works."""
        return "" if self._trouble is None else self._trouble.sentence

    def failed(self, error: StoreFails) -> None:
        """The store failed. That it is away is said once; that it takes nothing new, again each minute."""
        loop = asyncio.get_running_loop()
        begins = self._trouble is None
        if begins:
            self._trouble = error
            self._probing = loop.create_task(self._until_it_works())
        if begins or (not error.away and loop.time() - self._said_at >= AGAIN_SECONDS):
            self._said_at = loop.time()
            _log.warning("%s", self._trouble, extra=by(self._name, state="store"))

    async def close(self) -> None:
        """Try no more."""
        if self._probing is not None:
            self._probing.cancel()
            with suppress(asyncio.CancelledError):
                await self._probing

    async def _until_it_works(self) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            with suppress(UserError):
                await self._probe()
                break
        self._trouble = None
        seconds = loop.time() - since
        _log.warning("the store %s works again, after %.0f s", self._name, seconds, extra=by(self._name, state="store"))
