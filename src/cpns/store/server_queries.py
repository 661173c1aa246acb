"""What the server asks of its tables: functions of a connection and values, inside a transaction of `Database`.

Statements are built once, so that SQLAlchemy compiles each once. Those that every SETUP or reading runs go to the
driver as text (see `dialect.DriverSql`).
"""

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import (
    Column,
    Connection,
    RowMapping,
    ScalarSelect,
    Select,
    bindparam,
    func,
    insert,
    select,
    union,
    update,
)

from cpns.domain.actor import Actor
from cpns.domain.inventory import (
    Entity,
    Kind,
    NewEntity,
    Outcome,
    Provisioned,
    Revocation,
    State,
    StoredReading,
)
from cpns.domain.network import Network
from cpns.errors import Conflict, NotFound, Result
from cpns.ids import EntityId, sameness, spellings
from cpns.store import network_queries, waiting_queries
from cpns.store.audit_queries import record
from cpns.store.credential_queries import IDS_AT_ONCE, KINDS, STATES
from cpns.store.dialect import DriverSql, insert_once
from cpns.store.schema import entities, held_through, last_results, members, meta, networks, readings
from cpns.store.set_back_queries import READINGS_FROM

T = TypeVar("T")


_READING_COLUMNS = ("pne_id", "reading_id", "gateway_id", "verified", "received_at", "body")
_ADD_READING = DriverSql(insert_once(readings, ("pne_id", "reading_id")), _READING_COLUMNS)
_BODY_OF_READING = select(readings.c.body).where(
    readings.c.pne_id == bindparam("pne_id"), readings.c.reading_id == bindparam("reading_id")
)

_SHOWN = ("entity_id", "kind", "state", "only_via", "note", "fingerprint", "may_own")
_NAMES = select(*(entities.c[name] for name in _SHOWN))
_TAKEN = union(  # not one SELECT with OR: where a table has grown fast, PostgreSQL reads all of it for that
    _NAMES.where(entities.c.entity_id.in_(bindparam("ids", expanding=True))),
    _NAMES.where(entities.c.fingerprint.in_(bindparam("fingerprints", expanding=True))),
)
_ADD_ENTITY = insert(entities)
_ADD_LAST_RESULT = insert(last_results)

_serves = (
    select(networks.c.pn_id)
    .where(networks.c.gateway_id == entities.c.entity_id)
    .order_by(networks.c.served_since, networks.c.pn_id)
    .limit(1)
    .scalar_subquery()
)


def _last_held(what: Column[T]) -> ScalarSelect[T]:
    newest = select(what).where(held_through.c.pne_id == entities.c.entity_id)
    return newest.order_by(held_through.c.last_at.desc(), held_through.c.gateway_id).limit(1).scalar_subquery()


_ENTITIES = select(
    *(column for column in entities.c if column.name != "sealed_key"),
    last_results.c.result.label("last_result"),
    last_results.c.reason.label("last_reason"),
    last_results.c.via.label("last_via"),
    last_results.c.at.label("last_at"),
    _last_held(held_through.c.gateway_id).label("held_via"),
    _last_held(held_through.c.last_at).label("held_at"),
    func.coalesce(members.c.pn_id, _serves).label("pn_id"),
).select_from(
    entities.outerjoin(last_results, last_results.c.entity_id == entities.c.entity_id).outerjoin(
        members, members.c.pne_id == entities.c.entity_id
    )
)
_ENTITY = _ENTITIES.where(entities.c.entity_id == bindparam("entity_id"))
_ENTITIES_OF_KIND = _ENTITIES.where(entities.c.kind == bindparam("kind")).order_by(entities.c.entity_id)
_COUNT = select(entities.c.kind, func.count()).where(entities.c.state == State.ACTIVE.value).group_by(entities.c.kind)

_STATE = select(entities.c.state).where(entities.c.entity_id == bindparam("id"))
_REVOKE = (
    update(entities)
    .where(entities.c.entity_id == bindparam("id"))
    .values(state=State.REVOKED.value, revoked_at=bindparam("at"))
)

_SETTLE = (
    update(entities)
    .where(entities.c.entity_id == bindparam("id"))
    .values(only_via=bindparam("via"), note=bindparam("new_note"))
)

_READINGS = (
    select(readings).where(readings.c.number > bindparam("after")).order_by(readings.c.number).limit(bindparam("limit"))
)
_READINGS_OF_PNE = _READINGS.where(readings.c.pne_id == bindparam("pne_id"))
_LAST_OF_PNE = (
    select(readings).where(readings.c.pne_id == bindparam("pne_id")).order_by(readings.c.number.desc()).limit(1)
)
_LAST_READING = select(func.coalesce(func.max(readings.c.number), 0))
_STANDS_IN = select(meta.c.value).where(meta.c.key == READINGS_FROM)


def provisioned(connection: Connection, ids: Sequence[EntityId], fingerprints: Sequence[bytes]) -> list[Provisioned]:
    """See `cpns.ports.Store.provisioned`."""
    found: dict[str, Provisioned] = {}
    for start in range(0, max(len(ids), len(fingerprints)), IDS_AT_ONCE):
        some = slice(start, start + IDS_AT_ONCE)
        for entity_id, kind, state, *rest in connection.execute(
            _TAKEN, {"ids": ids[some], "fingerprints": fingerprints[some]}
        ):
            found[entity_id] = Provisioned(entity_id, KINDS[kind], STATES[state], *rest)
    return list(found.values())


def add_entities(connection: Connection, entities: Sequence[NewEntity], actor: Actor) -> None:
    """See `cpns.ports.Store.add_entities`."""
    ids = [spelling for e in entities for spelling in spellings(e.entity_id)]
    there = provisioned(connection, ids, [e.fingerprint for e in entities])
    by_id = {one.entity_id: one for one in there}
    rows = [e for e in entities if by_id.get(e.entity_id) != e.as_provisioned()]  # who asks a second time gets the same
    if not rows:
        return
    names = {sameness(one.entity_id): one.entity_id for one in there}
    fingerprints = {one.fingerprint for one in there}
    for e in rows:
        taken = names.setdefault(sameness(e.entity_id), e.entity_id)
        if taken != e.entity_id or e.entity_id in by_id:
            raise Conflict("id_exists", f"{taken} exists already: choose another ID")
        if e.fingerprint in fingerprints:
            raise Conflict("key_exists", f"the key of {e.entity_id} belongs to another entity: make a key of its own")
        by_id[e.entity_id] = e.as_provisioned()
        fingerprints.add(e.fingerprint)
    put_entities(connection, rows)
    waiting_queries.forget_strangers(connection, *(e.entity_id for e in rows))  # they wait for nothing any more
    record(connection, [Outcome(e.created_at, "provisioned", e.entity_id, actor, Result.SUCCESS) for e in rows])


def put_entities(connection: Connection, new: Sequence[NewEntity]) -> None:
    """Write the rows of new entities."""
    connection.execute(_ADD_ENTITY, [_entity_row(e) for e in new])
    connection.execute(_ADD_LAST_RESULT, [{"entity_id": e.entity_id} for e in new])


def entity(connection: Connection, entity_id: EntityId) -> Entity | None:
    """See `cpns.ports.Store.entity`."""
    row = connection.execute(_ENTITY, {"entity_id": entity_id}).mappings().one_or_none()
    return None if row is None else _entity(row)


def entities_of(connection: Connection, kind: Kind) -> list[Entity]:
    """See `cpns.ports.Store.entities`."""
    return [_entity(row) for row in connection.execute(_ENTITIES_OF_KIND, {"kind": kind.value}).mappings()]


def count(connection: Connection) -> dict[Kind, int]:
    """See `cpns.ports.Store.count`."""
    found = {row[0]: row[1] for row in connection.execute(_COUNT)}
    return {kind: found.get(kind.value, 0) for kind in Kind}


def revoke(connection: Connection, entity_id: EntityId, at: float, actor: Actor) -> Revocation:
    """See `cpns.ports.Store.revoke`."""
    state = connection.execute(_STATE, {"id": entity_id}).scalar_one_or_none()
    if state is None:
        raise NotFound("unknown_entity", f"there is no entity {entity_id}: look for its ID in the list")
    if state == State.REVOKED:
        return Revocation(first=False)
    connection.execute(_REVOKE, {"id": entity_id, "at": at})
    left = network_queries.forget(connection, entity_id, at, actor)
    waiting_queries.drop_pushes(connection, entity_id)
    record(connection, [Outcome(at, "revoked", entity_id, actor, Result.SUCCESS)])
    return Revocation(True, left)


def update_entity(
    connection: Connection, entity_id: EntityId, only_via: str | None, note: str | None, at: float, actor: Actor
) -> tuple[Network, ...]:
    """See `cpns.ports.Store.update_entity`."""
    before = next(iter(provisioned(connection, [entity_id], [])), None)
    if before is None:
        raise NotFound("unknown_entity", f"there is no entity {entity_id}: look for its ID in the list")
    if before.state is State.REVOKED:
        raise Conflict("revoked", f"{entity_id} is revoked: nothing of it changes any more")
    via = before.only_via if only_via is None else EntityId(only_via) or None
    values = {"id": entity_id, "via": via, "new_note": before.note if note is None else note}
    if (via, values["new_note"]) == (before.only_via, before.note):
        return ()
    connection.execute(_SETTLE, values)
    if via is None or via == before.only_via:
        record(connection, [Outcome(at, "settled", entity_id, actor, Result.SUCCESS)])
        return ()
    record(connection, [Outcome(at, "bound", entity_id, actor, Result.SUCCESS, via)])
    return network_queries.leave_all_but(connection, entity_id, via, at, actor)


def add_reading(
    connection: Connection,
    pne_id: EntityId,
    gateway_id: EntityId,
    reading_id: bytes,
    body: str,
    verified: str,
    at: float,
) -> str:
    """See `cpns.ports.Store.add_reading`."""
    if _ADD_READING.run(connection, (pne_id, reading_id, gateway_id, verified, at, body)) == 1:
        return body
    first: str = connection.execute(_BODY_OF_READING, {"pne_id": pne_id, "reading_id": reading_id}).scalar_one()
    return first


def readings_after(
    connection: Connection, after: int, limit: int, pne_id: EntityId | None = None
) -> list[StoredReading]:
    """See `cpns.ports.Store.readings`."""
    statement: Select[tuple[object, ...]] = _READINGS if pne_id is None else _READINGS_OF_PNE
    rows = connection.execute(statement, {"after": after, "limit": limit, "pne_id": pne_id})
    return [StoredReading(**row) for row in rows.mappings()]


def last_reading(connection: Connection, pne_id: EntityId) -> StoredReading | None:
    """See `cpns.ports.Store.last_reading`."""
    row = connection.execute(_LAST_OF_PNE, {"pne_id": pne_id}).mappings().one_or_none()
    return None if row is None else StoredReading(**row)


def last_reading_number(connection: Connection) -> int:
    """See `cpns.ports.Store.last_reading_number`."""
    number: int = connection.execute(_LAST_READING).scalar_one()
    stands_in = connection.execute(_STANDS_IN).scalar_one_or_none()
    return number if stands_in is None else max(number, int(stands_in))


def _entity(row: RowMapping) -> Entity:
    fields = dict(row)
    via, at = fields.pop("held_via"), fields.pop("held_at")
    if fields["last_at"] is None and at is not None:  # nothing has become of it since it was established
        fields.update(last_result=0, last_reason="", last_via=via, last_at=at)
    result = fields["last_result"]
    fields.update(
        may_own=bool(fields["may_own"]),
        kind=KINDS[fields["kind"]],
        state=STATES[fields["state"]],
        last_result=None if result is None else Result(result),
    )
    return Entity(**fields)


def _entity_row(e: NewEntity) -> dict[str, object]:
    """Return a new entity as its row."""
    return {
        "entity_id": e.entity_id,
        "kind": e.kind.value,
        "state": State.ACTIVE.value,
        "only_via": e.only_via,
        "note": e.note,
        "sealed_key": e.sealed_key,
        "fingerprint": e.fingerprint,
        "created_at": e.created_at,
        "may_own": e.may_own,
    }
