"""What the services need of the world: one contract per door, in the docstrings.

`store` and `transport` implement these; tests may bring their own. Nothing here does anything.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from cpns.crypto.secret import Secret
from cpns.domain.actor import Actor
from cpns.domain.cm import CmCredential, CmDevice, HeldCmKey, NewCmDevice
from cpns.domain.group import KeptMessage, SenderKey, TakenMessage
from cpns.domain.inventory import (
    Credential,
    Ended,
    Entity,
    Establishment,
    HeldMember,
    HeldThrough,
    KeptPush,
    Kind,
    KnownHost,
    NewEntity,
    Origin,
    Outcome,
    Provisioned,
    Recorded,
    Revocation,
    StoredReading,
)
from cpns.domain.membership import Rule
from cpns.domain.network import Admitted, Edited, Inventory, Listed, Network, Present, Waiting
from cpns.domain.process import Process
from cpns.ids import EntityId, PnId
from cpns.ports.groups import GroupStore


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


class Store(GroupStore, Protocol):
    """The server's truth. Every method that writes returns after its commit is durable, or raises and wrote nothing.

    One exception: where PostgreSQL is lost in the middle of a commit, nobody knows. That is told as a failure too; who
    then repeats it finds what was written, if it was.

    Attributes:
        name: what it is called.
        shared: whether several processes of the server may work on it.
    """

    name: str
    shared: bool

    @property
    def trouble(self) -> str:
        """What fails in it, in a sentence; empty while it works."""
        ...

    async def origin(self) -> Origin | None:
        """Return which server the store is of. None: an older cpns made it."""
        ...

    async def keep_origin(self, origin: Origin) -> None:
        """Write down which server the store is of; what is there is left."""
        ...

    async def some_key(self) -> tuple[EntityId, bytes] | None:
        """Return an entity and its sealed EUKey, where there is one."""
        ...

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

    async def settle_entity(
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

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Append to the audit log, and set the last result of each entity that exists.

        A refusal that is the same as the newest row of its entity is counted there. IDs that nobody provisioned are
        remembered, see `waiting`.
        """
        ...

    async def known_hosts(self, since: float, limit: int) -> list[KnownHost]:
        """Return up to *limit* hosts that were kept since then, the newest of them, oldest first."""
        ...

    async def keep_host(self, host: KnownHost, since: float, limit: int) -> None:
        """Keep a host in place of its older row; drop those from before *since*, and the oldest over *limit*."""
        ...

    async def establish(self, establishment: Establishment) -> Admitted:
        """Commit a finished SETUP: decide on each PNE that has proven itself, and change the PN, its members, the log.

        Raises:
            Refused: UNKNOWN_PN: another PN GW serves that PN.
        """
        ...

    async def edit(
        self,
        pn_id: PnId,
        subjects: Sequence[EntityId],
        rule: Rule,
        at: float,
        actor: Actor,
        *,
        known: bool = False,
    ) -> Edited:
        """Commit what *rule* makes of the PN and the places of *subjects* in it.

        Args:
            pn_id: the PN.
            subjects: whose places *rule* wants to see, besides that of *actor*.
            rule: of `cpns.domain.membership`; called inside the transaction.
            at: for the audit log.
            actor: who decides. For a PNE or PN GW a PN that it neither serves nor has a place in is none,
            known: unless it was told of it.

        Raises:
            Refused: UNKNOWN_PN, or what *rule* raised.
        """
        ...

    async def expire_invitations(self, at: float, limit: int) -> list[Network]:
        """End up to *limit* invitations into PNs that are over; return those PNs as they are now."""
        ...

    async def network(self, pn_id: PnId) -> Network | None:
        """Return one PN, or None."""
        ...

    async def networks_of(self, gateway_id: EntityId) -> list[PnId]:
        """Return the PNs that this PN GW serves, the one it has had longest first."""
        ...

    async def membership(self, pne_id: EntityId) -> tuple[PnId, Present] | None:
        """Return the PN that this PNE is in, and how, or None."""
        ...

    async def home(self, pne_id: EntityId) -> tuple[PnId, EntityId] | None:
        """Return the PN that a PNE, a guest where it is, became a member of last, and its PN GW; None: it is none."""
        ...

    async def networks(self) -> list[Inventory]:
        """Return the PN Inventory, by PN ID."""
        ...

    async def inventory(self, pn_id: PnId) -> Inventory | None:
        """Return one entry of the PN Inventory, or None."""
        ...

    async def members_page(self, pn_id: PnId, after: str, limit: int) -> list[Present]:
        """Return up to *limit* members of a PN with an ID over *after*, by ID."""
        ...

    async def listed_page(self, pn_id: PnId, after: str, limit: int) -> list[Listed]:
        """As `members_page`, with those that stand as members and are not in the PN."""
        ...

    async def waiting(self) -> list[Waiting]:
        """Return the PNEs that wait for a decision: those that have proven themselves first, each by ID."""
        ...

    async def dismiss(self, entity_id: EntityId, at: float, actor: Actor) -> None:
        """Forget that an ID came which nobody provisioned."""
        ...

    async def held_through(self, gateway_id: EntityId) -> list[HeldThrough]:
        """Return what a PN GW ever held, by PNE ID."""
        ...

    async def cm_devices(self) -> list[CmDevice]:
        """Return all CM Devices, oldest first."""
        ...

    async def cm_device(self, cm_device_id: EntityId) -> CmCredential | None:
        """Return one CM Device with its keys, sealed, or None."""
        ...

    async def check_cm_assignable(self, pne_id: EntityId, gateway_id: EntityId) -> None:
        """Raise as `assign_cm` would for a PNE, mediated by this PN GW."""
        ...

    async def assign_cm(self, new: NewCmDevice) -> list[EntityId]:
        """Commit step 10; unused ones of the same PNE and PN GW are forgotten.

        Returns:
            Older ones that were in use and revoked to make room.

        Raises:
            Refused: what the rule `cpns.domain.cm.assign` says; or that Key Seed has served already.
        """
        ...

    async def release_cm(self, cm_device_id: EntityId, gateway_id: EntityId, at: float) -> None:
        """Forget one that was never used, if this PN GW mediated it."""
        ...

    async def expire_cm(self, before: float, at: float) -> list[EntityId]:
        """Forget those that were assigned before a time and never used, and return them.

        Those that others took the place of before that time, and that serve no PN, are forgotten too.
        """
        ...

    async def rekey_cm(self, cm_device_id: EntityId, pne_id: EntityId, generation: int, sealed_next: bytes) -> None:
        """Keep the next key beside the present one, until it is used.

        Raises:
            Refused: what the rule `cpns.domain.cm.rekey` says.
        """
        ...

    async def activate_cm(self, cm_device_id: EntityId, generation: int, at: float) -> list[EntityId]:
        """Commit that a session under the key of *generation* begins: the next key's first one ends the present key.

        Returns:
            Other CM Devices of the same PNE that were revoked with that.

        Raises:
            Refused: what the rule `cpns.domain.cm.activate` says.
        """
        ...

    async def rotate_cm(self, ids: Sequence[EntityId], at: float, actor: Actor) -> list[CmDevice]:
        """Note that CM Devices are to take fresh keys, all or none; return them.

        Raises:
            NotFound: ``unknown_cm_device``.
        """
        ...

    async def may_reassign_cm(self, cm_device_id: EntityId, reassign: bool) -> None:
        """Set whether the PNE of a revoked CM Device may be assigned another."""
        ...

    async def register_sender(self, pne_id: EntityId, verify_key: bytes | None) -> SenderKey:
        """Note the key under which a PNE sends from now on; its `run` was never given to this PNE before."""
        ...

    async def take_group_message(self, message: TakenMessage) -> None:
        """Note that a message was taken, as the sender's newest, and keep it for those that are members still.

        Of each group 64 wait for a member at the most; the oldest are dropped, and those that have expired.
        """
        ...

    async def kept_group_messages(self, pne_id: EntityId, now: float) -> list[KeptMessage]:
        """Return the messages that wait for a member, oldest first; without those that are over."""
        ...

    async def awaiting_group_messages(self) -> list[EntityId]:
        """Return the members for which messages wait."""
        ...

    async def drop_group_message(self, number: int, pne_id: EntityId) -> None:
        """A member has that message."""
        ...

    async def keep_push(self, push: KeptPush) -> None:
        """Keep a text for its PNE; its `number` is given here. Those that have expired are dropped.

        Raises:
            Conflict: ``too_many_pushes``.
        """
        ...

    async def pushes_for(self, pne_id: EntityId, now: float) -> list[KeptPush]:
        """Return the texts that wait for a PNE, oldest first; without those that are over."""
        ...

    async def drop_kept(self, now: float) -> None:
        """Drop the texts and group messages that are over."""
        ...

    async def spare_kept(self, before: float, after: float) -> int:
        """Keep those that end between two times as much longer as lies between these; return how many."""
        ...

    async def awaited(self) -> list[EntityId]:
        """Return the PNEs for which texts wait."""
        ...

    async def drop_push(self, number: int) -> None:
        """Drop one text: it has arrived."""
        ...

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

    async def set_back(self, outcome: Outcome) -> int:
        """Go on with numbers that no life of this store has given, *outcome* the first row of the audit log.

        Returns:
            The number that those of readings are over from now on.

        Raises:
            BadInput: ``bad_time``: the store has newer rows.
            Conflict: ``server_running``: another process has it open.
        """
        ...

    async def audit(self, entity_id: EntityId | None, limit: int) -> list[Outcome]:
        """Return the newest *limit* rows of the audit log, newest first."""
        ...

    async def audit_after(self, number: int, limit: int, entity_id: EntityId | None = None) -> list[Recorded]:
        """Return up to *limit* rows of the audit log with a number over *number*, oldest first."""
        ...

    async def audit_before(self, before: float) -> int:
        """Return how many rows of the audit log are older than that."""
        ...

    async def prune_audit(self, before: float, limit: int, done: Outcome) -> int:
        """Drop up to *limit* rows that are older than that, with a row *done* that says so; return how many."""
        ...

    async def ended_after(self, number: int | None) -> tuple[int, list[Ended]]:
        """Return the newest number of the feed of who is out, and what came after *number*; None: nothing of it."""
        ...

    async def is_there(self, own: Process) -> tuple[float, list[Process]]:
        """Note that a process of the server is there. Return as `processes`, it included."""
        ...

    async def processes(self) -> tuple[float, list[Process]]:
        """Return what the store's clock says, and the processes that said lately that they are there."""
        ...

    async def leaves(self, process_id: str) -> None:
        """Forget a process that ends."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the files."""
        ...


class GatewayStore(Protocol):
    """What a PN GW keeps over a restart: its PNs, and its members: their LocalEUKeys, and where they were."""

    @property
    def trouble(self) -> str:
        """What fails in it, in a sentence; empty while it works."""
        ...

    async def served(self) -> list[PnId]:
        """Return the PNs that this PN GW serves."""
        ...

    async def serve(self, pn_id: PnId) -> None:
        """Keep that it serves a PN."""
        ...

    async def release(self, pn_id: PnId) -> None:
        """Forget a PN."""
        ...

    async def keep(self, members: Iterable[HeldMember]) -> None:
        """Keep members, each in place of an older row of the same PNE."""
        ...

    async def members(self) -> list[HeldMember]:
        """Return all that are kept."""
        ...

    async def forget(self, pne_ids: Sequence[EntityId]) -> None:
        """Forget members."""
        ...

    async def close(self) -> None:
        """As `Store.close`."""
        ...


class CmStore(Protocol):
    """What a CM Device keeps over a restart: its keys, sealed."""

    @property
    def trouble(self) -> str:
        """What fails in it, in a sentence; empty while it works."""
        ...

    async def cm_keys(self) -> list[HeldCmKey]:
        """Return the keys, the newest generation first."""
        ...

    async def keep_cm_key(self, key: HeldCmKey, *, alone: bool = False) -> None:
        """Keep one beside the others, or *alone*, in place of them; durable when this returns."""
        ...

    async def drop_cm_keys(self, keys: Iterable[tuple[EntityId, int]]) -> None:
        """Forget keys, each named by CM Device ID and generation."""
        ...
