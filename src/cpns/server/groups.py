"""Service groups at the server: who asks for a change, who has to agree, and who is told of it (DEF-4, DEF-5, FN-7)."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, TypeVar

from cpns.crypto.secret import Secret
from cpns.domain import actor as actors
from cpns.domain import group as rules
from cpns.domain.actor import SERVER, Actor
from cpns.domain.epoch import seen
from cpns.domain.event import SgChanged
from cpns.domain.group import MAX_GROUPS, ChangedGroup, Group, GroupInventory, GroupRule, KeyedGroup
from cpns.domain.invitation import is_recent
from cpns.domain.member_list import Policy, Standing
from cpns.errors import AuthenticationFailed, NoAnswer, Refused, Result
from cpns.ids import EntityId, SgId
from cpns.ports import Clock, Randomness, Vault, topics
from cpns.ports.groups import GroupStore
from cpns.ports.siblings import Siblings
from cpns.server.gateways import NOTIFY_TIMEOUT, Gateways
from cpns.server.group_copies import GroupCopies
from cpns.server.group_epochs import SWEPT_AT_ONCE, GroupEpochs
from cpns.server.group_pages import behind
from cpns.server.pnes import Pnes
from cpns.service.background import Background
from cpns.service.siblings import Alone
from cpns.session.table import Session, Sessions
from cpns.shares.noted import by
from cpns.transport.endpoint import Link
from cpns.wire import codec
from cpns.wire import sg_messages as sg
from cpns.wire.group_messages import GroupKeyGiven, GroupKeyRequest, GroupKeyResponse, GroupKeyWanted
from cpns.wire.messages import OutcomeEntry
from cpns.wire.registry import KEY_BYTES, MAX_MEMBERS, Change

_log = logging.getLogger("cpns.server")

M = TypeVar("M")

COMES, OWNS = "sg", "sg_owner"
"""What a PNE is asked: whether it comes into a group, or takes ownership of it."""
GROUP_KEY_PURPOSE: Final = "group key"
DELIVERY_SECONDS: Final = 10.0
"""What a PN GW has to take a Group Key; it gives it to its members after that."""
TOLD_AT_ONCE: Final = 32
TOLD_SECONDS: Final = NOTIFY_TIMEOUT + 1.0
"""What the other processes have to tell their PN GWs."""
EXPIRY_LOOK_SECONDS: Final = 60.0
CONSENT_SECONDS: Final = 15.0
"""What a PNE, and whoever uses it, has to say whether it comes, or takes ownership."""


class Groups:
    """The service groups of one server process.

    Args:
        sessions: those of this process.
        pnes: the PNEs, wherever they are: each is asked and told in its own session.
        gateways: the PN GWs that are connected, which are told for their copies, and given the Group Keys.
        vault: seals the Group Keys; None where no server runs, and nobody needs one.
        siblings: the other processes of the server.
        most: groups that one PNE may own.
    """

    def __init__(
        self,
        store: GroupStore,
        sessions: Sessions,
        gateways: Gateways,
        pnes: Pnes,
        clock: Clock,
        random: Randomness,
        vault: Vault | None = None,
        siblings: Siblings | None = None,
        most: int = MAX_GROUPS,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._gateways = gateways
        self._clock = clock
        self._random = random
        self._vault = vault
        self._siblings = siblings or Alone()
        self._siblings.serve(topics.GROUP_CHANGED, self._changed_elsewhere)
        self._siblings.serve(topics.BACK, self._heard_again)
        self._pnes = pnes
        self._most = most
        self._passing_on: set[SgId] = set()
        self._telling = Background()
        self._epochs = GroupEpochs(store, clock, self._begun)
        self.copies = GroupCopies(store, clock, self._tell_gateway, self._telling)
        self._expired_at = -EXPIRY_LOOK_SECONDS

    async def close(self) -> None:
        """Stop telling."""
        await self._epochs.close()
        await self._telling.close()

    async def sweep(self, *, ends: bool = False) -> None:
        """Begin epochs that are due; where time *ends* things, invitations that are over, and what has a pace."""
        await self._epochs.sweep()
        if not ends or self._clock.monotonic() < self._expired_at + EXPIRY_LOOK_SECONDS:
            return
        self._expired_at = self._clock.monotonic()
        await self._store.sweep_bounds(self._clock.now())
        self.tell(await self._store.expire_group_invitations(self._clock.now(), SWEPT_AT_ONCE))

    def made(self, sg_id: SgId, owner: EntityId) -> None:
        """A group is made: the PN GW of its owner is told."""
        session = self._sessions.with_peer(owner)
        if session is not None and session.via is not None:
            self.copies.came(session.via, [sg_id])

    # what may be asked, by whomever

    async def join(self, sg_id: SgId, actor: Actor) -> bool:
        """Let a PNE in; return whether it waits for that: False when it is in an epoch. Raises `Refused`."""
        changed = await self._change(sg_id, rules.join, actor)
        if Standing.PENDING in changed.change.standings.values():
            return True
        await self._in_an_epoch(changed.after)
        return False

    async def leave(self, sg_id: SgId, actor: Actor) -> None:
        """End a PNE's own membership. Raises `Refused`."""
        await self._change(sg_id, rules.leave, actor)

    async def invite(self, sg_id: SgId, actor: Actor, whom: Sequence[EntityId]) -> dict[EntityId, Result]:
        """Put PNEs on the list, and ask those that can be reached; return how it ended for each. Raises `Refused`."""
        group, places, inside_it = await self._seen_by(actor, sg_id)
        rules.invite(group, places, inside_it, whom)  # whoever may not is told so before anything is counted
        inside = rules.inside(places, whom)
        outside = [pne for pne in dict.fromkeys(whom) if pne not in inside]
        own = actor.entity_id
        asking = () if own is None else tuple(dict.fromkeys((own, group.owner)))
        results = dict.fromkeys(whom, Result.ALREADY_MEMBER) | await self._may_ask(COMES, outside, asking)
        now = self._clock.now()
        new = [p for p in outside if results[p] is not Result.TOO_MANY and not is_recent(places.get(p), now)]
        if new:
            changed = await self._change(sg_id, partial(rules.invite, whom=new), actor)
            let_in = [pne for pne, how in changed.change.standings.items() if how is Standing.MEMBER]
            results.update(dict.fromkeys(let_in, Result.SUCCESS))  # they waited for that
            outside = [pne for pne in outside if pne not in let_in]
        for pne in outside:
            if results[pne] is Result.SUCCESS:
                results[pne] = await self._asked(pne, group, asking)
        if Result.SUCCESS in results.values():
            for one in await self._store.groups_named([sg_id]):
                await self._in_an_epoch(one)
        return results

    async def _seen_by(self, actor: Actor, sg_id: SgId) -> tuple[Group, rules.Places, Actor]:
        """Return a group, its list as the rules see it, and who *actor* is in it.

        Raises:
            Refused: there is none for it.
        """
        now = self._clock.now()
        found = await self._store.group(sg_id, actor.entity_id, now)
        if found is None:
            raise Refused(Result.UNKNOWN_SG, "no_such_group")
        places = seen({one.pne_id: one for one in found.listed}, now)
        inside_it = actor.within(found.group.owner, is_member=rules.is_inside(places, actor.entity_id))
        return found.group, places, inside_it

    async def _may_ask(self, what: str, whom: Sequence[EntityId], asking: Sequence[EntityId]) -> dict[EntityId, Result]:
        """See `cpns.ports.Store.may_ask`; nothing bounds the operator, for whom *asking* is empty."""
        if not asking or not whom:
            return dict.fromkeys(whom, Result.SUCCESS)
        return await self._store.may_ask(what, whom, asking, self._clock.now())

    async def _asked(self, pne: EntityId, group: Group, asking: Sequence[EntityId]) -> Result:
        """Ask a PNE whether it comes, and let it in; one that says no, or can't be asked, may come later by itself."""
        question = sg.SgInvitation(group.sg_id, group.name, group.owner, group.service)
        try:
            answer = await self._ask(pne, question, sg.SgInviteResponse)
            if answer.result != Result.SUCCESS:
                await self._store.declined(COMES, pne, asking, group.sg_id, self._clock.now())
                return Result.told(answer.result, Result.REFUSED_BY_USER)
            changed = await self._change(group.sg_id, rules.join, actors.pne(pne))
            if changed.change.standings.get(pne) is Standing.PENDING:
                return Result.PENDING_APPROVAL  # the invitation was taken back meanwhile
        except NoAnswer:
            return Result.OUT_OF_REACH
        except Refused as error:
            return error.result
        return Result.SUCCESS

    async def expel(self, sg_id: SgId, actor: Actor, whom: Sequence[EntityId]) -> None:
        """Put PNEs out, and bar them. Raises `Refused`, as all of these.

        When this returns, each PN GW with members knows that an epoch has begun, if it can be reached: so what is said
        from now on is said under that.
        """
        rule = partial(rules.expel, whom=whom)
        changed = await self._store.change_group(sg_id, rule, self._clock.now(), actor, self._most)
        await self.told((changed,))

    async def delete(self, sg_id: SgId, actor: Actor) -> None:
        """End a group."""
        await self._change(sg_id, rules.delete, actor)

    async def settle(self, sg_id: SgId, actor: Actor, policy: Policy | None, keep: int | None) -> Group:
        """Change who may join, and how long messages are kept, as the operator says."""
        return (await self._change(sg_id, partial(rules.settle, policy=policy, keep=keep), actor)).after

    async def replace_silent_owners(self, seconds: float) -> None:
        """Give groups whose owner was not here for that long to the member that was, and is in longest (DEF-5)."""
        since = self._clock.now() - seconds
        for group, there in await self._store.silent_owners(since):
            if not await self._pnes.connected([group.owner]):
                with contextlib.suppress(Refused):
                    rule = partial(rules.replace_owner, gone=group.owner, there=there)
                    await self._change(group.sg_id, rule, SERVER)
                    _log.info(
                        "the owner of %s, %s, has vanished: replaced", group.sg_id, group.owner, extra=by(group.owner)
                    )

    async def pass_on(self, sg_id: SgId, actor: Actor, wanted: EntityId | None) -> EntityId:
        """Give ownership to *wanted*, or to whom the rule names, if that one agrees; return the new owner.

        Raises:
            Refused: IN_PROGRESS: one candidate is asked at a time. REFUSED_BY_USER, or `NoAnswer`: it does not agree.
        """
        group, places, inside_it = await self._seen_by(actor, sg_id)
        candidates = rules.candidates(group, places, inside_it, wanted)
        if sg_id in self._passing_on:
            raise Refused(Result.IN_PROGRESS, "a_candidate_is_asked")
        self._passing_on.add(sg_id)
        try:
            for last, to in enumerate(candidates, start=1 - len(candidates)):
                try:
                    await self._agrees(to, group, actor)
                except Refused:
                    if last == 0:
                        raise
                    continue
                break
            await self._change(sg_id, partial(rules.pass_on, frm=group.owner, to=to), actor)
        finally:
            self._passing_on.discard(sg_id)
        return to

    async def _agrees(self, to: EntityId, group: Group, actor: Actor) -> None:
        """Ask a candidate whether it takes ownership. Raises `Refused` where it does not."""
        asking = () if actor.entity_id is None else (actor.entity_id,)
        may = (await self._may_ask(OWNS, [to], asking))[to]
        if may is not Result.SUCCESS:
            raise Refused(may, "asked_lately")
        answer = await self._ask(to, sg.SgOwnershipOffer(group.sg_id, group.owner), sg.SgOwnerChangeResponse)
        if answer.result != Result.SUCCESS:
            raise Refused(Result.told(answer.result, Result.REFUSED_BY_USER), "candidate_does_not_agree")

    # what follows from it

    async def _change(self, sg_id: SgId, rule: GroupRule, actor: Actor) -> ChangedGroup:
        changed = await self._store.change_group(sg_id, rule, self._clock.now(), actor, self._most)
        self.tell((changed,))
        return changed

    def tell(self, changes: Iterable[ChangedGroup]) -> list[asyncio.Task[None]]:
        """Tell the members, those that are none any more, and their PN GWs, soon; return what ends when those know."""
        telling = []
        for changed in changes:
            if not changed.change.deleted:
                self._epochs.wait_for(changed.after)
            if changed.change.deleted or changed.after.version != changed.before.version:
                telling.append(self._telling.start(self._tell(changed)))
        return telling

    async def told(self, changes: Iterable[ChangedGroup]) -> None:
        """As `tell`; return when the PN GWs know."""
        telling = self.tell(changes)
        if telling:
            await asyncio.wait(telling)

    def _begun(self, changed: ChangedGroup) -> None:
        self.tell((changed,))

    async def _in_an_epoch(self, group: Group) -> None:
        """Wait until who has come into a group is in an epoch of it."""
        task = self._epochs.wait_for(group)
        if task is not None:
            await asyncio.wait([task])

    async def _tell_gateway(self, gateway: EntityId, one: Group) -> None:
        await self._gateways.tell(gateway, sg.SgChangeNotify(one.sg_id, (), one.version, Change.SETTLED, one.epoch))
        await self._deliver(one.sg_id, [gateway])

    def _make_key(self, vault: Vault, sg_id: SgId, epoch: int) -> bytes:
        return vault.seal(GROUP_KEY_PURPOSE, _key_owner(sg_id, epoch), Secret(self._random(KEY_BYTES)))

    async def sealed_key(self, sg_id: SgId, of: Sequence[EntityId] | None = None) -> KeyedGroup | None:
        """Return a group as it is, with the Group Keys that are taken; see `cpns.ports.Store.group_key`."""
        vault = self._vault
        if vault is None:
            return None
        return await self._store.group_key(sg_id, partial(self._make_key, vault), self._clock.now(), of)

    def open_key(self, sg_id: SgId, epoch: int, sealed: bytes) -> Secret:
        """Return a Group Key that `sealed_key` gave. Raises `AuthenticationFailed`: it is none of this server."""
        if self._vault is None:
            raise AuthenticationFailed("no_vault")
        return self._vault.open(GROUP_KEY_PURPOSE, _key_owner(sg_id, epoch), sealed)

    async def _keyed(self, sg_id: SgId, of: Sequence[EntityId] | None = None) -> tuple[GroupInventory, Secret] | None:
        found = await self.sealed_key(sg_id, of)
        if found is None:
            return None
        return found.inventory, self.open_key(sg_id, found.inventory.group.epoch, found.sealed_key)

    async def _deliver(self, sg_id: SgId, gateways: Iterable[EntityId]) -> None:
        """Give the Group Key of the present epoch to PN GWs that have members, in their sessions."""
        keyed = await self._keyed(sg_id)
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
        keyed = await self._keyed(request.sg_id, behind(self._sessions, gateway))
        if keyed is None:
            raise Refused(Result.UNKNOWN_SG, "not_a_group_of_the_asker")
        return GroupKeyGiven(Result.SUCCESS, keyed[0].group.epoch, keyed[1].reveal())

    async def _tell(self, changed: ChangedGroup) -> None:
        """Tell of a change; return when the PN GWs know, or can't be reached."""
        keyed = not changed.change.deleted and changed.after.epoch != changed.before.epoch
        concerned = [*changed.members, *changed.went]
        for notice in _notices(changed):
            out = notice.members if notice.change == Change.EXPELLED else ()
            whom = (*changed.members, *out)
            said = topics.GroupChanged(codec.encode(notice), tuple(concerned), whom, keyed)
            elsewhere = self._siblings.ask(topics.GROUP_CHANGED, said, TOLD_SECONDS)
            await asyncio.gather(elsewhere, self._tell_here(notice, concerned, whom, keyed))
            keyed = False

    async def _changed_elsewhere(self, said: topics.GroupChanged) -> None:
        notice = codec.decode(said.notice, sg.SgChangeNotify)
        await self._tell_here(notice, said.concerned, said.told, said.keyed)

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

    async def _ask(self, pne: EntityId, message: codec.Message, shape: type[M]) -> M:
        """Ask a PNE, end to end. Raises `Refused`: it is away, or does not answer (`NoAnswer`)."""
        try:
            return await self._pnes.ask(pne, message, shape, CONSENT_SECONDS)
        except NoAnswer as error:
            raise NoAnswer("away" if error.reason == "no_session" else error.reason) from error


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


def _key_owner(sg_id: SgId, epoch: int) -> str:
    """Return what a sealed Group Key is bound to."""
    return f"{sg_id} {epoch}"


def entries_of(results: dict[EntityId, Result]) -> tuple[OutcomeEntry, ...] | None:
    """Return how it ended for each, as a message has it."""
    return tuple(OutcomeEntry(pne, result) for pne, result in results.items()) or None
