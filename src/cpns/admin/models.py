"""The JSON of the API. Times are RFC 3339, UTC. No key is in any of these but `Credential`, which is told once."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cpns.domain import cm, inventory
from cpns.domain import network as pn
from cpns.domain.member_list import Policy
from cpns.domain.presence import Fact
from cpns.ids import EntityId
from cpns.wire import fields
from cpns.wire.registry import MAX_ALIAS_BYTES


def rfc3339(at: float) -> str:
    """Return a time of the store as text, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Request(BaseModel):
    """What is sent; a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid")


class Text(Request):
    """A text for a device; kept for `keep` seconds where it can't be reached now."""

    text: str
    keep: float = Field(0.0, ge=0)


class Devices(Request):
    """The devices that an action is about."""

    devices: list[str]


class Switch(Request):
    """The gateway that is to serve a network."""

    gateway: str


class Settings(Request):
    """What is to change of a network; null leaves it."""

    policy: Policy | None = None
    alias: str | None = None
    owner: str | None = None

    @field_validator("alias")
    @classmethod
    def _fits(cls, alias: str | None) -> str | None:
        if alias is not None and not fields.is_text(alias):
            raise ValueError(f"an alias has 1 to {MAX_ALIAS_BYTES} bytes of printable characters")
        return alias


class Finding(BaseModel):
    """One hop or step of an explanation; `good` is null where nothing can be said, `age` is seconds."""

    step: str
    good: bool | None
    what: str
    age: float | None
    next_step: str


class Explanation(BaseModel):
    """Why a device is where it is, from the server outwards."""

    id: str
    items: list[Finding]


class Answer(BaseModel):
    """What a device answered; null where the text is kept for it, until a time."""

    answer: str | None
    kept_until: str | None = None


class Event(BaseModel):
    """A row of the audit log.

    Attributes:
        at: of a refusal that came again, the newest time; *times* says how often it came.
        by: who did it, an ID or a person's name; *role* says as whom.
    """

    at: str
    event: str
    role: str
    by: str
    via: str | None
    result: str
    reason: str
    times: int

    @classmethod
    def of(cls, outcome: inventory.Outcome) -> Self:
        """Return *outcome* as it leaves."""
        return cls(
            at=rfc3339(outcome.at),
            event=outcome.event,
            role=outcome.actor.role.value,
            by=outcome.actor.name,
            via=outcome.via,
            result=outcome.result.name.lower(),
            reason=outcome.reason,
            times=outcome.times,
        )


class AuditRow(Event):
    """A row of the audit log, by itself.

    Attributes:
        number: grows; a page begins after one.
        id: whom it is about.
    """

    number: int
    id: str

    @classmethod
    def numbered(cls, row: inventory.Recorded) -> Self:
        """Return *row* as it leaves."""
        return cls(number=row.number, id=row.outcome.entity_id, **Event.of(row.outcome).model_dump())


class Audit(BaseModel):
    """Rows of the audit log, oldest first; *next* is where the next page begins."""

    items: list[AuditRow]
    next: int


class Prune(Request):
    """Rows of the audit log that are older than so many seconds are dropped."""

    older: Annotated[float, Field(ge=0, le=1e9)]


class Pruned(BaseModel):
    """How many rows were dropped."""

    before: str
    rows: int


class Entity(BaseModel):
    """A gateway or device, and how the newest procedure it took part in ended.

    Attributes:
        gateway: the only gateway through which a device is admitted, null for any.
        owner: whether a device may own a network.
        connected: null where nobody knows: the server does not run, or not all of its processes can be asked.
        last_reason: what only the server knows, such as ``wrong_hash`` or ``revoked``.
    """

    id: str
    state: str
    gateway: str | None
    owner: bool
    note: str
    created_at: str
    revoked_at: str | None
    pn_id: str | None
    connected: bool | None
    last_result: str | None
    last_reason: str | None
    last_via: str | None
    last_at: str | None

    @classmethod
    def of(cls, entity: inventory.Entity, connected: bool | None) -> Self:
        """Return *entity* as it leaves."""
        result, at = entity.last_result, entity.last_at
        return cls(
            id=entity.entity_id,
            state=entity.state.value,
            gateway=entity.only_via,
            owner=entity.may_own,
            note=entity.note,
            created_at=rfc3339(entity.created_at),
            revoked_at=None if entity.revoked_at is None else rfc3339(entity.revoked_at),
            pn_id=entity.pn_id,
            connected=connected,
            last_result=None if result is None else result.name.lower(),
            last_reason=entity.last_reason,
            last_via=entity.last_via,
            last_at=None if at is None else rfc3339(at),
        )


class Entities(BaseModel):
    """All entities of a kind."""

    items: list[Entity]


class EntityWithAudit(Entity):
    """An entity, and the newest rows of the audit log about it, newest first."""

    audit: list[Event]


class Revoked(BaseModel):
    """An entity that was revoked, and how many sessions ended with it."""

    id: str
    ended: int


class Pong(BaseModel):
    """How long a device took to answer."""

    seconds: float


class Reading(BaseModel):
    """A committed reading."""

    number: int
    id: str
    device: str
    gateway: str
    verified: str
    received_at: str
    body: dict[str, Any]

    @classmethod
    def of(cls, reading: inventory.StoredReading) -> Self:
        """Return *reading* as it leaves."""
        return cls(
            number=reading.number,
            id=reading.reading_id.hex(),
            device=reading.pne_id,
            gateway=reading.gateway_id,
            verified=reading.verified,
            received_at=rfc3339(reading.received_at),
            body=json.loads(reading.body),
        )


class Readings(BaseModel):
    """A page of readings; the next is after `next`."""

    items: list[Reading]
    next: int


class Member(BaseModel):
    """A device in a network.

    Attributes:
        state: connected, idle, asleep or away; null where nobody knows, as of `Entity.connected`.
        at: when that was learned; `source` is who said so: the device (pne), its gateway, or the server.
        guest: whether its home is another network.
    """

    id: str
    since: str
    guest: bool
    pan_secure: bool
    state: str | None
    at: str | None
    source: str | None

    @classmethod
    def of(cls, member: pn.Present, fact: Fact | None) -> Self:
        """Return *member* as it leaves, with what is known of where it is."""
        return cls(
            id=member.pne_id,
            since=rfc3339(member.since),
            guest=member.guest,
            pan_secure=member.pan_secure,
            state=None if fact is None else fact.presence.name.lower(),
            at=None if fact is None else rfc3339(fact.at),
            source=None if fact is None else fact.source.name.lower(),
        )


class Network(BaseModel):
    """An entry of the PN Inventory.

    Attributes:
        stands_in: the device that came first, where there is no owner.
        members: the devices that are in it now.
        listed: the others on its member list, and how they stand: member, invited, pending or barred.
    """

    id: str
    gateway: str
    alias: str | None
    owner: str | None
    stands_in: str | None
    policy: str
    version: int
    created_at: str
    members: list[Member]
    listed: dict[str, str]

    @classmethod
    def of(cls, found: pn.Inventory, presence: Callable[[EntityId], Fact | None]) -> Self:
        """Return *found* as it leaves."""
        one = found.network
        return cls(
            id=one.pn_id,
            gateway=one.gateway_id,
            alias=one.alias,
            owner=one.owner,
            stands_in=found.first,
            policy=one.policy.value,
            version=one.version,
            created_at=rfc3339(one.created_at),
            members=[Member.of(member, presence(member.pne_id)) for member in found.members],
            listed={pne: standing.value for pne, standing in found.listed},
        )


class Networks(BaseModel):
    """The PN Inventory."""

    items: list[Network]


class Invited(BaseModel):
    """How an invitation ended for each device."""

    results: dict[str, str]


class Done(BaseModel):
    """What was acted on."""

    id: str


class Waiting(BaseModel):
    """A device that waits for a decision.

    Attributes:
        known: whether it is provisioned and has proven itself; else nothing is proven but that a gateway named it.
        network: the network that it wants to come into; null for one that is not known.
    """

    id: str
    known: bool
    network: str | None
    via: str
    since: str
    last: str
    attempts: int

    @classmethod
    def of(cls, one: pn.Waiting) -> Self:
        """Return *one* as it leaves."""
        return cls(
            id=one.pne_id,
            known=one.known,
            network=one.pn_id,
            via=one.via,
            since=rfc3339(one.since),
            last=rfc3339(one.last),
            attempts=one.attempts,
        )


class Pending(BaseModel):
    """The devices that wait for a decision."""

    items: list[Waiting]


class Held(BaseModel):
    """What a gateway had to do with one device; each establishment gave it a hop key, if the PAN was open."""

    device: str
    first: str
    last: str
    establishments: int
    readings_carried: int

    @classmethod
    def of(cls, held: inventory.HeldThrough) -> Self:
        """Return *held* as it leaves."""
        return cls(
            device=held.pne_id,
            first=rfc3339(held.first),
            last=rfc3339(held.last),
            establishments=held.establishments,
            readings_carried=held.readings,
        )


class CmRevocation(Request):
    """Whether the device of a revoked CM Device may be assigned another."""

    reassign: bool = False


class CmDevice(BaseModel):
    """A CM Device.

    Attributes:
        device: the one that it is embedded in.
        gateway: the external gateway that set it up.
        generation: of its key: 0 came of the Key Seed, each rekey makes the next.
        known_to_gateway: whether the gateway that set it up knows its key.
        rotation_due: whether it was asked to take a fresh key, and does not use one yet.
        used_at: when it first went direct; null: it never did.
        connected: null where nobody knows: the server does not run, or not all of its processes can be asked.
    """

    id: str
    device: str
    gateway: str
    state: str
    generation: int
    known_to_gateway: bool
    rotation_due: bool
    created_at: str
    used_at: str | None
    revoked_at: str | None
    connected: bool | None

    @classmethod
    def of(cls, one: cm.CmDevice, connected: bool | None) -> Self:
        """Return *one* as it leaves."""
        return cls(
            id=one.cm_device_id,
            device=one.pne_id,
            gateway=one.gateway_id,
            state=one.state.value,
            generation=one.generation,
            known_to_gateway=one.is_known_to_gateway,
            rotation_due=one.rotation_due,
            created_at=rfc3339(one.created_at),
            used_at=None if one.activated_at is None else rfc3339(one.activated_at),
            revoked_at=None if one.revoked_at is None else rfc3339(one.revoked_at),
            connected=connected,
        )


class CmDevices(BaseModel):
    """CM Devices, oldest first."""

    items: list[CmDevice]


class CmDeviceWithAudit(CmDevice):
    """A CM Device, and the newest rows of the audit log about it, newest first."""

    audit: list[Event]


class Exposure(BaseModel):
    """What a gateway could ever read: nothing of what devices and server said to each other.

    `networks` are those that it serves now, `cm_devices` those that it set up.
    """

    id: str
    networks: list[str]
    devices: list[Held]
    cm_devices: list[CmDevice]
