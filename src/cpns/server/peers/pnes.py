"""The PNEs: whatever the server says to one goes end to end, through the PN GW that its session runs through.

A PNE has its session at the process that its PN GW is connected to. What is for another's goes to that process, which
alone has the keys.
"""

from collections.abc import Sequence
from typing import TypeVar

from cpns.ids import EntityId
from cpns.ports import topics
from cpns.ports.cluster import Cluster
from cpns.server.peers.elsewhere import ELSEWHERE_SECONDS, heard, told
from cpns.server.peers.gateways import Gateways
from cpns.service.cluster import ask_about
from cpns.session.table import Session, Sessions
from cpns.transport.endpoint import Link
from cpns.transport.errors import Answer, read
from cpns.wire import codec
from cpns.wire.registry import CPNS_PATH

M = TypeVar("M")


class Pnes:
    """The PNEs of a server.

    Args:
        sessions: those of this process.
        gateways: the PN GWs that are connected here.
        cluster: the other processes.
    """

    def __init__(self, sessions: Sessions, gateways: Gateways, cluster: Cluster) -> None:
        self._sessions = sessions
        self._gateways = gateways
        self._cluster = cluster
        cluster.serve(topics.PNE, self._asked_for)
        cluster.serve(topics.CONNECTED, self._connected_here)

    def here(self, pne: EntityId) -> tuple[Link, Session] | None:
        """Return link and session of a PNE that can be reached from this process; else None."""
        return self._gateways.way(self._sessions.with_peer(pne))

    def is_connected_here(self, entity: EntityId) -> bool:
        """Whether a PNE, or a PN GW, can be reached from this process."""
        return entity in self._gateways or self.here(entity) is not None

    async def connected(self, entities: Sequence[EntityId]) -> set[EntityId]:
        """Return which of *entities*, PNEs and PN GWs, can be reached, from whichever process."""
        found = {entity for entity in entities if self.is_connected_here(entity)}
        for some in await ask_about(self._cluster, topics.CONNECTED, [one for one in entities if one not in found]):
            found.update(some.entities)
        return found

    async def request(self, pne: EntityId, path: str, payload: bytes, seconds: float) -> Answer:
        """Send ``POST /path`` to a PNE; return its answer, whatever it says.

        Raises:
            NoAnswer: ``no_session``: it has none at any process, as far as these can be asked
                (``other_processes_away``); ``Hinted``: its PN GW says that it can't reach it; or none came.
        """
        way = self.here(pne)
        if way is not None:
            link, session = way
            return await link.exchange(path, payload, timeout=seconds, session=session)
        asked = topics.PneExchange(pne, path, payload, seconds)
        answers = await self._cluster.ask(topics.PNE, asked, seconds + ELSEWHERE_SECONDS)
        return heard(answers, "no_session")

    async def ask(self, pne: EntityId, message: codec.Message, shape: type[M], seconds: float) -> M:
        """Ask a PNE; return its answer. Raises `Refused`: as it answers, or as `request`."""
        return read(await self.request(pne, CPNS_PATH, codec.encode(message), seconds), shape)

    # for other processes

    async def _asked_for(self, asked: topics.PneExchange) -> topics.Exchanged | None:
        if self.here(asked.pne) is None:
            return None
        return await told(self.request(asked.pne, asked.path, asked.payload, asked.seconds))

    async def _connected_here(self, asked: topics.Entities) -> topics.Entities:
        return topics.Entities(tuple(one for one in asked.entities if self.is_connected_here(one)))
