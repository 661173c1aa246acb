"""What an operator sees of a server, whichever of its processes knows it."""

from collections.abc import Sequence
from typing import Any

from cpns.ids import EntityId
from cpns.ports import VIEW_SECONDS, Clock, Siblings
from cpns.server.gateways import Gateways
from cpns.service.siblings import ask_about
from cpns.session.table import Sessions


class Overview:
    """Who is connected, and how many.

    Args:
        sessions: those of this process.
        gateways: the PN GWs that are connected here.
        siblings: the other processes.
    """

    def __init__(self, sessions: Sessions, gateways: Gateways, clock: Clock, siblings: Siblings) -> None:
        self._sessions = sessions
        self._gateways = gateways
        self._clock = clock
        self._siblings = siblings
        siblings.serve("connected", self._connected_elsewhere)
        siblings.serve("session", self._session_elsewhere)
        siblings.serve("sessions", self._count_elsewhere)

    def is_here(self, entity: EntityId) -> bool:
        """Whether *entity* has a session with this process, and (a PNE) its PN GW is connected."""
        session = self._sessions.with_peer(entity)
        return entity in self._gateways or (session is not None and session.via in self._gateways)

    async def connected(self, entities: Sequence[EntityId]) -> set[EntityId]:
        """Return those of *entities* that have a session with the server."""
        found = {entity for entity in entities if self.is_here(entity)}
        missing = [entity for entity in entities if entity not in found]
        for some in await ask_about(self._siblings, "connected", missing):
            found.update(some)
        return found

    async def session(self, entity: EntityId) -> tuple[float, bool] | None:
        """Return age in seconds and whether it is confirmed, of the session with *entity*; None where there is none."""
        if not self.is_here(entity):
            elsewhere = (await self._siblings.ask("session", entity, VIEW_SECONDS)).first()
            if elsewhere is not None:
                return elsewhere[0], elsewhere[1]
        session = self._sessions.with_peer(entity)
        return None if session is None else (self._clock.monotonic() - session.since, session.confirmed)

    async def sessions(self) -> int:
        """Return how many there are."""
        elsewhere: int = sum((await self._siblings.ask("sessions", None, VIEW_SECONDS)).values)
        return len(self._sessions) + elsewhere

    # for other processes

    async def _connected_elsewhere(self, entities: Any) -> list[EntityId]:  # noqa: ANN401  # any CBOR
        return [entity for entity in entities if self.is_here(entity)]

    async def _session_elsewhere(self, entity: Any) -> list[object] | None:  # noqa: ANN401
        session = self._sessions.with_peer(entity) if self.is_here(entity) else None
        return None if session is None else [self._clock.monotonic() - session.since, session.confirmed]

    async def _count_elsewhere(self, _: Any) -> int:  # noqa: ANN401
        return len(self._sessions)
