"""Every rule of the service groups against a plain model: the real store on a real file, and dicts from the prose.

The model and its tables (`JOINING`, `RIGHTS`) call nothing of `cpns.domain.group` and know no table of the store.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise, product
from random import Random
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from cpns.domain import group as rules
from cpns.domain import invitation
from cpns.domain.actor import OPERATOR, SERVER, Actor, Role
from cpns.domain.actor import pne as pne_actor
from cpns.domain.group import ChangedGroup, Group, GroupChange, GroupInventory, GroupRule, Listed
from cpns.domain.inventory import Kind, NewEntity, Outcome, Revocation, State
from cpns.domain.member_list import Policy, Standing
from cpns.errors import Conflict, NotFound, Refused, Result
from cpns.ids import EntityId, SgId
from cpns.store import group_queries
from cpns.store.server_store import ServerStore
from tests.support.stores import Location, Row, fresh, make_store_of, shape_of

T = TypeVar("T")

PNES = [EntityId(f"pne-{number}") for number in range(1, 8)]
GHOSTS = [EntityId(f"ghost-{number}") for number in (1, 2)]
"""Invited before they are provisioned; nobody speaks for them."""
NO_GROUP = SgId("sg-unknown")
NAMES = ["walk", "Walk", "wa%k", "wa_k", "wa\\k", "Fit 100%"]
SERVICES = [None, "fit", "Fit", "tv"]
KEYWORDS = ["", "", "walk", "WALK", "%", "_", "\\", "fit", "TV", "a", "x"]
MOST = 6
MOST_GROUPS, MOST_OPEN, MOST_OPEN_OF_OWNER = 3, 2, 3
OPEN_FOR = 12.0
MEMBER, INVITED, PENDING, BARRED = Standing.MEMBER, Standing.INVITED, Standing.PENDING, Standing.BARRED
COMING, LEAVING = Standing.COMING, Standing.LEAVING
OPEN, APPROVAL, CLOSED = Policy.OPEN, Policy.APPROVAL, Policy.CLOSED


def provisioned(pne: EntityId) -> NewEntity:
    return NewEntity(pne, Kind.PNE, None, "", b"sealed", pne.encode(), 1.0)


# --- the model


class No(NamedTuple):
    """Why a step is refused; `result` is None where it is the user's fault."""

    result: Result | None
    reason: str


UNKNOWN_SG, UNKNOWN_ENTITY = No(Result.UNKNOWN_SG, "no_such_group"), No(None, "unknown_entity")
TAKEN, CONTRADICTS = No(Result.EXISTS, "own_group_of_that_name"), No(None, "store_conflict")
NOT_ACTIVE = No(Result.NOT_ALLOWED, "no_active_device")
FULL = No(Result.TOO_MANY, "list_is_full")
TOO_OFTEN, TOO_MANY_GROUPS = No(Result.TOO_MANY, "too_often"), No(Result.TOO_MANY, "too_many_groups")
TOO_MANY_INVITED = No(Result.TOO_MANY, "too_many_invitations")
ALREADY = No(Result.ALREADY_MEMBER, "already_in_this_group")
WAS_BARRED, NOT_LISTED = No(Result.NOT_ALLOWED, "barred"), No(Result.POLICY, "not_on_the_list")
NOT_IN_IT = No(Result.NOT_A_MEMBER, "not_in_this_group")
MAY_NOT = {action: No(Result.NOT_ALLOWED, f"may_not_{action}") for action in ("invite", "expel", "delete", "pass_on")}
LEAVE_INSTEAD = No(Result.NOT_ALLOWED, "leave_instead")
NO_CANDIDATE = No(Result.NOT_A_MEMBER, "no_such_candidate")
PASSED_ON, LEFT = No(Result.IN_PROGRESS, "passed_on_meanwhile"), No(Result.NOT_A_MEMBER, "left_meanwhile")


class Done(NamedTuple):
    """What a step did: what is told of it, and the group before and after."""

    event: str
    subjects: Mapping[EntityId, Standing | None]
    deleted: bool
    before: Group
    after: Group
    members: list[EntityId]


@dataclass
class Place:
    how: Standing
    since: float
    epoch: int = 0


@dataclass
class Sg:
    """A group: who is on its list, how, since when, and from which epoch on."""

    new: Group
    owner: EntityId
    policy: Policy
    version: int = 1
    epoch: int = 1
    begun: float = 0.0
    due: float | None = None
    listed: dict[EntityId, Place] = field(default_factory=dict)

    def who_is(self, *standings: Standing) -> list[EntityId]:
        return sorted(pne for pne, place in self.listed.items() if place.how in standings)

    def raw(self, pne: EntityId) -> Standing | None:
        return self.listed[pne].how if pne in self.listed else None

    def standing(self, pne: EntityId | None, at: float) -> Standing | None:
        """Return the place that counts: who leaves, and who was invited too long ago, has none."""
        how = None if pne is None else self.raw(pne)
        if pne is not None and (how is LEAVING or (how is INVITED and self.listed[pne].since <= at - OPEN_FOR)):
            return None
        return how

    def is_in(self, pne: EntityId | None) -> bool:
        return pne is not None and self.raw(pne) in (MEMBER, COMING)

    def in_longest(self) -> list[EntityId]:
        return sorted(self.who_is(MEMBER, COMING), key=lambda pne: (self.listed[pne].since, pne))

    def open(self, at: float) -> list[EntityId]:
        return [pne for pne in self.who_is(INVITED) if self.standing(pne, at) is INVITED]

    def group(self) -> Group:
        known = {"owner": self.owner, "policy": self.policy, "version": self.version, "epoch": self.epoch}
        return replace(self.new, **known, begun=self.begun, due=self.due)  # type: ignore[arg-type]

    def told(self) -> GroupInventory:
        places = [(pne, self.listed[pne]) for pne in sorted(self.listed)]
        return GroupInventory(self.group(), tuple(Listed(pne, p.how, p.since, epoch=p.epoch) for pne, p in places))


def who(actor: EntityId | None) -> Actor:
    """Return who acts; None: the operator."""
    return OPERATOR if actor is None else pne_actor(actor)


class Model:
    """The groups. Methods are the steps: each returns what it did, or why it is refused."""

    def __init__(self) -> None:
        self.sgs: dict[SgId, Sg] = {}
        self.revoked: set[EntityId] = set()
        self.log: list[Outcome] = []
        self.paces: dict[tuple[EntityId, SgId | None], tuple[int, float]] = {}

    def by_name(self) -> list[Sg]:
        return sorted(self.sgs.values(), key=lambda one: (one.new.name, one.new.sg_id))

    def of(self, sg_id: SgId, asker: EntityId | None, at: float) -> Sg | None:
        """Return a group; a closed one is none for who has no place in it. None: the operator asks."""
        sg = self.sgs.get(sg_id)
        hidden = sg is not None and asker is not None and sg.policy is CLOSED and sg.standing(asker, at) is None
        return None if hidden else sg

    def governs(self, sg: Sg, actor: EntityId | None) -> bool:
        return actor is None or actor == sg.owner

    def pace(self, pne: EntityId, what: SgId | None, times: int, at: float) -> tuple[int, float] | No:
        """So many in a minute, then a minute of nothing; a clock that goes back begins anew."""
        did, since = self.paces.get((pne, what), (0, -9e9))
        if not 0 <= at - since < 60:
            return 1, at
        if did == times:
            return TOO_OFTEN
        return did + 1, at if did + 1 == times else since

    def write(
        self,
        sg: Sg,
        event: str,
        by: Actor,
        at: float,
        subjects: Mapping[EntityId, Standing | None],
        *,
        end: bool = False,
        owner: EntityId | None = None,
        policy: Policy | None = None,
        keep: int | None = None,
        quiet: bool = False,
        out: bool = False,
        also: Iterable[EntityId] = (),
    ) -> Done | No:
        """Put *subjects* where they belong; who *owner* or *policy* is from now on; and all that follows from it."""
        new = {pne for pne, how in subjects.items() if how is not None and pne not in sg.listed}
        before, who = sg.group(), sg.who_is(MEMBER)
        rows = [*subjects] or [EntityId(sg.new.sg_id)]
        own = EntityId(by.name) if by.is_device else None
        actor = by.within(sg.owner, is_member=sg.standing(own, at) in (MEMBER, COMING))
        log = [Outcome(at, event, one, actor, Result.SUCCESS, sg.new.sg_id) for one in rows]
        gone = {pne for pne, how in subjects.items() if how not in (MEMBER, COMING)} if not quiet else set()
        if end or not set(sg.who_is(MEMBER, COMING)) - gone:
            del self.sgs[sg.new.sg_id]
            self.log += log
            return Done(event, dict(subjects), True, before, before, who)
        if new and len(sg.listed) + len(new) > MOST:
            return FULL
        asked = {pne for pne, how in subjects.items() if how is INVITED and sg.standing(pne, at) is not INVITED}
        if asked and not by.is_operator:
            of_owner = sum(len(one.open(at)) for one in self.sgs.values() if one.owner == sg.owner)
            if len(sg.open(at)) + len(asked) > MOST_OPEN or of_owner + len(asked) > MOST_OPEN_OF_OWNER:
                return TOO_MANY_INVITED
        self.log += log
        if not quiet:
            self.move(sg, {**subjects, **dict.fromkeys(also)}, at, out=out)
        was = sg.owner, sg.policy, sg.new.keep
        sg.owner, sg.policy = owner or sg.owner, policy or sg.policy
        sg.new = sg.new if keep is None else replace(sg.new, keep=keep)
        if not sg.is_in(sg.owner):
            sg.owner = sg.in_longest()[0]
        if was != (sg.owner, sg.policy, sg.new.keep) and sg.version == before.version:
            sg.version += 1
        return Done(event, dict(subjects), False, before, sg.group(), sg.who_is(MEMBER))

    def move(self, sg: Sg, wanted: Mapping[EntityId, Standing | None], at: float, *, out: bool) -> None:
        """Who is put out goes with an epoch at once; who comes or goes waits until a second after the last began."""
        begins, waits, tells = False, False, False
        for pne, how in wanted.items():
            was = sg.raw(pne)
            inside = was in (MEMBER, LEAVING)
            now = how
            if not out and how is MEMBER:
                now = was if was is COMING else MEMBER if inside else COMING
            elif not out and how is None and inside:
                now = LEAVING
            begins |= inside and now not in (MEMBER, LEAVING)
            waits |= now in (COMING, LEAVING) and now is not was
            tells |= now is not COMING and now is not was and {now, was} != {MEMBER, LEAVING}
            if now is None:
                sg.listed.pop(pne, None)
            elif now is not was or now is INVITED:
                sg.listed[pne] = Place(now, at, sg.listed[pne].epoch if pne in sg.listed else 0)
        if waits:
            sg.due = min(max(at, sg.begun + 1 if sg.due is None else sg.due), at + 1)
        if begins or (waits and sg.due is not None and sg.due <= at):
            self.begins(sg, at)
        else:
            sg.version += tells
            sg.due = sg.due if sg.who_is(COMING, LEAVING) else None

    def begins(self, sg: Sg, at: float) -> None:
        sg.epoch, sg.version, sg.begun, sg.due = sg.epoch + 1, sg.version + 1, at, None
        for pne, place in [*sg.listed.items()]:
            if place.how is COMING:
                sg.listed[pne] = Place(MEMBER, place.since, sg.epoch)
            elif place.how is LEAVING:
                del sg.listed[pne]

    def begin(self, sg_id: SgId, at: float) -> Done | None:
        if (sg := self.sgs.get(sg_id)) is None:
            return None
        before = sg.group()
        if sg.due is not None and (sg.due <= at or sg.due > at + 1):
            self.begins(sg, at)
            return Done("sg_epoch_begun", {}, False, before, sg.group(), sg.who_is(MEMBER))
        return Done("sg_epoch_begun", {}, False, before, before, [])

    def expire(self, at: float) -> object:
        over = [
            (place.since, sg_id, pne)
            for sg_id, sg in self.sgs.items()
            for pne, place in sg.listed.items()
            if place.how is INVITED and place.since <= at - OPEN_FOR
        ]
        ended = []
        for sg_id in dict.fromkeys(sg_id for _, sg_id, _ in sorted(over)):
            gone = {pne: None for _, of, pne in sorted(over) if of == sg_id}
            ended.append(self.write(self.sgs[sg_id], "sg_invitation_ended", SERVER, at, gone))
        return ended

    def create(self, new: Group) -> No | None:
        if self.is_in_too_many(new.owner):
            return TOO_MANY_GROUPS
        if isinstance(did := self.pace(new.owner, None, 8, new.created_at), No):
            return did
        if new.name in [one.new.name for one in self.sgs.values() if one.owner == new.owner]:
            return TAKEN
        if new.owner not in PNES or new.owner in self.revoked:
            return NOT_ACTIVE
        if new.sg_id in self.sgs:
            return CONTRADICTS
        self.paces[new.owner, None] = did
        self.sgs[new.sg_id] = Sg(new, new.owner, new.policy, listed={new.owner: Place(MEMBER, new.created_at, 1)})
        self.log.append(
            Outcome(new.created_at, "sg_created", new.owner, Actor(Role.OWNER, new.owner), Result.SUCCESS, new.sg_id)
        )
        return None

    def is_in_too_many(self, pne: EntityId) -> bool:
        return sum(sg.raw(pne) in (MEMBER, COMING) for sg in self.sgs.values()) >= MOST_GROUPS

    def join(self, sg_id: SgId, pne: EntityId, at: float) -> Done | No:
        if (sg := self.of(sg_id, pne, at)) is None:
            return UNKNOWN_SG
        ends = JOINING[sg.standing(pne, at), sg.policy]
        if isinstance(ends, No):
            return ends
        if ends is MEMBER and sg.raw(pne) is not LEAVING and self.is_in_too_many(pne):
            return TOO_MANY_GROUPS
        if isinstance(did := self.pace(pne, sg_id, 3, at), No):
            return did
        ended = self.write(sg, "sg_joined" if ends is MEMBER else "sg_waits", who(pne), at, {pne: ends})
        if not isinstance(ended, No):
            self.paces[pne, sg_id] = did
        return ended

    def invite(self, sg_id: SgId, actor: EntityId | None, whom: Sequence[EntityId], at: float) -> Done | No:
        if (sg := self.of(sg_id, actor, at)) is None:
            return UNKNOWN_SG
        governs = self.governs(sg, actor)
        if not governs and (sg.policy is not OPEN or not sg.is_in(actor)):
            return MAY_NOT["invite"]
        if not governs and set(whom) & set(sg.who_is(BARRED)):
            return WAS_BARRED
        come = {pne: MEMBER if governs and sg.raw(pne) is PENDING else INVITED for pne in whom}
        if actor is not None and any(how is MEMBER and self.is_in_too_many(pne) for pne, how in come.items()):
            return TOO_MANY_GROUPS
        return self.write(
            sg, "sg_invited", who(actor), at, {pne: how for pne, how in come.items() if not sg.is_in(pne)}
        )

    def leave(self, sg_id: SgId, pne: EntityId, at: float) -> Done | No:
        if (sg := self.of(sg_id, pne, at)) is None:
            return UNKNOWN_SG
        if sg.standing(pne, at) in (None, BARRED):
            return NOT_IN_IT
        return self.write(sg, "sg_left", who(pne), at, {pne: None})

    def expel(self, sg_id: SgId, actor: EntityId | None, whom: Sequence[EntityId], at: float) -> Done | No:
        if (sg := self.of(sg_id, actor, at)) is None:
            return UNKNOWN_SG
        if not self.governs(sg, actor):
            return MAY_NOT["expel"]
        if actor in whom:
            return LEAVE_INSTEAD
        if any(sg.standing(pne, at) is None for pne in whom):
            return NOT_IN_IT
        return self.write(sg, "sg_expelled", who(actor), at, dict.fromkeys(whom, BARRED), out=True)

    def delete(self, sg_id: SgId, actor: EntityId | None, at: float) -> Done | No:
        if (sg := self.of(sg_id, actor, at)) is None:
            return UNKNOWN_SG
        if not self.governs(sg, actor):
            return MAY_NOT["delete"]
        return self.write(sg, "sg_deleted", who(actor), at, {}, end=True)

    def candidates(
        self, sg_id: SgId, actor: EntityId | None, wanted: EntityId | None, at: float
    ) -> list[EntityId] | No:
        if (sg := self.of(sg_id, actor, at)) is None:
            return UNKNOWN_SG
        if not self.governs(sg, actor):
            return MAY_NOT["pass_on"]
        found = [pne for pne in sg.in_longest() if pne != sg.owner and wanted in (None, pne)]
        return found or NO_CANDIDATE

    def pass_on(self, sg_id: SgId, frm: EntityId, to: EntityId, at: float, by: EntityId | None) -> Done | No:
        if (sg := self.of(sg_id, by, at)) is None:
            return UNKNOWN_SG
        if sg.owner != frm:
            return PASSED_ON
        if not self.governs(sg, by):
            return MAY_NOT["pass_on"]
        if not sg.is_in(to):
            return LEFT
        return self.write(sg, "sg_owner_changed", who(by), at, {to: MEMBER}, owner=to, quiet=True)

    def replace_owner(self, sg_id: SgId, gone: EntityId, there: Sequence[EntityId], at: float) -> Done | No:
        if (sg := self.sgs.get(sg_id)) is None:
            return UNKNOWN_SG
        found = [pne for pne in sg.in_longest() if pne in there and pne != sg.owner]
        if sg.owner != gone or not found:
            return NO_CANDIDATE
        return self.write(sg, "sg_owner_replaced", SERVER, at, {found[0]: MEMBER}, owner=found[0], quiet=True)

    def settle(self, sg_id: SgId, policy: Policy | None, keep: int | None, at: float) -> Done | No:
        if (sg := self.sgs.get(sg_id)) is None:
            return UNKNOWN_SG
        return self.write(sg, "sg_settled", OPERATOR, at, {}, policy=policy, keep=keep)

    def revoke(self, one: EntityId, at: float) -> object:
        if one not in PNES:
            return UNKNOWN_ENTITY
        first = one not in self.revoked
        self.revoked.add(one)
        if first:
            self.log.append(Outcome(at, "revoked", one, OPERATOR, Result.SUCCESS))
        on = [sg for _, sg in sorted(self.sgs.items()) if one in sg.listed]
        ended = []
        for sg in on:  # an owner's invitations go with it
            invited = sg.who_is(INVITED) if sg.owner == one else []
            also = [pne for pne in invited if sg.standing(pne, at) is INVITED and pne != one]
            ended.append(self.write(sg, "sg_left", OPERATOR, at, {one: None}, out=True, also=also))
        return first, ended

    def discover(self, pne: EntityId, keyword: str, service: str | None, after: str, limit: int) -> list[Group]:
        found = []
        for sg_id, sg in sorted(self.sgs.items()):
            shown = sg.policy is not CLOSED or sg.raw(pne) not in (None, BARRED)
            words = [sg.new.name.lower(), (sg.new.service or "").lower()]
            if shown and any(keyword.lower() in one for one in words) and service in (None, sg.new.service):
                found.append((sg_id, sg.group()))
        return [group for sg_id, group in found if sg_id > after][:limit]

    def groups_of(self, *pnes: EntityId) -> list[SgId]:
        return [SgId(sg_id) for sg_id, sg in sorted(self.sgs.items()) if set(pnes) & set(sg.who_is(MEMBER))]


_JOINING = """
             open     approval  closed
    -        member   pending   none
    member   already  already   already
    coming   already  already   already
    leaving  member   pending   none
    invited  member   member    member
    pending  member   pending   no
    barred   barred   barred    barred
"""
_WORDS: dict[str, Standing | No] = {
    "member": MEMBER,
    "pending": PENDING,
    "no": NOT_LISTED,
    "none": UNKNOWN_SG,
    "already": ALREADY,
    "barred": WAS_BARRED,
}
JOINING: dict[tuple[Standing | None, Policy], Standing | No] = {
    (None if listed == "-" else Standing(listed), policy): _WORDS[word]
    for listed, *words in map(str.split, _JOINING.strip().splitlines()[1:])
    for policy, word in zip((OPEN, APPROVAL, CLOSED), words, strict=True)
}

_RIGHTS = """
              operator  owner  member  invited  pending  barred  stranger
    invite    yes       yes    open    no       no       no      no
    expel     yes       yes    no      no       no       no      no
    delete    yes       yes    no      no       no       no      no
    pass_on   yes       yes    no      no       no       no      no
"""
"""``open``: where the policy is open."""
_ACTORS, *_ROWS = map(str.split, _RIGHTS.strip().splitlines())
RIGHTS = {(action, who): right for action, *row in _ROWS for who, right in zip(_ACTORS, row, strict=True)}

# --- the machine


class Seen(NamedTuple):
    """All that the store tells."""

    groups: list[GroupInventory]
    log: list[Outcome]


async def look(store: ServerStore) -> Seen:
    groups, log = await asyncio.gather(store.groups(), store.audit(None, 9999))
    return Seen(groups, [row for row in reversed(log) if row.event != "provisioned"])


def done(changed: ChangedGroup) -> Done:
    change = changed.change
    subjects = {pne: change.standings.get(pne, MEMBER) for pne in change.subjects}
    return Done(change.event, subjects, change.deleted, changed.before, changed.after, [*changed.members])


def outcome(value: object) -> object:
    """Return why a step was refused, or what it did."""
    if isinstance(value, Refused):
        return No(value.result, value.reason)
    if isinstance(value, NotFound | Conflict):
        return No(None, value.code)
    assert not isinstance(value, BaseException), value
    if isinstance(value, Revocation):
        assert (value.left, value.also) == ((), ())
        return value.first, [done(one) for one in value.groups]
    if isinstance(value, list) and value and isinstance(value[0], ChangedGroup):
        return [done(one) for one in value]
    return done(value) if isinstance(value, ChangedGroup) else value


def seen(actor: EntityId | None, group: Group) -> Actor:
    """Return who that is in a group, as far as ownership goes."""
    return who(actor).within(group.owner, is_member=True)


async def candidates(
    store: ServerStore, sg_id: SgId, actor: EntityId | None, wanted: EntityId | None, at: float
) -> list[EntityId]:
    """Ask as the server does."""
    found = await store.group(sg_id, actor, at)
    if found is None:
        raise Refused(Result.UNKNOWN_SG, "no_such_group")
    return rules.candidates(found.group, {one.pne_id: one for one in found.listed}, seen(actor, found.group), wanted)


Step = tuple[Any, ...]


def in_the_store(store: ServerStore, step: Step) -> Coroutine[Any, Any, object]:
    """Return a step of `Model` as the store takes it."""

    def changing(decide: GroupRule, by: EntityId | Actor | None) -> Coroutine[Any, Any, object]:
        return store.change_group(step[1], decide, at, by if isinstance(by, Actor) else who(by), MOST_GROUPS)

    name, *args = step
    at = step[-1]
    match name:
        case "create":
            return store.create_group(args[0], MOST_GROUPS)
        case "begin":
            return store.begin_epoch(*args)
        case "expire":
            return store.expire_group_invitations(args[0], 99)
        case "join":
            return changing(rules.join, args[1])
        case "invite":
            return changing(partial(rules.invite, whom=args[2]), args[1])
        case "leave":
            return changing(rules.leave, args[1])
        case "expel":
            return changing(partial(rules.expel, whom=args[2]), args[1])
        case "delete":
            return changing(rules.delete, args[1])
        case "candidates":
            return candidates(store, *args)
        case "pass_on":
            at = args[3]
            return changing(partial(rules.pass_on, frm=args[1], to=args[2]), args[4])
        case "replace_owner":
            return changing(partial(rules.replace_owner, gone=args[1], there=args[2]), SERVER)
        case "settle":
            return changing(partial(rules.update, policy=args[1], keep=args[2]), OPERATOR)
        case "revoke":
            return store.revoke(args[0], at, OPERATOR)
        case "discover":
            return store.discover_groups(*args)
        case _:
            return store.groups_of(args, "", 99)


STEPS = ["join"] * 9 + ["invite"] * 8 + ["leave", "expel", "settle", "pass_on", "discover"] * 4 + ["replace_owner"] * 2
STEPS += ["candidates"] * 3 + ["create"] * 4 + ["groups_of"] * 2 + ["delete", "revoke"] + ["begin"] * 9 + ["expire"] * 2


class Machine(RuleBasedStateMachine):
    """Steps of everybody, right ones and wrong ones, each in the store and in the model; some of them at once."""

    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(group_queries, "MAX_LISTED", MOST)
        self.patch.setattr(invitation, "OPEN_OF_LIST", MOST_OPEN)
        self.patch.setattr(invitation, "OPEN_OF_OWNER", MOST_OPEN_OF_OWNER)
        self.patch.setattr(invitation, "INVITATION_SECONDS", OPEN_FOR)
        self.closing = contextlib.ExitStack()
        self.place = self.closing.enter_context(fresh(self.kind))
        self.loop = asyncio.new_event_loop()
        self.store = self.loop.run_until_complete(self._open())
        self.loop.run_until_complete(self.store.add_entities([provisioned(one) for one in PNES], OPERATOR))
        self.model = Model()
        self.drawn = b""
        self.made = 0
        self.now = 1000.0
        self.seen: Seen | None = None
        self.ended: list[object] = []

    async def _open(self) -> ServerStore:
        return ServerStore.open(self.place)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.loop.close()
        self.closing.close()
        self.patch.undo()

    def model_of(self, step: Step) -> object:
        """Take a step in the model; return how it ends."""
        note(f"{step}")
        return getattr(self.model, step[0])(*step[1:])

    def same_in_the_store(self, steps: Sequence[Step], expected: Sequence[object]) -> None:
        """Take *steps* in one transaction: each ends as in the model, whatever becomes of the others."""

        async def together() -> list[object]:
            return [*await asyncio.gather(*(in_the_store(self.store, one) for one in steps), return_exceptions=True)]

        self.ended = [outcome(one) for one in self.loop.run_until_complete(together())]
        assert self.ended == expected
        self.now += 1

    def do(self, *step: Any) -> None:
        self.same_in_the_store([step], [self.model_of(step)])

    def fresh(self, owner: EntityId, name: str, service: str | None, policy: Policy, at: float) -> Group:
        self.made += 1
        return Group(SgId(f"sg-{self.made * 7 % 10}-{self.made}"), name, service, owner, policy, 1, 1, at)

    @initialize(seed=st.integers(0, 9))
    def some(self, seed: int) -> None:
        """A group of each policy: one with several members that came at the same time, one that somebody waits for."""
        shared = self.fresh(PNES[seed % 7], "shared", "fit", OPEN, self.now)
        asked = self.fresh(PNES[0], "asked", None, APPROVAL, self.now)
        for new in (shared, asked, self.fresh(PNES[1], "closed", "tv", CLOSED, self.now)):
            self.do("create", new)
        at = self.now
        for pne in (PNES[4], PNES[2], PNES[3]):
            if pne != shared.owner:
                self.do("join", shared.sg_id, pne, at)
        self.do("join", asked.sg_id, PNES[5], at)

    @rule(seed=st.binary(min_size=8, max_size=8))
    def step(self, seed: bytes) -> None:
        """One rule, and seeds: Hypothesis would leave rules out and repeat steps and examples, which finds less."""
        self.drawn += seed
        random = Random(self.drawn)
        if random.random() < 0.03:
            self.restart()
        steps, expected = [], []
        for _ in range(random.choice([1, 1, 1, 2, 3])):
            if (drawn := self.draw(random)) is not None:
                steps.append(drawn)
                expected.append(self.model_of(drawn))
        self.same_in_the_store(steps, expected)

    def draw(self, random: Random) -> Step | None:
        """Return a step on what there is, or None. Who is revoked has no session, and asks for nothing."""

        def pick(options: Iterable[T]) -> T:
            return random.choice([*options])

        name = pick(STEPS)
        at = self.now + pick([0.0, 0.0, 0.0, 0.0, -3.0, 1.5])
        here = [pne for pne in PNES if pne not in self.model.revoked] or PNES[:1]
        sg_id = pick([*[*self.model.sgs] * 8, NO_GROUP])
        none = Sg(self.fresh(PNES[0], "", None, OPEN, at), PNES[0], OPEN)
        sg = self.model.sgs.get(sg_id, none)
        on = sorted(sg.listed) or PNES
        anybody = pick([*PNES, *GHOSTS])
        actor = pick([*[sg.owner] * 6, None, None, *[*sg.who_is(MEMBER)] * 2, *on, anybody])
        some = [pick([*on, *PNES, anybody]) for _ in range(pick([1, 1, 1, 2, 3]))]
        waiting = sg.who_is(PENDING)
        match name:
            case "begin":
                return ("begin", sg_id, pick([at, at, at + 1, sg.due or at]))
            case "expire":
                return ("expire", at)
            case "create":
                new = self.fresh(pick([*here * 3, GHOSTS[0]]), pick(NAMES), pick(SERVICES), pick(Policy), at)
                return ("create", replace(new, sg_id=pick([*[new.sg_id] * 9, sg.new.sg_id])))
            case "join":
                able = [pne for pne in sg.who_is(INVITED) if pne in here]
                return ("join", sg_id, pick([*here, *able * 3]), at)
            case "invite":
                return ("invite", sg_id, actor, [*dict.fromkeys([*some, *waiting[:1]])], at)
            case "leave":
                return ("leave", sg_id, pick([*on * 2, sg.owner, pick(PNES)]), at)
            case "expel":
                alone = sg.who_is(MEMBER) if pick([False] * 9 + [True]) else []
                return ("expel", sg_id, actor, [*dict.fromkeys([*(one for one in some if one in on), *alone])], at)
            case "delete":
                return ("delete", sg_id, pick([actor, sg.owner, anybody, *on]), at)
            case "candidates":
                return ("candidates", sg_id, actor, pick([None, None, *on, anybody]), at)
            case "pass_on":
                frm = pick([*[sg.owner] * 7, anybody])
                return ("pass_on", sg_id, frm, pick([*sg.who_is(MEMBER) * 3, *on, anybody]), at, pick([frm, None]))
            case "replace_owner":
                return ("replace_owner", sg_id, pick([*[sg.owner] * 4, anybody]), [pick([*on, anybody]), *some], at)
            case "settle":
                return ("settle", sg_id, pick([*Policy, None]), pick([None, None, 0, 60, 86400]), at)
            case "revoke":  # seldom, as nobody comes back from it
                return ("revoke", pick([*PNES, sg.owner, GHOSTS[0]]), at)
            case "discover":
                limit = pick([1, 2, 99])
                return ("discover", pick([*on, anybody]), pick(KEYWORDS), pick(SERVICES), pick(["", sg_id]), limit)
            case _:
                return ("groups_of", *(pick(PNES) for _ in range(pick([0, 1, 2, 3]))))

    def restart(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.store = self.loop.run_until_complete(self._open())

    @invariant()
    def the_store_holds_what_the_model_does(self) -> None:
        was, self.seen = self.seen, self.loop.run_until_complete(look(self.store))
        assert self.seen.groups == [sg.told() for sg in self.model.by_name()]
        assert self.seen.log == self.model.log
        if was is not None:
            self.what_always_holds(was, self.seen)

    @invariant()
    def everybody_finds_what_the_model_says(self) -> None:
        async def all_of() -> tuple[list[list[Group]], list[list[SgId]], list[GroupInventory | None]]:
            store, ids = self.store, [*self.model.sgs, NO_GROUP]
            return (
                [*await asyncio.gather(*(store.discover_groups(who, "", None, "", 99) for who in [*PNES, *GHOSTS]))],
                [*await asyncio.gather(*(store.groups_of([who], "", 99) for who in PNES))],
                [*await asyncio.gather(*(store.group(sg_id) for sg_id in ids))],
            )

        found, of, each = self.loop.run_until_complete(all_of())
        assert found == [self.model.discover(who, "", None, "", 99) for who in [*PNES, *GHOSTS]]
        assert of == [self.model.groups_of(who) for who in PNES]
        assert each == [*(sg.told() for sg in self.model.sgs.values()), None]

    def what_always_holds(self, was: Seen, now: Seen) -> None:
        """Read off the store alone, whatever the model says."""
        assert now.log[: len(was.log)] == was.log
        for one in now.groups:
            how = {place.pne_id: place for place in one.listed}
            assert how[one.group.owner].standing in (MEMBER, COMING)
            assert len(one.listed) <= MOST
            assert (one.group.due is not None) == any(place.standing in (COMING, LEAVING) for place in one.listed)
            assert all(place.epoch <= one.group.epoch for place in one.listed)
        in_order = [(one.group.name, one.group.sg_id) for one in now.groups]
        assert all(a < b for a, b in pairwise(in_order))
        if len(self.ended) != 1:
            return
        if isinstance(self.ended[0], No):
            assert now == was
        here = {one.group.sg_id: one for one in now.groups}
        for before in was.groups:
            if (after := here.get(before.group.sg_id)) is not None:
                assert after.group.epoch - before.group.epoch in (0, 1)
                if in_its_epoch(before) != in_its_epoch(after):  # whose list is the same from beginning to end
                    assert after.group.epoch == before.group.epoch + 1
                assert after.group.version - before.group.version in (0, 1)


def in_its_epoch(one: GroupInventory) -> set[EntityId]:
    return {place.pne_id for place in one.listed if place.standing in (MEMBER, LEAVING)}


Machine.TestCase.settings = settings(
    max_examples=16,
    stateful_step_count=35,
    derandomize=True,
    phases=[Phase.generate],  # seeds do not shrink
)
TestGroups = Machine.TestCase


class OnPostgres(Machine):
    kind = "postgres"


OnPostgres.TestCase.settings = settings(Machine.TestCase.settings, max_examples=4)
TestGroupsOnPostgres = OnPostgres.TestCase

# --- the rules one by one

OWNER, FIRST, SECOND, GUEST, WAITER, OUTCAST, STRANGER = PNES
SG = SgId("sg-1")
AS_OWNER = Actor(Role.OWNER, OWNER)
GROUP = Group(SG, "walk", "fit", OWNER, OPEN, 5, 3, 1.0)
PLACES = {
    pne: Listed(pne, standing, since)
    for pne, standing, since in (
        (OUTCAST, BARRED, 0.5),
        (OWNER, MEMBER, 1.0),
        (SECOND, MEMBER, 2.0),
        (FIRST, MEMBER, 2.0),
        (GUEST, INVITED, 0.0),
        (WAITER, PENDING, 0.0),
    )
}
WHO: dict[str, EntityId | None] = {
    "operator": None,
    "owner": OWNER,
    "member": FIRST,
    "invited": GUEST,
    "pending": WAITER,
    "barred": OUTCAST,
    "stranger": STRANGER,
}


def refused(no: No, step: Callable[[], object]) -> None:
    with pytest.raises(Refused) as caught:
        step()
    assert (caught.value.result, caught.value.reason) == no


def of(policy: Policy) -> Group:
    return replace(GROUP, policy=policy)


@pytest.mark.parametrize(("standing", "policy"), JOINING)
def test_who_may_join(standing: Standing | None, policy: Policy) -> None:
    places = {OWNER: PLACES[OWNER]} | ({} if standing is None else {STRANGER: Listed(STRANGER, standing, 2.0)})
    ends = JOINING[standing, policy]
    if isinstance(ends, No):
        refused(ends, lambda: rules.join(of(policy), places, who(STRANGER)))
    else:
        event = "sg_joined" if ends is MEMBER else "sg_waits"
        change = GroupChange(event, (STRANGER,), {STRANGER: ends}, joiner=STRANGER)
        assert rules.join(of(policy), places, who(STRANGER)) == change


@pytest.mark.parametrize(("action", "who_acts", "policy"), [(*key, policy) for key, policy in product(RIGHTS, Policy)])
def test_who_may_do_what(action: str, who_acts: str, policy: Policy) -> None:
    actor, right = seen(WHO[who_acts], GROUP), RIGHTS[action, who_acts]
    steps: dict[str, Callable[[], object]] = {
        "invite": lambda: rules.invite(of(policy), PLACES, actor, [STRANGER]),
        "expel": lambda: rules.expel(of(policy), PLACES, actor, [SECOND]),
        "delete": lambda: rules.delete(of(policy), PLACES, actor),
        "pass_on": lambda: rules.candidates(of(policy), PLACES, actor, None),
    }
    if right == "yes" or (right == "open" and policy is OPEN):
        steps[action]()
    else:
        refused(MAY_NOT[action], steps[action])


@pytest.mark.parametrize("actor", [None, OWNER])
@pytest.mark.parametrize("policy", Policy)
def test_who_governs_lets_in_who_waits_and_lifts_a_bar(actor: EntityId | None, policy: Policy) -> None:
    change = rules.invite(of(policy), PLACES, seen(actor, GROUP), [SECOND, WAITER, OUTCAST, GUEST, STRANGER, OWNER])
    come = {WAITER: MEMBER, OUTCAST: INVITED, GUEST: INVITED, STRANGER: INVITED}
    assert change == GroupChange("sg_invited", tuple(come), come)


def test_a_member_lets_nobody_in_and_lifts_no_bar() -> None:
    change = rules.invite(GROUP, PLACES, seen(FIRST, GROUP), [WAITER, SECOND, STRANGER])
    assert change == GroupChange("sg_invited", (WAITER, STRANGER), {WAITER: INVITED, STRANGER: INVITED})
    refused(WAS_BARRED, lambda: rules.invite(GROUP, PLACES, seen(FIRST, GROUP), [STRANGER, OUTCAST]))


@pytest.mark.parametrize("pne", [OUTCAST, STRANGER])
def test_who_may_not_leave(pne: EntityId) -> None:
    refused(NOT_IN_IT, lambda: rules.leave(GROUP, PLACES, who(pne)))


@pytest.mark.parametrize("pne", [FIRST, GUEST, WAITER])
def test_leaving_is_also_declining(pne: EntityId) -> None:
    assert rules.leave(GROUP, PLACES, who(pne)) == GroupChange("sg_left", (pne,), {pne: None})


def test_an_owner_is_followed_by_who_is_in_longest() -> None:
    """The one that is listed longest is barred, or invited, or waits; of those that came at once, by ID."""
    gone = GroupChange("sg_left", (OWNER,), {OWNER: None}, owner=FIRST)
    assert rules.leave(GROUP, PLACES, who(OWNER)) == gone
    out = {OWNER: None, GUEST: None}  # whom it invited comes no more
    assert rules.vanish(GROUP, PLACES, OPERATOR, OWNER) == replace(gone, standings=out, puts_out=True)
    assert rules.vanish(GROUP, PLACES, OPERATOR, SECOND) == GroupChange(
        "sg_left", (SECOND,), {SECOND: None}, puts_out=True
    )
    later = PLACES | {FIRST: Listed(FIRST, MEMBER, 2.5)}
    assert rules.leave(GROUP, later, who(OWNER)) == replace(gone, owner=SECOND)
    alone = {pne: one for pne, one in PLACES.items() if pne not in (FIRST, SECOND)}
    assert rules.leave(GROUP, alone, who(OWNER)) == replace(gone, owner=None, deleted=True)


def test_the_operator_may_expel_an_owner_with_its_heir() -> None:
    barred = {OWNER: BARRED, FIRST: BARRED}
    change = rules.expel(GROUP, PLACES, OPERATOR, [*barred])
    assert change == GroupChange("sg_expelled", (OWNER, FIRST), barred, owner=SECOND, puts_out=True)
    assert rules.expel(GROUP, PLACES, OPERATOR, [OWNER, FIRST, SECOND]).deleted


def test_expelling_refuses_who_waits_and_bars() -> None:
    whom = [WAITER, GUEST, FIRST, OUTCAST]
    assert rules.expel(GROUP, PLACES, AS_OWNER, whom) == GroupChange(
        "sg_expelled", tuple(whom), dict.fromkeys(whom, BARRED), puts_out=True
    )
    refused(LEAVE_INSTEAD, lambda: rules.expel(GROUP, PLACES, AS_OWNER, [FIRST, OWNER]))
    for actor in (OPERATOR, AS_OWNER):
        refused(NOT_IN_IT, partial(rules.expel, GROUP, PLACES, actor, [FIRST, STRANGER]))


def test_whom_ownership_may_go_to() -> None:
    for actor in (OPERATOR, AS_OWNER):
        assert rules.candidates(GROUP, PLACES, actor, None) == [FIRST, SECOND]
        assert rules.candidates(GROUP, PLACES, actor, SECOND) == [SECOND]
        for wanted in (OWNER, GUEST, WAITER, OUTCAST, STRANGER):
            refused(NO_CANDIDATE, partial(rules.candidates, GROUP, PLACES, actor, wanted))
    refused(NO_CANDIDATE, lambda: rules.candidates(GROUP, {OWNER: PLACES[OWNER]}, AS_OWNER, None))


def test_ownership_goes_where_it_still_can() -> None:
    assert rules.pass_on(GROUP, PLACES, AS_OWNER, OWNER, SECOND) == GroupChange(
        "sg_owner_changed", (SECOND,), owner=SECOND
    )
    refused(PASSED_ON, lambda: rules.pass_on(GROUP, PLACES, OPERATOR, FIRST, SECOND))
    for to in (GUEST, WAITER, OUTCAST, STRANGER):
        refused(LEFT, partial(rules.pass_on, GROUP, PLACES, AS_OWNER, OWNER, to))


# --- in the store


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    opened = ServerStore.open(place)
    await opened.add_entities([provisioned(one) for one in PNES], OPERATOR)
    yield opened
    await opened.close()


def new(sg_id: str, name: str, service: str | None = None, policy: Policy = OPEN, owner: EntityId = OWNER) -> Group:
    return Group(SgId(sg_id), name, service, owner, policy, 1, 1, 10.0)


async def filled(store: ServerStore, policy: Policy = OPEN) -> None:
    """Make `GROUP` with the list of `PLACES`, step by step."""
    await store.create_group(new(SG, "walk", "fit", APPROVAL), 64)
    steps: list[Step] = [
        ("join", SG, OUTCAST, 11.0),
        ("expel", SG, OWNER, [OUTCAST], 12.0),
        ("invite", SG, OWNER, [FIRST, SECOND, GUEST], 13.0),
        ("join", SG, SECOND, 20.0),
        ("join", SG, FIRST, 20.0),
        ("join", SG, WAITER, 20.0),
        ("begin", SG, 21.0),
        ("settle", SG, policy, None, 20.0),
    ]
    for step in steps:
        await in_the_store(store, step)


async def unchanged(store: ServerStore, step: Step, no: No) -> None:
    before = await look(store)
    with pytest.raises((Refused, Conflict, NotFound)) as caught:
        await in_the_store(store, step)
    assert outcome(caught.value) == no
    assert await look(store) == before


REFUSED: list[tuple[Policy, Step, No]] = [
    (OPEN, ("join", NO_GROUP, STRANGER, 30.0), UNKNOWN_SG),
    (OPEN, ("join", SG, FIRST, 30.0), ALREADY),
    (OPEN, ("join", SG, OWNER, 30.0), ALREADY),
    (OPEN, ("join", SG, OUTCAST, 30.0), WAS_BARRED),
    (CLOSED, ("join", SG, STRANGER, 30.0), UNKNOWN_SG),
    (CLOSED, ("invite", SG, STRANGER, [FIRST], 30.0), UNKNOWN_SG),
    (CLOSED, ("leave", SG, STRANGER, 30.0), UNKNOWN_SG),
    (CLOSED, ("expel", SG, STRANGER, [FIRST], 30.0), UNKNOWN_SG),
    (CLOSED, ("delete", SG, STRANGER, 30.0), UNKNOWN_SG),
    (CLOSED, ("candidates", SG, STRANGER, None, 30.0), UNKNOWN_SG),
    (CLOSED, ("leave", SG, OUTCAST, 30.0), NOT_IN_IT),
    (CLOSED, ("delete", SG, GUEST, 30.0), MAY_NOT["delete"]),
    (CLOSED, ("join", SG, WAITER, 30.0), NOT_LISTED),
    (OPEN, ("invite", NO_GROUP, None, [STRANGER], 30.0), UNKNOWN_SG),
    (OPEN, ("invite", SG, GUEST, [STRANGER], 30.0), MAY_NOT["invite"]),
    (APPROVAL, ("invite", SG, FIRST, [STRANGER], 30.0), MAY_NOT["invite"]),
    (OPEN, ("invite", SG, FIRST, [STRANGER, OUTCAST], 30.0), WAS_BARRED),
    (OPEN, ("leave", NO_GROUP, FIRST, 30.0), UNKNOWN_SG),
    (OPEN, ("leave", SG, STRANGER, 30.0), NOT_IN_IT),
    (OPEN, ("leave", SG, OUTCAST, 30.0), NOT_IN_IT),
    (OPEN, ("expel", NO_GROUP, None, [FIRST], 30.0), UNKNOWN_SG),
    (OPEN, ("expel", SG, FIRST, [FIRST], 30.0), MAY_NOT["expel"]),
    (OPEN, ("expel", SG, OWNER, [OWNER], 30.0), LEAVE_INSTEAD),
    (OPEN, ("expel", SG, None, [FIRST, STRANGER], 30.0), NOT_IN_IT),
    (OPEN, ("delete", NO_GROUP, None, 30.0), UNKNOWN_SG),
    (OPEN, ("delete", SG, FIRST, 30.0), MAY_NOT["delete"]),
    (OPEN, ("candidates", NO_GROUP, None, None, 30.0), UNKNOWN_SG),
    (OPEN, ("candidates", SG, FIRST, FIRST, 30.0), MAY_NOT["pass_on"]),
    (OPEN, ("candidates", SG, OWNER, GUEST, 30.0), NO_CANDIDATE),
    (OPEN, ("pass_on", NO_GROUP, OWNER, FIRST, 30.0, OWNER), UNKNOWN_SG),
    (OPEN, ("pass_on", SG, FIRST, SECOND, 30.0, FIRST), PASSED_ON),
    (OPEN, ("pass_on", SG, OWNER, GUEST, 30.0, OWNER), LEFT),
    (OPEN, ("settle", NO_GROUP, CLOSED, None, 30.0), UNKNOWN_SG),
    (OPEN, ("revoke", GHOSTS[0], 30.0), UNKNOWN_ENTITY),
    (OPEN, ("create", new("sg-2", "walk")), TAKEN),
    (OPEN, ("create", new("sg-1", "other")), CONTRADICTS),
    (OPEN, ("create", new("sg-2", "other", owner=GHOSTS[0])), NOT_ACTIVE),
]


@pytest.mark.parametrize("policy", Policy)
async def test_what_is_refused_changes_nothing(store: ServerStore, policy: Policy) -> None:
    await filled(store, policy)
    for where, step, no in REFUSED:
        if where is policy:
            await unchanged(store, step, no)


async def test_names_need_not_be_unique(store: ServerStore) -> None:
    """But for one maker when it makes a group: who follows an owner may have two of a name."""
    await filled(store, CLOSED)
    await store.create_group(new("sg-2", "walk", owner=FIRST), 64)  # nothing tells that there is one
    await store.create_group(new("sg-3", "walk", owner=SECOND), 64)
    await unchanged(store, ("create", new("sg-4", "walk", owner=SECOND)), TAKEN)
    await in_the_store(store, ("pass_on", SG, OWNER, SECOND, 30.0, OWNER))
    await in_the_store(store, ("join", "sg-2", SECOND, 31.0))
    await in_the_store(store, ("begin", "sg-2", 40.0))
    await in_the_store(store, ("revoke", FIRST, 50.0))
    assert [(one.group.sg_id, one.group.name, one.group.owner) for one in await store.groups()] == [
        (sg_id, "walk", SECOND) for sg_id in ("sg-1", "sg-2", "sg-3")
    ]


async def test_a_name_is_free_again_when_its_group_is_gone(store: ServerStore) -> None:
    await filled(store)
    await store.create_group(new("sg-2", "Walk"), 64)  # another name
    await in_the_store(store, ("delete", SG, OWNER, 30.0))
    await store.create_group(new("sg-3", "walk", owner=FIRST), 64)
    found = await store.group(SgId("sg-3"))
    assert found == GroupInventory(new("sg-3", "walk", owner=FIRST), (Listed(FIRST, MEMBER, 10.0, epoch=1),))
    assert [one.group.sg_id for one in await store.groups()] == ["sg-2", "sg-3"]
    assert await store.group(SG) is None


async def test_counts_grow_with_what_they_count(store: ServerStore) -> None:
    await filled(store, APPROVAL)
    steps: list[tuple[Step, int, int]] = [
        (("join", SG, WAITER, 30.0), 0, 0),  # it waits still
        (("settle", SG, APPROVAL, None, 32.0), 0, 0),
        (("invite", SG, OWNER, [FIRST, GUEST], 34.0), 0, 0),
        (("expel", SG, OWNER, [OUTCAST], 36.0), 0, 0),
        (("invite", SG, OWNER, [FIRST], 38.0), 0, 0),
        (("pass_on", SG, OWNER, OWNER, 40.0, None), 0, 0),
        (("join", SG, STRANGER, 42.0), 1, 0),
        (("leave", SG, STRANGER, 44.0), 1, 0),
        (("settle", SG, CLOSED, None, 46.0), 1, 0),
        (("invite", SG, OWNER, [OUTCAST, STRANGER], 48.0), 1, 0),
        (("invite", SG, None, [WAITER], 50.0), 1, 1),
        (("join", SG, OUTCAST, 52.0), 1, 1),
        (("expel", SG, OWNER, [WAITER, OUTCAST], 54.0), 1, 1),
        (("pass_on", SG, OWNER, SECOND, 56.0, OWNER), 1, 0),
        (("leave", SG, SECOND, 58.0), 1, 1),
        (("revoke", OUTCAST, 60.0), 1, 0),
        (("revoke", OWNER, 62.0), 1, 1),
    ]
    for step, version, epoch in steps:
        before = await store.group(SG)
        await in_the_store(store, step)
        after = await store.group(SG)
        assert before is not None
        assert after is not None
        grown = after.group.version - before.group.version, after.group.epoch - before.group.epoch
        assert grown == (version, epoch), step
    assert after is not None
    assert (after.group.owner, after.members) == (FIRST, (FIRST,))


async def test_who_waits_again_keeps_its_place(store: ServerStore) -> None:
    """Else asking again, or being invited again, would move it back, and with it who follows the owner. An invitation
    counts from the last time.
    """
    await filled(store, APPROVAL)
    await in_the_store(store, ("join", SG, WAITER, 90.0))
    await in_the_store(store, ("invite", SG, OWNER, [GUEST, FIRST], 90.0))
    found = await store.group(SG)
    assert found is not None
    assert {one.pne_id: one.since for one in found.listed if one.since >= 90.0} == {GUEST: 90.0}
    await in_the_store(store, ("join", SG, GUEST, 95.0))
    found = await store.group(SG)
    assert found is not None
    assert {one.pne_id: one.since for one in found.listed}[GUEST] == 95.0


async def test_with_a_revoked_pne_go_its_places(store: ServerStore) -> None:
    await filled(store)
    await store.create_group(new("sg-0", "alone"), 64)
    await store.create_group(new("sg-2", "another", owner=FIRST), 64)
    await in_the_store(store, ("invite", "sg-2", FIRST, [OWNER], 25.0))
    gone = await store.revoke(OWNER, 30.0, OPERATOR)
    assert [(one.before.sg_id, one.change.deleted, one.after.owner) for one in gone.groups] == [
        ("sg-0", True, OWNER),
        ("sg-1", False, FIRST),
        ("sg-2", False, FIRST),
    ]
    assert [one.members for one in gone.groups] == [(OWNER,), (FIRST, SECOND), (FIRST,)]
    assert (await look(store)).log[-4:] == [
        Outcome(30.0, "revoked", OWNER, OPERATOR, Result.SUCCESS),
        *(Outcome(30.0, "sg_left", OWNER, OPERATOR, Result.SUCCESS, f"sg-{number}") for number in range(3)),
    ]
    assert await store.revoke(OWNER, 40.0, OPERATOR) == Revocation(False)
    assert OWNER not in [one.pne_id for group in await store.groups() for one in group.listed]


async def test_every_step_is_in_the_log(store: ServerStore) -> None:
    await filled(store)
    for step in (
        ("invite", SG, FIRST, [STRANGER], 31.0),
        ("invite", SG, None, [WAITER, FIRST], 32.0),
        ("invite", SG, None, [FIRST], 33.0),
        ("pass_on", SG, OWNER, SECOND, 34.0, OWNER),
        ("leave", SG, OWNER, 35.0),
        ("delete", SG, SECOND, 36.0),
    ):
        await in_the_store(store, step)
    log = (await look(store)).log
    assert {(row.result, row.reason) for row in log} == {(Result.SUCCESS, SG)}
    assert [(row.at, row.event, row.entity_id, row.actor.entity_id) for row in log] == [
        (10.0, "sg_created", OWNER, OWNER),
        (11.0, "sg_waits", OUTCAST, OUTCAST),
        (12.0, "sg_expelled", OUTCAST, OWNER),
        (13.0, "sg_invited", FIRST, OWNER),
        (13.0, "sg_invited", SECOND, OWNER),
        (13.0, "sg_invited", GUEST, OWNER),
        (20.0, "sg_joined", SECOND, SECOND),
        (20.0, "sg_joined", FIRST, FIRST),
        (20.0, "sg_waits", WAITER, WAITER),
        (20.0, "sg_settled", SG, None),
        (31.0, "sg_invited", STRANGER, FIRST),
        (32.0, "sg_invited", WAITER, None),
        (33.0, "sg_invited", SG, None),  # of the group as a whole
        (34.0, "sg_owner_changed", SECOND, OWNER),
        (35.0, "sg_left", OWNER, OWNER),
        (36.0, "sg_deleted", SG, SECOND),
    ]


async def test_steps_of_one_transaction_fail_alone(store: ServerStore) -> None:
    await filled(store)
    steps: list[Step] = [
        ("pass_on", SG, OWNER, FIRST, 30.0, OWNER),
        ("delete", SG, OWNER, 30.0),
        ("create", new("sg-1", "other")),
        ("leave", SG, FIRST, 30.0),
        ("join", SG, STRANGER, 30.0),
    ]
    ended = await asyncio.gather(*(in_the_store(store, step) for step in steps), return_exceptions=True)
    assert [isinstance(outcome(one), No) for one in ended] == [False, True, True, False, False]
    found = await store.group(SG)
    assert found is not None
    assert (found.group.owner, found.members) == (OWNER, (OWNER, SECOND))
    assert found.group.due == 31.0  # FIRST left with an epoch of its own, a moment ago
    await in_the_store(store, ("begin", SG, 31.0))
    found = await store.group(SG)
    assert found is not None
    assert (found.group.owner, found.members) == (OWNER, (OWNER, SECOND, STRANGER))


# --- how long a list may be


async def test_a_list_has_an_end(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(store)
    monkeypatch.setattr(group_queries, "MAX_LISTED", 6)
    await unchanged(store, ("join", SG, STRANGER, 30.0), FULL)
    await unchanged(store, ("invite", SG, OWNER, [STRANGER], 30.0), FULL)
    await unchanged(store, ("invite", SG, OWNER, [WAITER, GHOSTS[0]], 30.0), FULL)
    for step in (  # who is on it already takes no more room
        ("join", SG, GUEST, 32.0),
        ("invite", SG, OWNER, [WAITER, OUTCAST], 34.0),
        ("expel", SG, OWNER, [GUEST], 36.0),
        ("leave", SG, WAITER, 38.0),
    ):
        await in_the_store(store, step)
    await unchanged(store, ("invite", SG, OWNER, [STRANGER, GHOSTS[0]], 40.0), FULL)
    await in_the_store(store, ("invite", SG, OWNER, [STRANGER], 40.0))
    monkeypatch.setattr(group_queries, "MAX_LISTED", 2)  # a longer one that there is shrinks, and nothing else
    await in_the_store(store, ("expel", SG, OWNER, [SECOND], 42.0))
    await in_the_store(store, ("leave", SG, STRANGER, 44.0))
    await unchanged(store, ("join", SG, STRANGER, 46.0), FULL)


# --- discovery


async def found(
    store: ServerStore, keyword: str = "", service: str | None = None, pne: EntityId = STRANGER
) -> set[str]:
    return {one.name for one in await store.discover_groups(pne, keyword, service, "", 99)}


async def test_a_keyword_is_in_the_name_or_the_service(store: ServerStore) -> None:
    for number, (name, service) in enumerate(
        [("Walk", "Fit"), ("100%", None), ("a_b", "tv"), ("a\\b", "TV"), ("axb", "walking"), ("10%_off\\", "t.v")]
    ):
        await store.create_group(new(f"sg-{number}", name, service), 64)
    everything = {"Walk", "100%", "a_b", "a\\b", "axb", "10%_off\\"}
    for keyword, names in {
        "": everything,
        "walk": {"Walk", "axb"},
        "WALK": {"Walk", "axb"},
        "fIT": {"Walk"},
        "%": {"100%", "10%_off\\"},
        "0%": {"100%", "10%_off\\"},
        "1%": set(),
        "_": {"a_b", "10%_off\\"},
        "A_B": {"a_b"},
        "\\": {"a\\b", "10%_off\\"},
        "\\b": {"a\\b"},
        "\\%": set(),
        "%_": {"10%_off\\"},
        "%_OFF\\": {"10%_off\\"},
        "tv": {"a_b", "a\\b"},
        "'": set(),
        "walk fit": set(),
    }.items():
        assert await found(store, keyword) == names, keyword
    for service, names in {"tv": {"a_b"}, "TV": {"a\\b"}, "Fit": {"Walk"}, "": set(), "%": set(), "t_v": set()}.items():
        assert await found(store, service=service) == names, service
    assert await found(store, "b", "tv") == {"a_b"}
    assert await found(store, "walk", "tv") == set()


@pytest.mark.parametrize("policy", Policy)
async def test_a_closed_group_is_found_by_who_is_on_its_list(store: ServerStore, policy: Policy) -> None:
    await filled(store, policy)
    finds = {pne for pne in [*PNES, *GHOSTS] if await found(store, pne=pne)}
    assert finds == ({OWNER, FIRST, SECOND, GUEST, WAITER} if policy is CLOSED else {*PNES, *GHOSTS})
    assert {pne for pne in PNES if await found(store, "walk", "fit", pne)} == finds - {*GHOSTS}


async def test_a_bar_in_one_group_hides_no_other(store: ServerStore) -> None:
    await filled(store, CLOSED)
    await store.create_group(new("sg-2", "other", policy=CLOSED), 64)
    assert await found(store, pne=FIRST) == {"walk"}
    await in_the_store(store, ("invite", "sg-2", OWNER, [OUTCAST], 30.0))
    assert await found(store, pne=OUTCAST) == {"other"}


async def test_pages(store: ServerStore) -> None:
    names = ["sg-3", "sg-1", "sg-5", "sg-2", "sg-4", "sg-10"]
    for name in names:
        await store.create_group(new(name, f"group {name}", "tv" if name == "sg-4" else None), 64)
    await in_the_store(store, ("settle", "sg-2", CLOSED, None, 30.0))

    async def page(after: str, limit: int, service: str | None = None, pne: EntityId = STRANGER) -> list[str]:
        return [one.sg_id for one in await store.discover_groups(pne, "GROUP", service, after, limit)]

    assert await page("", 99) == ["sg-1", "sg-10", "sg-3", "sg-4", "sg-5"]
    assert await page("", 99, pne=OWNER) == sorted(names)
    assert await page("", 2) == ["sg-1", "sg-10"]
    assert await page("sg-10", 2) == ["sg-3", "sg-4"]
    assert await page("sg-4", 2) == ["sg-5"]
    assert await page("sg-5", 2) == []
    assert await page("sg-2", 1) == ["sg-3"]  # after one that it may not see
    assert await page("sg-10", 1, "tv") == ["sg-4"]
    assert await page("sg-4", 1, "tv") == []


async def test_whose_groups(store: ServerStore) -> None:
    await filled(store)
    await store.create_group(new("sg-0", "z"), 64)
    await store.create_group(new("sg-2", "a", owner=STRANGER), 64)

    async def ids(*pnes: EntityId) -> list[str]:
        return [*await store.groups_of(pnes, "", 99)]

    assert await ids() == []
    assert await ids(OWNER) == ["sg-0", "sg-1"]
    assert await ids(FIRST, OWNER, STRANGER, SECOND) == ["sg-0", "sg-1", "sg-2"]
    assert await ids(GUEST, WAITER, OUTCAST, GHOSTS[0]) == []


async def test_in_how_many_groups_one_is(store: ServerStore) -> None:
    """Who is in as many comes into no other, by itself, by its owner, by making it; one that it leaves makes room."""
    for number in range(MOST_GROUPS):
        await store.create_group(new(f"sg-{number}", f"group {number}", owner=FIRST), MOST_GROUPS)
    await store.create_group(new("sg-open", "open"), MOST_GROUPS)
    await store.create_group(new("sg-approval", "approval", policy=APPROVAL), MOST_GROUPS)
    await in_the_store(store, ("join", "sg-approval", FIRST, 30.0))  # to wait is not to be in it
    for step in (("join", "sg-open", FIRST, 31.0), ("invite", "sg-approval", OWNER, [FIRST], 31.0)):
        await unchanged(store, step, TOO_MANY_GROUPS)
    with pytest.raises(Refused, match="too_many_groups"):
        await store.create_group(new("sg-more", "more", owner=FIRST), MOST_GROUPS)
    await in_the_store(store, ("leave", "sg-0", FIRST, 32.0))
    await in_the_store(store, ("join", "sg-open", FIRST, 33.0))
    await in_the_store(store, ("invite", "sg-approval", None, [FIRST], 34.0))  # the operator is not bound by that
    assert await store.groups_of([FIRST], "", 9) == ["sg-1", "sg-2", "sg-approval", "sg-open"]  # who is in more stays


async def test_whose_groups_come_in_pages(store: ServerStore) -> None:
    for number in (3, 1, 2):
        await store.create_group(new(f"sg-{number}", f"group {number}"), 64)
    await in_the_store(store, ("join", "sg-2", FIRST, 30.0))
    assert await store.groups_of([OWNER, FIRST], "", 2) == ["sg-1", "sg-2"]
    assert await store.groups_of([OWNER, FIRST], "sg-2", 2) == ["sg-3"]
    assert await store.groups_of([OWNER], "sg-3", 2) == []


async def test_a_list_comes_in_pages(store: ServerStore) -> None:
    """Its owner, and who asks for another, see the whole of it; a member sees the members, and nobody else anything."""
    await filled(store)
    await store.register_sender(FIRST, b"k" * 32, 9.0)
    whole = await store.group(SG)
    assert whole is not None

    async def page(asker: EntityId | None, after: str, limit: int, *of: EntityId) -> GroupInventory | None:
        return await store.group_page(SG, asker, of, after, limit)

    for limit in (1, 2, 3, 99):
        for asker in (OWNER, FIRST, None):
            seen = whole.listed if asker == OWNER else [one for one in whole.listed if one.standing is MEMBER]
            got: list[Listed] = []
            while (part := await page(asker, got[-1].pne_id if got else "", limit, FIRST, GUEST)) and part.listed:
                assert part.group == whole.group
                assert len(part.listed) <= limit
                got += part.listed
            assert got == [*seen]
    assert await page(OWNER, "", 9, GUEST, WAITER, OUTCAST, GHOSTS[0]) is None
    assert await page(OWNER, "", 9) is None
    assert await store.group_page(NO_GROUP, OWNER, [OWNER], "", 9) is None
    for pne in (FIRST, WAITER):
        one = await store.group_page(SG, OWNER, [OWNER], "", 9, pne)
        assert one is not None
        assert [place.pne_id for place in one.listed] == [pne]
    barely = await store.group_page(SG, FIRST, [FIRST], "", 9, WAITER)
    assert barely is not None
    assert barely.listed == ()


async def test_what_pages_cost_does_not_grow_with_the_list(store: ServerStore) -> None:
    """A page of 2 reads 2 rows, however many are named on the list."""
    await filled(store)
    many = [EntityId(f"named-{number}") for number in range(200)]
    await in_the_store(store, ("invite", SG, None, many, 30.0))
    read: list[int] = []
    listed = group_queries._listed

    def counted(*row: Any) -> Listed:
        read.append(1)
        return listed(*row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_queries, "_listed", counted)
        await store.group_page(SG, OWNER, [OWNER], "", 2)
    assert len(read) == 2


# --- an older store


async def test_an_older_store_gets_groups_and_keeps_the_rest(new_place: Callable[[], Location]) -> None:
    entity = (
        "INSERT INTO entities (entity_id, kind, state, only_via, note, sealed_key, fingerprint, created_at)"
        " VALUES (:id, :kind, :state, NULL, 'a note', :sealed, :print, 1.0)"
    )
    ids = {"pne-1": ("pne", "active"), "pne-2": ("pne", "revoked"), "gw-1": ("gateway", "active")}
    rows: list[Row] = [
        (entity, {"id": one, "kind": kind, "state": state, "sealed": b"sealed", "print": one.encode()})
        for one, (kind, state) in ids.items()
    ]
    rows += [
        ("INSERT INTO networks (pn_id, gateway_id, owner, created_at) VALUES ('pn-1', 'gw-1', 'pne-1', 2.0)", {}),
        ("INSERT INTO members (pne_id, pn_id, pan_secure) VALUES ('pne-1', 'pn-1', true)", {}),
        ("INSERT INTO standings (pne_id, pn_id, standing, at) VALUES ('pne-1', 'pn-1', 'member', 2.0)", {}),
        (
            "INSERT INTO audit (at, event, entity_id, result, reason) VALUES (3.0, 'pne_established', 'pne-1', 0, '')",
            {},
        ),
    ]
    place = new_place()
    make_store_of("0003", place, rows)

    store = ServerStore.open(place)
    kept = await store.credentials([EntityId(one) for one in ids])
    assert {one: has.state for one, has in kept.items()} == {one: State(state) for one, (_, state) in ids.items()}
    (pn,) = await store.networks()
    assert (pn.network.pn_id, pn.network.owner, [one.pne_id for one in pn.members]) == ("pn-1", OWNER, [OWNER])
    assert await store.audit(None, 9) == [Outcome(3.0, "pne_established", OWNER, pne_actor(OWNER), Result.SUCCESS)]
    assert (await store.groups(), await store.groups_of([OWNER], "", 9)) == ([], [])
    assert await found(store, pne=OWNER) == set()

    await store.create_group(new("sg-1", "walk"), 64)
    with pytest.raises(Refused):  # tied to the entities that were
        await store.create_group(new("sg-2", "other", owner=GHOSTS[0]), 64)
    await in_the_store(store, ("invite", SG, OWNER, GHOSTS, 20.0))  # and the lists to nothing
    assert [one.change.deleted for one in (await store.revoke(OWNER, 30.0, OPERATOR)).groups] == [True]
    await store.close()
    again = ServerStore.open(place)
    assert await again.groups() == []
    await again.close()


async def test_an_older_store_is_tied_together_as_a_new_one(new_place: Callable[[], Location]) -> None:
    older, newer = new_place(), new_place()
    make_store_of("0003", older, [])
    shapes = []
    for place in (older, newer):
        store = ServerStore.open(place)
        shapes.append(await store.database.run(shape_of, write=False))
        await store.close()
    assert shapes[0] == shapes[1]
    ties = {
        start: " ".join(of for name, of in shapes[0].items() if name.startswith(start))
        for start in ("groups", "group_places")
    }
    assert "REFERENCES entities" in ties["groups"]
    assert "REFERENCES groups" in ties["group_places"]
    assert "groups_by_name" not in shapes[0]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO groups SELECT sg_id, name, service, owner, policy, version, epoch, created_at, vouched, keep, "
        "begun, due FROM groups",
        "INSERT INTO group_places SELECT * FROM group_places",
        "INSERT INTO group_places VALUES ('sg-2', 'pne-1', 'member', 1.0, NULL, 0)",
        "DELETE FROM groups",
        "DELETE FROM entities WHERE entity_id = 'pne-1'",
    ],
)
async def test_the_tables_hold_it_together_by_themselves(store: ServerStore, statement: str) -> None:
    await filled(store)
    with pytest.raises(Conflict) as caught:
        await store.database.run(lambda connection: connection.execute(text(statement)))
    assert isinstance(caught.value.__cause__, IntegrityError)
