"""The one file that knows what SQLite and PostgreSQL want differently in SQL: conflict clauses, text for a driver."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Dialect, Select, Table, bindparam, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import Insert, insert, psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import dml
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECTS: Mapping[str, Dialect] = {
    "sqlite": sqlite.dialect(),
    "postgresql": psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]
}

_TIME = {
    "sqlite": text("SELECT (julianday('now') - 2440587.5) * 86400.0"),
    "postgresql": text("SELECT extract(epoch FROM clock_timestamp())::double precision"),
}


def time_of(connection: Connection) -> float:
    """Return what the store's own clock says now, seconds since the epoch."""
    return float(connection.execute(_TIME[connection.dialect.name]).scalar_one())


def run_text(connection: Connection, text: str) -> None:
    """Run *text*, which finds no rows and has no parameters, by the driver alone.

    For what begins each transaction: SQLAlchemy's own way costs twenty times what SQLite takes.
    """
    cursor = _cursor(connection)
    try:
        cursor.execute(text)
    except connection.dialect.loaded_dbapi.Error as error:
        raise _told(connection, cursor, error) from error


class DriverSql:
    """A statement as text for the driver, its parameters by position: *order* names them.

    For the hottest statements alone: SQLAlchemy's own handling of 64 parameter sets costs about as much again as
    SQLite takes to store them, and that of a result of one row several times what SQLite takes to find it.
    """

    def __init__(self, statement: dml.Insert | dml.Update | Select[Any], order: Sequence[str]) -> None:
        self._texts = {name: _compiled(statement, order, dialect) for name, dialect in _DIALECTS.items()}

    def run(self, connection: Connection, parameters: tuple[Any, ...] | list[tuple[Any, ...]]) -> int:
        """Run it with *parameters*, or once for each of a list; return how many rows it changed."""
        text, cursor = self._texts[connection.dialect.name], _cursor(connection)
        try:
            if type(parameters) is list:
                cursor.executemany(text, parameters)
            else:
                cursor.execute(text, parameters)
        except connection.dialect.loaded_dbapi.Error as error:
            raise _told(connection, cursor, error) from error
        return int(cursor.rowcount)

    def rows(self, connection: Connection, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Return the rows that it finds, their values as the driver gives them."""
        cursor = _cursor(connection)
        try:
            cursor.execute(self._texts[connection.dialect.name], parameters)
            return list(cursor.fetchall())
        except connection.dialect.loaded_dbapi.Error as error:
            raise _told(connection, cursor, error) from error


def _cursor(connection: Connection) -> Any:  # noqa: ANN401  # a driver's own
    return connection.connection.dbapi_connection.cursor()  # type: ignore[union-attr]  # it is open


def _told(connection: Connection, cursor: Any, error: Any) -> Exception:  # noqa: ANN401  # a driver's own
    """Return *error* of a driver as SQLAlchemy raises it; a lost connection is given up."""
    dialect = connection.dialect
    lost = dialect.is_disconnect(error, connection.connection, cursor)
    told: Exception = DBAPIError.instance(
        None, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, connection_invalidated=lost
    )
    if lost:
        connection.invalidate(error)
    return told


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


def insert_or_update(table: Table, *key: str, kept: Sequence[str] = ()) -> Insert:
    """Return an INSERT into *table* that gives a row with the same *key* the new values, but for the *kept* columns."""
    statement = insert(table)
    others = [column for column in table.columns if column.name not in (*key, *kept)]
    return statement.on_conflict_do_update(
        index_elements=key, set_={column.name: statement.excluded[column.name] for column in others}
    )


def insert_or_add(table: Table, key: str, newer: Sequence[str], count: str, row: Select[Any]) -> Insert:
    """Return an INSERT of *row*, the columns of *table* in their order.

    One with the same *key* gets its values of *newer*, and *count* is added up.
    """
    statement = insert(table).from_select([column.name for column in table.columns], row)
    new = statement.excluded
    values = {name: new[name] for name in newer} | {count: table.c[count] + new[count]}
    return statement.on_conflict_do_update(index_elements=[key], set_=values)


def insert_or_count(table: Table, key: Sequence[str], newer: Sequence[str], count: str) -> Insert:
    """Return an INSERT into *table*; a row with the same *key* gets its values of *newer*, and *count* is added up."""
    statement = insert(table)
    new = statement.excluded
    values = {name: new[name] for name in newer} | {count: table.c[count] + new[count]}
    return statement.on_conflict_do_update(index_elements=key, set_=values)


def driver_select(statement: Select[Any], of: ColumnElement[str], count: int) -> DriverSql:
    """Return *statement* where *of* is one of *count* values."""
    names = [f"value_{number}" for number in range(count)]
    return DriverSql(statement.where(of.in_([bindparam(name) for name in names])), names)
