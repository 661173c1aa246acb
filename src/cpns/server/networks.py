"""Personal networks at the server: who asks for a change, what it means for sessions, and who is told of it."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from cpns.domain import membership
from cpns.domain.actor import Actor
from cpns.domain.event import PnChanged
from cpns.domain.member_list import Policy
from cpns.domain.membership import Rule
from cpns.domain.network import Admitted, Edited, Listed, Network, Present
from cpns.domain.presence import Fact
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId, PnId
from cpns.ports import Clock, Store, topics
from cpns.ports.siblings import Answers, Siblings
from cpns.server.gateways import NOTIFY_TIMEOUT, Gateways
from cpns.service.background import Background
from cpns.service.places import places
from cpns.service.presence import Presences
from cpns.service.sessions import begun_at
from cpns.service.siblings import Alone, ask_about, warn
from cpns.session.table import Session, Sessions
from cpns.shares.noted import by
from cpns.transport.endpoint import Link
from cpns.wire import codec
from cpns.wire import pn_messages as pm
from cpns.wire.registry import MAX_MEMBERS, NO_COPY, Change, Presence, Source

_log = logging.getLogger("cpns.server")

COMES: Final = "pn"
"""What a PNE is asked: whether it comes into a PN."""
INVITE_TIMEOUT: Final = 20.0
"""Seconds that a PN GW has to ask invited PNEs and to bring those that accept."""
SWITCH_TIMEOUT: Final = 5.0
EXPIRY_LOOK_SECONDS: Final = 60.0
EXPIRED_AT_ONCE: Final = 256
MAX_INVITATIONS: Final = 256
"""INVITE Requests under way at once; each waits for people."""
MAX_INVITATIONS_EACH: Final = 4
"""Those of one asker."""
MAX_INVITATIONS_BEHIND: Final = 32
"""Those that one PN GW is asked about."""

Replaced = Callable[[Session, EntityId], Awaitable[None]]
"""Looks after a session of a PNE that was replaced by one through another PN GW, or the same."""
MOVED_SECONDS: Final = 7.0
"""What other processes have for that, and to tell the PN GWs that are connected to them."""


async def _nothing(older: Session, newer_via: EntityId) -> None:
    """Look after none."""


class Networks:
    """The PNs of one server process.

    Args:
        sessions: those of the server; a session with a PNE ends with its membership.
        gateways: the PN GWs that are connected.
        presences: what is known of where members are.
        siblings: the other processes of the server.
        replaced: is awaited before the PN GW of an older session is told that its PNE has moved.
    """

    def __init__(
        self,
        store: Store,
        sessions: Sessions,
        gateways: Gateways,
        presences: Presences,
        clock: Clock,
        siblings: Siblings | None = None,
        replaced: Replaced = _nothing,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._gateways = gateways
        self._presences = presences
        self._clock = clock
        self._siblings = siblings or Alone()
        self._replaced = replaced
        self._siblings.serve(topics.MEMBERS_OUT, self._out_elsewhere)
        self._siblings.serve(topics.PNES_MOVED, self._moved_elsewhere)
        self._siblings.serve(topics.PRESENCES, self._asked_where)
        self._telling = Background()
        self._inviting = places(MAX_INVITATIONS, clock.monotonic, MAX_INVITATIONS_EACH, "invitations_at_once")
        self._asking = places(MAX_INVITATIONS, clock.monotonic, MAX_INVITATIONS_BEHIND, "invitations_at_once")
        self._expired_at = -EXPIRY_LOOK_SECONDS

    async def close(self) -> None:
        """Stop telling."""
        await self._telling.close()

    async def _edit(self, pn_id: PnId, subjects: Sequence[EntityId], rule: Rule, actor: Actor) -> Edited:
        return await self._store.edit(pn_id, subjects, rule, self._clock.now(), actor)

    async def sweep(self, *, ends: bool) -> None:
        """End invitations that are over; *ends*: the clock is to be believed."""
        if not ends or self._clock.monotonic() < self._expired_at + EXPIRY_LOOK_SECONDS:
            return
        self._expired_at = self._clock.monotonic()
        for network in await self._store.expire_invitations(self._clock.now(), EXPIRED_AT_ONCE):
            self._tell_soon(network, network.gateway_id, Change.SETTLED, ())

    # what may be asked for

    async def leave(self, pn_id: PnId, actor: Actor) -> None:
        """End a PNE's own membership. Raises `Refused`, as all of these."""
        edited = await self._edit(pn_id, [], membership.leave, actor)
        await self._ended(edited, edited.edit.gone, Change.LEFT, tell_them=False)

    async def expel(self, pn_id: PnId, actor: Actor, whom: Sequence[EntityId]) -> None:
        """Put members out; when this returns their sessions are gone, here and at the PN GW if that can be reached."""
        rule = partial(membership.expel, whom=whom, at=self._clock.now())
        edited = await self._edit(pn_id, whom, rule, actor)
        answers = await self._ended(edited, edited.edit.gone, Change.EXPELLED, tell_them=True)
        if actor.is_operator and answers is not None:
            for one in await self._siblings.all_have(answers):
                warn(f"{one} has not confirmed that they are out: it does so before it takes anything more.")

    async def release(self, pn_id: PnId, actor: Actor) -> None:
        """End a PN, and with it the sessions of its members."""
        edited = await self._edit(pn_id, [], membership.release, actor)
        self._gateways.serves(edited.before.gateway_id, pn_id, edited.after.version, now=False)
        await self._ended(edited, edited.members, Change.RELEASED, tell_them=False)

    async def invite(self, pn_id: PnId, actor: Actor, whom: Sequence[EntityId]) -> dict[EntityId, Result]:
        """Put PNEs on the member list, and let the PN GW ask those that it reaches; return how it ended for each.

        TOO_MANY, besides: the asker, or the PN GW, has as many invitations under way as it may.
        """
        if actor.entity_id is None:  # nothing bounds an operator
            return await self._invite(pn_id, actor, whom)
        async with self._inviting(actor.entity_id) as run:
            results = await self._invite(pn_id, actor, whom)
            run.proved = True
            return results

    async def _invite(self, pn_id: PnId, actor: Actor, whom: Sequence[EntityId]) -> dict[EntityId, Result]:
        edited = await self._edit(pn_id, whom, partial(membership.invite, whom=whom), actor)
        asking: tuple[EntityId, ...] = ()  # operator and PN GW may ask as they like
        if actor.is_device and actor.entity_id is not None:
            asking = tuple(dict.fromkeys([actor.entity_id, edited.after.owner or actor.entity_id]))
        results = dict.fromkeys(whom, Result.SUCCESS)
        if asking:
            results = await self._store.may_ask(COMES, whom, asking, self._clock.now())
        asked = tuple(pne for pne, may in results.items() if may is Result.SUCCESS)
        if asked:
            results |= await self._asked(edited.after, asked)
        for pne in asked:
            if results[pne] is Result.REFUSED_BY_USER:
                await self._store.declined(COMES, pne, asking, pn_id, self._clock.now())
        return results

    async def _asked(self, network: Network, whom: tuple[EntityId, ...]) -> dict[EntityId, Result]:
        """Let the PN GW ask those that it reaches; return how it ended for each."""
        try:
            async with self._asking(network.gateway_id) as run:
                request = pm.InviteRequest(network.pn_id, whom)
                asked = await self._gateways.ask(network.gateway_id, request, pm.InviteResponse, INVITE_TIMEOUT)
                run.proved = True
        except NoAnswer:
            return dict.fromkeys(whom, Result.OUT_OF_REACH)
        told = {entry.entity_id: Result.told(entry.result, Result.OUT_OF_REACH) for entry in asked.entries or ()}
        return {pne: told.get(pne, Result.OUT_OF_REACH) for pne in whom}

    async def approve(self, pn_id: PnId, actor: Actor, pne: EntityId, *, let_in: bool) -> None:
        """Decide on a PNE that waits."""
        rule = membership.approve if let_in else membership.refuse
        edited = await self._edit(pn_id, [pne], partial(rule, pne=pne), actor)
        if edited.edit.gone:
            await self._ended(edited, edited.edit.gone, Change.EXPELLED, tell_them=True)
        elif let_in:  # its PN GW has to know where it belongs before it comes
            await self._tell(edited.after, edited.after.gateway_id, Change.SETTLED, ())

    async def settle(
        self, pn_id: PnId, actor: Actor, *, policy: Policy | None, alias: str | None, owner: EntityId | None
    ) -> Network:
        """Change policy, alias or owner, as the operator says."""
        rule = partial(membership.settle, policy=policy, alias=alias, owner=owner)
        edited = await self._edit(pn_id, [owner] if owner is not None else [], rule, actor)
        await self._tell(edited.after, edited.after.gateway_id, Change.SETTLED, ())
        return edited.after

    async def switch(self, pn_id: PnId, to: EntityId, actor: Actor, addresses: tuple[str, ...] = ()) -> None:
        """Let another PN GW serve a PN (PN GW switching), when both agree, or the operator and the new one.

        Args:
            pn_id: the PN.
            to: the new PN GW.
            actor: either PN GW of the two, or an operator.
            addresses: where the PANs of *to* are, if that is who asks.

        Raises:
            Refused: one of them is away or does not agree; or the PN was switched or released meanwhile.
        """
        network = await self._store.network(pn_id)
        if network is None or not (actor.is_operator or actor.entity_id in (network.gateway_id, to)):
            raise Refused(Result.UNKNOWN_PN, "no_such_pn")
        if to == network.gateway_id:
            raise Refused(Result.EXISTS, "serves_it_already")
        request = pm.PnGwSwitchingRequest(pn_id, to)
        if actor.entity_id == to:
            await self._agreed(network.gateway_id, request)
        else:
            addresses = (await self._agreed(to, request)).addresses or ()
        rule = partial(membership.switch, frm=network.gateway_id, to=to)
        edited = await self._store.edit(pn_id, (), rule, self._clock.now(), actor, known=True)
        _log.info("PN %s is switched from %s to %s", pn_id, network.gateway_id, to, extra=by(actor.entity_id or ""))
        self._gateways.serves(to, pn_id, edited.after.version, now=True)
        self._gateways.serves(network.gateway_id, pn_id, edited.after.version, now=False)
        notice = pm.PnChangeNotify(pn_id, (), edited.after.version, Change.GATEWAY, to, addresses or None)
        await self._gateways.tell(to, notice)  # first, so that it serves whoever comes
        await self._gateways.tell(network.gateway_id, notice)

    async def _agreed(self, gateway: EntityId, request: pm.PnGwSwitchingRequest) -> pm.PnGwSwitchingResponse:
        answer = await self._gateways.ask(gateway, request, pm.PnGwSwitchingResponse, SWITCH_TIMEOUT)
        if answer.result != Result.SUCCESS:
            raise Refused(Result.told(answer.result, Result.NOT_ALLOWED), "gateway_does_not_agree")
        return answer

    # what follows from it

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
        others = self._telling.start(self._siblings.ask(topics.PNES_MOVED, moved, MOVED_SECONDS))
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

    async def gone(self, networks: Iterable[Network], pne: EntityId, via: EntityId | None, change: Change) -> None:
        """Tell of a PNE that is out: the PN GWs of its PNs, and the one that it had its session through."""
        tell = [
            self._tell(network, gateway, change, (pne,))
            for network in networks
            for gateway in {network.gateway_id, via or network.gateway_id}
        ]
        await asyncio.gather(*tell)

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

    async def _ended(
        self, edited: Edited, gone: Sequence[EntityId], change: Change, *, tell_them: bool
    ) -> "Answers[topics.Vias] | None":
        """End the sessions of PNEs that are members no longer, and tell whom it concerns.

        Returns:
            What other processes answered, where these were asked.
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
        answers = None
        if out:
            about = topics.Out(edited.after.pn_id, edited.after.version, int(change)) if tell_them else None
            answers = await self._siblings.ask(topics.MEMBERS_OUT, topics.MembersOut(tuple(out), about))
            for some in answers.values:
                vias.update({} if some is None else some.vias)
        concerned: dict[EntityId, list[EntityId]] = {edited.before.gateway_id: list(gone)}
        for pne, via in vias.items():  # one that is just going over to another PN GW is still behind the older
            if via is not None and via != edited.before.gateway_id:
                concerned.setdefault(via, []).append(pne)
        tell = [self._tell(edited.after, gateway, change, about) for gateway, about in concerned.items()]
        await asyncio.gather(*own, *tell)
        return answers

    async def _tell(self, network: Network, gateway: EntityId, change: Change, about: Sequence[EntityId]) -> None:
        for notice in _notices(network, change, about):
            await self._gateways.tell(gateway, notice)

    def _tell_soon(self, network: Network, gateway: EntityId, change: Change, about: Sequence[EntityId]) -> None:
        self._telling.start(self._tell(network, gateway, change, about))

    # the PN Inventory

    def is_reachable(self, pne: EntityId) -> bool:
        """Whether a PNE has a session, and the PN GW that it runs through is connected."""
        return self._gateways.way(self._sessions.with_peer(pne)) is not None

    async def inventory(self, source: Session, request: pm.InventoryRequest) -> pm.InventoryResponse:
        """Answer an INVENTORY Request with what the asker may see.

        A PN GW sees the PNs that it serves, a member the PN that it is in, a guest of that PN itself alone. Where a
        PN GW says `NO_COPY`, it also sees who stands as member there, and is not in it.

        Raises:
            Refused: UNKNOWN_PN, for what does not exist as for what it may not see.
        """
        own = None if source.via is None else await self._store.membership(source.peer_id)
        if source.via is None:
            seen = [*await self._store.networks_of(source.peer_id)]
        else:
            seen = [] if own is None else [own[0]]
        if request.pn_id is None:
            return _listed(seen, request.after or "")
        network = await self._store.network(request.pn_id) if request.pn_id in seen else None
        if network is None:
            raise Refused(Result.UNKNOWN_PN, "not_a_pn_of_the_asker")
        if request.version == network.version:
            return pm.InventoryResponse(Result.SUCCESS, network.pn_id, network.version)
        page: Sequence[Present | Listed]
        wanted = (network.pn_id, request.after or "", MAX_MEMBERS + 1)
        if own is None and request.version == NO_COPY:
            page = await self._store.listed_page(*wanted)
        elif own is None or not own[1].guest:
            page = await self._store.members_page(*wanted)
        else:
            page = [own[1]]
        whole = (Result.SUCCESS, network.pn_id, network.version, network.gateway_id, network.alias, network.owner)
        return codec.page(partial(pm.InventoryResponse, *whole), await self._entries(page))

    async def _entries(self, members: Sequence[Present | Listed]) -> list[pm.InventoryEntry]:
        facts = await self.facts([member.pne_id for member in members if member.guest is not None])
        return [self._entry(member.pne_id, member.guest, facts.get(member.pne_id)) for member in members]

    def _entry(self, pne: EntityId, guest: bool | None, fact: Fact | None) -> pm.InventoryEntry:
        if fact is None:  # it is not in this PN, and where else it is tells nobody
            return pm.InventoryEntry(pne, Presence.AWAY, 0, Source.SERVER)
        age = max(0, int(self._clock.now() - fact.at))
        return pm.InventoryEntry(pne, fact.presence, age, fact.source, guest)

    async def facts(self, pnes: Sequence[EntityId]) -> dict[EntityId, Fact]:
        """Return how each of *pnes* can be reached now, since when that is known, and from whom."""
        found = {pne: self._presences.of(pne, stands=self.is_reachable(pne)) for pne in pnes}
        missing = [pne for pne in pnes if not self.is_reachable(pne)]
        for some in await ask_about(self._siblings, topics.PRESENCES, missing):
            for one in some.presences:
                found[one.pne] = Fact(Presence(one.presence), one.at, Source(one.source))
        return found

    # for other processes

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

    async def _asked_where(self, pnes: topics.Entities) -> topics.PresencesSeen:
        facts = {pne: self._presences.of(pne, stands=True) for pne in pnes.entities if self.is_reachable(pne)}
        return topics.PresencesSeen(
            tuple(
                topics.PresenceSeen(pne, int(fact.presence), fact.at, int(fact.source)) for pne, fact in facts.items()
            )
        )


def _notices(network: Network, change: Change, about: Sequence[EntityId]) -> Iterable[pm.PnChangeNotify]:
    """Return what says of *about* what became of them: one where it is about nobody, else as many as it takes."""
    for start in range(0, len(about) or 1, MAX_MEMBERS):
        part = tuple(about[start : start + MAX_MEMBERS])
        yield pm.PnChangeNotify(network.pn_id, part, network.version, change)


def _listed(served: Sequence[PnId], after: str) -> pm.InventoryResponse:
    """Return which PNs these are: in the order in which they came to be served where that is a page, else by ID."""
    rest = served if len(served) <= MAX_MEMBERS else sorted(one for one in served if one > after)
    more = len(rest) > MAX_MEMBERS or None
    return pm.InventoryResponse(Result.SUCCESS, networks=tuple(rest[:MAX_MEMBERS]), more=more)


async def _tell_out(pn_id: PnId, version: int, change: Change, session: Session, link: Link) -> None:
    """Tell a PNE end to end, under the session that has just ended, that it is out."""
    notice = pm.PnChangeNotify(pn_id, (session.peer_id,), version, change)
    with contextlib.suppress(Refused):
        await link.tell(notice, timeout=NOTIFY_TIMEOUT, session=session)
