"""What differs between the two databases under `Database`: one object with these members for each."""

from typing import Protocol

from sqlalchemy import Connection, Engine

from cpns.errors import Conflict, StoreFails, Unavailable

BUSY_SECONDS = 5
"""How long to wait for another process that writes to the same store."""


class Backend(Protocol):
    """SQLite or PostgreSQL.

    Attributes:
        name: what the store is called in errors; without a password.
        begin_to_write: SQL that begins a transaction and keeps every other writer, of any process, waiting until it
            ends. The rules of the store read and then write, and rest on nothing changing in between.
        begin_to_read: SQL that begins one which sees one state of the store, and waits for nobody.
        away: its rows come over a socket, so its SQL must not run in the loop's thread.
    """

    name: str
    begin_to_write: str
    begin_to_read: str
    away: bool

    def make_engine(self) -> Engine:
        """Return the engine; its connections leave BEGIN to us.

        Raises:
            OSError, Unavailable, BadInput: it can't be had.
        """
        ...

    def commit(self, connection: Connection) -> None:
        """Make durable what *connection*'s transaction did, or raise."""
        ...

    def undo(self, connection: Connection) -> None:
        """Bring *connection*, on which anything may have failed, to where a transaction can begin; never raises."""
        ...

    def cut(self) -> None:
        """End, from another thread, what waits for a database that is away and does not answer; it then fails."""
        ...

    def translate(self, error: Exception) -> Exception:
        """Return what the caller is told of *error*: the store's own failures as a `UserError`, others as they are."""
        ...


def conflict(error: Exception, said: object) -> Conflict:
    """Return the refusal of what contradicts the tables' constraints."""
    refusal = Conflict("store_conflict", f"it contradicts what is stored already: {said}")
    refusal.__cause__ = error
    return refusal


def unavailable(
    error: Exception, name: str, said: object, what_to_do: str, *, lasts: bool = False, away: bool = False
) -> Unavailable:
    """Return the failure of the store *name*; where it *lasts*, or the store is *away*, a `StoreFails`."""
    sentence = f"the store {name} failed ({said}): {what_to_do}"
    failure = StoreFails(sentence, away=away) if lasts or away else Unavailable("store_unavailable", sentence)
    failure.__cause__ = error
    return failure
