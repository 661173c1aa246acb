"""PostgreSQL under `Database`: one connection, one writer at a time by an advisory lock.

A group of operations that writes takes the lock first and holds it until its transaction ends, so that writers of all
processes come one after the other, as with SQLite. The reasons against SERIALIZABLE, which lets them run side by side
and has those that disturb each other repeated:

* rules read whole member lists and indexes, so almost any two groups would disturb each other;
* numbers of readings would be seen out of order, and who reads on from a number would miss those that came late;
* a group is one commit for all that waits, so that waiting for a turn costs little.

READ COMMITTED goes with it: each statement sees what was committed before it, and under the lock nobody else commits.
(REPEATABLE READ would not do: its view is taken before the lock is had.) Who only reads takes no lock, and has one
view.
"""

import os
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from cpns.errors import BadInput, StoreFails, Unavailable
from cpns.store.backend import BUSY_SECONDS, conflict, unavailable

if TYPE_CHECKING:
    import psycopg

_WRITER: Final = int.from_bytes(b"cpns")
"""The advisory lock of who writes; in each database its own."""

_DEFAULTS: Final = {
    "application_name": "cpns",
    "connect_timeout": "5",
    # a machine that is gone without a word is noticed in about 10 s
    "keepalives_idle": "4",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""Of libpq, where the URL says nothing else."""

_SET_UP: Final = f"""
SET lock_timeout = '{BUSY_SECONDS}s';
SET idle_in_transaction_session_timeout = '60s'; -- who hangs does not keep the lock for ever
SET client_connection_check_interval = '5s'; -- nor who is gone
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""

_PASSWORDS: Final = "put it into ~/.pgpass, a file that PGPASSFILE names, or the variable PGPASSWORD"
_UNREACHED: Final = (
    "check that PostgreSQL runs there, and has this database and user"
    f" (a password? {_PASSWORDS}); the next request tries again"
)
_WHAT_TO_DO: Final = {  # by SQLSTATE, or its class
    "08": _UNREACHED,
    "25006": "it takes no writes: name the primary server",
    "40": "others were in its way: do it again",
    "42501": "let this user work on it: GRANT what is missing, or make the user its owner",
    "53100": "the disk of PostgreSQL is full: free some space",
    "53300": "PostgreSQL has no connection left: raise its max_connections, or stop others",
    "55P03": "another process keeps it locked: stop that one",
    "57": _UNREACHED,
    "57014": "PostgreSQL has a limit of time that was too short: raise its statement_timeout",
}


_AWAY: Final = ("08", "57P", "53300")
_LASTS: Final = ("25006", "53")
"""SQLSTATEs, or their beginnings, of a server that is not there; and of one that takes nothing new."""


def parse_url(text: str) -> URL:
    """Return the URL of a store on PostgreSQL, ``postgresql://[user@][host[:port]]/database[?sslmode=...&...]``.

    Parameters are those of libpq.

    Raises:
        BadInput: ``bad_store``: it is none; ``password_in_url``. Neither repeats the text.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername != "postgresql" or not url.database:
        raise BadInput(
            "bad_store", "A store has to be named as postgresql://[USER@]HOST[:PORT]/DATABASE[?sslmode=...]."
        )
    if url.password is not None or any(re.search("password$", key, re.IGNORECASE) for key in url.query):
        raise BadInput(
            "password_in_url", f"A password in a URL is seen by others: leave it out, change it, and {_PASSWORDS}."
        )
    return url


class Postgres:
    """`cpns.store.backend.Backend` of the database at *url*, which exists; it is tried anew after each failure.

    Raises:
        BadInput: as `parse_url`.
    """

    begin_to_write = f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({_WRITER})"
    begin_to_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    away = True

    def __init__(self, url: str) -> None:
        self._url = parse_url(url)
        self.name = self._url.set(query={}).render_as_string()
        self._raw: psycopg.Connection[object] | None = None

    def make_engine(self) -> Engine:
        """See `Backend`."""
        given = {key: value for key, value in _DEFAULTS.items() if key not in self._url.query}
        url = self._url.set(drivername="postgresql+psycopg").update_query_dict(given)
        try:
            engine = create_engine(url, poolclass=NullPool, hide_parameters=True, use_native_hstore=False)
        except ModuleNotFoundError as error:
            raise Unavailable(
                "store_unavailable", "The driver for PostgreSQL is not installed: pip install 'cpns[postgres]'."
            ) from error

        @event.listens_for(engine, "connect", insert=True)  # before SQLAlchemy looks around
        def _set_up(raw: "psycopg.Connection[object]", _record: object) -> None:
            raw.autocommit = True  # BEGIN is ours
            try:
                if raw.info.parameter_status("server_encoding") != "UTF8":
                    raise Unavailable(
                        "store_unavailable", f"{self.name} is no database of UTF-8: make one with ENCODING 'UTF8'."
                    )
                raw.execute(_SET_UP)
            except BaseException:
                raw.close()
                raise
            self._raw = raw

        return engine

    def commit(self, connection: Connection) -> None:
        """See `Backend`.

        Raises:
            Unavailable: the connection was lost in between. Whether it is stored is known to nobody then.
        """
        raw: Any = connection.connection.dbapi_connection
        status = raw.info.transaction_status.name
        if status != "INTRANS":  # PostgreSQL would take back all of it, and call that a success
            raise Unavailable("store_unavailable", f"the store {self.name} failed in the transaction ({status}).")
        try:
            connection.commit()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise StoreFails(
                f"the store {self.name} was lost while it committed ({_said(error)}): whether it did is not known, so"
                " look, or do it again",
                away=True,
            ) from error

    def undo(self, connection: Connection) -> None:
        """See `Backend`: the next transaction gets a connection of its own, whatever happened to this one."""
        connection.invalidate()
        connection.rollback()

    def cut(self) -> None:
        """See `Backend`."""
        if self._raw is None or self._raw.closed:
            return
        with suppress(OSError), socket.socket(fileno=os.dup(self._raw.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def translate(self, error: Exception) -> Exception:
        """See `Backend`."""
        if isinstance(error, IntegrityError):
            return conflict(error, _said(error))
        if isinstance(error, DataError):
            refusal = BadInput("store_refuses", f"the store can't hold that: {_said(error)}")
            refusal.__cause__ = error
            return refusal
        if not isinstance(error, DBAPIError):
            return error
        unconnected = "08" if isinstance(error, OperationalError | InterfaceError) else ""
        state = getattr(error.orig, "sqlstate", None) or unconnected
        what_to_do = _WHAT_TO_DO.get(state) or _WHAT_TO_DO.get(state[:2]) or "see the log of PostgreSQL"
        lasts, away = state.startswith(_LASTS), state.startswith(_AWAY)
        return unavailable(error, self.name, _said(error), what_to_do, lasts=lasts, away=away)


def _said(error: DBAPIError) -> str:
    """Return PostgreSQL's own words; without the details, which hold content of rows."""
    diagnosis = getattr(error.orig, "diag", None)
    return getattr(diagnosis, "message_primary", None) or " ".join(str(error.orig).split())
