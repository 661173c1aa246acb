"""The events, which are added to at one end and dropped at the other: functions of a connection and values."""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from cpns.domain.actor import Actor, Role
from cpns.domain.event import KEPT_SECONDS, MOST, Body, Event, Numbered, body_of
from cpns.domain.inventory import Outcome
from cpns.errors import Gone, Result
from cpns.ids import EntityId
from cpns.store.dialect import DriverSql, insert_or_update
from cpns.store.schema import events, meta

LEFT: Final = "events"
"""In `Connection.info`: whether the transaction that is open left any."""
GONE_TO: Final = "events gone"
"""In `meta`: the number up to which events were dropped."""
DROPPED_AT_ONCE: Final = 5000

_COLUMNS = ("at", "kind", "role", "actor", "subject", "body")
_ADD = DriverSql(insert(events), _COLUMNS)
_AFTER = select(events).where(events.c.number > bindparam("after")).order_by(events.c.number).limit(bindparam("limit"))
_NEWEST = select(func.coalesce(func.max(events.c.number), 0))
_NTH = select(events.c.number).order_by(events.c.number.desc()).offset(bindparam("most")).limit(1)
_OLDEST = select(events.c.number, events.c.at).order_by(events.c.number).limit(bindparam("limit"))
_DROP = delete(events).where(events.c.number <= bindparam("upto"))
_GONE = select(meta.c.value).where(meta.c.key == GONE_TO)
_PUT_GONE = insert_or_update(meta, "key")


def leave(connection: Connection, new: Iterable[Event]) -> None:
    """Add events to the transaction that is open."""
    _add(connection, [(e.at, e.kind, e.actor.role.value, e.actor.name, e.subject, _json(e.body)) for e in new])


def leave_of(connection: Connection, outcomes: Iterable[Outcome]) -> None:
    """As `leave`, the events that go with rows of the audit log: those of a SETUP have one body."""
    _add(
        connection,
        [
            (
                *(o.at, o.event, o.actor.role.value, o.actor.name, o.entity_id),
                _body_of(o.result, o.reason, o.via, o.times),
            )
            for o in outcomes
        ],
    )


def _add(connection: Connection, rows: list[tuple[object, ...]]) -> None:
    if rows:
        _ADD.run(connection, rows)
        connection.info[LEFT] = True


@lru_cache(maxsize=256)
def _body_of(result: Result, reason: str, via: EntityId | None, times: int) -> str:
    return _json(body_of(result, reason, via, times))


def _json(body: Body) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def after(connection: Connection, number: int, limit: int) -> list[Numbered]:
    """See `cpns.ports.Store.events`."""
    gone = _gone_to(connection)
    if number < gone:
        raise Gone(
            "events_gone", f"The events up to {gone} are dropped: look at what there is now, and go on after {gone}."
        )
    return [
        Numbered(number, Event(at, kind, Actor(Role(role), actor), subject, json.loads(body)))
        for number, at, kind, role, actor, subject, body in connection.execute(
            _AFTER, {"after": number, "limit": limit}
        )
    ]


def newest(connection: Connection) -> int:
    """See `cpns.ports.Store.last_event`."""
    return max(int(connection.execute(_NEWEST).scalar_one()), _gone_to(connection))


def _gone_to(connection: Connection) -> int:
    return int(connection.execute(_GONE).scalar_one_or_none() or 0)


def drop_old(connection: Connection, now: float) -> None:
    """Drop, from the oldest on, what was kept long enough or is too much; a part of it at once."""
    too_much = connection.execute(_NTH, {"most": MOST}).scalar_one_or_none() or 0
    upto = 0
    for number, at in connection.execute(_OLDEST, {"limit": DROPPED_AT_ONCE}):
        if number > too_much and at >= now - KEPT_SECONDS:
            break
        upto = number
    if upto:
        connection.execute(_PUT_GONE, {"key": GONE_TO, "value": str(upto)})
        connection.execute(_DROP, {"upto": upto})
