"""The events, which are added to at one end and dropped at the other: functions of a connection and values."""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select

from cpns.domain.actor import Actor, Role
from cpns.domain.event import KEPT_SECONDS, MOST, Body, Event, Numbered, body_of
from cpns.domain.inventory import Outcome
from cpns.errors import Result
from cpns.ids import EntityId
from cpns.store.dialect import DriverSql
from cpns.store.feed import Feed
from cpns.store.schema import events

LEFT: Final = "events"
"""In `Connection.info`: whether the transaction that is open left any."""
FEED: Final = Feed(events, KEPT_SECONDS, MOST)
newest = FEED.newest
drop_old = FEED.drop_old

_COLUMNS = ("at", "kind", "role", "actor", "subject", "body")
_ADD = DriverSql(insert(events), _COLUMNS)
_AFTER = select(events).where(events.c.number > bindparam("after")).order_by(events.c.number).limit(bindparam("limit"))


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
    FEED.check(connection, number)
    return [
        Numbered(number, Event(at, kind, Actor(Role(role), actor), subject, json.loads(body)))
        for number, at, kind, role, actor, subject, body in connection.execute(
            _AFTER, {"after": number, "limit": limit}
        )
    ]
