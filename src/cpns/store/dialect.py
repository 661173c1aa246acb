"""The one file that names SQLite's dialect: INSERT with a conflict clause, and SQL as the driver takes it.

PostgreSQL's INSERT has the same methods; to serve both, this file is the one to change.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, bindparam
from sqlalchemy.dialects.sqlite import dialect, insert
from sqlalchemy.sql.dml import Insert, Update

_SQLITE = dialect()


def insert_once(table: Table, key: Sequence[str]) -> Insert:
    """Return an INSERT into *table* that leaves a row with the same *key* as it is."""
    return insert(table).on_conflict_do_nothing(index_elements=key)


def insert_or_update(table: Table, *key: str) -> Insert:
    """Return an INSERT into *table* that gives a row with the same *key* the new values."""
    statement = insert(table)
    others = [column for column in table.columns if column.name not in key]
    return statement.on_conflict_do_update(
        index_elements=key, set_={column.name: statement.excluded[column.name] for column in others}
    )


def driver_select(statement: Select[Any], of: ColumnElement[str], count: int) -> str:
    """Return *statement* where *of* is one of *count* values, for `Connection.exec_driver_sql`; see `driver_sql`."""
    some = statement.where(of.in_([bindparam(f"value_{number}") for number in range(count)]))
    return str(some.compile(dialect=_SQLITE))


def driver_update(statement: Update, parameters: Sequence[str]) -> str:
    """Return *statement* for `Connection.exec_driver_sql`, its bound *parameters* by position; see `driver_sql`."""
    compiled = statement.compile(dialect=_SQLITE)
    if compiled.positiontup != list(parameters):
        raise ValueError(f"parameters are in another order: {compiled.positiontup}")
    return str(compiled)


def driver_sql(statement: Insert, columns: Sequence[str]) -> str:
    """Return *statement* for `Connection.exec_driver_sql`, its parameters by position in the order of *columns*.

    For the hottest statements alone: SQLAlchemy's own handling of 64 parameter sets costs about as much again as
    SQLite takes to store them.
    """
    compiled = statement.compile(dialect=_SQLITE, column_keys=list(columns))
    if compiled.positiontup != list(columns):
        raise ValueError(f"columns are not in the order of the table: {columns}")
    return str(compiled)
