"""How each PNE can be reached now, at whichever process it is connected (FN-4)."""

from collections.abc import Sequence

from cpns.domain.presence import Fact
from cpns.ids import EntityId
from cpns.ports import topics
from cpns.ports.cluster import Cluster
from cpns.server.peers.pnes import Pnes
from cpns.server.peers.presence import Presences
from cpns.service.cluster import ask_about
from cpns.wire.registry import Presence, Source


class Reach:
    """What is known of it.

    Args:
        pnes: tell who can be reached from this process.
        presences: what this process has learned.
        cluster: the other processes.
    """

    def __init__(self, pnes: Pnes, presences: Presences, cluster: Cluster) -> None:
        self._pnes = pnes
        self._presences = presences
        self._cluster = cluster
        cluster.serve(topics.PRESENCES, self._asked_where)

    def here(self, pne: EntityId) -> Fact:
        """Return how *pne* can be reached from this process, since when that is known, and from whom."""
        return self._presences.of(pne, stands=self._pnes.here(pne) is not None)

    def is_there(self, pne: EntityId) -> bool:
        """Whether *pne* is there by all that this process knows, and so takes what is sent to it."""
        return self._pnes.here(pne) is not None and self.here(pne).presence in (Presence.CONNECTED, Presence.IDLE)

    async def facts(self, pnes: Sequence[EntityId]) -> dict[EntityId, Fact]:
        """Return how each of *pnes* can be reached now, since when that is known, and from whom."""
        found = {pne: self.here(pne) for pne in pnes}
        missing = [pne for pne in pnes if self._pnes.here(pne) is None]
        for some in await ask_about(self._cluster, topics.PRESENCES, missing):
            for one in some.presences:
                found[one.pne] = Fact(Presence(one.presence), one.at, Source(one.source))
        return found

    async def _asked_where(self, pnes: topics.Entities) -> topics.PresencesSeen:
        facts = {pne: self.here(pne) for pne in pnes.entities if self._pnes.here(pne) is not None}
        return topics.PresencesSeen(
            tuple(
                topics.PresenceSeen(pne, int(fact.presence), fact.at, int(fact.source)) for pne, fact in facts.items()
            )
        )
