"""What is done with a reading: it is committed, then acknowledged, then told to whoever watches."""

import json
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from cpns.domain.inventory import StoredReading
from cpns.errors import Later, Refused, Result
from cpns.ids import EntityId
from cpns.ports import Clock
from cpns.ports.readings import ReadingStore
from cpns.service.following import Following
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.shares.rate import RateLimit
from cpns.wire.application import decode_reading

_log = logging.getLogger("cpns.server")

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

BURST_SECONDS: Final = 10.0
"""How many seconds' worth of its rate a device may send at once."""
DAY: Final = 86400.0
MAX_DEVICES: Final = 65536
"""Devices whose share is counted in one process; the one longest silent is forgotten first."""


class ReadingActions:
    """The readings of one server process.

    Args:
        rate: readings a second that are taken of one device, on average.
        volume: bytes a day that those of one device may take in the store.
        look_every: seconds after which who follows looks into the store, as other processes commit too; None: never.
    """

    def __init__(
        self, store: ReadingStore, clock: Clock, rate: float, volume: float, look_every: float | None = None
    ) -> None:
        self._rate = RateLimit(rate, BURST_SECONDS * rate, clock.monotonic, MAX_DEVICES)
        self._most = volume
        self._volume = RateLimit(volume / DAY, volume, clock.monotonic, MAX_DEVICES)
        self._store = store
        self._clock = clock
        self._following: Following[StoredReading] = Following(look_every)

    async def take(self, session: Session, payload: bytes) -> None:
        """Store the reading in *payload* with the entity that *session* proved; returns when it is committed.

        A reading that was stored before is not stored again, and acknowledged again.

        Raises:
            Later: it is more than the device's share; nothing was read or written for it.
            WireError: it is no reading.
            Refused: EXISTS: its ID has another body, which stays.
        """
        pne = session.peer_id
        if not self._rate.allows(pne):
            raise Later("too_many_readings", self._rate.wait(pne))
        reading = decode_reading(payload)
        body = _json(reading.body)
        size = min(len(body.encode()), self._most)
        if not self._volume.allows(pne, size):
            raise Later("too_much_in_readings", self._volume.wait(pne, size))
        via = session.via if session.via is not None else pne
        stored = await self._store.add_reading(pne, via, reading.reading_id, body, "e2e", self._clock.now())
        if stored != body and not _is_same(stored, body):
            said = "PNE %s gave a second reading the ID %s: it is refused, the first one stays"
            _log.warning(said, pne, reading.reading_id.hex(), extra=by(pne))
            raise Refused(Result.EXISTS, "reading_id_taken")
        self._following.wake()

    def follow(self, after: int, pne_id: EntityId | None = None) -> AsyncIterator[StoredReading]:
        """Return every reading with a number over *after*, first the stored ones, then as they are committed."""
        return self._following.follow(partial(self._store.readings, pne_id=pne_id), after)


def _is_same(stored: str, body: str) -> bool:
    """Whether two bodies say the same: a device that makes its CBOR anew may give the keys in another order."""
    one, other = (json.dumps(json.loads(text), sort_keys=True) for text in (stored, body))
    return one == other
