"""The JSON of the API. Times are RFC 3339, UTC. No key is in any of these but `Credential`, which is told once."""

import json
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from cpns.domain import inventory
from cpns.domain.credential import DeviceCredential


def rfc3339(at: float) -> str:
    """Return a time of the store as text, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewGateway(_Request):
    """A gateway to be made."""

    id: str
    note: str = ""


class NewDevice(_Request):
    """A device to be made; `gateway` is the one through which it is admitted, null for any."""

    id: str
    gateway: str | None = None
    note: str = ""


class Text(_Request):
    """A text for a device."""

    text: str


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
    """What a device answered."""

    answer: str


class Credential(BaseModel):
    """What a new entity is given. `credential` holds its key, and is told here and never again."""

    id: str
    credential: str

    @classmethod
    def of(cls, credential: DeviceCredential) -> Self:
        """Return *credential* as it leaves."""
        return cls(id=credential.entity_id, credential=credential.line().reveal().decode())


class Event(BaseModel):
    """A row of the audit log."""

    at: str
    event: str
    via: str | None
    result: str
    reason: str

    @classmethod
    def of(cls, outcome: inventory.Outcome) -> Self:
        """Return *outcome* as it leaves."""
        return cls(
            at=rfc3339(outcome.at),
            event=outcome.event,
            via=outcome.via,
            result=outcome.result.name.lower(),
            reason=outcome.reason,
        )


class Entity(BaseModel):
    """A gateway or device, and how the newest procedure it took part in ended.

    Attributes:
        gateway: the only gateway through which a device is admitted, null for any.
        connected: null where the server does not run.
        last_reason: what only the server knows, such as ``wrong_hash`` or ``revoked``.
    """

    id: str
    state: str
    gateway: str | None
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


class BadRow(BaseModel):
    """A row of an import that can't be taken."""

    line: int
    code: str
    detail: str


class Imported(BaseModel):
    """What an import did; with any bad row, nothing. `credentials` are told here and never again."""

    rows: int
    imported: int
    bad: list[BadRow]
    credentials: list[Credential]


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


class Network(BaseModel):
    """An entry of the PN Inventory."""

    id: str
    gateway: str
    alias: str | None
    created_at: str
    members: list[str]

    @classmethod
    def of(cls, network: inventory.PersonalNetwork) -> Self:
        """Return *network* as it leaves."""
        return cls(
            id=network.pn_id,
            gateway=network.gateway_id,
            alias=network.alias,
            created_at=rfc3339(network.created_at),
            members=list(network.members),
        )


class Networks(BaseModel):
    """The PN Inventory."""

    items: list[Network]


class Status(BaseModel):
    """A server at a glance; `sessions` is null where it does not run."""

    id: str
    running: bool
    sessions: int | None
    gateways: int
    devices: int
    last_reading: int
