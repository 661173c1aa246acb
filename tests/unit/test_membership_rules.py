"""Every rule of membership against a plain model: the real store on a real file, and dicts written from the prose.

The model and its two tables (`ADMISSION`, `RIGHTS`) call nothing of `cpns.domain.membership`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from random import Random
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Connection, select

from cpns.domain import invitation, membership
from cpns.domain.actor import OPERATOR, Actor, Role
from cpns.domain.inventory import Entity, Establishment, Kind, Membership, NewEntity
from cpns.domain.member_list import Policy, Standing
from cpns.domain.network import Admission, Edit, Inventory, Network, Place, Waiting
from cpns.errors import Refused, Result
from cpns.ids import EntityId, PnId
from cpns.store import inventory_queries, network_queries, server_queries, waiting_queries
from cpns.store.database import Database
from cpns.store.schema import audit, members, networks, standings
from cpns.store.server_store import ServerStore
from tests.support.stores import Location, fresh

T = TypeVar("T")
PNES = [EntityId(f"pne-{number}") for number in range(1, 8)]
GATEWAYS = [EntityId(f"gw-{number}") for number in range(1, 4)]
PNS = [PnId(f"pn-{number}") for number in range(1, 4)]

# --- the rules as tables

_ADMISSION = """
    on the  in     PN is: open         approval     closed       made by
    list    it            new   home   new   home   new   home   this SETUP
    -       away          made  guest  waits waits  no    no     made
    -       present       guest guest  guest guest  guest guest  made
    member  away          made  made   made  made   made  made   made
    member  present       made  made   made  made   made  made   made
    invited away          made  made   made  made   made  made   made
    invited present       made  made   made  made   made  made   made
    pending away          made  guest  waits waits  no    no     made
    pending present       guest guest  guest guest  guest guest  made
    barred  away          bar   bar    bar   bar    bar   bar    bar
    barred  present       bar   bar    bar   bar    bar   bar    bar
"""
"""``home``: it stands as member on the list of another PN; ``new``: on none."""
_WORDS = {
    "made": Admission(Result.SUCCESS, standing=Standing.MEMBER),
    "guest": Admission(Result.SUCCESS),
    "waits": Admission(Result.PENDING_APPROVAL, "pending_approval", Standing.PENDING),
    "no": Admission(Result.POLICY, "not_on_the_member_list"),
    "bar": Admission(Result.NOT_ALLOWED, "barred"),
}
_LISTED = {"-": None} | {how.value: how for how in Standing if how not in (Standing.COMING, Standing.LEAVING)}
ADMISSION = {
    (policy, Place(_LISTED[listed], seen == "present", home), founding): _WORDS[made if founding else word]
    for listed, seen, *words, made in map(str.split, _ADMISSION.strip().splitlines()[2:])
    for (policy, home), word in zip(product(Policy, (False, True)), words, strict=True)
    for founding in (False, True)
}

_RIGHTS = """
              operator  owner  first  gateway  member  guest  away  outsider  other-gateway
    invite    yes       yes    yes    open     open    no     no    no        no
    approve   yes       yes    yes    no       no      no     no    no        no
    refuse    yes       yes    no     no       no      no     no    no        no
    expel     yes       yes    yes    yes      no      no     no    no        no
    release   yes       yes    no     yes      no      no     no    no        no
"""
"""``open``: where the policy is open. ``away``: on the list as member, and not in the PN. ``first``: the member that is
in it longest, where there is no owner; it puts out one a minute. Operator and owner alone bar whom they expel, and lift
a bar when they invite."""
_ACTORS, *_ROWS = map(str.split, _RIGHTS.strip().splitlines())
RIGHTS = {(action, who): right for action, *row in _ROWS for who, right in zip(_ACTORS, row, strict=True)}
GOVERN = ("operator", "owner")
MAY_OWN = (PNES[1], PNES[4])
MOST_OPEN, MOST_OPEN_OF_OWNER = 2, 3

# --- the model


@dataclass
class Pn:
    """A PN: its list, and who is in it: on a PAN that is secure or not, since when."""

    gateway: EntityId
    policy: Policy
    owner: EntityId | None = None
    version: int = 1
    alias: str | None = None
    expelled_at: float = 0.0
    listed: dict[EntityId, Standing] = field(default_factory=dict)
    inside: dict[EntityId, tuple[bool, float]] = field(default_factory=dict)

    def told(self) -> object:
        """What the PN Inventory tells; that somebody waits is no change of the PN."""
        listed = {pne: how for pne, how in self.listed.items() if how is not Standing.PENDING}
        return self.gateway, self.policy, self.owner, self.alias, listed, set(self.inside)

    def invited(self) -> int:
        return [*self.listed.values()].count(Standing.INVITED)

    def who(self, actor: Actor) -> str:
        if actor.is_operator or actor.entity_id is None:
            return "operator"
        if actor.role is Role.GATEWAY:
            return "gateway" if actor.entity_id == self.gateway else "other-gateway"
        if actor.entity_id == self.owner:
            return "owner"
        if self.owner is None and [actor.entity_id] == self.longest()[:1]:
            return "first"
        member = self.listed.get(actor.entity_id) is Standing.MEMBER
        if actor.entity_id in self.inside:
            return "member" if member else "guest"
        return "away" if member else "outsider"

    def may(self, action: str, actor: Actor) -> bool:
        right = RIGHTS[action, self.who(actor)]
        return right == "yes" or (right == "open" and self.policy is Policy.OPEN)

    def longest(self) -> list[EntityId]:
        """The members that are in it, the one that has been so longest first; of those that came at once, by ID."""
        here = sorted((at, pne) for pne, (_, at) in self.inside.items())
        return [pne for _, pne in here if self.listed.get(pne) is Standing.MEMBER]

    def put_out(self, *whom: EntityId, off_the_list: bool = False) -> None:
        """They are in it no longer. An owner that is no member any more has an heir, among those that may own."""
        for pne in whom:
            self.inside.pop(pne, None)
            if off_the_list:
                self.listed.pop(pne, None)
        if self.owner is not None and self.listed.get(self.owner) is not Standing.MEMBER:
            self.owner = next((pne for pne in self.longest() if pne in MAY_OWN), None)


RULES_OF_WHO = ("invite", "approve", "refuse", "expel", "release", "leave")


class Model:
    """The personal networks. Each method is a step: it says how that ends, and changes nothing unless with SUCCESS."""

    def __init__(self) -> None:
        self.pns: dict[PnId, Pn] = {}
        self.revoked: set[EntityId] = set()

    def place_of(self, pne: EntityId) -> PnId | None:
        return next((pn_id for pn_id, pn in self.pns.items() if pne in pn.inside), None)

    def establish(
        self, pn_id: PnId, gateway: EntityId, policy: Policy, came: Mapping[EntityId, bool], at: float
    ) -> Result | dict[EntityId, Admission]:
        """Return why nobody is let in, or what becomes of each."""
        pn = self.pns.get(pn_id)
        if pn is not None and pn.gateway != gateway:
            return Result.UNKNOWN_PN
        founding = pn is None
        pn = pn or Pn(gateway, policy)
        self.pns |= {pn_id: pn} if came else {}
        became: dict[EntityId, Admission] = {}
        others = [other for other in self.pns.values() if other is not pn]
        for pne, secure in came.items():
            home = any(other.listed.get(pne) is Standing.MEMBER for other in others)
            one = became[pne] = ADMISSION[pn.policy, Place(pn.listed.get(pne), pne in pn.inside, home), founding]
            pn.listed |= {} if one.standing is None else {pne: one.standing}
            if one.result is Result.SUCCESS:
                for other in others:
                    other.put_out(pne)
                pn.inside[pne] = (secure, pn.inside[pne][1] if pne in pn.inside else at)
        here = [pne for pne in came if pne in pn.inside and pn.listed.get(pne) is Standing.MEMBER]
        pn.owner = pn.owner or next((pne for pne in here if pne in MAY_OWN), None)
        return became

    def invite(self, pn: Pn, actor: Actor, whom: Sequence[EntityId]) -> Result:
        governs = pn.who(actor) in GOVERN
        if not pn.may("invite", actor) or (not governs and Standing.BARRED in map(pn.listed.get, whom)):
            return Result.NOT_ALLOWED
        writes = governs or pn.who(actor) == "first"
        new = [pne for pne in whom if pn.listed.get(pne) not in (Standing.MEMBER, Standing.INVITED)]
        if writes and new and actor != OPERATOR:
            of_all = sum(one.invited() for one in self.pns.values() if one.owner == pn.owner) + len(new)
            if pn.invited() + len(new) > MOST_OPEN or (pn.owner is not None and of_all > MOST_OPEN_OF_OWNER):
                return Result.TOO_MANY
        if writes:
            pn.listed.update({pne: Standing.INVITED for pne in whom if pn.listed.get(pne) is not Standing.MEMBER})
        return Result.SUCCESS

    def approve(self, pn: Pn, actor: Actor, pne: EntityId, action: str = "approve") -> Result:
        if not pn.may(action, actor):
            return Result.NOT_ALLOWED
        if pn.listed.get(pne) is not Standing.PENDING:
            return Result.NOT_A_MEMBER
        pn.listed[pne] = Standing.MEMBER if action == "approve" else Standing.BARRED
        if action == "refuse":  # it may be in the PN, as a guest
            pn.put_out(pne)
        return Result.SUCCESS

    def refuse(self, pn: Pn, actor: Actor, pne: EntityId) -> Result:
        return self.approve(pn, actor, pne, "refuse")

    def leave(self, pn: Pn, actor: Actor) -> Result:
        pne = actor.entity_id
        if pne is None or pne not in pn.inside:
            return Result.NOT_A_MEMBER
        pn.put_out(pne, off_the_list=True)
        return Result.SUCCESS

    def expel(self, pn: Pn, actor: Actor, whom: Sequence[EntityId], at: float) -> Result:
        if not pn.may("expel", actor) or actor.entity_id in whom:
            return Result.NOT_ALLOWED
        governs = pn.who(actor) in GOVERN
        if not {*whom} <= {*pn.inside, *(pn.listed if governs else ())}:
            return Result.NOT_A_MEMBER
        if pn.who(actor) == "first":
            if len(whom) > 1 or at < pn.expelled_at + 60:
                return Result.TOO_MANY
            pn.expelled_at = at
        if governs:
            pn.listed.update(dict.fromkeys(whom, Standing.BARRED))
        pn.put_out(*whom)
        return Result.SUCCESS

    def release(self, pn: Pn, actor: Actor) -> Result:
        if not pn.may("release", actor):
            return Result.NOT_ALLOWED
        self.pns = {pn_id: one for pn_id, one in self.pns.items() if one is not pn}
        return Result.SUCCESS

    def switch(self, pn: Pn, frm: EntityId, to: EntityId) -> Result:
        if frm != pn.gateway:  # somebody switched it meanwhile
            return Result.IN_PROGRESS
        pn.gateway = to
        return Result.SUCCESS

    def update(self, pn: Pn, policy: Policy | None, alias: str | None, owner: EntityId | None) -> Result:
        if owner is not None and pn.listed.get(owner) is not Standing.MEMBER:
            return Result.NOT_A_MEMBER
        pn.policy, pn.alias, pn.owner = policy or pn.policy, alias or pn.alias, owner or pn.owner
        return Result.SUCCESS

    def revoke(self, pne: EntityId) -> set[PnId]:
        """Return the PNs that it was in, or on the list of."""
        self.revoked.add(pne)
        concerned = {pn_id for pn_id, pn in self.pns.items() if pne in pn.inside or pne in pn.listed}
        for pn in self.pns.values():
            if pn.owner == pne:  # whom it invited comes no more
                pn.listed = {one: how for one, how in pn.listed.items() if how is not Standing.INVITED}
            pn.put_out(pne, off_the_list=True)
        return concerned


# --- the machine


class Seen(NamedTuple):
    """All that the store holds: rows as they are, and what it tells of them."""

    rows: dict[str, list[tuple[Any, ...]]]
    inventories: list[Inventory]
    waiting: list[Waiting]
    entities: list[Entity]


def look(connection: Connection) -> Seen:
    tables = (networks, members, standings, audit)
    rows = {one.name: [tuple(row) for row in connection.execute(select(one))] for one in tables}
    entities = [one for kind in Kind for one in server_queries.entities_of(connection, kind)]
    return Seen(rows, inventory_queries.inventories(connection), waiting_queries.waiting(connection), entities)


def ends(step: Callable[[], T]) -> T | Result:
    """Return what *step* returns, or why it is refused."""
    try:
        return step()
    except Refused as error:
        return error.result


def new(entity_id: EntityId) -> NewEntity:
    kind = Kind.GATEWAY if entity_id in GATEWAYS else Kind.PNE
    return NewEntity(entity_id, kind, None, "", b"sealed", entity_id.encode(), 1.0, entity_id in MAY_OWN)


ANYBODY = [OPERATOR, *(Actor(Role.GATEWAY, one) for one in GATEWAYS), *(Actor(Role.PNE, one) for one in PNES)]
STEPS = ["establish"] * 5 + ["update", "expel", "invite"] * 2
STEPS += ["approve", "refuse", "leave", "release", "switch", "revoke"]


class Machine(RuleBasedStateMachine):
    """Steps of everybody, right ones and wrong ones, each in the store and in the model; None: what is right there."""

    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(invitation, "OPEN_OF_LIST", MOST_OPEN)
        self.patch.setattr(invitation, "OPEN_OF_OWNER", MOST_OPEN_OF_OWNER)
        self.closing = contextlib.ExitStack()
        self.loop = asyncio.new_event_loop()
        self.database = Database(self.closing.enter_context(fresh(self.kind)))
        self.store = ServerStore(self.database)
        self.loop.run_until_complete(self.store.add_entities([new(one) for one in (*PNES, *GATEWAYS)], OPERATOR))
        self.model = Model()
        self.ended: dict[PnId, int] = {}
        self.drawn = b""
        self.now = 1000.0
        self.seen = self.loop.run_until_complete(self.database.run(look, write=False))

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.loop.close()
        self.closing.close()
        self.patch.undo()

    def _seen(self, pn_id: PnId) -> Network | None:
        return next((one.network for one in self.seen.inventories if one.network.pn_id == pn_id), None)

    def _settled(self, step: str, before: Model, refused: bool, idle: Collection[PnId] = ()) -> None:
        """See what the step made of the store; *idle*: PNs whose version may grow though nothing is told anew."""
        self.now += 10
        was, self.seen = self.seen, self.loop.run_until_complete(self.database.run(look, write=False))
        assert not refused or self.seen == was
        for pn_id, pn in self.model.pns.items():
            seen, old = self._seen(pn_id), before.pns.get(pn_id)
            assert seen is not None
            grown = seen.version - (self.ended.pop(pn_id, 0) if old is None else old.version)
            changed = old is None or pn.told() != old.told()
            owned = old is not None and step == "establish" and pn.owner != old.owner  # a change by itself
            assert grown == 1 + owned if changed else grown in ((0, 1) if pn_id in idle else (0,))
            pn.version = seen.version

    def edit(self, action: str, pn_id: PnId, actor: Actor, about: Sequence[EntityId], **asked: Any) -> None:
        note(f"{action} {pn_id} {actor} {asked}")
        before, was, pn = deepcopy(self.model), self._seen(pn_id), self.model.pns.get(pn_id)
        who = {"actor": actor} if action in RULES_OF_WHO else {}
        expected = Result.UNKNOWN_PN if pn is None else getattr(self.model, action)(pn, **who, **asked)
        edit = partial(getattr(membership, action), **asked)
        edited = ends(
            lambda: self.loop.run_until_complete(self.store.edit(pn_id, about, edit, self.now, actor, known=True))
        )
        assert (edited if isinstance(edited, Result) else Result.SUCCESS) is expected
        self._settled(action, before, refused=isinstance(edited, Result), idle=[pn_id])
        if isinstance(edited, Result) or pn is None:
            return
        assert edited.before == was
        if pn_id in self.model.pns:
            assert edited.after == self._seen(pn_id)
            assert {*edited.edit.gone} == {*before.pns[pn_id].inside} - {*pn.inside}
        else:
            assert was is not None
            self.ended[pn_id] = edited.after.version
            assert (edited.after, {*edited.members}) == (replace(was, version=was.version + 1), {*pn.inside})

    @initialize(policy=st.sampled_from(Policy))
    def two_networks(self, policy: Policy) -> None:
        """In the second a guest is longer than the members that are no owner; one of them waits for the first."""
        one, two, three, four, five, six, seven = PNES
        self.establish(PNS[0], GATEWAYS[0], Policy.OPEN, {three: True, seven: True, two: False, one: True})
        for pne in (five, one, six, four):
            self.establish(PNS[1], GATEWAYS[1], Policy.OPEN, {pne: True})
        for then in (Policy.APPROVAL, policy):
            self.edit("update", PNS[0], OPERATOR, [], policy=then, alias=None, owner=None)
            self.establish(PNS[0], GATEWAYS[0], then, {six: True})

    @rule(seed=st.binary(min_size=8, max_size=8))
    def step(self, seed: bytes) -> None:
        """One rule, and seeds: Hypothesis would leave rules out and repeat steps and examples, which finds less."""
        self.drawn += seed
        random = Random(self.drawn)

        def pick(options: Iterable[T]) -> T:
            return random.choice([*options])

        step = pick(STEPS)
        waited = [pn_id for pn_id, pn in self.model.pns.items() if Standing.PENDING in pn.listed.values()]
        pn_id = pick([*PNS, *self.model.pns, *self.model.pns, *(waited * 9 if step in ("approve", "refuse") else ())])
        pn = self.model.pns.get(pn_id) or Pn(GATEWAYS[2], Policy.OPEN)
        waiting = [pne for pne, how in pn.listed.items() if how is Standing.PENDING]
        near = [*pn.inside, *PNES, *pn.inside, *pn.listed, *([pn.owner] * 3 if pn.owner else [])]
        whom = list(dict.fromkeys(pick(near) for _ in range(pick([1, 1, 2, 3]))))
        kinds = [who for who in _ACTORS if who in map(pn.who, ANYBODY)]
        kind = pick([*kinds, *kinds[:2]])  # who governs oftener
        actor = pick(one for one in ANYBODY if pn.who(one) == kind)
        if step == "establish":
            pnes = [pne for pne in [*waiting, *waiting, *PNES] if pne not in self.model.revoked]
            came = {pick(pnes): pick([True, False]) for _ in range(pick([1, 2, 3, 0]))} if pnes else {}
            self.establish(pn_id, pick([*GATEWAYS, *[pn.gateway] * 9]), pick(Policy), came)
        elif step == "invite":
            self.edit(step, pn_id, actor, whom, whom=whom)
        elif step == "expel":
            self.edit(step, pn_id, actor, whom, whom=whom, at=self.now)
        elif step in ("approve", "refuse"):
            pne = pick([*near, *waiting * 20])
            self.edit(step, pn_id, actor, [pne], pne=pne)
        elif step == "leave":
            self.edit(step, pn_id, Actor(Role.PNE, whom[0]), whom[:1])
        elif step == "release" and (pick([True, False]) or not pn.may(step, actor)):
            self.edit(step, pn_id, actor, [])
        elif step == "switch":
            frm = pick([*GATEWAYS, *[pn.gateway] * 3])
            self.edit(step, pn_id, OPERATOR, [], frm=frm, to=pick(one for one in GATEWAYS if one != frm))
        elif step == "update":
            policy, alias, owner = pick([None, *Policy]), pick([None, "home"]), pick([None, whom[0]])
            self.edit(step, pn_id, OPERATOR, whom[:1], policy=policy, alias=alias, owner=owner)
        elif step == "revoke" and pick([True, False]):  # seldom, as nobody comes back from it
            self.revoke(whom[0])

    def establish(self, pn_id: PnId, via: EntityId, policy: Policy, came: dict[EntityId, bool]) -> None:
        note(f"establish {pn_id} via {via}, {policy}: {came}")
        before = deepcopy(self.model)
        expected = self.model.establish(pn_id, via, policy, came, self.now)
        arrived = tuple(Membership(pne, secure) for pne, secure in came.items())
        finished = Establishment(pn_id, via, None, policy, self.now, arrived, {})
        admitted = ends(lambda: self.loop.run_until_complete(self.store.establish(finished)))
        self._settled("establish", before, refused=isinstance(admitted, Result))
        if isinstance(admitted, Result):
            assert admitted is expected
            return
        joined = tuple(pne for pne in came if self.model.place_of(pne) == pn_id != before.place_of(pne))
        assert (admitted.network, admitted.admissions, admitted.joined) == (self._seen(pn_id), expected, joined)
        moved = {(place, pne) for pne in admitted.joined if (place := before.place_of(pne)) is not None}
        assert {(network.pn_id, pne) for network, gone in admitted.left for pne in gone} == moved
        assert all(network == self._seen(network.pn_id) for network, _ in admitted.left)

    def revoke(self, pne: EntityId) -> None:
        note(f"revoke {pne}")
        before, first = deepcopy(self.model), pne not in self.model.revoked
        concerned = self.model.revoke(pne) if first else set()
        revocation = self.loop.run_until_complete(self.store.revoke(pne, self.now, OPERATOR))
        self._settled("revoke", before, refused=not first, idle=concerned)
        assert revocation.first is first
        assert {network.pn_id: network for network in revocation.left} == {pn: self._seen(pn) for pn in concerned}

    @invariant()
    def the_store_holds_what_the_model_does(self) -> None:
        pns, rows = self.model.pns.items(), self.seen.rows
        present = {pne: (pn_id, *how) for pn_id, pn in pns for pne, how in pn.inside.items()}
        assert {row[0]: row[1:] for row in rows["members"]} == present
        listed = {(pne, pn_id): how for pn_id, pn in pns for pne, how in pn.listed.items()}
        assert {(row[0], row[1]): row[2] for row in rows["standings"]} == listed
        waiting = sorted(key for key, how in listed.items() if how is Standing.PENDING)
        assert [(one.pne_id, one.pn_id) for one in self.seen.waiting] == waiting
        assert [one.network.pn_id for one in self.seen.inventories] == sorted(self.model.pns)
        for one in self.seen.inventories:
            network, pn = one.network, self.model.pns[one.network.pn_id]
            told = (pn.gateway, pn.alias, pn.owner, pn.policy, pn.version)
            assert network == Network(network.pn_id, *told, network.created_at, pn.expelled_at)
            assert one.first == (next(iter(pn.longest()), None) if pn.owner is None else None)
            here = [(pne, pn.listed.get(pne) is not Standing.MEMBER) for pne in sorted(pn.inside)]
            assert [(member.pne_id, member.guest) for member in one.members] == here
            assert one.listed == tuple(sorted(who for who in pn.listed.items() if who[0] not in pn.inside))
        assert [one.entity_id for one in self.seen.entities] == [*PNES, *GATEWAYS]
        for entity in self.seen.entities:
            serves: set[PnId | None] = {pn_id for pn_id, pn in pns if pn.gateway == entity.entity_id}
            assert entity.pn_id in (serves or {self.model.place_of(entity.entity_id)})

    @invariant()
    def what_always_holds(self) -> None:
        """Read off the tables, whatever the model says."""
        present = [(row[0], row[1]) for row in self.seen.rows["members"]]
        standing = {(row[0], row[1]): row[2] for row in self.seen.rows["standings"]}
        assert len({pne for pne, _ in present}) == len(present)  # in one PN at a time
        assert not [one for one in present if standing.get(one) == Standing.BARRED]
        for network in (one.network for one in self.seen.inventories):
            assert network.owner is None or standing.get((network.owner, network.pn_id)) == Standing.MEMBER


Machine.TestCase.settings = settings(max_examples=40, stateful_step_count=35, derandomize=True)
TestMembership = Machine.TestCase


class OnPostgres(Machine):
    kind = "postgres"


OnPostgres.TestCase.settings = settings(Machine.TestCase.settings, max_examples=4)
TestMembershipOnPostgres = OnPostgres.TestCase

# --- the rules one by one

OWNER, SOMEONE, WAITS, MEMBER, BARRED = map(EntityId, ("owner", "someone", "waits", "another", "barred"))
PLACES = {
    **dict.fromkeys([OWNER, EntityId("member"), MEMBER], Place(Standing.MEMBER, present=True)),
    EntityId("first"): Place(Standing.MEMBER, present=True, first=True),
    EntityId("guest"): Place(None, present=True, home=True),
    EntityId("away"): Place(Standing.MEMBER),
    **dict.fromkeys([EntityId("outsider"), SOMEONE], Place()),
    WAITS: Place(Standing.PENDING),
    BARRED: Place(Standing.BARRED),
}
NETWORK = Network(PNS[0], GATEWAYS[0], None, OWNER, Policy.OPEN, 7, 1.0)
NOBODY_S = replace(NETWORK, owner=None)


def within(pne: EntityId) -> Actor:
    return Actor(Role.PNE, pne).within(OWNER, is_member=PLACES[pne].standing is Standing.MEMBER)


ACTORS = {"gateway": Actor(Role.GATEWAY, GATEWAYS[0]), "other-gateway": Actor(Role.GATEWAY, GATEWAYS[1])}
COMING = Actor(Role.PNE, SOMEONE)
ACTORS |= {"operator": OPERATOR} | {str(pne): within(pne) for pne in PLACES if pne in _ACTORS}


def test_admit_is_its_table() -> None:
    assert len(ADMISSION) == len(Policy) * len(_LISTED) * 2 * 2 * 2
    for (policy, place, founding), expected in ADMISSION.items():
        assert membership.admit(policy, place, COMING, founding=founding) == expected, (policy, place, founding)
        for other in (OPERATOR, ACTORS["gateway"]):  # nobody comes in but the device itself
            assert membership.admit(policy, place, other, founding=founding).result is Result.NOT_ALLOWED


@pytest.mark.parametrize(("action", "who"), RIGHTS)
def test_who_may_do_what(action: str, who: str) -> None:
    actor, network = ACTORS[who], NOBODY_S if who == "first" else NETWORK
    invited = {SOMEONE: Standing.INVITED} if who in (*GOVERN, "first") else {}
    barred = {MEMBER: Standing.BARRED} if who in GOVERN else {}
    expelled_at = 100.0 if who == "first" else None
    edits: dict[str, tuple[dict[str, Any], Edit]] = {
        "invite": ({"whom": [SOMEONE, MEMBER]}, Edit("invited", (SOMEONE,), invited)),
        "approve": ({"pne": WAITS}, Edit("approved", (WAITS,), {WAITS: Standing.MEMBER})),
        "refuse": ({"pne": WAITS}, Edit("barred", (WAITS,), {WAITS: Standing.BARRED})),
        "expel": (
            {"whom": [MEMBER], "at": 100.0},
            Edit("expelled", (MEMBER,), barred, gone=(MEMBER,), expelled_at=expelled_at),
        ),
        "release": ({}, Edit("pn_released", released=True)),
    }
    asked, expected = edits[action]
    for policy in Policy:
        allowed = RIGHTS[action, who] == "yes" or (RIGHTS[action, who] == "open" and policy is Policy.OPEN)
        ended = ends(partial(getattr(membership, action), replace(network, policy=policy), PLACES, actor, **asked))
        assert ended == (expected if allowed else Result.NOT_ALLOWED), policy


@pytest.mark.parametrize("who", ACTORS)
def test_who_governs_alone_lifts_a_bar(who: str) -> None:
    network = NOBODY_S if who == "first" else NETWORK
    ended = ends(partial(membership.invite, network, PLACES, ACTORS[who], [SOMEONE, BARRED]))
    invited = Edit("invited", (SOMEONE, BARRED), {SOMEONE: Standing.INVITED, BARRED: Standing.INVITED})
    assert ended == (invited if who in GOVERN else Result.NOT_ALLOWED)


def test_a_guest_that_waits_to_be_member_is_put_out_when_refused() -> None:
    edit = membership.refuse(NETWORK, {WAITS: Place(Standing.PENDING, present=True)}, OPERATOR, WAITS)
    assert edit == Edit("barred", (WAITS,), {WAITS: Standing.BARRED}, gone=(WAITS,))


async def test_a_full_member_list_still_bars_who_is_on_it(place: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_queries, "MAX_LISTED", 2)
    store = ServerStore.open(place)
    await store.add_entities([new(PNES[0]), new(PNES[1]), new(GATEWAYS[0])], OPERATOR)
    came = tuple(Membership(pne, True) for pne in PNES[:2])
    await store.establish(Establishment(PNS[0], GATEWAYS[0], None, Policy.OPEN, 2.0, came, {}))
    with pytest.raises(Refused, match="member_list_is_full"):
        await store.edit(PNS[0], [SOMEONE], partial(membership.invite, whom=[SOMEONE]), 3.0, OPERATOR)
    expelled = await store.edit(PNS[0], PNES[:2], partial(membership.expel, whom=PNES[:2], at=3.0), 3.0, OPERATOR)
    assert expelled.edit.gone == tuple(PNES[:2])
    await store.close()


def test_who_stands_in_puts_out_one_a_minute() -> None:
    first = ACTORS["first"]
    for whom, at, allowed in (([MEMBER], 159.0, False), ([MEMBER, OWNER], 160.0, False), ([MEMBER], 160.0, True)):
        ended = ends(partial(membership.expel, replace(NOBODY_S, expelled_at=100.0), PLACES, first, whom, at))
        assert ended == (Edit("expelled", (MEMBER,), gone=(MEMBER,), expelled_at=at) if allowed else Result.TOO_MANY)


def test_who_came_first_has_no_right_beside_an_owner() -> None:
    rules: list[Callable[..., Edit]] = [
        partial(membership.expel, whom=[MEMBER], at=1.0),
        partial(membership.approve, pne=WAITS),
        membership.release,
    ]
    for one in rules:
        assert ends(partial(one, NETWORK, PLACES, actor=ACTORS["first"])) is Result.NOT_ALLOWED


def test_the_first_that_may_own_is_the_owner() -> None:
    may_own = {MEMBER, WAITS}
    assert membership.first_owner([OWNER, WAITS, MEMBER], may_own) == WAITS
    assert membership.first_owner([OWNER], may_own) is None
