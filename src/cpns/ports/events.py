"""What the services need of the store for what happened."""

from collections.abc import Callable, Sequence
from typing import Protocol

from cpns.domain.actor import Actor
from cpns.domain.event import Cursor, Numbered
from cpns.domain.inventory import Ended, Outcome, Recorded
from cpns.ids import EntityId


class EventStore(Protocol):
    """Events for whoever tells of them, the audit log for people, and who is out. See `cpns.ports.Store`."""

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """Append to the audit log, and set the last result of each entity that exists.

        A refusal that is the same as the newest row of its entity is counted there. IDs that nobody provisioned are
        remembered, see `waiting`.
        """
        ...

    async def audit(self, entity_id: EntityId | None, limit: int) -> list[Outcome]:
        """Return the newest *limit* rows of the audit log, newest first."""
        ...

    async def audit_after(self, number: int, limit: int, entity_id: EntityId | None = None) -> list[Recorded]:
        """Return up to *limit* rows of the audit log with a number over *number*, oldest first."""
        ...

    async def audit_before(self, before: float) -> int:
        """Return how many rows of the audit log are older than that."""
        ...

    async def prune_audit(self, before: float, limit: int, done: Outcome) -> int:
        """Drop up to *limit* rows that are older than that, with a row *done* that says so; return how many."""
        ...

    async def ended_after(self, number: int | None) -> tuple[int, list[Ended]]:
        """Return the newest number of the feed of who is out, and what came after *number*; None: nothing of it.

        Raises:
            Gone: ``revocations_gone``: some of what came after it was dropped.
        """
        ...

    async def events(self, number: int, limit: int) -> list[Numbered]:
        """Return up to *limit* events with a number over *number*, oldest first.

        Raises:
            Gone: ``events_gone``: some of these were dropped.
        """
        ...

    async def last_event(self) -> int:
        """Return the newest number that an event has, or had; 0 where there was none."""
        ...

    async def cursors(self) -> list[Cursor]:
        """Return how far those have come that follow the events by a name, by that."""
        ...

    async def move_cursor(self, name: str, number: int | None, at: float, actor: Actor) -> Cursor:
        """Note that the events up to *number* were told to who follows as *name*; return its cursor as it is then.

        It never goes back. None moves none that exists; a new one begins after the newest event.

        Raises:
            NotFound: ``no_such_event``: none has that number yet.
        """
        ...

    async def drop_cursor(self, name: str, at: float, actor: Actor) -> None:
        """Forget a cursor.

        Raises:
            NotFound: ``unknown_cursor``.
        """
        ...

    def on_events(self, wake: Callable[[], None]) -> None:
        """Call *wake* after each commit of this process that left events; in place of who was called before."""
        ...
