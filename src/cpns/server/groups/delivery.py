"""Who is told of a change to a service group, and is given its keys: at this process, and at the others."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from cpns.domain.event import SgChanged
from cpns.domain.group import ChangedGroup, Group
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId, SgId
from cpns.ports import topics
from cpns.server.feature import Here
from cpns.server.groups.copies import GroupCopies
from cpns.server.groups.queries import behind
from cpns.server.peers.gateways import NOTIFY_TIMEOUT
from cpns.service.background import Background
from cpns.service.group_keyring import GroupKeyring
from cpns.session.table import Session
from cpns.transport.endpoint import Link
from cpns.wire import codec
from cpns.wire import sg_messages as sg
from cpns.wire.group_messages import GroupKeyGiven, GroupKeyRequest, GroupKeyResponse, GroupKeyWanted
from cpns.wire.registry import MAX_MEMBERS, Change

M = TypeVar("M")

DELIVERY_SECONDS: Final = 10.0
"""What a PN GW has to take a Group Key; it gives it to its members after that."""
TOLD_AT_ONCE: Final = 32
TOLD_SECONDS: Final = NOTIFY_TIMEOUT + 1.0
"""What the other processes have to tell their PN GWs."""
CONSENT_SECONDS: Final = 15.0
"""What a PNE, and whoever uses it, has to say whether it comes, or takes ownership."""


class GroupDelivery:
    """Tells of the changes; `cpns.server.groups.actions.Delivery`."""

    def __init__(self, here: Here) -> None:
        self._store = here.store
        self._sessions = here.sessions
        self._gateways = here.gateways
        self._pnes = here.pnes
        self._cluster = here.cluster
        self._cluster.serve(topics.GROUP_CHANGED, self._changed_elsewhere)
        self._cluster.serve(topics.BACK, self._heard_again)
        self._keys = GroupKeyring(here.store, here.vault, here.clock, here.random)
        self._telling = Background()
        self.copies = GroupCopies(here.store, here.clock, self._tell_gateway, self._telling)

    async def close(self) -> None:
        """Stop telling."""
        await self._telling.close()

    # those that have to agree

    async def comes(self, pne: EntityId, group: Group) -> int:
        """See `Delivery`; so all of these."""
        question = sg.SgInvitation(group.sg_id, group.name, group.owner, group.service)
        return (await self._ask(pne, question, sg.SgInviteResponse)).result

    async def takes_over(self, pne: EntityId, group: Group) -> int:
        """See `Delivery`."""
        offer = sg.SgOwnershipOffer(group.sg_id, group.owner)
        return (await self._ask(pne, offer, sg.SgOwnerChangeResponse)).result

    async def is_connected(self, pne: EntityId) -> bool:
        """See `Delivery`."""
        return bool(await self._pnes.connected([pne]))

    async def _ask(self, pne: EntityId, message: codec.Message, shape: type[M]) -> M:
        """Ask a PNE, end to end. Raises `Refused`: it is away, or does not answer (`NoAnswer`)."""
        try:
            return await self._pnes.ask(pne, message, shape, CONSENT_SECONDS)
        except NoAnswer as error:
            raise NoAnswer("away" if error.reason == "no_session" else error.reason) from error

    # what has changed

    def made(self, group: Group) -> None:
        """See `Delivery`."""
        session = self._sessions.with_peer(group.owner)
        if session is not None and session.via is not None:
            self.copies.came(session.via, [group.sg_id])

    def tell(self, changed: ChangedGroup) -> asyncio.Task[None]:
        """See `Delivery`."""
        return self._telling.start(self._tell(changed))

    async def _tell(self, changed: ChangedGroup) -> None:
        """Tell of a change; return when the PN GWs know, or can't be reached."""
        keyed = not changed.change.deleted and changed.after.epoch != changed.before.epoch
        concerned = [*changed.members, *changed.went]
        for notice in _notices(changed):
            out = notice.members if notice.change == Change.EXPELLED else ()
            whom = (*changed.members, *out)
            said = topics.GroupChanged(codec.encode(notice), tuple(concerned), whom, keyed)
            elsewhere = self._cluster.ask(topics.GROUP_CHANGED, said, TOLD_SECONDS)
            await asyncio.gather(elsewhere, self._tell_here(notice, concerned, whom, keyed))
            keyed = False

    async def _tell_here(
        self, notice: sg.SgChangeNotify, concerned: Sequence[EntityId], whom: Sequence[EntityId], keyed: bool
    ) -> None:
        """Tell *whom* of a change, as far as they are behind this process, and the PN GWs of all *concerned*.

        Args:
            notice: what is told.
            concerned: members, and those that are none any more.
            whom: those of them that are told.
            keyed: whether a new epoch has begun.
        """
        ways = {pne: way for pne in concerned if (way := self._pnes.here(pne)) is not None}
        gateways = {session.via for _, session in ways.values() if session.via is not None}
        out = notice.members if notice.change == Change.EXPELLED else ()
        members = {ways[pne][1].via for pne in whom if pne in ways and pne not in out}
        await asyncio.gather(*(self._tell_one(gateway, notice, has_members=gateway in members) for gateway in gateways))
        if keyed:
            self._telling.start(self._deliver(notice.sg_id, gateways))  # whoever is silent holds up no key
        self._telling.start(_tell_members(notice, [ways[pne] for pne in whom if pne in ways]))

    async def _tell_one(self, gateway: EntityId, notice: sg.SgChangeNotify, *, has_members: bool) -> None:
        if await self._gateways.tell(gateway, notice) and has_members:
            self.copies.knows(gateway, notice.sg_id, notice.version)
        else:
            self.copies.forgets(gateway, notice.sg_id)

    async def changed_anywhere(self, changed: SgChanged) -> None:
        """See that our PN GWs know of a change that any process made; most have been told of it."""
        found = await self._store.group(changed.sg_id)
        members = () if found is None else found.members
        sessions = [session for pne in members if (session := self._sessions.with_peer(pne)) is not None]
        for gateway in {session.via for session in sessions if session.via in self._gateways}:
            if gateway is not None:
                self.copies.came(gateway, [changed.sg_id])
        notice = sg.SgChangeNotify(changed.sg_id, (), changed.version, Change.SETTLED, changed.epoch)
        ways = {pne: way for pne in changed.went if pne not in members and (way := self._pnes.here(pne)) is not None}
        gateways = {session.via for _, session in ways.values() if session.via is not None}
        await asyncio.gather(*(self._gateways.tell(gateway, notice) for gateway in gateways))
        await _tell_members(notice, list(ways.values()))

    # their keys

    async def _tell_gateway(self, gateway: EntityId, one: Group) -> None:
        await self._gateways.tell(gateway, sg.SgChangeNotify(one.sg_id, (), one.version, Change.SETTLED, one.epoch))
        await self._deliver(one.sg_id, [gateway])

    async def _deliver(self, sg_id: SgId, gateways: Iterable[EntityId]) -> None:
        """Give the Group Key of the present epoch to PN GWs that have members, in their sessions."""
        keyed = await self._keys.present(sg_id)
        if keyed is None:
            return
        found, key = keyed
        behind = {session.via for pne in found.members if (session := self._sessions.with_peer(pne)) is not None}
        message = GroupKeyRequest(sg_id, found.group.epoch, key.reveal())
        await asyncio.gather(*(self._give(gateway, message) for gateway in gateways if gateway in behind))

    async def _give(self, gateway: EntityId, message: GroupKeyRequest) -> None:
        """Give a PN GW a Group Key; one that does not take it asks when it is back."""
        with contextlib.suppress(Refused):
            await self._gateways.ask(gateway, message, GroupKeyResponse, DELIVERY_SECONDS)

    async def key_for(self, gateway: EntityId, request: GroupKeyWanted) -> GroupKeyGiven:
        """Give a PN GW that has members the Group Key that it lacks.

        Raises:
            Refused: UNKNOWN_SG, for what does not exist as for a group that no PNE behind it is in.
        """
        keyed = await self._keys.present(request.sg_id, behind(self._sessions, gateway))
        if keyed is None:
            raise Refused(Result.UNKNOWN_SG, "not_a_group_of_the_asker")
        return GroupKeyGiven(Result.SUCCESS, keyed[0].group.epoch, keyed[1].reveal())

    # for other processes

    async def _changed_elsewhere(self, said: topics.GroupChanged) -> None:
        notice = codec.decode(said.notice, sg.SgChangeNotify)
        await self._tell_here(notice, said.concerned, said.told, said.keyed)

    async def _heard_again(self, _: topics.Nothing) -> None:
        """Other processes may have told of changes that we did not hear: our PN GWs look, and get their keys."""
        behind: dict[EntityId, list[EntityId]] = {}
        for session in self._sessions:
            if session.via is not None and session.via in self._gateways:
                behind.setdefault(session.via, []).append(session.peer_id)
        for gateway, pnes in behind.items():
            after = ""
            while some := await self._store.groups_of(pnes, after, MAX_MEMBERS):
                self.copies.came(gateway, some)
                after = some[-1]


def _notices(changed: ChangedGroup) -> list[sg.SgChangeNotify]:
    """Return what is told of a change: who came, who went, who was put out; or what else there is."""
    change, after, before = changed.change, changed.after, changed.before
    out = {*changed.went}.intersection(change.subjects if change.event == "sg_expelled" else ())
    told: list[tuple[Change, Sequence[EntityId]]] = [
        (Change.JOINED, changed.came),
        (Change.LEFT, [pne for pne in changed.went if pne not in out]),
        (Change.EXPELLED, sorted(out)),
    ]
    told = [(kind, about) for kind, about in told if about]
    if change.deleted:
        told = [(Change.RELEASED, ())]
    elif not told:
        told = [(Change.SETTLED if after.owner == before.owner else Change.OWNER, ())]
    return [
        sg.SgChangeNotify(
            *(after.sg_id, tuple(about[:MAX_MEMBERS]), after.version, kind, after.epoch),
            owner=after.owner if after.owner != before.owner else None,
        )
        for kind, about in told
    ]


async def _tell_members(notice: sg.SgChangeNotify, ways: Sequence[tuple[Link, Session]]) -> None:
    for start in range(0, len(ways), TOLD_AT_ONCE):
        await asyncio.gather(*(_told(link, session, notice) for link, session in ways[start : start + TOLD_AT_ONCE]))


async def _told(link: Link, session: Session, notice: sg.SgChangeNotify) -> None:
    with contextlib.suppress(Refused):
        await link.tell(notice, timeout=NOTIFY_TIMEOUT, session=session)
