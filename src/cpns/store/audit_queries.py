"""The audit log, and what is read off it: functions of a connection and values."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, null, select, update

from cpns.domain.actor import Actor, Role
from cpns.domain.inventory import End, HeldThrough, Outcome, Recorded
from cpns.errors import Result
from cpns.ids import EntityId
from cpns.store import revocation_queries
from cpns.store.dialect import DriverSql, insert_or_count
from cpns.store.event_queries import leave_of
from cpns.store.schema import audit, last_results, readings
from cpns.store.schema import held_through as held

REFUSED = "refused"
ESTABLISHED = "pne_established"
PROCEDURES: Final = frozenset({"gateway_activated", "cm_activated", REFUSED})
"""Events that an entity took part in, and that show as its last result, as `ESTABLISHED` does."""
ENDS: Final = frozenset(End)
"""Events that end sessions at every process of the server."""

_SHOWN = (
    *(audit.c.at, audit.c.event, audit.c.entity_id, audit.c.role, audit.c.actor, audit.c.result, audit.c.reason),
    *(audit.c.via, audit.c.times),
)
_ADD = DriverSql(insert(audit), ("at", "event", "entity_id", "via", "result", "reason", "times", "role", "actor"))
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
_AFTER = (
    select(audit.c.number, *_SHOWN)
    .where(audit.c.number > bindparam("after"))
    .order_by(audit.c.number)
    .limit(bindparam("limit"))
)
_AFTER_OF_ENTITY = _AFTER.where(audit.c.entity_id == bindparam("entity_id"))
_OLD = audit.c.at < bindparam("before")
_COUNT_OLD = select(func.count()).select_from(audit).where(_OLD)
_DROP_OLD = delete(audit).where(
    audit.c.number.in_(select(audit.c.number).where(_OLD).order_by(audit.c.number).limit(bindparam("limit")))
)
_NEWEST_OF_ENTITY = _NEWEST.where(audit.c.entity_id == bindparam("entity_id"))
_LAST_RESULT = DriverSql(
    update(last_results)
    .where(last_results.c.entity_id == bindparam("entity"))
    .values(
        at=bindparam("then"),
        result=bindparam("ended"),
        reason=bindparam("why"),
        via=bindparam("through"),
    ),
    ("then", "ended", "why", "through", "entity"),
)
_PUT_HELD = DriverSql(
    insert_or_count(held, ("pne_id", "gateway_id"), ("last_at",), "establishments"),
    ("pne_id", "gateway_id", "first_at", "last_at", "establishments"),
)
_HELD = (
    select(
        *(held.c.pne_id, held.c.first_at, held.c.last_at),
        held.c.establishments,
    )
    .where(held.c.gateway_id == bindparam("gateway_id"))
    .order_by(held.c.pne_id)
)
_CARRIED = (
    select(readings.c.pne_id, func.count())
    .where(readings.c.gateway_id == bindparam("gateway_id"))
    .group_by(readings.c.pne_id)
)


def record(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """See `cpns.ports.Store.record`; what follows from an outcome besides its row is written with it."""
    _log(connection, outcomes)
    leave_of(connection, outcomes)
    procedures = [one for one in outcomes if one.event in PROCEDURES]
    if procedures:
        _LAST_RESULT.run(connection, [_last_result(one) for one in procedures])
    ends = [one for one in outcomes if one.event in ENDS]
    if ends:
        revocation_queries.add(connection, ends)


def record_established(connection: Connection, at: float, via: EntityId, pnes: Sequence[EntityId]) -> None:
    """Record that PNEs were established through a PN GW; each SETUP does, so it takes no detour."""
    if pnes:
        _ADD.run(connection, [(at, ESTABLISHED, pne, via, 0, "", 1, Role.PNE.value, pne) for pne in pnes])
        _PUT_HELD.run(connection, [(pne, via, at, at, 1) for pne in pnes])
        _end_refusals(len(pnes)).run(connection, tuple(pnes))


def _log(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    new: list[tuple[object, ...]] = []
    for o in outcomes:
        if o.event == REFUSED:
            if new:  # the row that is counted on is the newest
                _ADD.run(connection, new)
                new = []
            who = {"entity": o.entity_id, "through": o.via, "ended": int(o.result), "why": o.reason}
            if connection.execute(_AGAIN, who | {"again": o.at, "more": o.times}).rowcount:
                continue
        ended = (o.via, int(o.result), o.reason, o.times)
        new.append((o.at, o.event, o.entity_id, *ended, o.actor.role.value, o.actor.name))
    if new:
        _ADD.run(connection, new)


@lru_cache(maxsize=128)
def _end_refusals(count: int) -> DriverSql:
    names = [f"entity_{number}" for number in range(count)]
    ids = last_results.c.entity_id.in_([bindparam(name) for name in names])
    nothing = {name: null() for name in ("at", "result", "reason", "via")}
    return DriverSql(update(last_results).where(ids, last_results.c.at.is_not(None)).values(nothing), names)


def _last_result(one: Outcome) -> tuple[object, ...]:
    return one.at, int(one.result), one.reason, one.via, one.entity_id


def newest(connection: Connection, entity_id: EntityId | None, limit: int) -> list[Outcome]:
    """See `cpns.ports.Store.audit`."""
    statement = _NEWEST if entity_id is None else _NEWEST_OF_ENTITY
    rows = connection.execute(statement, {"limit": limit, "entity_id": entity_id})
    return [_outcome(*row) for row in rows]


def after(connection: Connection, number: int, limit: int, entity_id: EntityId | None = None) -> list[Recorded]:
    """See `cpns.ports.Store.audit_after`."""
    statement = _AFTER if entity_id is None else _AFTER_OF_ENTITY
    rows = connection.execute(statement, {"after": number, "limit": limit, "entity_id": entity_id})
    return [Recorded(number, _outcome(*row)) for number, *row in rows]


def count_older(connection: Connection, before: float) -> int:
    """See `cpns.ports.Store.audit_before`."""
    count: int = connection.execute(_COUNT_OLD, {"before": before}).scalar_one()
    return count


def prune(connection: Connection, before: float, limit: int, done: Outcome) -> int:
    """See `cpns.ports.Store.prune_audit`."""
    count = connection.execute(_DROP_OLD, {"before": before, "limit": limit}).rowcount
    if count:
        record(connection, [replace(done, reason=f"{count} rows before {datetime.fromtimestamp(before, UTC):%FT%TZ}")])
    return count


def _outcome(
    at: float,
    event: str,
    who: EntityId,
    role: str,
    actor: str,
    result: int,
    reason: str,
    via: EntityId | None,
    times: int,
) -> Outcome:
    return Outcome(at, event, who, Actor(Role(role), actor), Result(result), reason, via, times)


def held_through(connection: Connection, gateway_id: EntityId) -> list[HeldThrough]:
    """See `cpns.ports.Store.held_through`."""
    carried = {pne: count for pne, count in connection.execute(_CARRIED, {"gateway_id": gateway_id})}
    rows = connection.execute(_HELD, {"gateway_id": gateway_id})
    return [HeldThrough(pne, first, last, keys, carried.get(pne, 0)) for pne, first, last, keys in rows]
