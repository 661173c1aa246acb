"""What may be asked for about service groups: each is a rule, and one transaction (DEF-4, DEF-5, FN-7).

Whoever the change concerns is told of it by the delivery; where no server runs, there is nobody to tell or to ask.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, Protocol

from cpns.domain import actor as actors
from cpns.domain import group as rules
from cpns.domain.actor import SERVER, Actor
from cpns.domain.epoch import seen
from cpns.domain.group import MAX_GROUPS, ChangedGroup, Group, GroupRule
from cpns.domain.invitation import is_recent
from cpns.domain.member_list import Policy, Standing
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId, SgId
from cpns.ports import Clock
from cpns.ports.groups import GroupStore
from cpns.server.groups.epochs import SWEPT_AT_ONCE, GroupEpochs
from cpns.shares.noted import by

_log = logging.getLogger("cpns.server")

COMES, OWNS = "sg", "sg_owner"
"""What a PNE is asked: whether it comes into a group, or takes ownership of it."""
EXPIRY_LOOK_SECONDS: Final = 60.0


class Delivery(Protocol):
    """Who tells those that a change concerns, and asks those that have to agree; see `GroupDelivery`."""

    def tell(self, changed: ChangedGroup) -> "asyncio.Task[None] | None":
        """Tell of a change, soon; return what ends when the PN GWs know. None: there is nobody to tell."""
        ...

    def made(self, group: Group) -> None:
        """Tell the PN GW of its owner that a group is made."""
        ...

    async def comes(self, pne: EntityId, group: Group) -> int:
        """Ask a PNE whether it comes into a group; return its result. Raises `NoAnswer`."""
        ...

    async def takes_over(self, pne: EntityId, group: Group) -> int:
        """Ask a PNE whether it takes ownership of a group; return its result. Raises `NoAnswer`."""
        ...

    async def is_connected(self, pne: EntityId) -> bool:
        """Return whether a PNE can be reached."""
        ...


class Nobody:
    """A `Delivery` where no server runs."""

    def tell(self, changed: ChangedGroup) -> "asyncio.Task[None] | None":
        """Tell nobody: who comes asks for the SG Inventory first."""
        return None

    def made(self, group: Group) -> None:
        """Tell nobody."""

    async def comes(self, pne: EntityId, group: Group) -> int:
        """Raise `NoAnswer`: nobody can be asked."""
        raise NoAnswer("away")

    async def takes_over(self, pne: EntityId, group: Group) -> int:
        """Raise `NoAnswer`: nobody can be asked."""
        raise NoAnswer("away")

    async def is_connected(self, pne: EntityId) -> bool:
        """Return that nobody can be reached."""
        return False


class GroupActions:
    """The actions on service groups.

    Args:
        delivery: tells of them.
        most: groups that one PNE may be in.
    """

    def __init__(self, store: GroupStore, clock: Clock, delivery: Delivery, most: int = MAX_GROUPS) -> None:
        self._store = store
        self._clock = clock
        self._delivery = delivery
        self._most = most
        self._passing_on: set[SgId] = set()
        self._epochs = GroupEpochs(store, clock, self._begun)
        self._expired_at = -EXPIRY_LOOK_SECONDS

    async def close(self) -> None:
        """Wait for no epoch any more."""
        await self._epochs.close()

    async def sweep(self, *, ends: bool) -> None:
        """Begin epochs that are due; where time *ends* things, invitations that are over, and what has a pace."""
        await self._epochs.sweep()
        if not ends or self._clock.monotonic() < self._expired_at + EXPIRY_LOOK_SECONDS:
            return
        self._expired_at = self._clock.monotonic()
        await self._store.sweep_bounds(self._clock.now())
        self.tell(await self._store.expire_group_invitations(self._clock.now(), SWEPT_AT_ONCE))

    async def create(self, new: Group) -> None:
        """Make a group. Raises `Refused`, as all of these."""
        await self._store.create_group(new, self._most)
        self._delivery.made(new)

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
        try:
            answer = await self._delivery.comes(pne, group)
            if answer != Result.SUCCESS:
                await self._store.declined(COMES, pne, asking, group.sg_id, self._clock.now())
                return Result.told(answer, Result.REFUSED_BY_USER)
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

    async def update(self, sg_id: SgId, actor: Actor, policy: Policy | None, keep: int | None) -> Group:
        """Change who may join, and how long messages are kept, as the operator says."""
        return (await self._change(sg_id, partial(rules.update, policy=policy, keep=keep), actor)).after

    async def replace_silent_owners(self, seconds: float) -> None:
        """Give groups whose owner was not here for that long to the member that was, and is in longest (DEF-5)."""
        since = self._clock.now() - seconds
        for group, there in await self._store.silent_owners(since):
            if not await self._delivery.is_connected(group.owner):
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
        answer = await self._delivery.takes_over(to, group)
        if answer != Result.SUCCESS:
            raise Refused(Result.told(answer, Result.REFUSED_BY_USER), "candidate_does_not_agree")

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
                telling.append(self._delivery.tell(changed))
        return [task for task in telling if task is not None]

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
