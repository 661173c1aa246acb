"""Every rule about CM Devices against a plain model: the real store on a real file, and dicts written from the prose.

The model calls nothing of `cpns.domain.cm` and knows no table.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cpns.crypto.secret import Secret
from cpns.domain import cm, pace
from cpns.domain.actor import OPERATOR, SERVER, Actor, Role
from cpns.domain.cm import CmCredential, CmDevice, HeldCmKey, NewCmDevice
from cpns.domain.inventory import Credential, Kind, NewEntity, Outcome, Revocation, State
from cpns.domain.member_list import Policy
from cpns.errors import Conflict, NotFound, Refused, Result
from cpns.ids import EntityId
from cpns.service.system import random_bytes
from cpns.store.gateway_store import GatewayStore
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault
from tests.support.stores import Location, Row, fresh, make_store_of, shape_of

T = TypeVar("T")

PNES = [EntityId(f"pne-{number}") for number in (1, 2, 3)]
BOUND, STRANGER = EntityId("pne-bound"), EntityId("pne-unknown")
GATEWAYS = [EntityId(f"gw-{number}") for number in (1, 2, 3)]
NOBODY, NO_CM = EntityId("gw-unknown"), EntityId("cm-unknown")
PNE, GW1, GW2 = PNES[0], GATEWAYS[0], GATEWAYS[1]
MOST = 4


def provisioned(entity_id: EntityId) -> NewEntity:
    """Return a PNE or PN GW; the fingerprint of its key is its ID."""
    kind = Kind.GATEWAY if entity_id in GATEWAYS else Kind.PNE
    via = GW1 if entity_id == BOUND else None
    return NewEntity(entity_id, kind, via, "", b"sealed " + entity_id.encode(), entity_id.encode(), 1.0)


ENTITIES = [provisioned(one) for one in (*PNES, BOUND, *GATEWAYS)]

# --- the model


class No(NamedTuple):
    """Why a step is refused; `result` is None where it is the user's fault."""

    result: Result | None
    reason: str


NO_DEVICE = No(Result.NOT_ALLOWED, "no_active_device")
ONE_GATEWAY = No(Result.NOT_ALLOWED, "bound_to_one_gateway")
WAS_REVOKED = No(Result.NOT_ALLOWED, "cm_device_revoked")
TWICE = No(Result.AUTHENTICATION_FAILED, "key_seed_used_twice")
NOT_ITS = No(Result.NOT_ALLOWED, "not_its_cm_device")
NOT_NEXT = No(Result.NOT_ALLOWED, "not_the_next_generation")
OLDER = No(Result.AUTHENTICATION_FAILED, "older_key")
UNKNOWN_CM, UNKNOWN_ENTITY = No(None, "unknown_cm_device"), No(None, "unknown_entity")


@dataclass
class One:
    """A CM Device: who it is of, what it may use, what became of it."""

    new: NewCmDevice
    key: bytes
    next: bytes | None = None
    generation: int = 0
    due: bool = False
    reassign: bool = False
    used: float | None = None
    gone: float | None = None

    @property
    def waits(self) -> bool:
        """Whether it may still be forgotten."""
        return self.used is None and self.gone is None

    def told(self) -> CmDevice:
        new, state = self.new, State.ACTIVE if self.gone is None else State.REVOKED
        named = (new.cm_device_id, new.gateway_id, new.pne_id, state, self.generation, self.next is not None)
        return CmDevice(*named, self.due, self.reassign, new.at, self.used, self.gone)


class Model:
    """The CM Devices. Methods are named as the store's: each returns what that returns, or why it is refused."""

    def __init__(self) -> None:
        self.devices: dict[EntityId, One] = {}
        self.revoked: set[EntityId] = set()
        self.log: list[Outcome] = []

    def in_order(self) -> list[One]:
        return sorted(self.devices.values(), key=lambda one: (one.new.at, one.new.cm_device_id))

    def of(self, pne: EntityId) -> list[One]:
        return [one for one in self.in_order() if one.new.pne_id == pne]

    def _log(
        self,
        at: float,
        event: str,
        who: EntityId,
        actor: Actor,
        via: EntityId | None = None,
        why: Result = Result.SUCCESS,
    ) -> None:
        self.log.append(Outcome(at, event, who, actor, why, "", via))

    def check_cm_assignable(self, pne: EntityId, gateway: EntityId) -> No | None:
        if pne not in (*PNES, BOUND) or pne in self.revoked:
            return NO_DEVICE
        if pne == BOUND:
            return ONE_GATEWAY
        if [one for one in self.of(pne) if one.gone is not None and not one.reassign]:
            return WAS_REVOKED
        return None

    def _making_room(self, pne: EntityId, gateway: EntityId) -> list[One]:
        """What this PN GW began and nobody used; and the oldest whose key some PN GW knows, until there is room."""
        room = [one for one in self.of(pne) if one.waits and one.new.gateway_id == gateway]
        left = [one for one in self.of(pne) if one.gone is None and one not in room]
        while len(left) >= MOST:
            oldest = next(one for one in left if one.generation == 0)
            left.remove(oldest)
            room.append(oldest)
        return room

    def assign_cm(self, new: NewCmDevice) -> No | list[EntityId]:
        no = self.check_cm_assignable(new.pne_id, new.gateway_id)
        if no is not None:
            return no
        room = self._making_room(new.pne_id, new.gateway_id)
        stay = {who: one for who, one in self.devices.items() if one not in room or not one.waits}
        ids = {*stay, *(one.entity_id for one in ENTITIES)}
        prints = {one.new.fingerprint for one in stay.values()} | {one.fingerprint for one in ENTITIES}
        if new.cm_device_id in ids or new.fingerprint in prints or new.gateway_id not in GATEWAYS:
            return TWICE
        self.devices = stay | {new.cm_device_id: One(new, new.sealed_seed)}
        mediator = Actor(Role.GATEWAY, new.gateway_id)
        for one in (one for one in room if one.waits):
            self._log(new.at, "cm_released", one.new.cm_device_id, mediator, new.gateway_id)
        ended = [one for one in room if not one.waits]
        for one in ended:
            self._end(one, new.at)
        self._log(new.at, "cm_assigned", new.cm_device_id, mediator, new.gateway_id)
        return [one.new.cm_device_id for one in ended]

    def _end(self, one: One, at: float) -> None:
        """Revoke it in favour of another of the same PNE."""
        one.gone, one.reassign = at, True
        self._log(at, "revoked", one.new.cm_device_id, SERVER)

    def release_cm(self, who: EntityId, gateway: EntityId, at: float) -> None:
        one = self.devices.get(who)
        if one is not None and one.waits and one.new.gateway_id == gateway:
            del self.devices[who]
            self._log(at, "cm_released", who, Actor(Role.GATEWAY, gateway), gateway)

    def expire_cm(self, before: float, at: float) -> list[EntityId]:
        expired = [one for one in self.in_order() if one.waits and one.new.at < before]
        superseded = [one for one in self.in_order() if one.reassign and one.gone is not None and one.gone < before]
        for one in superseded:
            del self.devices[one.new.cm_device_id]
        for one in expired:
            del self.devices[one.new.cm_device_id]
            self._log(at, "cm_expired", one.new.cm_device_id, SERVER, one.new.gateway_id, Result.KEY_EXPIRED)
        return [one.new.cm_device_id for one in expired]

    def rekey_cm(self, who: EntityId, pne: EntityId, generation: int, sealed: bytes, at: float) -> No | None:
        one = self.devices.get(who)
        if one is None or one.new.pne_id != pne:
            return NOT_ITS
        if one.gone is not None:
            return No(Result.NOT_ALLOWED, "revoked")
        if generation != one.generation + 1:
            return NOT_NEXT
        one.next = sealed
        self._log(at, "cm_key_agreed", who, Actor(Role.PNE, pne))
        return None

    def activate_cm(self, who: EntityId, generation: int, at: float) -> No | list[EntityId]:
        one = self.devices.get(who)
        if one is None or one.gone is not None:
            return No(Result.AUTHENTICATION_FAILED, "revoked")
        usable = {one.generation: one.key} | ({} if one.next is None else {one.generation + 1: one.next})
        if generation not in usable:
            return OLDER
        one.used = at if one.used is None else one.used
        ended = []
        if generation > one.generation:
            one.key, one.next, one.generation, one.due = usable[generation], None, generation, False
            self._log(at, "cm_rekeyed", who, Actor(Role.GATEWAY, who))
            for other in self.of(one.new.pne_id):
                if other is not one and other.gone is None:
                    self._end(other, at)
                    ended.append(other.new.cm_device_id)
        self._log(at, "cm_activated", who, Actor(Role.GATEWAY, who))
        return ended

    def rotate_cm(self, ids: Sequence[EntityId], at: float) -> No | list[CmDevice]:
        ones = [self.devices.get(who) for who in ids]
        if [one for one in ones if one is None or one.gone is not None]:
            return UNKNOWN_CM
        for one in filter(None, ones):
            one.due = True
            self._log(at, "cm_rotation_asked", one.new.cm_device_id, OPERATOR)
        return [one.told() for one in self.in_order() if one in ones]

    def may_reassign_cm(self, who: EntityId, reassign: bool, at: float) -> None:
        if who in self.devices and self.devices[who].reassign != reassign:
            self.devices[who].reassign = reassign
            self._log(at, "cm_reassign_allowed" if reassign else "cm_reassign_barred", who, OPERATOR)

    def revoke(self, who: EntityId, at: float) -> No | Revocation:
        if who in self.devices:
            one = self.devices[who]
            first, one.gone = one.gone is None, at if one.gone is None else one.gone
        elif who in (one.entity_id for one in ENTITIES):
            first = who not in self.revoked
            self.revoked.add(who)
        else:
            return UNKNOWN_ENTITY
        also = [one for one in self.of(who) if one.gone is None]
        for entity_id in [who] * first + [one.new.cm_device_id for one in also]:
            self._log(at, "revoked", entity_id, OPERATOR)
        for one in also:
            one.gone = at
        return Revocation(first, (), tuple(one.new.cm_device_id for one in also))


# --- the machine


@dataclass(frozen=True)
class Seen:
    """All that the store tells."""

    devices: list[CmDevice]
    keys: Mapping[EntityId, CmCredential | None]
    entities: list[tuple[EntityId, State]]
    credentials: Mapping[EntityId, Credential]
    log: list[Outcome]


async def look(store: ServerStore, ids: Sequence[EntityId]) -> Seen:
    devices = await store.cm_devices()
    keys = {who: await store.cm_device(who) for who in ids}
    entities = [(one.entity_id, one.state) for kind in Kind for one in await store.entities(kind)]
    log = [row for row in reversed(await store.audit(None, 9999)) if row.event != "provisioned"]
    return Seen(devices, keys, entities, await store.credentials(ids), log)


def outcome(value: object) -> object:
    """Return why a step was refused, or what it returned."""
    if isinstance(value, Refused):
        return No(value.result, value.reason)
    if isinstance(value, NotFound):
        return No(None, value.code)
    if isinstance(value, Conflict):  # a row against another row: the store says no less that it is not taken
        return TWICE
    assert not isinstance(value, BaseException), value
    return value


Step = tuple[Any, ...]


def by_whom(name: str) -> tuple[Actor, ...]:
    """Return who takes a step that anybody could, who is let."""
    return (OPERATOR,) if name in ("revoke", "rotate_cm", "may_reassign_cm") else ()


STEPS = ["assign"] * 8 + ["activate"] * 7 + ["rekey"] * 4 + ["rotate", "release", "expire"] * 2
STEPS += ["revoke", "may_reassign", "may_reassign", "check", "revoke_owner"]


class Machine(RuleBasedStateMachine):
    """Steps of everybody, right ones and wrong ones, each in the store and in the model; some of them at once."""

    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.closing = contextlib.ExitStack()
        self.place = self.closing.enter_context(fresh(self.kind))
        self.loop = asyncio.new_event_loop()
        self.store = self.loop.run_until_complete(self._open())
        self.loop.run_until_complete(self.store.add_entities(ENTITIES, OPERATOR))
        self.model = Model()
        self.given: list[NewCmDevice] = []
        self.drawn = b""
        self.made = 0
        self.now = 1000.0
        self.seen: Seen | None = None

    async def _open(self) -> ServerStore:
        return ServerStore.open(self.place)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.loop.close()
        self.closing.close()

    def fresh(self, pne: EntityId, gateway: EntityId, random: Random) -> NewCmDevice:
        device = EntityId(f"cm-{random.getrandbits(32):08x}")
        return NewCmDevice(device, gateway, pne, b"seed of " + device.encode(), device[3:].encode(), self.now)

    def model_of(self, name: str, *args: Any) -> object:
        """Take a step in the model; return how it ends."""
        note(f"{name} {args}")
        self.given += [one for one in args if isinstance(one, NewCmDevice)]
        return getattr(self.model, name)(*args)

    def same_in_the_store(self, steps: Sequence[Step], expected: Sequence[object]) -> None:
        """Take *steps* in one transaction: each ends as in the model, whatever becomes of the others."""

        async def together() -> list[object]:
            asked = [getattr(self.store, name)(*args, *by_whom(name)) for name, *args in steps]
            return [*await asyncio.gather(*asked, return_exceptions=True)]

        assert [outcome(one) for one in self.loop.run_until_complete(together())] == expected
        self.now += 1

    def do(self, *step: Any) -> None:
        self.same_in_the_store([step], [self.model_of(*step)])

    @initialize(seed=st.integers(0, 9))
    def some(self, seed: int) -> None:
        """One PNE has all but one that it may have, another has one of each kind."""
        random = Random(seed)
        for pne, gateway, upto in [(PNE, GW1, 0)] * 3 + [(PNES[1], GW1, None), (PNES[1], GW2, 1), (PNES[2], GW1, 0)]:
            new = self.fresh(pne, gateway, random)
            self.do("assign_cm", new)
            if upto == 1:
                self.do("rekey_cm", new.cm_device_id, pne, 1, b"key of " + new.cm_device_id.encode(), self.now)
            if upto is not None:
                self.do("activate_cm", new.cm_device_id, 0, self.now)

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
                expected.append(self.model_of(*drawn))
        self.same_in_the_store(steps, expected)

    def draw(self, random: Random) -> Step | None:
        """Return a step on what there is, or None."""

        def pick(options: Iterable[T]) -> T:
            return random.choice([*options])

        step, now = pick(STEPS), self.now
        ones = self.model.devices
        current = [who for who, one in ones.items() if one.gone is None]
        who = pick([*ones, *current * 5, *current[-3:] * 3, NO_CM])
        one = ones.get(who) or One(self.fresh(STRANGER, NOBODY, random), b"")
        pne, gateway = pick([*[PNE] * 3, *PNES]), pick(GATEWAYS)
        if step in ("assign", "check"):
            pne = pick([*[pne] * 9, BOUND, STRANGER, GW2, who])
            gateway = pick([*[gateway] * 15, NOBODY])
            if step == "check":
                return ("check_cm_assignable", pne, gateway)
            new = self.fresh(pne, gateway, random)
            older = pick(self.given)
            ids, prints = [older.cm_device_id, who, pne], [older.fingerprint, pne.encode()]
            new = replace(new, cm_device_id=pick([*[new.cm_device_id] * 25, *ids]))
            return ("assign_cm", replace(new, fingerprint=pick([*[new.fingerprint] * 20, *prints])))
        if step == "activate":
            grown = [who for who in current if ones[who].next is not None]
            unused = [who for who in current if ones[who].used is None]
            who = pick([who, who, *grown, *unused])
            at = ones[who].generation if who in ones else 0
            return ("activate_cm", who, at + pick([0, 0, 0, 1, 1, 1, -1, 2]), now)
        if step == "rekey":
            self.made += 1
            generation = one.generation + pick([*[1] * 8, 0, 2, -1])
            return ("rekey_cm", who, pick([*[one.new.pne_id] * 9, pne]), generation, b"key %d" % self.made, now)
        if step == "release":
            who = pick([*[who for who, one in ones.items() if one.waits] * 3, who])
            return ("release_cm", who, pick([*[ones[who].new.gateway_id if who in ones else NOBODY] * 4, gateway]), now)
        if step == "expire":
            made = pick([one.new.at, *(one.new.at for one in ones.values() if one.waits)])
            return ("expire_cm", made + pick([-1, 0, 0, 0.5, 1]), now)
        if step == "rotate":
            return ("rotate_cm", [who, *(pick([*current, who]) for _ in range(pick([0, 0, 1, 2])))], now)
        if step == "may_reassign":
            return (
                "may_reassign_cm",
                pick([who, *(who for who, one in ones.items() if one.gone)]),
                pick([True, False]),
                now,
            )
        if step == "revoke":
            return ("revoke", who, now)
        if step == "revoke_owner":  # seldom, as nobody comes back from it
            return ("revoke", pick([*PNES, BOUND, GW2, STRANGER]), now) if pick([True, False]) else None
        return None

    def restart(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.store = self.loop.run_until_complete(self._open())

    @invariant()
    def the_store_holds_what_the_model_does(self) -> None:
        ids = [new.cm_device_id for new in self.given]
        was, self.seen = (
            self.seen,
            self.loop.run_until_complete(look(self.store, [*ids, *(one.entity_id for one in ENTITIES)])),
        )
        devices, seen = self.model.devices, self.seen
        assert seen.devices == [one.told() for one in self.model.in_order()]
        assert {who: None if had is None else (had.sealed, had.sealed_next) for who, had in seen.keys.items()} == {
            **dict.fromkeys(seen.keys),
            **{who: (one.key, one.next) for who, one in devices.items()},
        }
        assert all(had is None or had.device in seen.devices for had in seen.keys.values())
        states = {one.entity_id: one.entity_id in self.model.revoked for one in ENTITIES}
        states |= {who: one.gone is not None for who, one in devices.items()}
        assert dict(seen.entities) == {who: State.REVOKED if gone else State.ACTIVE for who, gone in states.items()}
        assert {who: one.state for who, one in seen.credentials.items()} == dict(seen.entities)
        assert all((seen.credentials[who].kind is Kind.CM_DEVICE) is (who in devices) for who in states)
        assert seen.log == self.model.log
        if was is not None:
            self.what_always_holds(was, seen)

    def what_always_holds(self, was: Seen, now: Seen) -> None:
        """Read off the store alone, whatever the model says."""
        assert now.log[: len(was.log)] == was.log
        states = dict(now.entities)
        active = [one for one in now.devices if one.state is State.ACTIVE]
        for pne in {one.pne_id for one in active}:
            assert states[pne] is State.ACTIVE
            assert len([one for one in active if one.pne_id == pne]) <= MOST
        here = {one.cm_device_id: one for one in now.devices}
        for before in was.devices:
            after = here.get(before.cm_device_id)
            if before.state is State.REVOKED:  # it never comes back
                if after is None:
                    continue  # superseded, and forgotten: the model says when
                assert replace(after, reassign=before.reassign) == before
            if after is None:
                assert before.activated_at is None
            else:
                assert after.generation >= before.generation
        for one in now.devices:
            had = now.keys[one.cm_device_id]
            assert had is not None
            assert one.rekeying is (had.sealed_next is not None)
            assert (one.revoked_at is not None) is (one.state is State.REVOKED)


Machine.TestCase.settings = settings(max_examples=30, stateful_step_count=35, derandomize=True)
TestCmDevices = Machine.TestCase


class OnPostgres(Machine):
    kind = "postgres"


OnPostgres.TestCase.settings = settings(Machine.TestCase.settings, max_examples=4)
TestCmDevicesOnPostgres = OnPostgres.TestCase

# --- the rules one by one

CM = EntityId("cm-1")
DEVICE = CmDevice(CM, GW1, PNE, State.ACTIVE, 0, False, False, False, 2.0, 3.0, None)
MEDIATOR, ITSELF = Actor(Role.GATEWAY, GW1), Actor(Role.GATEWAY, CM)
UNUSED = replace(DEVICE, activated_at=None)
GONE = replace(DEVICE, state=State.REVOKED, revoked_at=4.0)
OWNER = Credential(PNE, Kind.PNE, State.ACTIVE, None, b"")


def refused(no: No, step: Callable[[], object]) -> None:
    with pytest.raises(Refused) as caught:
        step()
    assert (caught.value.result, caught.value.reason) == no


def several(count: int, like: CmDevice = DEVICE) -> list[CmDevice]:
    return [replace(like, cm_device_id=EntityId(f"cm-{number}")) for number in range(count)]


@pytest.mark.parametrize(
    ("pne", "others", "no"),
    [
        (None, [], NO_DEVICE),
        (replace(OWNER, kind=Kind.GATEWAY), [], NO_DEVICE),
        (replace(OWNER, kind=Kind.CM_DEVICE), [], NO_DEVICE),
        (replace(OWNER, state=State.REVOKED), [], NO_DEVICE),
        (replace(OWNER, only_via=GW1), [], ONE_GATEWAY),
        (replace(OWNER, only_via=GW2), [], ONE_GATEWAY),
        (OWNER, [GONE], WAS_REVOKED),
        (OWNER, [replace(GONE, reassign=True), GONE], WAS_REVOKED),
        (OWNER, [replace(GONE, activated_at=None)], WAS_REVOKED),
        (OWNER, [*several(MOST), GONE], WAS_REVOKED),
    ],
)
def test_who_may_not_be_assigned_one(pne: Credential | None, others: list[CmDevice], no: No) -> None:
    refused(no, lambda: cm.assign(pne, others, MEDIATOR))


ELSEWHERE = replace(UNUSED, gateway_id=GW2)
OWN_KEY = replace(DEVICE, cm_device_id=EntityId("cm-own-key"), generation=1)


@pytest.mark.parametrize(
    ("others", "room"),
    [
        ([], []),
        ([DEVICE], []),
        ([UNUSED], [0]),
        ([ELSEWHERE], []),  # another PN GW does not end what this one began
        ([replace(GONE, reassign=True)], []),
        ([replace(GONE, reassign=True, activated_at=None)], []),
        (several(MOST - 1), []),
        (several(MOST - 1, ELSEWHERE), []),
        ([*several(MOST - 1), UNUSED], [3]),
        ([*several(MOST - 1), *several(9, replace(GONE, reassign=True))], []),
        (several(MOST), [0]),  # one PN GW alone must not lock a device out
        (several(MOST, ELSEWHERE), [0]),
        (several(MOST + 1), [0, 1]),
        ([UNUSED, *several(MOST)], [0, 1]),
        ([OWN_KEY, *several(MOST - 1)], [1]),  # the one that no PN GW knows the key of is the device's own for sure
        ([*several(MOST - 1), OWN_KEY], [0]),
        ([OWN_KEY, *several(MOST - 2)], []),
        ([replace(GONE, reassign=True), *several(MOST)], [1]),
    ],
)
def test_what_makes_room_for_a_new_one(others: list[CmDevice], room: list[int]) -> None:
    assert cm.assign(OWNER, others, MEDIATOR) == [others[at] for at in room]


@pytest.mark.parametrize(
    ("device", "pne", "generation", "no"),
    [
        (None, PNE, 1, NOT_ITS),
        (DEVICE, PNES[1], 1, NOT_ITS),
        (DEVICE, GW1, 1, NOT_ITS),
        (DEVICE, CM, 1, NOT_ITS),
        (GONE, PNE, 1, No(Result.NOT_ALLOWED, "revoked")),
        (DEVICE, PNE, 0, NOT_NEXT),
        (DEVICE, PNE, 2, NOT_NEXT),
        (DEVICE, PNE, -1, NOT_NEXT),
        (replace(DEVICE, generation=4), PNE, 4, NOT_NEXT),
        (replace(DEVICE, generation=4), PNE, 1, NOT_NEXT),
        (replace(DEVICE, rekeying=True), PNE, 2, NOT_NEXT),
    ],
)
def test_who_may_not_agree_on_a_key(device: CmDevice | None, pne: EntityId, generation: int, no: No) -> None:
    refused(no, lambda: cm.rekey(device, generation, Actor(Role.PNE, pne)))


@pytest.mark.parametrize("device", [DEVICE, UNUSED, replace(DEVICE, rekeying=True), replace(DEVICE, rotation_due=True)])
def test_the_next_key_may_be_agreed_on_and_again_while_it_is_not_used(device: CmDevice) -> None:
    """The answer to the first may have been lost."""
    cm.rekey(device, 1, Actor(Role.PNE, PNE))
    cm.rekey(replace(device, generation=7), 8, Actor(Role.PNE, PNE))


@pytest.mark.parametrize("rekeying", [False, True])
def test_which_generation_may_begin_a_session(rekeying: bool) -> None:
    device = replace(DEVICE, generation=3, rekeying=rekeying)
    for generation in range(-1, 7):
        if generation in ((3, 4) if rekeying else (3,)):
            cm.activate(device, generation, ITSELF)
        else:
            refused(OLDER, partial(cm.activate, device, generation, ITSELF))
    for nobody in (None, replace(device, state=State.REVOKED, revoked_at=4.0)):
        refused(No(Result.AUTHENTICATION_FAILED, "revoked"), partial(cm.activate, nobody, 3, ITSELF))
    refused(No(Result.AUTHENTICATION_FAILED, "revoked"), partial(cm.activate, device, 3, MEDIATOR))


def test_who_mediated_may_give_up_what_was_never_used() -> None:
    assert cm.release(UNUSED, MEDIATOR)
    for device in (None, DEVICE, replace(UNUSED, state=State.REVOKED)):
        assert not cm.release(device, MEDIATOR)
    for other in (Actor(Role.GATEWAY, GW2), Actor(Role.PNE, GW1), ITSELF):
        assert not cm.release(UNUSED, other)


def test_which_end_with_a_key_that_the_pne_agreed_on_itself() -> None:
    one, two, three, four = several(4)
    others = [two, replace(three, activated_at=None), replace(four, state=State.REVOKED), replace(one, rekeying=True)]
    another = replace(DEVICE, cm_device_id=EntityId("cm-of-another"), pne_id=PNES[1])
    assert cm.superseded(one, [*others, another]) == [two.cm_device_id, three.cm_device_id]
    assert cm.superseded(one, []) == []


# --- the store


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits, where a test does not ask for it."""
    monkeypatch.setattr(pace, "CM_OF_PNE", ())
    monkeypatch.setattr(pace, "CM_OF_GATEWAY", ())


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    store = ServerStore.open(place)
    await store.add_entities(ENTITIES, OPERATOR)
    yield store
    await store.close()


def new(name: str, pne: EntityId = PNE, gateway: EntityId = GW1, *, at: float = 10.0, seed: str = "") -> NewCmDevice:
    seed = seed or name
    return NewCmDevice(EntityId(name), gateway, pne, b"sealed seed of " + seed.encode(), seed.encode(), at)


async def assigned(store: ServerStore, name: str, *owner: EntityId, used: bool = True) -> EntityId:
    device = new(name, *owner)
    await store.assign_cm(device)
    if used:
        await store.activate_cm(device.cm_device_id, 0, 20.0)
    return device.cm_device_id


async def shown(store: ServerStore) -> dict[str, CmDevice]:
    return {one.cm_device_id: one for one in await store.cm_devices()}


async def events(store: ServerStore, who: EntityId) -> list[tuple[float, str, EntityId | None, Result, str]]:
    rows = reversed(await store.audit(who, 99))
    return [(row.at, row.event, row.via, row.result, row.reason) for row in rows if row.event != "provisioned"]


NOT_TAKEN = (Refused, Conflict)


async def unchanged(
    store: ServerStore,
    step: Callable[[], Any],
    error: type[Exception] | tuple[type[Exception], ...],
    match: str | None = None,
) -> None:
    """Check that *step* is refused, and that nothing at all is stored for it."""
    ids = [one.entity_id for one in ENTITIES] + [one.cm_device_id for one in await store.cm_devices()]
    before = await look(store, ids)
    with pytest.raises(error, match=match):
        await step()
    assert await look(store, ids) == before


async def test_a_cm_device_is_an_entity_of_its_own(store: ServerStore) -> None:
    await store.assign_cm(new("cm-1"))
    assert await store.cm_devices() == [CmDevice(CM, GW1, PNE, State.ACTIVE, 0, False, False, False, 10.0, None, None)]
    found = await store.cm_device(CM)
    assert found == CmCredential((await store.cm_devices())[0], b"sealed seed of cm-1", None)
    entity = await store.entity(CM)
    assert entity is not None
    assert (entity.kind, entity.state, entity.only_via) == (Kind.CM_DEVICE, State.ACTIVE, None)
    assert (entity.fingerprint, entity.created_at) == (b"cm-1", 10.0)
    assert [one.entity_id for one in await store.entities(Kind.CM_DEVICE)] == [CM]
    assert await store.cm_device(NO_CM) is None
    assert await store.cm_device(PNE) is None


async def test_the_oldest_is_told_first(store: ServerStore) -> None:
    """By ID those of one time."""
    for name, at, gateway in (("cm-b", 12.0, GW1), ("cm-d", 11.0, GW2), ("cm-c", 11.0, GATEWAYS[2])):
        await store.assign_cm(new(name, PNE, gateway, at=at))
    assert [*await shown(store)] == ["cm-c", "cm-d", "cm-b"]


async def test_a_seed_serves_once(store: ServerStore) -> None:
    """Whoever brings it: the same ID, or the same Key Seed under another ID."""
    await assigned(store, "cm-1")
    again = [new("cm-1"), new("cm-1", PNES[1], GW2), new("cm-1", seed="another")]
    again += [new("cm-2", seed="cm-1"), new("cm-2", PNES[1], GW2, seed="cm-1")]
    again += [new("cm-2", seed=PNE), new(PNES[1])]  # the EUKey of an entity, its ID
    for device in again:
        await unchanged(store, partial(store.assign_cm, device), NOT_TAKEN)
    with pytest.raises(Refused, match="authentication_failed: key_seed_used_twice"):
        await store.assign_cm(again[0])


async def test_a_seed_has_served_though_the_key_is_another_by_now(store: ServerStore) -> None:
    await assigned(store, "cm-1")
    await store.rekey_cm(CM, PNE, 1, b"next", 35.0)
    await store.activate_cm(CM, 1, 30.0)
    await store.revoke(CM, 40.0, OPERATOR)
    await store.may_reassign_cm(CM, True, 45.0, OPERATOR)
    for device in (new("cm-1"), new("cm-2", seed="cm-1")):
        with pytest.raises(NOT_TAKEN):
            await store.assign_cm(device)
    await store.assign_cm(new("cm-2"))


async def test_what_a_refused_assignment_would_replace_is_there_still(store: ServerStore) -> None:
    """It is forgotten in the transaction that then fails."""
    await assigned(store, "cm-1", used=False)
    await assigned(store, "cm-2", PNES[1])
    for device in (new("cm-2"), new("cm-3", seed="cm-2")):
        await unchanged(store, partial(store.assign_cm, device), NOT_TAKEN)
    assert [*await shown(store)] == ["cm-1", "cm-2"]


async def test_a_gateway_that_is_not_provisioned_leaves_no_entity(store: ServerStore) -> None:
    await unchanged(store, partial(store.assign_cm, new("cm-1", gateway=NOBODY)), NOT_TAKEN)
    assert await store.entity(CM) is None


async def test_what_the_same_gateway_began_and_nobody_used_is_replaced(store: ServerStore) -> None:
    await assigned(store, "cm-1", PNE, GW1, used=False)
    await assigned(store, "cm-2", PNE, GW2, used=False)
    await assigned(store, "cm-3", PNES[1], GW1, used=False)
    await assigned(store, "cm-4", PNE, GW1, used=False)
    assert {*await shown(store)} == {"cm-2", "cm-3", "cm-4"}
    assert await store.entity(CM) is None
    await store.activate_cm(EntityId("cm-4"), 0, 20.0)
    await assigned(store, "cm-5", PNE, GW1, used=False)
    assert {*await shown(store)} == {"cm-2", "cm-3", "cm-4", "cm-5"}


async def test_a_pne_has_at_most_four(store: ServerStore) -> None:
    """The oldest one goes, and may be assigned anew."""
    for name in ("cm-1", "cm-2", "cm-3", "cm-4"):
        assert await assigned(store, name) == name
    await store.check_cm_assignable(PNE, GW1)
    assert await store.assign_cm(new("cm-5", PNES[1], at=30.0)) == []
    assert await store.assign_cm(new("cm-6", at=40.0)) == [CM]
    devices = await shown(store)
    assert (devices["cm-1"].state, devices["cm-1"].revoked_at, devices["cm-1"].reassign) == (State.REVOKED, 40.0, True)
    assert (await events(store, CM))[-1] == (40.0, "revoked", None, Result.SUCCESS, "")
    active = [name for name, one in devices.items() if one.state is State.ACTIVE]
    assert active == ["cm-2", "cm-3", "cm-4", "cm-5", "cm-6"]
    await unchanged(store, partial(store.activate_cm, CM, 0, 50.0), Refused, "revoked")


async def test_the_one_with_a_key_of_its_own_is_not_the_one_that_goes(store: ServerStore) -> None:
    """Else a PN GW could end it by making many."""
    await assigned(store, "cm-1")
    await store.rekey_cm(CM, PNE, 1, b"one", 35.0)
    await store.activate_cm(CM, 1, 25.0)
    for name in ("cm-2", "cm-3", "cm-4"):
        await assigned(store, name)
    for number, oldest in enumerate(("cm-2", "cm-3", "cm-4", "cm-5", "cm-6"), 5):
        assert await store.assign_cm(new(f"cm-{number}", at=30.0 + number)) == [oldest]
        await store.activate_cm(EntityId(f"cm-{number}"), 0, 50.0)
    assert (await shown(store))["cm-1"].state is State.ACTIVE


async def test_the_oldest_is_forgotten_where_it_was_never_used(store: ServerStore) -> None:
    await store.assign_cm(new("cm-1", PNE, GW2, at=5.0))
    for name in ("cm-2", "cm-3", "cm-4"):
        await assigned(store, name)
    assert await store.assign_cm(new("cm-5")) == []
    assert [*await shown(store)] == ["cm-2", "cm-3", "cm-4", "cm-5"]
    assert await store.entity(CM) is None


async def test_an_assignment_that_fails_ends_none(store: ServerStore) -> None:
    for name in ("cm-1", "cm-2", "cm-3", "cm-4"):
        await assigned(store, name)
    for device in (new("cm-1"), new("cm-5", seed="cm-2"), new("cm-5", gateway=NOBODY)):
        await unchanged(store, partial(store.assign_cm, device), NOT_TAKEN)


@pytest.mark.parametrize(
    ("pne", "reason"),
    [(STRANGER, NO_DEVICE), (GW2, NO_DEVICE), (CM, NO_DEVICE), (PNES[2], NO_DEVICE), (BOUND, ONE_GATEWAY)],
)
async def test_a_refused_assignment_is_refused_before_a_seed_is_given(
    store: ServerStore, pne: EntityId, reason: No
) -> None:
    await assigned(store, "cm-1")
    await store.revoke(PNES[2], 20.0, OPERATOR)
    await unchanged(store, partial(store.check_cm_assignable, pne, GW1), Refused, reason.reason)
    await unchanged(store, partial(store.assign_cm, new("cm-2", pne)), Refused, reason.reason)


async def test_a_revoked_one_keeps_its_pne_behind_gateways_until_the_operator_says_else(store: ServerStore) -> None:
    await assigned(store, "cm-1")
    await store.revoke(CM, 30.0, OPERATOR)
    for gateway in (GW1, GW2):
        await unchanged(store, partial(store.check_cm_assignable, PNE, gateway), Refused, "cm_device_revoked")
        await unchanged(store, partial(store.assign_cm, new("cm-2", PNE, gateway)), Refused, "cm_device_revoked")
    await store.may_reassign_cm(CM, True, 45.0, OPERATOR)
    await store.check_cm_assignable(PNE, GW1)
    await store.may_reassign_cm(CM, False, 45.0, OPERATOR)
    await unchanged(store, partial(store.assign_cm, new("cm-2")), Refused, "cm_device_revoked")
    await store.may_reassign_cm(CM, True, 45.0, OPERATOR)
    await store.assign_cm(new("cm-2"))
    assert (await shown(store))["cm-1"].state is State.REVOKED


@pytest.mark.parametrize("used", [False, True])
async def test_a_revoked_one_does_not_come_back(store: ServerStore, used: bool) -> None:
    await assigned(store, "cm-1", used=used)
    await store.rekey_cm(CM, PNE, 1, b"next", 35.0)
    assert (await store.revoke(CM, 30.0, OPERATOR)).first
    assert not (await store.revoke(CM, 40.0, OPERATOR)).first
    steps: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (partial(store.activate_cm, CM, 0, 50.0), Refused, "revoked"),
        (partial(store.activate_cm, CM, 1, 50.0), Refused, "revoked"),
        (partial(store.rekey_cm, CM, PNE, 1, b"other", 35.0), Refused, "revoked"),
        (partial(store.rotate_cm, [CM], 50.0, OPERATOR), NotFound, "no active"),
    ]
    for step, error, match in steps:
        await unchanged(store, step, error, match)
    assert await store.expire_cm(99.0, 99.0) == []
    device = (await shown(store))["cm-1"]
    assert (device.state, device.revoked_at, device.rekeying) == (State.REVOKED, 30.0, True)


async def test_with_the_pne_go_its_cm_devices(store: ServerStore) -> None:
    for name, pne, used in (("cm-2", PNE, True), ("cm-3", PNE, True), ("cm-4", PNES[1], True), ("cm-1", PNE, False)):
        await assigned(store, name, pne, used=used)
    await store.revoke(EntityId("cm-3"), 25.0, OPERATOR)
    gone = await store.revoke(PNE, 30.0, OPERATOR)
    assert gone == Revocation(True, (), (CM, EntityId("cm-2")))
    devices = await shown(store)
    assert {name: (one.state, one.revoked_at, one.reassign) for name, one in devices.items()} == {
        "cm-1": (State.REVOKED, 30.0, False),
        "cm-2": (State.REVOKED, 30.0, False),
        "cm-3": (State.REVOKED, 25.0, False),
        "cm-4": (State.ACTIVE, None, False),
    }
    for name in ("cm-1", "cm-2"):
        assert (await events(store, EntityId(name)))[-1] == (30.0, "revoked", None, Result.SUCCESS, "")
    assert await store.revoke(PNE, 40.0, OPERATOR) == Revocation(False, (), ())


async def test_a_gateway_goes_without_what_it_mediated(store: ServerStore) -> None:
    await assigned(store, "cm-1")
    assert await store.revoke(GW1, 30.0, OPERATOR) == Revocation(True, (), ())
    assert (await shown(store))["cm-1"].state is State.ACTIVE
    await store.activate_cm(CM, 0, 40.0)


async def test_the_pne_stays_when_its_cm_device_goes(store: ServerStore) -> None:
    await assigned(store, "cm-1")
    assert await store.revoke(CM, 30.0, OPERATOR) == Revocation(True, (), ())
    assert (await store.credentials([PNE]))[PNE].state is State.ACTIVE


# --- keys in the store


async def test_the_next_key_stands_beside_the_present_one_until_it_is_used(store: ServerStore) -> None:
    await assigned(store, "cm-1")
    seed = b"sealed seed of cm-1"

    async def keys() -> tuple[int, bool, bytes, bytes | None]:
        found = await store.cm_device(CM)
        assert found is not None
        return found.device.generation, found.device.rekeying, found.sealed, found.sealed_next

    await store.rekey_cm(CM, PNE, 1, b"first try", 35.0)
    await store.rekey_cm(CM, PNE, 1, b"one", 35.0)
    assert await keys() == (0, True, seed, b"one")
    await store.activate_cm(CM, 0, 30.0)
    assert await keys() == (0, True, seed, b"one")
    await store.activate_cm(CM, 1, 40.0)
    assert await keys() == (1, False, b"one", None)
    await unchanged(store, partial(store.activate_cm, CM, 0, 50.0), Refused, "older_key")
    await unchanged(store, partial(store.activate_cm, CM, 2, 50.0), Refused, "older_key")
    await unchanged(store, partial(store.rekey_cm, CM, PNE, 1, b"again", 35.0), Refused, "not_the_next_generation")
    await store.rekey_cm(CM, PNE, 2, b"two", 35.0)
    await store.activate_cm(CM, 2, 60.0)
    assert await keys() == (2, False, b"two", None)


async def test_the_first_activation_alone_is_noted(store: ServerStore) -> None:
    await assigned(store, "cm-1", used=False)
    for at in (20.0, 30.0):
        assert await store.activate_cm(CM, 0, at) == []
        assert (await shown(store))["cm-1"].activated_at == 20.0


async def test_a_rotation_is_due_until_a_fresh_key_is_used(store: ServerStore) -> None:
    await assigned(store, "cm-1")
    await assigned(store, "cm-2", PNES[1])
    assert await store.rotate_cm([EntityId("cm-2"), CM], 30.0, OPERATOR) == [*(await shown(store)).values()]
    assert all(one.rotation_due for one in await store.cm_devices())
    await store.rekey_cm(CM, PNE, 1, b"one", 35.0)
    await store.activate_cm(CM, 0, 40.0)
    assert (await shown(store))["cm-1"].rotation_due
    await store.activate_cm(CM, 1, 50.0)
    assert {name: one.rotation_due for name, one in (await shown(store)).items()} == {"cm-1": False, "cm-2": True}


@pytest.mark.parametrize("bad", [NO_CM, PNE, EntityId("cm-3")])
async def test_a_rotation_is_asked_of_all_or_none(store: ServerStore, bad: EntityId) -> None:
    await assigned(store, "cm-1")
    await assigned(store, "cm-3", PNES[1])
    await store.revoke(EntityId("cm-3"), 25.0, OPERATOR)
    await unchanged(store, partial(store.rotate_cm, [CM, bad], 30.0, OPERATOR), NotFound, "no active CM Device")
    assert await store.rotate_cm([], 30.0, OPERATOR) == []


async def test_a_key_that_the_pne_agreed_on_ends_its_other_cm_devices(store: ServerStore) -> None:
    """And they may be assigned anew: it was not the operator who ended them."""
    for name, owner in (("cm-1", (PNE, GW1)), ("cm-2", (PNE, GW2)), ("cm-4", (PNES[1], GW1))):
        await assigned(store, name, *owner)
    await assigned(store, "cm-3", PNE, GW2, used=False)
    await store.rekey_cm(CM, PNE, 1, b"one", 35.0)
    assert await store.activate_cm(CM, 0, 30.0) == []
    assert {*await store.activate_cm(CM, 1, 40.0)} == {"cm-2", "cm-3"}
    assert {name: (one.state, one.reassign) for name, one in (await shown(store)).items()} == {
        "cm-1": (State.ACTIVE, False),
        "cm-2": (State.REVOKED, True),
        "cm-3": (State.REVOKED, True),
        "cm-4": (State.ACTIVE, False),
    }
    await store.check_cm_assignable(PNE, GW2)
    await store.rekey_cm(CM, PNE, 2, b"two", 35.0)
    assert await store.activate_cm(CM, 2, 50.0) == []  # they ended already
    assert (await shown(store))["cm-2"].revoked_at == 40.0


# --- what is never used


async def test_only_who_mediated_releases_and_only_what_was_never_used(store: ServerStore) -> None:
    await assigned(store, "cm-1", PNE, GW1, used=False)
    await assigned(store, "cm-2", PNE, GW2)
    before = await shown(store)
    for device, gateway in ((CM, GW2), (EntityId("cm-2"), GW2), (NO_CM, GW1), (PNE, GW1)):
        await store.release_cm(device, gateway, 30.0)
        assert await shown(store) == before
    await store.release_cm(CM, GW1, 30.0)
    assert [*await shown(store)] == ["cm-2"]
    assert await store.entity(CM) is None
    await store.assign_cm(new("cm-1"))  # a seed that nobody kept has not served


async def test_what_was_never_used_expires(store: ServerStore) -> None:
    for name, pne, at in (("cm-b", PNE, 10.0), ("cm-a", PNES[1], 10.0), ("cm-c", PNES[2], 11.0)):
        await store.assign_cm(new(name, pne, at=at))
    await store.assign_cm(new("cm-d", PNE, GW2, at=5.0))
    await store.activate_cm(EntityId("cm-d"), 0, 12.0)
    assert await store.expire_cm(10.0, 20.0) == []
    assert await store.expire_cm(10.5, 20.0) == ["cm-a", "cm-b"]
    assert [*await shown(store)] == ["cm-d", "cm-c"]
    await unchanged(store, partial(store.activate_cm, EntityId("cm-a"), 0, 30.0), Refused, "revoked")


# --- the log


async def test_every_step_is_in_the_log(store: ServerStore) -> None:
    await assigned(store, "cm-1")
    await store.rotate_cm([CM], 30.0, OPERATOR)
    await store.rekey_cm(CM, PNE, 1, b"one", 35.0)
    await store.activate_cm(CM, 1, 40.0)
    await store.revoke(CM, 50.0, OPERATOR)
    ok = Result.SUCCESS
    assert await events(store, CM) == [
        (10.0, "cm_assigned", GW1, ok, ""),
        (20.0, "cm_activated", None, ok, ""),
        (30.0, "cm_rotation_asked", None, ok, ""),
        (35.0, "cm_key_agreed", None, ok, ""),
        (40.0, "cm_rekeyed", None, ok, ""),
        (40.0, "cm_activated", None, ok, ""),
        (50.0, "revoked", None, ok, ""),
    ]
    entity = await store.entity(CM)
    assert entity is not None
    assert (entity.last_result, entity.last_at) == (ok, 40.0)


async def test_what_is_forgotten_is_in_the_log_still(store: ServerStore) -> None:
    await store.assign_cm(new("cm-1", PNE, GW1))
    await store.assign_cm(new("cm-2", PNE, GW2))
    await store.release_cm(CM, GW1, 30.0)
    await store.release_cm(CM, GW1, 31.0)  # there is none any more
    await store.expire_cm(99.0, 40.0)
    assert await events(store, CM) == [
        (10.0, "cm_assigned", GW1, Result.SUCCESS, ""),
        (30.0, "cm_released", GW1, Result.SUCCESS, ""),
    ]
    assert await events(store, EntityId("cm-2")) == [
        (10.0, "cm_assigned", GW2, Result.SUCCESS, ""),
        (40.0, "cm_expired", GW2, Result.KEY_EXPIRED, ""),
    ]


async def test_steps_of_one_transaction_fail_alone(store: ServerStore) -> None:
    await assigned(store, "cm-1")
    done = await asyncio.gather(
        store.assign_cm(new("cm-2", PNES[1])),
        store.assign_cm(new("cm-3", BOUND)),
        store.rotate_cm([CM, NO_CM], 30.0, OPERATOR),
        store.rekey_cm(CM, PNE, 1, b"one", 35.0),
        store.activate_cm(CM, 1, 30.0),
        store.activate_cm(CM, 0, 30.0),
        return_exceptions=True,
    )
    assert [outcome(one) for one in done] == [[], ONE_GATEWAY, UNKNOWN_CM, None, [], OLDER]
    assert {name: (one.generation, one.rotation_due) for name, one in (await shown(store)).items()} == {
        "cm-1": (1, False),
        "cm-2": (0, False),
    }


# --- an older store


@pytest.mark.parametrize("revision", ["0001", "0002"])
async def test_an_older_servers_keys_still_open(new_place: Callable[[], Location], revision: str) -> None:
    vault = FileVault(Secret(random_bytes(32)), random_bytes)
    keys = {one: Secret(random_bytes(32)) for one in (PNE, PNES[1], GW1)}
    sealed = {one: vault.seal("eukey", one, key) for one, key in keys.items()}
    entity = (
        "INSERT INTO entities (entity_id, kind, state, only_via, note, sealed_eukey, fingerprint, created_at)"
        " VALUES (:id, :kind, :state, NULL, 'a note', :sealed, :print, 1.0)"
    )
    rows: list[Row] = []
    for one in keys:
        kind, state = ("gateway" if one == GW1 else "pne"), ("revoked" if one == PNES[1] else "active")
        values = {"id": one, "kind": kind, "state": state, "sealed": sealed[one], "print": one.encode()}
        rows.append((entity, values))
    pn = "INSERT INTO networks (pn_id, gateway_id, alias, created_at) VALUES ('pn-1', 'gw-1', 'home', 200.0)"
    rows += [(pn, {}), ("INSERT INTO members (pne_id, pn_id, pan_secure) VALUES ('pne-1', 'pn-1', true)", {})]
    place = new_place()
    make_store_of(revision, place, rows)

    store = ServerStore.open(place)
    found = await store.credentials([*keys])
    assert {one: (has.sealed_key, has.state) for one, has in found.items()} == {
        one: (sealed[one], State.REVOKED if one == PNES[1] else State.ACTIVE) for one in keys
    }
    assert {one: vault.open("eukey", one, has.sealed_key) for one, has in found.items()} == keys
    (inventory,) = await store.networks()
    assert (inventory.network.policy, [one.pne_id for one in inventory.members]) == (Policy.OPEN, [PNE])
    assert await store.cm_devices() == []

    await assigned(store, "cm-1")  # and CM Devices are there, tied to the entities that were
    await unchanged(store, partial(store.assign_cm, new("cm-2", PNES[1])), Refused, "no_active_device")
    await unchanged(store, partial(store.assign_cm, new("cm-2", gateway=NOBODY)), NOT_TAKEN)
    await unchanged(store, partial(store.assign_cm, new("cm-2", seed=PNE)), NOT_TAKEN)
    gone = await store.revoke(PNE, 30.0, OPERATOR)
    assert ([network.pn_id for network in gone.left], gone.also) == (["pn-1"], (CM,))
    await store.close()


@pytest.mark.parametrize("revision", ["0001", "0002"])
async def test_an_older_gateway_keeps_its_keys(tmp_path: Path, revision: str) -> None:
    path = tmp_path / "gateway.db"
    kept = "INSERT INTO local_eukeys (pne_id, pn_id, th0, sealed_key) VALUES ('pne-1', 'pn-1', x'01', x'02')"
    make_store_of(revision, path, [(kept, {})])
    store = GatewayStore.open(path)
    assert [(one.pne_id, one.sealed_key) for one in await store.members()] == [(PNE, b"\x02")]
    assert await store.cm_keys() == []
    await store.keep_cm_key(HeldCmKey(CM, 1, b"sealed"))
    assert await store.cm_keys() == [HeldCmKey(CM, 1, b"sealed")]
    await store.close()


async def test_an_older_store_is_tied_together_as_a_new_one(new_place: Callable[[], Location]) -> None:
    older, newer = new_place(), new_place()
    make_store_of("0002", older, [])
    shapes = []
    for place in (older, newer):
        store = ServerStore.open(place)
        shapes.append(await store.database.run(shape_of, write=False))
        await store.close()
    assert shapes[0] == shapes[1]
    assert "REFERENCES entities" in " ".join(of for name, of in shapes[0].items() if name.startswith("cm_devices"))


async def test_its_gateway_does_not_undo_a_revocation(store: ServerStore) -> None:
    """CM-RELEASE of one that the operator revoked meanwhile leaves it, and with it the word that there is no other."""
    await assigned(store, "cm-1", PNE, GW1, used=False)
    await store.revoke(CM, 30.0, OPERATOR)
    await store.release_cm(CM, GW1, 40.0)
    device = await store.cm_device(CM)
    assert device is not None
    assert device.device.state is State.REVOKED
    with pytest.raises(Refused, match="cm_device_revoked"):
        await store.check_cm_assignable(PNE, GW1)


async def test_a_seed_that_served_another_is_refused(store: ServerStore) -> None:
    await assigned(store, "cm-1")
    with pytest.raises(Refused, match="key_seed_used_twice"):
        await store.assign_cm(new("cm-2", PNES[1], seed="cm-1"))


async def test_who_is_assigned_them_again_and_again_waits(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute after a burst, and a day after many; so does a PN GW, for whichever PNE. Others do not."""
    monkeypatch.setattr(pace, "CM_OF_PNE", (pace.Limit(2, 60.0), pace.Limit(3, 86400.0)))
    monkeypatch.setattr(pace, "CM_OF_GATEWAY", (pace.Limit(4, 60.0),))
    for number, at in enumerate((10.0, 11.0)):
        await store.assign_cm(new(f"cm-{number}", at=at))
    for at in (11.1, 70.0):
        with pytest.raises(Refused, match="too_often"):
            await store.assign_cm(new("cm-9", at=at))
    await store.assign_cm(new("cm-2", at=72.0))
    with pytest.raises(Refused, match="too_often"):
        await store.assign_cm(new("cm-9", at=200.0))
    await store.assign_cm(new("cm-9", at=72.0 + 86400.0))


async def test_what_others_took_the_place_of_is_forgotten_in_the_end(store: ServerStore) -> None:
    for number in range(6):
        device = await assigned(store, f"cm-{number}")
        assert device
    assert len(await shown(store)) == 6
    await store.expire_cm(1e9, 2e9)
    assert [one.state for one in (await shown(store)).values()] == [State.ACTIVE] * 4
