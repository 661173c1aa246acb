"""What an operator sees of a server's processes and sessions, whichever of them has these."""

from pathlib import Path

from cpns.domain.process import Seen, Work, seen
from cpns.ids import EntityId
from cpns.ports import Clock, topics
from cpns.server.peers.gateways import Gateways
from cpns.server.peers.pnes import Pnes
from cpns.service.cluster import VIEW_SECONDS
from cpns.service.processes import Processes
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
        cluster: the other processes.
        data: the folder of this process.
    """

    def __init__(
        self,
        sessions: Sessions,
        gateways: Gateways,
        pnes: Pnes,
        exceeded: Exceeded,
        clock: Clock,
        cluster: Processes,
        data: Path,
    ) -> None:
        self._gateways = gateways
        self._data = data
        self._exceeded = exceeded
        self._sessions = sessions
        self._pnes = pnes
        self._clock = clock
        self._cluster = cluster
        cluster.serve(topics.SESSION, self._session_elsewhere)
        cluster.serve(topics.WORK, self._work_elsewhere)
        cluster.serve(topics.EXCESS, self._excess_elsewhere)

    async def session(self, entity: EntityId) -> tuple[float, bool] | None:
        """Return age in seconds and whether it is confirmed, of the session with *entity*; None where there is none."""
        if not self._pnes.is_connected_here(entity):
            elsewhere = (await self._cluster.ask(topics.SESSION, topics.About(entity), VIEW_SECONDS)).first()
            if elsewhere is not None:
                return elsewhere.age, elsewhere.confirmed
        session = self._sessions.with_peer(entity)
        return None if session is None else (self._clock.monotonic() - session.since, session.confirmed)

    async def processes(self) -> list[Seen]:
        """Return the processes of the server, this one first."""
        answers = await self._cluster.ask(topics.WORK, topics.Nothing(), VIEW_SECONDS)
        told = {one.process: Work(one.sessions, one.gateways, one.room) for one in answers.values if one is not None}
        now, own, others = await self._cluster.all()
        mine = seen(own, now, self._work(), here=True)
        return [mine, *(seen(one, now, told.get(one.process_id)) for one in others)]

    def bus(self) -> tuple[str, bool] | None:
        """Return where the bus is, and whether it is there; None where this process was started without one."""
        url = self._cluster.url
        return None if url is None else (url, self._cluster.connected)

    async def excess(self, entity: EntityId) -> tuple[str, int, float] | None:
        """Return over which share *entity* went last, how often in a row, and seconds since; None where over none."""
        here = self._excess(entity)
        if here is not None or self._pnes.is_connected_here(entity):
            return here
        found = (await self._cluster.ask(topics.EXCESS, topics.About(entity), VIEW_SECONDS)).first()
        return None if found is None else (found.what, found.times, found.seconds)

    def _excess(self, entity: EntityId) -> tuple[str, int, float] | None:
        found = self._exceeded.of(entity)
        return None if found is None else (found.what, found.times, self._clock.monotonic() - found.at)

    def _work(self) -> Work:
        return Work(len(self._sessions), self._gateways.connected, room_at(self._data))

    # for other processes

    async def _excess_elsewhere(self, about: topics.About) -> topics.ExcessSeen | None:
        found = self._excess(about.entity)
        return None if found is None else topics.ExcessSeen(*found)

    async def _session_elsewhere(self, about: topics.About) -> topics.SessionSeen | None:
        found = await self.session(about.entity) if self._pnes.is_connected_here(about.entity) else None
        return None if found is None else topics.SessionSeen(*found)

    async def _work_elsewhere(self, _: topics.Nothing) -> topics.WorkSeen:
        work = self._work()
        return topics.WorkSeen(self._cluster.name, work.sessions, work.gateways, work.room)
