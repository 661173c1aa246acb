"""Readings: committed, then acknowledged, then told to whoever watches."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from cpns.domain.inventory import StoredReading
from cpns.ids import EntityId
from cpns.ports import Clock, Store
from cpns.session.table import Session
from cpns.wire.application import Reading

_PAGE = 200


class Readings:
    """The readings of one server process.

    Args:
        look_every: seconds after which who follows looks into the store, as other processes commit too; None: never.
    """

    def __init__(self, store: Store, clock: Clock, look_every: float | None = None) -> None:
        self._store = store
        self._look_every = look_every
        self._clock = clock
        self._committed = asyncio.Event()

    async def take(self, session: Session, reading: Reading) -> None:
        """Store *reading* with the entity that *session* proved; returns when it is committed.

        A reading that was stored before is not stored again, and acknowledged again.
        """
        body = json.dumps(reading.body, ensure_ascii=False, separators=(",", ":"))
        via = session.via if session.via is not None else session.peer_id
        await self._store.add_reading(session.peer_id, via, reading.reading_id, body, "e2e", self._clock.now())
        committed, self._committed = self._committed, asyncio.Event()
        committed.set()

    async def follow(self, after: int, pne_id: EntityId | None = None) -> AsyncIterator[StoredReading]:
        """Yield every reading with a number over *after*, first the stored ones, then as they are committed."""
        while True:
            committed = self._committed  # of before the look: what is committed meanwhile wakes us
            page = await self._store.readings(after, _PAGE, pne_id)
            for reading in page:
                after = reading.number
                yield reading
            if not page:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._look_every):
                        await committed.wait()
