"""The audit log, and what is read off it: functions of a connection and values."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, insert, select

from cpns.domain.inventory import HeldThrough, Outcome
from cpns.errors import Result
from cpns.ids import EntityId
from cpns.store.dialect import DriverSql
from cpns.store.schema import audit, readings

PROCEDURES = ("gateway_activated", "pne_established", "cm_activated", "refused")
"""Events that an entity took part in, and that show as its last result; others are decisions on it."""

_ADD = DriverSql(insert(audit), ("at", "event", "entity_id", "via", "result", "reason"))
_NEWEST = (
    select(audit.c.at, audit.c.event, audit.c.entity_id, audit.c.via, audit.c.result, audit.c.reason)
    .order_by(audit.c.number.desc())
    .limit(bindparam("limit"))
)
_NEWEST_OF_ENTITY = _NEWEST.where(audit.c.entity_id == bindparam("entity_id"))
_LAST = select(func.max(audit.c.number))
_ENDED = (
    select(audit.c.at, audit.c.event, audit.c.entity_id, audit.c.via, audit.c.result, audit.c.reason)
    .where(
        audit.c.number > bindparam("after"),
        audit.c.number <= bindparam("last"),
        audit.c.event.in_(("revoked", "expelled", "bound")),
    )
    .order_by(audit.c.number)
)
_HELD = (
    select(audit.c.entity_id, func.min(audit.c.at), func.max(audit.c.at), func.count())
    .where(audit.c.via == bindparam("gateway_id"), audit.c.event == "pne_established")
    .group_by(audit.c.entity_id)
    .order_by(audit.c.entity_id)
)
_CARRIED = (
    select(readings.c.pne_id, func.count())
    .where(readings.c.gateway_id == bindparam("gateway_id"))
    .group_by(readings.c.pne_id)
)


def record(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """See `cpns.ports.Store.record`; an entity's last result is its newest row."""
    if outcomes:
        rows = [(o.at, o.event, o.entity_id, o.via, int(o.result), o.reason) for o in outcomes]
        _ADD.run(connection, rows)


def newest(connection: Connection, entity_id: EntityId | None, limit: int) -> list[Outcome]:
    """See `cpns.ports.Store.audit`."""
    statement = _NEWEST if entity_id is None else _NEWEST_OF_ENTITY
    rows = connection.execute(statement, {"limit": limit, "entity_id": entity_id})
    return [Outcome(at, event, who, via, Result(result), reason) for at, event, who, via, result, reason in rows]


def ended_after(connection: Connection, number: int | None) -> tuple[int, list[Outcome]]:
    """See `cpns.ports.Store.ended_after`."""
    last = connection.execute(_LAST).scalar_one_or_none() or 0
    if number is None or number == last:
        return last, []
    rows = connection.execute(_ENDED, {"after": number, "last": last})
    return last, [Outcome(at, event, who, via, Result(result), reason) for at, event, who, via, result, reason in rows]


def held_through(connection: Connection, gateway_id: EntityId) -> list[HeldThrough]:
    """See `cpns.ports.Store.held_through`."""
    carried = {pne: count for pne, count in connection.execute(_CARRIED, {"gateway_id": gateway_id})}
    rows = connection.execute(_HELD, {"gateway_id": gateway_id})
    return [HeldThrough(pne, first, last, keys, carried.get(pne, 0)) for pne, first, last, keys in rows]
