"""SQLite under `Database`: one file, one writer at a time by the file's own lock."""

import errno
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError

from cpns.store.backend import BUSY_SECONDS, conflict, unavailable

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
_LASTS = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
"""What fails until somebody does something about it, for whatever is to be stored."""


class Sqlite:
    """`cpns.store.backend.Backend` of the file at *path*, made when missing with mode 0600."""

    begin_to_write = "BEGIN IMMEDIATE"
    begin_to_read = "BEGIN"
    away = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = str(path)

    def make_engine(self) -> Engine:
        """See `Backend`."""
        # SQLite gives -wal and -shm the mode of the file itself. O_NOFOLLOW: nobody's link leads us to another file.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
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

        return engine

    def commit(self, connection: Connection) -> None:
        """See `Backend`."""
        connection.commit()

    def undo(self, connection: Connection) -> None:
        """See `Backend`."""
        with suppress(DBAPIError):
            connection.rollback()
        with suppress(sqlite3.Error):  # SQLAlchemy leaves a transaction open whose commit failed
            connection.connection.rollback()

    def cut(self) -> None:
        """See `Backend`: it is never away."""

    def translate(self, error: Exception) -> Exception:
        """See `Backend`."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(error, IntegrityError):
            return conflict(error, cause)
        if isinstance(cause, sqlite3.Error):
            # The low byte is the primary code; the driver's own errors have none.
            code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
            what_to_do = _WHAT_TO_DO.get(code, "see the server's log")
            return unavailable(error, self.name, cause, what_to_do, lasts=code in _LASTS)
        if isinstance(cause, OSError) and cause.errno == errno.ELOOP:
            return unavailable(error, self.name, cause, "it is a link: put the file itself there")
        if isinstance(cause, OSError):
            return unavailable(error, self.name, cause, _WHAT_TO_DO[sqlite3.SQLITE_CANTOPEN])
        return error
