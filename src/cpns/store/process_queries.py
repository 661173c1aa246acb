"""The processes of a server that share its store: functions of a connection and values."""

from sqlalchemy import Connection, bindparam, delete, select, update

from cpns.domain.process import FORGOTTEN_SECONDS, Process
from cpns.store.dialect import insert_or_update, time_of
from cpns.store.schema import processes

_ALL = select(processes).order_by(processes.c.host, processes.c.pid)
_PUT = insert_or_update(processes, "process_id")
_PUT_RIGHT = update(processes).where(processes.c.seen_at > bindparam("now")).values(seen_at=bindparam("now"))
_DROP_OLD = delete(processes).where(processes.c.seen_at < bindparam("before"))
_DROP = delete(processes).where(processes.c.process_id == bindparam("id"))


def there(connection: Connection) -> tuple[float, list[Process]]:
    """See `cpns.ports.Store.processes`."""
    return time_of(connection), _all(connection)


def put(connection: Connection, own: Process) -> tuple[float, list[Process]]:
    """See `cpns.ports.Store.is_there`."""
    now = time_of(connection)
    row = {column.name: getattr(own, column.name) for column in processes.columns}
    connection.execute(_PUT, {**row, "seen_at": now})
    connection.execute(_PUT_RIGHT, {"now": now})  # else who died before the clock went back would be there till then
    connection.execute(_DROP_OLD, {"before": now - FORGOTTEN_SECONDS})
    return now, _all(connection)


def _all(connection: Connection) -> list[Process]:
    return [Process(*row) for row in connection.execute(_ALL)]


def drop(connection: Connection, process_id: str) -> None:
    """See `cpns.ports.Store.leaves`."""
    connection.execute(_DROP, {"id": process_id})
