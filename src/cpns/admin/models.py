"""The JSON of the API. Times are RFC 3339, UTC. No key is in any of these but `Credential`, which is told once."""

import json
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field

from cpns.domain import inventory
from cpns.server.models import Event, Request, rfc3339


class Text(Request):
    """A text for a device; kept for `keep` seconds where it can't be reached now."""

    text: str
    keep: float = Field(0.0, ge=0)


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
