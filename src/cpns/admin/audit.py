"""What an operator can do with the audit log, whether the server runs or not."""

from typing import Final

from cpns.domain.actor import Actor
from cpns.domain.inventory import Outcome, Recorded
from cpns.errors import Result
from cpns.ids import EntityId
from cpns.ports import Clock
from cpns.ports.events import EventStore

PRUNED_AT_ONCE: Final = 2000
"""Rows of one transaction: others have their turn between two."""


class AuditAdmin:
    """The operator's actions on the audit log of one server."""

    def __init__(self, server_id: EntityId, store: EventStore, clock: Clock) -> None:
        self._server_id = server_id
        self._store = store
        self._clock = clock

    async def page(self, after: int, limit: int, about: str | None) -> list[Recorded]:
        """Return up to *limit* rows with a number over *after*, oldest first; with *about*, of that ID alone."""
        return await self._store.audit_after(after, limit, None if about is None else EntityId(about))

    async def prune(self, actor: Actor, older: float, *, dry_run: bool) -> tuple[float, int]:
        """Drop the rows that are older than so many seconds; return the time from which on they stay, and how many go.

        That it was done is a row too.
        """
        now = self._clock.now()
        before = now - older
        if dry_run:
            return before, await self._store.audit_before(before)
        done = Outcome(now, "audit_pruned", self._server_id, actor, Result.SUCCESS)
        dropped = 0
        while count := await self._store.prune_audit(before, PRUNED_AT_ONCE, done):
            dropped += count
        return before, dropped
