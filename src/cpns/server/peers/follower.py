"""What happened is told to this process: it follows the events, whatever the bus between the processes loses.

It begins with what is new: before its start this process had no session, and each PN GW asks for all when it connects.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from cpns.domain.event import Event
from cpns.errors import Gone, UserError
from cpns.ports.events import EventStore
from cpns.service.background import Background
from cpns.service.events import Events
from cpns.shares.noted import by

_log = logging.getLogger("cpns.server")

GRACE_SECONDS: Final = 1.0
"""What other processes have to tell us themselves."""
AGAIN_SECONDS: Final = 2.0


class Follower:
    """Follows what happens from now on.

    Args:
        take: is told each event, in the order of the numbers, at least once.
        begin_anew: ends all that is here: this process has missed some of what happened.
    """

    def __init__(
        self,
        store: EventStore,
        events: Events,
        take: Callable[[Event], None],
        begin_anew: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._events = events
        self._take = take
        self._begin_anew = begin_anew

    async def run(self) -> None:
        """Follow, until cancelled. While the store is away, nothing happens."""
        after: int | None = None
        missed = False
        while True:
            try:
                if after is None:
                    newest = await self._store.last_event()
                    if missed:
                        await self._begin_anew()
                    after, missed = newest, False
                async for one in self._events.follow(after):
                    after = one.number
                    self._take(one.event)
            except Gone as error:
                _log.warning("all sessions here end, and begin anew: %s", error, extra=by("events"))
                after, missed = None, True
            except UserError:
                await asyncio.sleep(AGAIN_SECONDS)


class Looks:
    """Looks, a moment after something happened, whether what was told of it arrived."""

    def __init__(self) -> None:
        self._work = Background()

    def soon(self, look: Callable[[], Awaitable[None]]) -> None:
        """Look soon; while the store is away, again and again."""
        self._work.start(self._look(look))

    async def close(self) -> None:
        """Look no more."""
        await self._work.close()

    async def _look(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(GRACE_SECONDS)
            try:
                await look()
                break
            except UserError:
                continue
