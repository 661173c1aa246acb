"""One credential in two devices, or two gateways: found out by asking both, docs/protocol.md, "One key in two places".

Nothing that a PN GW holds back or repeats counts, but an answer alone, which OSCORE binds to what was asked. That is
asked under the older session, after the newer one was used: one device alone has let go of the older one by then.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from cpns.domain import clones as rules
from cpns.errors import Refused
from cpns.ids import EntityId
from cpns.ports import Clock, topics
from cpns.ports.cluster import Cluster
from cpns.server.peers.gateways import ALIVE_SECONDS, Gateways
from cpns.server.peers.pnes import Pnes
from cpns.service.refusals import Refusals
from cpns.session.table import Session
from cpns.wire.application import PING_PATH

HURRY_SECONDS: Final = 60.0
"""A PNE whose session is replaced a second time within that is asked about."""
PAUSES: Final = (0.1, 0.4, 1.0, 2.0)
"""Seconds before the newer one is asked, and asked again: it may not know of its session yet."""
LONGEST_SECONDS: Final = 6.0
"""What all of that may take, as a PN GW waits for it to be told that a PNE has moved."""


class Clones:
    """What this process knows of it; it is told to the others, and begins anew with each.

    Args:
        refusals: where it is written down.
    """

    def __init__(self, refusals: Refusals, clock: Clock, cluster: Cluster) -> None:
        self._refusals = refusals
        self._clock = clock
        self._cluster = cluster
        self._seen: dict[EntityId, rules.Clones] = {}
        cluster.serve(topics.CLONED, self._seen_elsewhere)

    def of(self, entity: EntityId) -> tuple[int, float, tuple[str, ...]] | None:
        """Return how often two answered for *entity*, seconds since, and where; None where that is not certain."""
        found, now = self._seen.get(entity), self._clock.monotonic()
        if found is None or not rules.is_certain(found, now):
            return None
        return found.times, now - found.at, found.places

    def waits(self, entity: EntityId) -> bool:
        """Whether one that proves to be *entity* gets no session yet."""
        return entity in self._seen and rules.wait(self._seen[entity], self._clock.monotonic()) > 0

    def are_seen(self, entity: EntityId) -> bool:
        """Whether two answered for *entity* lately."""
        return entity in self._seen

    def seen(self, entity: EntityId, places: Sequence[str]) -> None:
        """Two answered for *entity* at once, at *places*."""
        self._take(entity, places)
        self._cluster.tell(topics.CLONED, topics.Cloned(entity, tuple(places)))
        found = self.of(entity)
        if found is not None:
            self._refusals.cloned(entity, found[2])

    def sweep(self) -> None:
        """Forget what is over."""
        now = self._clock.monotonic()
        for entity in [entity for entity, seen in self._seen.items() if rules.is_over(seen, now)]:
            del self._seen[entity]

    def _take(self, entity: EntityId, places: Sequence[str]) -> None:
        self._seen[entity] = rules.again(self._seen.get(entity), self._clock.monotonic(), tuple(places))

    async def _seen_elsewhere(self, said: topics.Cloned) -> None:
        self._take(said.entity, said.places)


class Replaced:
    """Looks after sessions of PNEs that were replaced by newer ones.

    Args:
        gateways: tell the way to the older one.
        pnes: tell the way to the newer one, at whichever process.
    """

    def __init__(self, clones: Clones, gateways: Gateways, pnes: Pnes, clock: Clock) -> None:
        self._clones = clones
        self._gateways = gateways
        self._pnes = pnes
        self._clock = clock
        self._replaced_at: dict[EntityId, float] = {}
        self._asking: set[EntityId] = set()

    async def ask(self, older: Session, newer_via: EntityId) -> None:
        """A PNE has set up anew, in place of *older*: find out whether another one answers there.

        Done where that happens often, and before the PN GW of the older one is told that it has moved: that is the way.
        """
        pne, way = older.peer_id, self._gateways.way(older)
        if not self._is_in_a_hurry(pne) or way is None or pne in self._asking:
            return
        self._asking.add(pne)
        try:
            async with asyncio.timeout(LONGEST_SECONDS):
                if await self._newer_answers(pne):
                    await way[0].exchange(PING_PATH, b"", timeout=ALIVE_SECONDS, session=older)
                    self._clones.seen(pne, (str(older.via), newer_via))
        except (Refused, TimeoutError):
            return
        finally:
            self._asking.discard(pne)

    def sweep(self) -> None:
        """Forget what is over."""
        now = self._clock.monotonic()
        for pne in [pne for pne, at in self._replaced_at.items() if now - at >= HURRY_SECONDS]:
            del self._replaced_at[pne]

    def _is_in_a_hurry(self, pne: EntityId) -> bool:
        now = self._clock.monotonic()
        before, self._replaced_at[pne] = self._replaced_at.get(pne), now
        return self._clones.are_seen(pne) or (before is not None and now - before < HURRY_SECONDS)

    async def _newer_answers(self, pne: EntityId) -> bool:
        for pause in PAUSES:
            await asyncio.sleep(pause)
            with contextlib.suppress(Refused):
                await self._pnes.request(pne, PING_PATH, b"", ALIVE_SECONDS)
                return True
        return False
