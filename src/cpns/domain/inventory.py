"""Entities, the PN Inventory (DEF-3) and what is recorded of them, as records.

Times are seconds since the epoch, UTC, as the server's clock gave them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cpns.domain.actor import Actor
from cpns.domain.group import ChangedGroup
from cpns.domain.member_list import Policy
from cpns.domain.network import Network
from cpns.errors import Result
from cpns.ids import EntityId, PnId


class Kind(StrEnum):
    """What an entity is (DEF-1). A device that hosts both has two entities."""

    PNE = "pne"
    GATEWAY = "gateway"
    CM_DEVICE = "cm-device"
    """A PN GW embedded in a CM Device; it is assigned, not provisioned."""


class State(StrEnum):
    """Whether an entity may still authenticate."""

    ACTIVE = "active"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Credential:
    """What the server needs of an entity to authenticate it; the key stays sealed until the vault opens it.

    Attributes:
        only_via: the one PN GW through which it is admitted, or None for any.
        sealed_key: its EUKey; of a CM Device see `cpns.domain.cm.CmCredential`.
    """

    entity_id: EntityId
    kind: Kind
    state: State
    only_via: EntityId | None
    sealed_key: bytes

    @property
    def is_active_pne(self) -> bool:
        """Whether it is a PNE, and not revoked."""
        return self.kind is Kind.PNE and self.state is State.ACTIVE


@dataclass(frozen=True, slots=True)
class Origin:
    """Which server a store is of.

    Attributes:
        set_up_at: seconds since the epoch.
        sealed: a random value that its vault alone opens.
    """

    server_id: EntityId
    set_up_at: float
    sealed: bytes


@dataclass(frozen=True, slots=True)
class NewEntity:
    """An entity to be provisioned.

    Attributes:
        fingerprint: 8 bytes of a hash of the key; no two entities may share one, which finds a copied key.
        may_own: whether a PNE may own the PN that it is a member of.
    """

    entity_id: EntityId
    kind: Kind
    only_via: EntityId | None
    note: str
    sealed_key: bytes
    fingerprint: bytes
    created_at: float
    may_own: bool = False

    def as_provisioned(self) -> "Provisioned":
        """Return it as it is once it exists."""
        mine = (self.entity_id, self.kind, State.ACTIVE, self.only_via, self.note, self.fingerprint, self.may_own)
        return Provisioned(*mine)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """An entity that exists, as far as a new one could collide with it."""

    entity_id: EntityId
    kind: Kind
    state: State
    only_via: EntityId | None
    note: str
    fingerprint: bytes
    may_own: bool = False


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity as the operator sees it: no key, but how its last authentication ended and why.

    Attributes:
        last_result: result of the newest procedure it took part in, None before the first.
        last_reason: the reason that only the server knows, such as ``wrong_hash`` or ``revoked``.
        last_via: the PN GW through which it came (a gateway: None).
        pn_id: the personal network that it is a member of (a gateway: that it serves), or None.
    """

    entity_id: EntityId
    kind: Kind
    state: State
    only_via: EntityId | None
    note: str
    fingerprint: bytes
    created_at: float
    revoked_at: float | None
    last_result: Result | None
    last_reason: str | None
    last_via: EntityId | None
    last_at: float | None
    pn_id: PnId | None
    may_own: bool = False


@dataclass(frozen=True, slots=True)
class KnownHost:
    """A host from which somebody proved itself, and when that was."""

    host: str
    proved_at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a procedure or decision ended for one entity: a row of the audit log, and what follows from it.

    Attributes:
        event: ``gateway_activated``, ``pne_established``, ``refused``, ``revoked``, ``provisioned``, ``expelled``, ...
        entity_id: whom it is about; a PN's ID where it is about a PN as a whole.
        actor: who did it; of a refusal the server, as nobody has to be who it says.
        reason: empty where the result is 0.
        via: the PN GW through which it came; None where it came through none.
        times: of a refusal, how often it came without anything else about that entity in between.
    """

    at: float
    event: str
    entity_id: EntityId
    actor: Actor
    result: Result
    reason: str = ""
    via: EntityId | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Recorded:
    """A row of the audit log with its number, which grows."""

    number: int
    outcome: Outcome


class End(StrEnum):
    """What ends sessions at every process of the server."""

    REVOKED = "revoked"
    EXPELLED = "expelled"
    BOUND = "bound"
    """A PNE is admitted through one PN GW alone from then on."""


@dataclass(frozen=True, slots=True)
class Ended:
    """That an entity is out, for the processes of the server.

    Attributes:
        via: through which PN GW a PNE that is BOUND may go on.
    """

    at: float
    what: End
    entity_id: EntityId
    via: EntityId | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """A PNE in a personal network."""

    pne_id: EntityId
    pan_secure: bool


@dataclass(frozen=True, slots=True)
class Establishment:
    """What one finished SETUP changes: committed once, in one transaction, before its answer leaves.

    Attributes:
        policy: of the PN, where this SETUP makes it.
        members: the PNEs that have proven themselves, in the order of the request; whether each is let in is decided
            inside the transaction, and one that was in another PN moves.
        moved_from: the PN GW that a PNE had a session through until now, where that is another one.
    """

    pn_id: PnId
    gateway_id: EntityId
    alias: str | None
    policy: Policy
    at: float
    members: tuple[Membership, ...]
    moved_from: Mapping[EntityId, EntityId]


@dataclass(frozen=True, slots=True)
class StoredReading:
    """A reading as committed.

    Attributes:
        number: grows by commit; where `cpns server tail` goes on.
        verified: how the sender was proven: ``e2e`` (the PNE itself, by its own session with the server).
        body: the JSON object, as text.
    """

    number: int
    reading_id: bytes
    pne_id: EntityId
    gateway_id: EntityId
    verified: str
    received_at: float
    body: str


@dataclass(frozen=True, slots=True)
class Revocation:
    """What a revocation changed.

    Attributes:
        first: False where it was revoked before.
        left: the PNs that it was in, or on the list of, as they are now.
        also: the CM Devices of a PNE, which go with it.
        groups: the service groups that it was on the list of, as they changed.
    """

    first: bool
    left: tuple[Network, ...] = ()
    also: tuple[EntityId, ...] = ()
    groups: tuple[ChangedGroup, ...] = ()


@dataclass(frozen=True, slots=True)
class HeldThrough:
    """What a PN GW had to do with one PNE.

    Attributes:
        first: of the establishment through it; *last* of the newest.
        establishments: each gave it a LocalEUKey for this PNE, if the PAN was open.
        readings: messages of that PNE that it carried, sealed, and that were stored.
    """

    pne_id: EntityId
    first: float
    last: float
    establishments: int
    readings: int


@dataclass(frozen=True, slots=True)
class KeptPush:
    """A text that waits for its PNE."""

    number: int
    push_id: bytes
    pne_id: EntityId
    text: str
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of the way to a member, as its PN GW has them: `host:port` of our socket, and of the member."""

    own: str
    there: str


@dataclass(frozen=True, slots=True)
class HeldMember:
    """A member as the PN GW keeps it.

    Attributes:
        th0: of its SETUP.
        sealed_key: the LocalEUKey that this run assigned (AUTH-G3), sealed; None on a Secure PAN.
        ends: where it proved itself last; None where an older cpns kept it.
    """

    pne_id: EntityId
    pn_id: PnId
    th0: bytes
    sealed_key: bytes | None
    ends: Ends | None = None
