"""What an operator sees of a server's processes and sessions, whichever of them has these."""

from pathlib import Path
from typing import Any

from cpns.domain.process import Seen, Work, seen
from cpns.ids import EntityId
from cpns.ports import Clock
from cpns.server.gateways import Gateways
from cpns.server.pnes import Pnes
from cpns.service.processes import Processes
from cpns.service.siblings import VIEW_SECONDS
from cpns.service.system import room_at
from cpns.session.table import Sessions
from cpns.shares.exceeded import Exceeded


class Overview:
    """The processes of a server, and their sessions.

    Args:
        sessions: those of this process.
        gateways: the PN GWs that are connected here.
        pnes: tells which of the sessions can be used.
        exceeded: who went over a share here.
        siblings: the other processes.
        data: the folder of this process.
    """

    def __init__(
        self,
        sessions: Sessions,
        gateways: Gateways,
        pnes: Pnes,
        exceeded: Exceeded,
        clock: Clock,
        siblings: Processes,
        data: Path,
    ) -> None:
        self._gateways = gateways
        self._data = data
        self._exceeded = exceeded
        self._sessions = sessions
        self._pnes = pnes
        self._clock = clock
        self._siblings = siblings
        siblings.serve("session", self._session_elsewhere)
        siblings.serve("work", self._work_elsewhere)
        siblings.serve("excess", self._excess_elsewhere)

    async def session(self, entity: EntityId) -> tuple[float, bool] | None:
        """Return age in seconds and whether it is confirmed, of the session with *entity*; None where there is none."""
        if not self._pnes.is_connected_here(entity):
            elsewhere = (await self._siblings.ask("session", entity, VIEW_SECONDS)).first()
            if elsewhere is not None:
                return elsewhere[0], elsewhere[1]
        session = self._sessions.with_peer(entity)
        return None if session is None else (self._clock.monotonic() - session.since, session.confirmed)

    async def processes(self) -> list[Seen]:
        """Return the processes of the server, this one first."""
        answers = await self._siblings.ask("work", None, VIEW_SECONDS)
        told = {
            name: Work(sessions, tuple(gateways), (room[0], room[1]))
            for name, sessions, gateways, room in answers.values
        }
        now, own, others = await self._siblings.all()
        mine = seen(own, now, self._work(), here=True)
        return [mine, *(seen(one, now, told.get(one.process_id)) for one in others)]

    def bus(self) -> tuple[str, bool] | None:
        """Return where the bus is, and whether it is there; None where this process was started without one."""
        url = self._siblings.url
        return None if url is None else (url, self._siblings.connected)

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

    def _work(self) -> Work:
        return Work(len(self._sessions), self._gateways.connected, room_at(self._data))

    # for other processes

    async def _excess_elsewhere(self, entity: Any) -> tuple[str, int, float] | None:  # noqa: ANN401  # any CBOR
        return self._excess(entity)

    async def _session_elsewhere(self, entity: Any) -> tuple[float, bool] | None:  # noqa: ANN401  # any CBOR
        return await self.session(entity) if self._pnes.is_connected_here(entity) else None

    async def _work_elsewhere(self, _: Any) -> list[object]:  # noqa: ANN401
        work = self._work()
        return [self._siblings.name, work.sessions, work.gateways, work.room]
