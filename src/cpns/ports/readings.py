"""What the services need of the store for readings."""

from typing import Protocol

from cpns.domain.inventory import StoredReading
from cpns.ids import EntityId


class ReadingStore(Protocol):
    """The readings. See `cpns.ports.Store`."""

    async def add_reading(
        self, pne_id: EntityId, gateway_id: EntityId, reading_id: bytes, body: str, verified: str, at: float
    ) -> str:
        """Store a reading once; return the body that (*pne_id*, *reading_id*) has: *body*, or the one stored before."""
        ...

    async def readings(self, after: int, limit: int, pne_id: EntityId | None = None) -> list[StoredReading]:
        """Return up to *limit* readings with a number over *after*, oldest first."""
        ...

    async def last_reading(self, pne_id: EntityId) -> StoredReading | None:
        """Return the newest reading of one PNE, or None."""
        ...

    async def last_reading_number(self) -> int:
        """Return the newest number, 0 when there is none; after `set_back` at least the one that it gave out."""
        ...
