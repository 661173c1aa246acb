"""What the services need of the world: one contract per door, in the docstrings.

`store` and `transport` implement these; tests may bring their own. Nothing here does anything.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from cpns.crypto.secret import Secret
from cpns.domain.inventory import (
    Credential,
    Entity,
    Establishment,
    HeldLocalEukey,
    Kind,
    NewEntity,
    Outcome,
    PersonalNetwork,
    StoredReading,
)
from cpns.ids import EntityId, PnId


class Clock(Protocol):
    """The time."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC; for records."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back; for ages and timers."""
        ...


class Randomness(Protocol):
    """The system's random bytes."""

    def __call__(self, size: int) -> bytes:
        """Return *size* bytes that nobody can guess."""
        ...


class Vault(Protocol):
    """Secure Storage (DEF-8): the only place where a key at rest is opened.

    A sealed key is bound to its purpose and owner: moved to another row, it does not open.
    """

    def seal(self, purpose: str, owner: str, key: Secret) -> bytes:
        """Return *key* sealed for rest."""
        ...

    def open(self, purpose: str, owner: str, sealed: bytes) -> Secret:
        """Return the key in *sealed*.

        Raises:
            AuthenticationFailed: another purpose, owner or vault, or changed bytes.
        """
        ...


class Store(Protocol):
    """The server's truth. Every method that writes returns after its commit is durable, or raises and wrote nothing."""

    async def credentials(self, ids: Sequence[EntityId]) -> Mapping[EntityId, Credential]:
        """Return the credentials of those of *ids* that exist, revoked ones included."""
        ...

    async def add_entities(self, entities: Sequence[NewEntity]) -> None:
        """Add all or none, each with its outcome ``provisioned`` in the audit log.

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

    async def revoke(self, entity_id: EntityId, at: float) -> bool:
        """Revoke it and end its membership; False when it was revoked before.

        Raises:
            NotFound: code ``unknown_entity``.
        """
        ...

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Append to the audit log, and set the last result of each entity that exists."""
        ...

    async def establish(self, establishment: Establishment) -> None:
        """Commit a finished SETUP: the PN, its members, the outcomes."""
        ...

    async def pn_of_gateway(self, gateway_id: EntityId) -> PnId | None:
        """Return the PN that this PN GW serves, or None before its first."""
        ...

    async def members_of(self, gateway_id: EntityId) -> list[EntityId]:
        """Return the PNEs of the PN that this PN GW serves, by ID."""
        ...

    async def networks(self) -> list[PersonalNetwork]:
        """Return the PN Inventory, by PN ID."""
        ...

    async def add_reading(
        self, pne_id: EntityId, gateway_id: EntityId, reading_id: bytes, body: str, verified: str, at: float
    ) -> bool:
        """Store a reading once; False when (*pne_id*, *reading_id*) was stored before."""
        ...

    async def readings(self, after: int, limit: int, pne_id: EntityId | None = None) -> list[StoredReading]:
        """Return up to *limit* readings with a number over *after*, oldest first."""
        ...

    async def last_reading(self, pne_id: EntityId) -> StoredReading | None:
        """Return the newest reading of one PNE, or None."""
        ...

    async def last_reading_number(self) -> int:
        """Return the newest number, 0 when there is none."""
        ...

    async def audit(self, entity_id: EntityId | None, limit: int) -> list[Outcome]:
        """Return the newest *limit* rows of the audit log, newest first."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the files."""
        ...


class GatewayStore(Protocol):
    """What a PN GW keeps over a restart: its PN, and the LocalEUKeys of its members."""

    async def pn(self) -> PnId | None:
        """Return the PN that the server named, or None before the first SETUP."""
        ...

    async def keep(self, pn_id: PnId, keys: Iterable[HeldLocalEukey]) -> None:
        """Keep PN and LocalEUKeys, each in place of an older one of the same PNE."""
        ...

    async def local_eukeys(self) -> list[HeldLocalEukey]:
        """Return all that are kept."""
        ...

    async def forget(self, pne_ids: Sequence[EntityId]) -> None:
        """Forget the LocalEUKeys of *pne_ids*."""
        ...

    async def close(self) -> None:
        """As `Store.close`."""
        ...
