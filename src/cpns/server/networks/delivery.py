"""Who is told of a change to a personal network, and what it means for sessions: at this process, and at the others."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Final

from cpns.domain.event import PnChanged
from cpns.domain.network import Admitted, Edited, Network
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId, PnId
from cpns.ports import topics
from cpns.ports.cluster import Answers
from cpns.server.feature import Here
from cpns.server.peers.gateways import NOTIFY_TIMEOUT
from cpns.service.background import Background
from cpns.service.cluster import warn
from cpns.service.places import places
from cpns.service.sessions import begun_at
from cpns.session.table import Session
from cpns.transport.endpoint import Link
from cpns.wire import pn_messages as pm
from cpns.wire.registry import MAX_MEMBERS, Change

INVITE_TIMEOUT: Final = 20.0
"""Seconds that a PN GW has to ask invited PNEs and to bring those that accept."""
SWITCH_TIMEOUT: Final = 5.0
MAX_ASKED: Final = (256, 32)
"""INVITE Requests that PN GWs are asked at once in all, and of one PN GW."""
MOVED_SECONDS: Final = 7.0
"""What other processes have to look after a session that was replaced, and to tell their PN GWs."""


class NetworkDelivery:
    """Tells of the changes; `cpns.server.networks.actions.Delivery`."""

    def __init__(self, here: Here) -> None:
        self._sessions = here.sessions
        self._gateways = here.gateways
        self._presences = here.presences
        self._clock = here.clock
        self._cluster = here.cluster
        self._replaced = here.replaced.ask
        self._cluster.serve(topics.MEMBERS_OUT, self._out_elsewhere)
        self._cluster.serve(topics.PNES_MOVED, self._moved_elsewhere)
        self._telling = Background()
        self._asking = places(MAX_ASKED[0], here.clock.monotonic, MAX_ASKED[1], "invitations_at_once")

    async def close(self) -> None:
        """Stop telling."""
        await self._telling.close()

    # those that have to agree

    async def invited(self, network: Network, whom: tuple[EntityId, ...]) -> dict[EntityId, Result]:
        """See `Delivery`."""
        try:
            async with self._asking(network.gateway_id) as run:
                request = pm.InviteRequest(network.pn_id, whom)
                asked = await self._gateways.ask(network.gateway_id, request, pm.InviteResponse, INVITE_TIMEOUT)
                run.proved = True
        except NoAnswer:
            return dict.fromkeys(whom, Result.OUT_OF_REACH)
        told = {entry.entity_id: Result.told(entry.result, Result.OUT_OF_REACH) for entry in asked.entries or ()}
        return {pne: told.get(pne, Result.OUT_OF_REACH) for pne in whom}

    async def agreed(self, gateway: EntityId, pn_id: PnId, to: EntityId) -> tuple[str, ...]:
        """See `Delivery`."""
        request = pm.PnGwSwitchingRequest(pn_id, to)
        answer = await self._gateways.ask(gateway, request, pm.PnGwSwitchingResponse, SWITCH_TIMEOUT)
        if answer.result != Result.SUCCESS:
            raise Refused(Result.told(answer.result, Result.NOT_ALLOWED), "gateway_does_not_agree")
        return answer.addresses or ()

    # what has changed

    async def updated(self, network: Network) -> None:
        """See `Delivery`."""
        await self._tell(network, network.gateway_id, Change.SETTLED, ())

    def updated_soon(self, network: Network) -> None:
        """As `updated`, and return at once."""
        self._telling.start(self.updated(network))

    async def switched(self, edited: Edited, addresses: tuple[str, ...]) -> None:
        """See `Delivery`."""
        pn_id, version = edited.after.pn_id, edited.after.version
        frm, to = edited.before.gateway_id, edited.after.gateway_id
        self._gateways.serves(to, pn_id, version, now=True)
        self._gateways.serves(frm, pn_id, version, now=False)
        notice = pm.PnChangeNotify(pn_id, (), version, Change.GATEWAY, to, addresses or None)
        await self._gateways.tell(to, notice)  # first, so that it serves whoever comes
        await self._gateways.tell(frm, notice)

    async def released(self, edited: Edited) -> None:
        """See `Delivery`."""
        self._gateways.serves(edited.before.gateway_id, edited.before.pn_id, edited.after.version, now=False)
        await self.ended(edited, edited.members, Change.RELEASED, tell_them=False)

    async def ended(
        self, edited: Edited, gone: Sequence[EntityId], change: Change, *, tell_them: bool, confirm: bool = False
    ) -> None:
        """End the sessions of PNEs that are members no longer, and tell whom it concerns.

        Args:
            edited: the change.
            gone: who is a member no longer.
            change: what became of them.
            tell_them: whether they are told too.
            confirm: whether who asked is warned of processes that have not confirmed it.
        """
        sessions = [one for pne in gone if (one := self._sessions.with_peer(pne)) is not None]
        links = [self._gateways.link(session.via) for session in sessions]
        for session in sessions:
            self._sessions.remove(session)
            self._presences.lost(session.peer_id)
        own = [
            _tell_out(edited.after.pn_id, edited.after.version, change, session, link)
            for session, link in zip(sessions, links, strict=True)
            if tell_them and link is not None
        ]
        vias = {session.peer_id: session.via for session in sessions}
        out = [pne for pne in gone if pne not in vias]
        answers: Answers[topics.Vias] | None = None
        if out:
            about = topics.Out(edited.after.pn_id, edited.after.version, int(change)) if tell_them else None
            answers = await self._cluster.ask(topics.MEMBERS_OUT, topics.MembersOut(tuple(out), about))
            for some in answers.values:
                vias.update({} if some is None else some.vias)
        concerned: dict[EntityId, list[EntityId]] = {edited.before.gateway_id: list(gone)}
        for pne, via in vias.items():  # one that is just going over to another PN GW is still behind the older
            if via is not None and via != edited.before.gateway_id:
                concerned.setdefault(via, []).append(pne)
        tell = [self._tell(edited.after, gateway, change, about) for gateway, about in concerned.items()]
        await asyncio.gather(*own, *tell)
        if confirm and answers is not None:
            for process in await self._cluster.all_have(answers):
                warn(f"{process} has not confirmed that they are out: it does so before it takes anything more.")

    async def _tell(self, network: Network, gateway: EntityId, change: Change, about: Sequence[EntityId]) -> None:
        for notice in _notices(network, change, about):
            await self._gateways.tell(gateway, notice)

    # what a SETUP, or a revocation, means for others

    def admitted(self, found: Admitted, replaced: Mapping[EntityId, Session]) -> None:
        """Tell the PN GWs that PNEs were behind until now; the one that they came through has its SETUP Response.

        *replaced* are the sessions that PNEs of that SETUP had.
        """
        if found.network is None:
            return
        to = found.network
        here = [pne for pne, admission in found.admissions.items() if admission.result is Result.SUCCESS]
        if not here:
            return
        self._gateways.knows(to.gateway_id, to.pn_id, to.version)
        moved = topics.PnesMoved(tuple(here), to.gateway_id, to.pn_id, to.version, self._clock.now())
        others = self._telling.start(self._cluster.ask(topics.PNES_MOVED, moved, MOVED_SECONDS))
        older = {pne: replaced[pne] for pne in here if pne in replaced}
        for network, gone in found.left:
            behind = [older.pop(pne) for pne in gone if pne in older and older[pne].via == network.gateway_id]
            asked = others if network.gateway_id not in self._gateways else self._look_after(behind, to.gateway_id)
            self._telling.start(self._moved(network.gateway_id, _notices(network, Change.MOVED, gone), asked))
        back = [session for session in older.values() if session.via == to.gateway_id]
        if back:
            self._look_after(back, to.gateway_id)
        for pne, session in older.items():
            if session.via is not None and session.via != to.gateway_id:
                asked = self._look_after([session], to.gateway_id)
                self._telling.start(self._moved(session.via, _notices(to, Change.MOVED, (pne,)), asked))

    async def _moved(self, gateway: EntityId, notices: Iterable[pm.PnChangeNotify], asked: Awaitable[object]) -> None:
        """Tell a PN GW who is behind another one, after these were *asked*: until then it is the way to them."""
        await asked
        for notice in notices:
            await self._gateways.tell(gateway, notice)

    def _look_after(self, older: Sequence[Session], newer_via: EntityId) -> "asyncio.Task[object]":
        async def all_of_them() -> None:
            await asyncio.gather(*(self._replaced(session, newer_via) for session in older))

        return self._telling.start(all_of_them())

    async def left(self, networks: Iterable[Network], pne: EntityId, via: EntityId | None, change: Change) -> None:
        """Tell of a PNE that is out: the PN GWs of its PNs, and the one that it had its session through."""
        tell = [
            self._tell(network, gateway, change, (pne,))
            for network in networks
            for gateway in {network.gateway_id, via or network.gateway_id}
        ]
        await asyncio.gather(*tell)

    # for other processes

    async def changed_anywhere(self, changed: PnChanged) -> None:
        """See that what is here knows of a change that any process made; most has been told of it."""
        pn_id, version, via = changed.pn_id, changed.version, changed.frm or changed.gateway
        for pne in changed.gone:
            session = self._sessions.with_peer(pne)
            if session is not None and session.via == via and begun_at(session, self._clock) < changed.at:
                self._sessions.remove(session)
                self._presences.lost(pne)
        kind = Change.RELEASED if changed.released else Change.SETTLED if changed.frm is None else Change.GATEWAY
        notice = pm.PnChangeNotify(pn_id, (), version, kind, None if changed.frm is None else changed.gateway)
        for gateway in (changed.gateway, changed.frm):
            if gateway is None or gateway not in self._gateways:
                continue
            if kind is not Change.SETTLED:
                serves = not changed.released and gateway == changed.gateway
                self._gateways.serves(gateway, pn_id, version, now=serves)
            if self._gateways.is_behind(gateway, pn_id, version):
                await self._gateways.tell(gateway, notice)

    async def _out_elsewhere(self, out: topics.MembersOut) -> topics.Vias:
        """End the sessions of members that are out, and tell them; return the PN GWs that they were behind."""
        vias: dict[EntityId, EntityId | None] = {}
        for pne in out.pnes:
            session = self._sessions.with_peer(pne)
            if session is None:
                continue
            vias[pne] = session.via
            link = self._gateways.link(session.via)
            self._sessions.remove(session)
            self._presences.lost(pne)
            if out.told is not None and link is not None:
                said = out.told
                await _tell_out(said.pn_id, said.version, Change(said.change), session, link)
        return topics.Vias(vias)

    async def _moved_elsewhere(self, newer: topics.PnesMoved) -> None:
        """PNEs have a session at another process: an older one here is over, and its PN GW is told."""
        gateway, moved = newer.gateway, []
        for pne in newer.pnes:
            session = self._sessions.with_peer(pne)
            if session is None or begun_at(session, self._clock) > newer.at:
                continue  # it came here after that
            self._sessions.remove(session)
            if session.via is not None and session.via != gateway and session.via in self._gateways:
                notice = pm.PnChangeNotify(newer.pn_id, (pne,), newer.version, Change.MOVED)
                moved.append(self._moved(session.via, [notice], self._replaced(session, gateway)))
        await asyncio.gather(*moved)


def _notices(network: Network, change: Change, about: Sequence[EntityId]) -> Iterable[pm.PnChangeNotify]:
    """Return what says of *about* what became of them: one where it is about nobody, else as many as it takes."""
    for start in range(0, len(about) or 1, MAX_MEMBERS):
        part = tuple(about[start : start + MAX_MEMBERS])
        yield pm.PnChangeNotify(network.pn_id, part, network.version, change)


async def _tell_out(pn_id: PnId, version: int, change: Change, session: Session, link: Link) -> None:
    """Tell a PNE end to end, under the session that has just ended, that it is out."""
    notice = pm.PnChangeNotify(pn_id, (session.peer_id,), version, change)
    with contextlib.suppress(Refused):
        await link.tell(notice, timeout=NOTIFY_TIMEOUT, session=session)
