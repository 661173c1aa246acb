"""What the services need of the store for entities."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from cpns.domain.actor import Actor
from cpns.domain.inventory import Credential, Entity, Kind, KnownHost, NewEntity, Origin, Provisioned, Revocation
from cpns.domain.network import Network
from cpns.ids import EntityId


class EntityStore(Protocol):
    """Who is provisioned, and how each authenticates; see `cpns.ports.Store` for what holds of all its methods."""

    async def credentials(self, ids: Sequence[EntityId]) -> Mapping[EntityId, Credential]:
        """Return the credentials of those of *ids* that exist, revoked ones included."""
        ...

    async def provisioned(self, ids: Sequence[EntityId], fingerprints: Sequence[bytes]) -> list[Provisioned]:
        """Return the entities that have one of these IDs or keys, revoked ones included."""
        ...

    async def add_entities(self, entities: Sequence[NewEntity], actor: Actor) -> None:
        """Add all or none, each with its outcome ``provisioned`` in the audit log; one that is there so is left.

        Raises:
            Conflict: code ``id_exists`` or ``key_exists``, naming the first such entity.
        """
        ...

    async def entity(self, entity_id: EntityId) -> Entity | None:
        """Return one entity, or None."""
        ...

    async def entities(self, kind: Kind) -> list[Entity]:
        """Return all entities of a kind, by ID."""
        ...

    async def count(self) -> dict[Kind, int]:
        """Return how many entities there are of each kind, those that were revoked left out."""
        ...

    async def revoke(self, entity_id: EntityId, at: float, actor: Actor) -> Revocation:
        """Revoke it, and take it out of every PN and off every member list; the CM Devices of a PNE go with it.

        Raises:
            NotFound: code ``unknown_entity``.
        """
        ...

    async def update_entity(
        self, entity_id: EntityId, only_via: str | None, note: str | None, at: float, actor: Actor
    ) -> tuple[Network, ...]:
        """Change through which PN GW a PNE is admitted (empty: any), or a note; None leaves it.

        Returns:
            The PNs of other PN GWs that it is out of with that, as they are now; its places on member lists stay.

        Raises:
            NotFound: code ``unknown_entity``.
            Conflict: code ``revoked``.
        """
        ...

    async def some_key(self) -> tuple[EntityId, bytes] | None:
        """Return an entity and its sealed EUKey, where there is one."""
        ...

    async def origin(self) -> Origin | None:
        """Return which server the store is of. None: an older cpns made it."""
        ...

    async def keep_origin(self, origin: Origin) -> None:
        """Write down which server the store is of; what is there is left."""
        ...

    async def known_hosts(self, since: float, limit: int) -> list[KnownHost]:
        """Return up to *limit* hosts that were kept since then, the newest of them, oldest first."""
        ...

    async def keep_host(self, host: KnownHost, since: float, limit: int) -> None:
        """Keep a host in place of its older row; drop those from before *since*, and the oldest over *limit*."""
        ...
