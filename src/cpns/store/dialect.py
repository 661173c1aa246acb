"""The one file that knows what SQLite and PostgreSQL want differently in SQL: conflict clauses, text for a driver."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, CursorResult, Dialect, Select, Table, bindparam
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import Insert, insert, psycopg
from sqlalchemy.sql import dml
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECTS: Mapping[str, Dialect] = {
    "sqlite": sqlite.dialect(),
    "postgresql": psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}


class DriverSql:
    """A statement as text for the driver, its parameters by position: *order* names them.

    For the hottest statements alone: SQLAlchemy's own handling of 64 parameter sets costs about as much again as
    SQLite takes to store them.
    """

    def __init__(self, statement: dml.Insert | dml.Update | Select[Any], order: Sequence[str]) -> None:
        self._texts = {name: _compiled(statement, order, dialect) for name, dialect in _DIALECTS.items()}

    def run(self, connection: Connection, parameters: Sequence[Any]) -> CursorResult[*tuple[Any, ...]]:
        """Run it with a tuple of *parameters*, or once for each tuple of a list."""
        return connection.exec_driver_sql(self._texts[connection.dialect.name], parameters)


def _compiled(statement: dml.Insert | dml.Update | Select[Any], order: Sequence[str], dialect: Dialect) -> str:
    if isinstance(statement, dml.Insert):
        compiled = statement.inline().compile(dialect=dialect, column_keys=list(order))
    else:
        compiled = statement.compile(dialect=dialect)
    if not isinstance(compiled, SQLCompiler) or compiled.positiontup != list(order):
        raise ValueError(f"parameters are in another order than {order}")
    return str(compiled)


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


def driver_select(statement: Select[Any], of: ColumnElement[str], count: int) -> DriverSql:
    """Return *statement* where *of* is one of *count* values."""
    names = [f"value_{number}" for number in range(count)]
    return DriverSql(statement.where(of.in_([bindparam(name) for name in names])), names)
