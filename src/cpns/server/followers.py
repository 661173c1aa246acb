"""What this process does about what the others did: it follows the events, whatever the bus between them loses.

Processes tell each other at once; this looks, a moment later, whether that arrived.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Final

from cpns.domain.event import Event
from cpns.errors import Gone, UserError
from cpns.ids import SgId
from cpns.ports.events import EventStore
from cpns.server.groups import Groups
from cpns.service.background import Background
from cpns.service.events import Events
from cpns.shares.noted import by

_log = logging.getLogger("cpns.server")

GRACE_SECONDS: Final = 1.0
"""What the others have to tell us themselves."""
AGAIN_SECONDS: Final = 2.0


class Followers:
    """Those of one process of a server that may have others."""

    def __init__(self, store: EventStore, events: Events, groups: Groups) -> None:
        self._store = store
        self._events = events
        self._groups = groups
        self._work = Background()

    async def run(self) -> None:
        """Follow what happens from now on, until cancelled. While the store is away, nothing does."""
        after: int | None = None
        while True:
            try:
                if after is None:
                    after = await self._store.last_event()
                async for one in self._events.follow(after):
                    after = one.number
                    self._take(one.event)
            except Gone as error:
                _log.warning("%s", error, extra=by("events"))
                after = None
                with suppress(UserError):
                    await self._groups.look_at_all()
            except UserError:
                await asyncio.sleep(AGAIN_SECONDS)

    async def close(self) -> None:
        """Do nothing more."""
        await self._work.close()

    def _take(self, event: Event) -> None:
        if event.kind == "sg_changed" and "deleted" not in event.body:
            self._work.start(self._look_at_group(SgId(event.subject)))

    async def _look_at_group(self, sg_id: SgId) -> None:
        await asyncio.sleep(GRACE_SECONDS)
        with suppress(UserError):  # the store is away: who comes back from that looks at all
            await self._groups.changed_anywhere(sg_id)
