"""What this process has learned of where its members are (FN-4); in memory, as it is old news after a restart."""

from cpns.domain.presence import Fact, current
from cpns.ids import EntityId
from cpns.ports import Clock
from cpns.wire.registry import Presence, Source


class Presences:
    """The newest fact about each PNE."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._started_at = clock.now()
        self._facts: dict[EntityId, Fact] = {}

    def heard(self, pne: EntityId) -> None:
        """A message of *pne* has opened under its own session."""
        self._learn(pne, Presence.CONNECTED, Source.PNE)

    def said(self, pne: EntityId, presence: Presence) -> None:
        """*pne* said so itself, end to end."""
        self._learn(pne, presence, Source.PNE)

    def reported(self, pne: EntityId, presence: Presence) -> None:
        """Its PN GW says so; that it is heard there is no news of one that said something end to end itself."""
        fact = self._facts.get(pne)
        fresh = fact is not None and fact.presence is Presence.CONNECTED
        if not (fresh and presence in (Presence.CONNECTED, Presence.IDLE)):
            self._learn(pne, presence, Source.GATEWAY)

    def lost(self, pne: EntityId) -> None:
        """Its session has ended, or its PN GW is gone."""
        self._learn(pne, Presence.AWAY, Source.SERVER)

    def of(self, pne: EntityId, *, stands: bool) -> Fact:
        """Return what is to be said of *pne* now; see `current`."""
        return current(self._facts.get(pne), self._clock.now(), stands=stands, started_at=self._started_at)

    def _learn(self, pne: EntityId, presence: Presence, source: Source) -> None:
        self._facts[pne] = Fact(presence, self._clock.now(), source)
