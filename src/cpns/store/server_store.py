"""The server's truth: `cpns.ports.Store` on `Database`. The SQL is in `server_queries`."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from sqlalchemy import Connection

from cpns.domain.inventory import (
    Credential,
    Entity,
    Establishment,
    Kind,
    NewEntity,
    Outcome,
    PersonalNetwork,
    StoredReading,
)
from cpns.ids import EntityId, PnId
from cpns.store import server_queries as q
from cpns.store.database import Database


class ServerStore:
    """`cpns.ports.Store` in one SQLite file. Besides what each method names, all raise as `Database.run` does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the store at *path*, made when missing. Blocks; raises as `Database` does."""
        return cls(Database(path))

    async def credentials(self, ids: Sequence[EntityId]) -> Mapping[EntityId, Credential]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.credentials, ids=ids), write=False)

    async def add_entities(self, entities: Sequence[NewEntity]) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(q.add_entities, new=entities))

    async def entity(self, entity_id: EntityId) -> Entity | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.entity, entity_id=entity_id), write=False)

    async def entities(self, kind: Kind) -> list[Entity]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.entities_of, kind=kind), write=False)

    async def revoke(self, entity_id: EntityId, at: float) -> bool:
        """See `cpns.ports.Store`. The audit log gets a row ``revoked``, the first time."""
        return await self._database.run(partial(q.revoke, entity_id=entity_id, at=at))

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(q.record, outcomes=outcomes))

    async def establish(self, establishment: Establishment) -> None:
        """See `cpns.ports.Store`. A PN known already keeps its alias and its age.

        Raises:
            Conflict: code ``pn_of_another_gateway`` or ``gateway_of_another_pn``: a PN GW serves one PN, for good.
        """
        await self._database.run(partial(q.establish, finished=establishment))

    async def pn_of_gateway(self, gateway_id: EntityId) -> PnId | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.pn_of_gateway, gateway_id=gateway_id), write=False)

    async def members_of(self, gateway_id: EntityId) -> list[EntityId]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.members_of, gateway_id=gateway_id), write=False)

    async def networks(self) -> list[PersonalNetwork]:
        """See `cpns.ports.Store`."""
        return await self._database.run(q.networks_of_all, write=False)

    async def add_reading(
        self, pne_id: EntityId, gateway_id: EntityId, reading_id: bytes, body: str, verified: str, at: float
    ) -> bool:
        """See `cpns.ports.Store`."""
        row = (pne_id, reading_id, gateway_id, verified, at, body)

        def add(connection: Connection) -> bool:
            return q.add_reading(connection, row)

        return await self._database.run(add)

    async def readings(self, after: int, limit: int, pne_id: EntityId | None = None) -> list[StoredReading]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.readings_after, after=after, limit=limit, pne_id=pne_id), write=False)

    async def last_reading(self, pne_id: EntityId) -> StoredReading | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.last_reading, pne_id=pne_id), write=False)

    async def last_reading_number(self) -> int:
        """See `cpns.ports.Store`."""
        return await self._database.run(q.last_reading_number, write=False)

    async def audit(self, entity_id: EntityId | None, limit: int) -> list[Outcome]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.newest_audit, entity_id=entity_id, limit=limit), write=False)

    async def close(self) -> None:
        """See `cpns.ports.Store`."""
        await self._database.close()
