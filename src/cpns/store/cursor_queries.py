"""The places of those that follow the events by a name: functions of a connection and values."""

from dataclasses import asdict

from sqlalchemy import Connection, bindparam, delete, select

from cpns.domain.actor import Actor
from cpns.domain.event import Cursor
from cpns.domain.inventory import Outcome
from cpns.errors import NotFound, Result
from cpns.ids import EntityId
from cpns.store import event_queries
from cpns.store.audit_queries import record
from cpns.store.dialect import insert_or_update
from cpns.store.schema import cursors

_ALL = select(cursors).order_by(cursors.c.name)
_ONE = select(cursors).where(cursors.c.name == bindparam("id"))
_PUT = insert_or_update(cursors, "name")
_DROP = delete(cursors).where(cursors.c.name == bindparam("id"))


def all_of_them(connection: Connection) -> list[Cursor]:
    """See `cpns.ports.Store.cursors`."""
    return [Cursor(*row) for row in connection.execute(_ALL)]


def move(connection: Connection, name: str, number: int | None, at: float, actor: Actor) -> Cursor:
    """See `cpns.ports.Store.move_cursor`."""
    row = connection.execute(_ONE, {"id": name}).one_or_none()
    before = None if row is None else Cursor(*row)
    newest = event_queries.newest(connection)
    if number is not None and number > newest:
        raise NotFound("no_such_event", f"The newest event is {newest}: is this the store that you mean?")
    if before is not None and (number is None or number <= before.number):
        return before
    after = Cursor(name, newest if number is None else number, at, actor.name)
    connection.execute(_PUT, asdict(after))
    return after


def drop(connection: Connection, name: str, at: float, actor: Actor) -> None:
    """See `cpns.ports.Store.drop_cursor`."""
    if not connection.execute(_DROP, {"id": name}).rowcount:
        raise NotFound("unknown_cursor", f"There is no cursor {name}: see `cpns cursor list`.")
    record(connection, [Outcome(at, "cursor_dropped", EntityId(name), actor, Result.SUCCESS)])
