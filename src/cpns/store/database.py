"""One SQLite file and group commit.

A durable commit costs a flush of the disk, and SQLite has one writer at a time. So callers queue what they want done;
all that is queued runs in one transaction, is committed once, and then all of them are told. While it commits, the next
group gathers: the busier the server, the more each flush carries.

    queued ......... in a transaction ......... committed ......... awaiters resume
                     | one raises: all is undone and run again, each in a savepoint; only that one fails
                     | the commit fails: nothing was stored, all of the group fail

The SQL runs in the loop's own thread, as it takes microseconds; the flush runs in another, as it may take milliseconds.
(A thread for both was tried: SQLite's driver hands the interpreter lock over at every row, and a busy loop is slow to
give it back.)
"""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError

from cpns.errors import Conflict, Unavailable
from cpns.store import migrate

T = TypeVar("T")

BUSY_SECONDS = 5
"""How long to wait for another process that writes the same file."""

_WHAT_TO_DO = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_BUSY: "another process keeps it locked: stop that one",
    sqlite3.SQLITE_LOCKED: "another process keeps it locked: stop that one",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore a backup",
    sqlite3.SQLITE_NOTADB: "the file is no cpns store: restore a backup or name another file",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened: check that its folder exists and is yours",
    sqlite3.SQLITE_READONLY: "it can't be written: check the permissions of the file and its folder",
    sqlite3.SQLITE_IOERR: "the disk fails: check it and the system's log",
}


class _Queued(Generic[T]):
    """An operation, who waits for it, and in the end what became of it."""

    __slots__ = ("error", "future", "operation", "result", "write")

    def __init__(self, operation: Callable[[Connection], T], write: bool, future: asyncio.Future[T]) -> None:
        self.operation = operation
        self.write = write
        self.future = future
        self.result: T | None = None
        self.error: Exception | None = None


class Database:
    """The file at *path*, made when missing (mode 0600) and brought to this version's schema.

    The constructor blocks. It, `run` and `close` belong to one event loop's thread.

    Raises:
        Unavailable: code ``store_unavailable`` or ``store_too_new``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closed = False
        self._begin = "BEGIN IMMEDIATE"
        self._queue: list[_Queued[Any]] = []
        self._settling: asyncio.Task[None] | None = None
        try:
            # SQLite gives -wal and -shm the mode of the file itself.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._engine = self._make_engine()
            self._connection = self._open()
        except (OSError, DBAPIError, sqlite3.Error) as error:
            raise self._translate(error) from error
        self._disk = ThreadPoolExecutor(1, thread_name_prefix=f"store {path.name}")

    async def run(self, operation: Callable[[Connection], T], *, write: bool = True) -> T:
        """Return what *operation* returns, once all that it wrote is durable.

        *operation* runs inside a transaction that others share. It may be run twice, so it changes rows and nothing
        else. ``write=False`` says that it only reads. Cancelling the wait does not undo it.

        Raises:
            Unavailable: code ``store_unavailable``: nothing of it was stored.
            Conflict: code ``store_conflict``: it contradicts what is stored; nothing of it was stored.
            Exception: what *operation* itself raised; nothing of it was stored.
        """
        if self._closed:
            raise Unavailable("store_unavailable", f"the store {self._path} is closed: start the process again")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.append(_Queued(operation, write, future))
        if self._settling is None:
            self._settling = loop.create_task(self._work())
        return await future

    async def close(self) -> None:
        """Finish what is queued, take no more, let go of the file. May be called again."""
        if self._closed:
            return
        self._closed = True
        while self._settling is not None:
            await asyncio.wait([self._settling])
        self._disk.shutdown()
        self._connection.close()
        self._engine.dispose()

    def _make_engine(self) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},  # the commit has its own
            hide_parameters=True,  # no row's content in a traceback
        )

        # SQLAlchemy's way to begin where SQLite begins, and not where Python's driver guesses.
        @event.listens_for(engine, "connect")
        def _set_up(raw: sqlite3.Connection, _record: object) -> None:
            raw.isolation_level = None
            try:
                for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                    raw.execute(f"PRAGMA {pragma}")
            except sqlite3.Error:
                raw.close()
                raise

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql(self._begin)

        return engine

    def _open(self) -> Connection:
        try:
            connection = self._engine.connect()
            try:
                with connection.begin():
                    migrate.upgrade(connection)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            self._engine.dispose()
            raise
        return connection

    async def _work(self) -> None:
        """Settle what is queued, group after group, until nothing is."""
        try:
            while self._queue:
                group, self._queue = self._queue, []
                await self._settle(group)
        finally:
            self._settling = None

    async def _settle(self, group: list[_Queued[Any]]) -> None:
        writes = any(queued.write for queued in group)
        # Who only reads must not wait for another process that writes.
        self._begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
        try:
            self._connection.begin()
            if not self._together(group):
                self._connection.rollback()
                self._connection.begin()
                self._apart(group)
            if writes:
                await asyncio.get_running_loop().run_in_executor(self._disk, self._connection.commit)
            else:
                self._connection.rollback()
        except Exception as error:
            for queued in group:
                queued.error = self._translate(error)
            with suppress(DBAPIError):
                self._connection.rollback()
            with suppress(sqlite3.Error):  # SQLAlchemy leaves a transaction open whose commit failed
                self._connection.connection.rollback()
        _resolve(group)

    def _together(self, group: list[_Queued[Any]]) -> bool:
        """Run *group*; False when one of it raised."""
        for queued in group:
            try:
                queued.result = queued.operation(self._connection)
            except Exception:
                return False
        return True

    def _apart(self, group: list[_Queued[Any]]) -> None:
        """Run each of *group* in its own savepoint, so that one that raises undoes itself alone.

        In plain SQL, as SQLAlchemy's own savepoints cost four times as much.
        """
        for queued in group:
            self._connection.exec_driver_sql("SAVEPOINT operation")
            try:
                queued.result = queued.operation(self._connection)
            except Exception as error:
                queued.error = self._translate(error)
                try:
                    self._connection.exec_driver_sql("ROLLBACK TO SAVEPOINT operation")
                except DBAPIError:  # SQLite undid the whole transaction by itself, as it may on a full disk
                    raise error from None
            self._connection.exec_driver_sql("RELEASE SAVEPOINT operation")

    def _translate(self, error: Exception) -> Exception:
        """Return what the caller is told of *error*: the store's own failures as a `UserError`, others as they are."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(error, IntegrityError):
            return _caused_by(error, Conflict("store_conflict", f"it contradicts what is stored already: {cause}"))
        if isinstance(cause, sqlite3.Error):
            # The low byte is the primary code; the driver's own errors have none.
            code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
            what_to_do = _WHAT_TO_DO.get(code, "see the server's log")
        elif isinstance(cause, OSError):
            what_to_do = _WHAT_TO_DO[sqlite3.SQLITE_CANTOPEN]
        else:
            return error
        return _caused_by(
            error, Unavailable("store_unavailable", f"the store {self._path} failed ({cause}): {what_to_do}")
        )


def _caused_by(cause: Exception, error: Exception) -> Exception:
    error.__cause__ = cause
    return error


def _resolve(group: list[_Queued[Any]]) -> None:
    """Wake all who wait for *group*; some may have been cancelled."""
    for queued in group:
        if queued.future.done():
            continue
        if queued.error is not None:
            queued.future.set_exception(queued.error)
        else:
            queued.future.set_result(queued.result)
