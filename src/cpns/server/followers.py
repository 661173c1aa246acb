"""What this process does about what the others did: it follows the events, whatever the bus between them loses.

Processes tell each other at once; this looks, a moment later, whether that arrived. It begins with what is new: before
its start this process had no session, and each PN GW asks for all when it connects.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from cpns.domain.event import Event, PnChanged, SgChanged
from cpns.errors import Gone, UserError
from cpns.ports.events import EventStore
from cpns.service.background import Background
from cpns.service.events import Events
from cpns.shares.noted import by

_log = logging.getLogger("cpns.server")

GRACE_SECONDS: Final = 1.0
"""What the others have to tell us themselves."""
AGAIN_SECONDS: Final = 2.0


class Followers:
    """Those of one process of a server that may have others.

    Args:
        networks: looks whether our PN GWs know of a change of a PN.
        groups: the same, of a service group.
        rotations: looks which CM Devices are to take fresh keys.
        begin_anew: ends all that is here: this process has missed some of what happened.
    """

    def __init__(
        self,
        store: EventStore,
        events: Events,
        networks: Callable[[PnChanged], Awaitable[None]],
        groups: Callable[[SgChanged], Awaitable[None]],
        rotations: Callable[[], Awaitable[None]],
        begin_anew: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._events = events
        self._networks = networks
        self._groups = groups
        self._rotations = rotations
        self._begin_anew = begin_anew
        self._work = Background()

    async def run(self) -> None:
        """Follow what happens from now on, until cancelled. While the store is away, nothing does."""
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

    async def close(self) -> None:
        """Do nothing more."""
        await self._work.close()

    def _take(self, event: Event) -> None:
        if event.kind == "pn_changed":
            self._work.start(self._look(partial(self._networks, PnChanged.of(event))))
        elif event.kind == "sg_changed":
            self._work.start(self._look(partial(self._groups, SgChanged.of(event))))
        elif event.kind == "cm_rotation_asked":
            self._work.start(self._look(self._rotations))

    async def _look(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(GRACE_SECONDS)
            try:
                await look()
                break
            except UserError:
                continue  # the store is away
