"""The end of a revoked entity's sessions, at every process of the server.

A process that does not hear of it over NATS finds it in the store, where it looks every second, and says there that it
has. So a revocation waits until each process has confirmed it, one way or the other; who does neither is named.

Where a process has come in the feed is in its memory: what it ends are sessions, and none outlives it. One that has
fallen behind what is kept of the feed, as a machine that slept for a week, begins anew with no session.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from cpns.domain.inventory import End, Kind, State
from cpns.domain.network import Network
from cpns.errors import Gone, StoreFails, UserError
from cpns.ids import EntityId
from cpns.ports import Clock, Store, topics
from cpns.ports.cluster import A, Answers, Q
from cpns.server.peers.gateways import Gateways
from cpns.server.peers.presence import Presences
from cpns.service.cluster import collecting_warnings, warn
from cpns.service.processes import Processes
from cpns.service.sessions import begun_at
from cpns.session.table import Sessions
from cpns.shares.noted import by
from cpns.wire.registry import Change

_log = logging.getLogger("cpns.server")

LOOK_SECONDS: Final = 1.0

Left = Callable[[Sequence[Network], EntityId, EntityId | None, Change], Awaitable[None]]
"""Is told of an entity that is out of these PNs, and of the PN GW that its session was through."""


class Revocations:
    """The revocations of a server, as this process sees them.

    Args:
        sessions: those of this process.
        cluster: the other processes.
        left: returns when the PN GWs of the PNs know.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        gateways: Gateways,
        presences: Presences,
        clock: Clock,
        cluster: Processes,
        left: Left,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._gateways = gateways
        self._presences = presences
        self._clock = clock
        self._cluster = cluster
        self._left = left
        self._barred: set[EntityId] = set()
        self._number: int | None = None
        cluster.serve(topics.BAR, self._bar_elsewhere)
        cluster.serve(topics.END, self._end_elsewhere)
        cluster.serve(topics.BOUND, self._bound_elsewhere)

    def is_barred(self, entity: EntityId) -> bool:
        """Whether no session of *entity* begins here any more, not even of a run that is under way."""
        return entity in self._barred

    async def bar(self, entity: EntityId) -> None:
        """From now on no session of *entity* begins, not even of a run that is under way."""
        self._barred.add(entity)
        await self._tell_all(topics.BAR, topics.About(entity))

    async def end(self, entity: EntityId, left: Sequence[Network]) -> int:
        """End every session of a revoked entity, and of those behind a revoked PN GW; return how many.

        The PN GW of a revoked PNE has forgotten its hop key when this returns, if it is connected and answers; one
        that does not asks for the PN Inventory before it serves again.
        """
        here = self._end_here(entity)
        answers = await self._tell_all(topics.END, topics.About(entity))
        return await self._out(entity, here, answers, left, Change.EXPELLED)

    async def bound(self, pne: EntityId, via: EntityId, left: Sequence[Network]) -> int:
        """End the session of a PNE that is admitted through *via* alone now, where it has one through another PN GW.

        Returns:
            How many that were. Of the PNs that it *left* the PN GWs have forgotten it when this returns, as in `end`.
        """
        here = self._bound_here(pne, via)
        answers = await self._tell_all(topics.BOUND, topics.BoundTo(pne, via))
        return await self._out(pne, here, answers, left, Change.MOVED)

    async def _out(
        self,
        entity: EntityId,
        here: tuple[int, EntityId | None],
        answers: Answers[topics.SessionsEnded],
        left: Sequence[Network],
        change: Change,
    ) -> int:
        """Tell that *entity* is out, here and where the others answered; return how many sessions ended."""
        count, via = here
        for theirs in answers.values:
            if theirs is not None:
                count, via = count + theirs.count, via or theirs.via
        await self._left(left, entity, via, change)
        await self._all_have_heard(answers, entity)
        return count

    async def _tell_all(self, topic: topics.Topic[Q, A], question: Q) -> Answers[A]:
        with collecting_warnings() as unasked:
            answers = await self._cluster.ask(topic, question)
            unasked.clear()  # they find it in the store
        return answers

    async def _all_have_heard(self, answers: Answers[A], entity: EntityId) -> None:
        for one in await self._cluster.all_have(answers):
            said = f"{one} has not confirmed that {entity} is out: it does so before it takes anything more"
            _log.warning("%s", said, extra=by("processes", about=one))
            warn(f"{said}.")

    def _bound_here(self, pne: EntityId, via: EntityId, before: float | None = None) -> tuple[int, EntityId | None]:
        """As `_end_here`, of the session of a PNE through another PN GW than *via* alone."""
        session = self._sessions.with_peer(pne)
        if session is None or session.via == via or (before is not None and begun_at(session, self._clock) >= before):
            return 0, None
        self._sessions.remove(session)
        self._presences.lost(pne)
        return 1, session.via

    def _end_here(self, entity: EntityId, before: float | None = None) -> tuple[int, EntityId | None]:
        """End all that *entity* has here, or what began *before* then, seconds since the epoch.

        Returns:
            How many sessions that were, and through which PN GW its own was.
        """
        ended = [
            session
            for session in self._sessions
            if entity in (session.peer_id, session.via) and (before is None or begun_at(session, self._clock) < before)
        ]
        for session in ended:
            self._sessions.remove(session)
            self._presences.lost(session.peer_id)
        if before is None:
            self._gateways.close(entity)
        return len(ended), next((session.via for session in ended if session.peer_id == entity), None)

    async def watch(self) -> None:
        """Look into the store for what other processes have revoked, or put out of a network, until cancelled."""
        while True:
            try:
                await self.look()
            except StoreFails:
                pass
            except UserError as error:
                _log.warning("will look again for revocations: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Heed what the others did since the last look; at the first one there is nothing to heed yet."""
        try:
            number, rows = await self._store.ended_after(self._number)
        except Gone as error:
            _log.warning("all sessions here end, and begin anew: %s", error, extra=by("revocations"))
            number, rows = await self._store.ended_after(None)
            await self.begin_anew()
        self._number = number
        for row in rows:
            if row.what is End.REVOKED:
                self._barred.add(row.entity_id)
                self._end_here(row.entity_id)
            elif row.via is not None:
                self._bound_here(row.entity_id, row.via, row.at)
            else:
                self._end_here(row.entity_id, row.at)
        await self._cluster.heeded(number, anew=bool(rows))

    async def begin_anew(self) -> None:
        """End all that is here, as after a start: we missed what the others did. Whoever is let in comes back."""
        for kind in Kind:
            for one in await self._store.entities(kind):
                if one.state is State.REVOKED:
                    self._barred.add(one.entity_id)
        for session in self._sessions:
            self._sessions.remove(session)
            self._presences.lost(session.peer_id)
        for gateway in self._gateways.connected:
            self._gateways.close(gateway)

    # for other processes

    async def _bar_elsewhere(self, about: topics.About) -> None:
        self._barred.add(about.entity)

    async def _end_elsewhere(self, about: topics.About) -> topics.SessionsEnded:
        self._barred.add(about.entity)
        return topics.SessionsEnded(*self._end_here(about.entity))

    async def _bound_elsewhere(self, bound: topics.BoundTo) -> topics.SessionsEnded:
        return topics.SessionsEnded(*self._bound_here(bound.pne, bound.via))
