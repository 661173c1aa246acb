"""What an operator sees of a server's sessions, whichever of its processes has them."""

from typing import Any

from cpns.ids import EntityId
from cpns.ports import Clock
from cpns.ports.siblings import Siblings
from cpns.server.pnes import Pnes
from cpns.service.siblings import VIEW_SECONDS
from cpns.session.table import Sessions
from cpns.shares.exceeded import Exceeded


class Overview:
    """The sessions of a server.

    Args:
        sessions: those of this process.
        pnes: tells which of them can be used.
        exceeded: who went over a share here.
        siblings: the other processes.
    """

    def __init__(self, sessions: Sessions, pnes: Pnes, exceeded: Exceeded, clock: Clock, siblings: Siblings) -> None:
        self._exceeded = exceeded
        self._sessions = sessions
        self._pnes = pnes
        self._clock = clock
        self._siblings = siblings
        siblings.serve("session", self._session_elsewhere)
        siblings.serve("sessions", self._count_elsewhere)
        siblings.serve("excess", self._excess_elsewhere)

    async def session(self, entity: EntityId) -> tuple[float, bool] | None:
        """Return age in seconds and whether it is confirmed, of the session with *entity*; None where there is none."""
        if not self._pnes.is_connected_here(entity):
            elsewhere = (await self._siblings.ask("session", entity, VIEW_SECONDS)).first()
            if elsewhere is not None:
                return elsewhere[0], elsewhere[1]
        session = self._sessions.with_peer(entity)
        return None if session is None else (self._clock.monotonic() - session.since, session.confirmed)

    async def sessions(self) -> int:
        """Return how many there are."""
        elsewhere: int = sum((await self._siblings.ask("sessions", None, VIEW_SECONDS)).values)
        return len(self._sessions) + elsewhere

    async def excess(self, entity: EntityId) -> tuple[str, int, float] | None:
        """Return over which share *entity* went last, how often in a row, and seconds since; None where over none."""
        here = self._excess(entity)
        if here is not None or self._pnes.is_connected_here(entity):
            return here
        found: tuple[str, int, float] | None = (await self._siblings.ask("excess", entity, VIEW_SECONDS)).first()
        return found

    def _excess(self, entity: EntityId) -> tuple[str, int, float] | None:
        found = self._exceeded.of(entity)
        return None if found is None else (found.what, found.times, self._clock.monotonic() - found.at)

    # for other processes

    async def _excess_elsewhere(self, entity: Any) -> tuple[str, int, float] | None:  # noqa: ANN401  # any CBOR
        return self._excess(entity)

    async def _session_elsewhere(self, entity: Any) -> tuple[float, bool] | None:  # noqa: ANN401  # any CBOR
        return await self.session(entity) if self._pnes.is_connected_here(entity) else None

    async def _count_elsewhere(self, _: Any) -> int:  # noqa: ANN401
        return len(self._sessions)
