"""The audit log, and what is read off it: functions of a connection and values."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, insert, select, update

from cpns.domain.inventory import HeldThrough, Outcome
from cpns.errors import Result
from cpns.ids import EntityId
from cpns.store.dialect import DriverSql
from cpns.store.schema import audit, readings

REFUSED = "refused"
PROCEDURES = ("gateway_activated", "pne_established", "cm_activated", REFUSED)
"""Events that an entity took part in, and that show as its last result; others are decisions on it."""

_SHOWN = (
    *(audit.c.at, audit.c.event, audit.c.entity_id, audit.c.via, audit.c.result, audit.c.reason),
    audit.c.times,
)
_ADD = DriverSql(insert(audit), [column.name for column in _SHOWN])
_older = audit.alias("older")
_AGAIN = (
    update(audit)
    .where(
        audit.c.number
        == select(func.max(_older.c.number)).where(_older.c.entity_id == bindparam("entity")).scalar_subquery(),
        audit.c.event == REFUSED,
        audit.c.via.is_not_distinct_from(bindparam("through")),
        audit.c.result == bindparam("ended"),
        audit.c.reason == bindparam("why"),
    )
    .values(at=bindparam("again"), times=audit.c.times + bindparam("more"))
)
_NEWEST = select(*_SHOWN).order_by(audit.c.number.desc()).limit(bindparam("limit"))
_NEWEST_OF_ENTITY = _NEWEST.where(audit.c.entity_id == bindparam("entity_id"))
_LAST = select(func.max(audit.c.number))
_ENDED = (
    select(*_SHOWN)
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
    new: list[tuple[object, ...]] = []
    for o in outcomes:
        if o.event == REFUSED:
            if new:  # the row that is counted on is the newest
                _ADD.run(connection, new)
                new = []
            who = {"entity": o.entity_id, "through": o.via, "ended": int(o.result), "why": o.reason}
            if connection.execute(_AGAIN, who | {"again": o.at, "more": o.times}).rowcount:
                continue
        new.append((o.at, o.event, o.entity_id, o.via, int(o.result), o.reason, o.times))
    if new:
        _ADD.run(connection, new)


def newest(connection: Connection, entity_id: EntityId | None, limit: int) -> list[Outcome]:
    """See `cpns.ports.Store.audit`."""
    statement = _NEWEST if entity_id is None else _NEWEST_OF_ENTITY
    rows = connection.execute(statement, {"limit": limit, "entity_id": entity_id})
    return [_outcome(*row) for row in rows]


def ended_after(connection: Connection, number: int | None) -> tuple[int, list[Outcome]]:
    """See `cpns.ports.Store.ended_after`."""
    last = connection.execute(_LAST).scalar_one_or_none() or 0
    if number is None or number == last:
        return last, []
    rows = connection.execute(_ENDED, {"after": number, "last": last})
    return last, [_outcome(*row) for row in rows]


def _outcome(
    at: float, event: str, who: EntityId, via: EntityId | None, result: int, reason: str, times: int
) -> Outcome:
    return Outcome(at, event, who, via, Result(result), reason, times)


def held_through(connection: Connection, gateway_id: EntityId) -> list[HeldThrough]:
    """See `cpns.ports.Store.held_through`."""
    carried = {pne: count for pne, count in connection.execute(_CARRIED, {"gateway_id": gateway_id})}
    rows = connection.execute(_HELD, {"gateway_id": gateway_id})
    return [HeldThrough(pne, first, last, keys, carried.get(pne, 0)) for pne, first, last, keys in rows]
