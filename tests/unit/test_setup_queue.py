"""Who goes into the next SETUP Request of a PAN: the promises, against whatever strangers do."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.errors import Refused
from cpns.gateway.queue import (
    BATCH_SIZE,
    HOST_BATCHES,
    KEPT_FOR_MEMBERS,
    LARGE,
    MAX_WAITING,
    PATIENCE,
    SLOW_RATE,
    SMALL,
    UNSHOWN,
    Batch,
    Lane,
    Queue,
)
from cpns.ids import EntityId
from cpns.shares.room import AddressUnproven


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class One:
    entity: EntityId
    host: str
    port: int = 1
    known: bool = False
    shown: bool = True
    size: int = SMALL
    since: float = 0.0
    pn: str = "pn"
    number: int = field(default=0)


class Scene:
    """A queue, its time, and who lost its place."""

    def __init__(self) -> None:
        self.time = Time()
        self.gone: list[One] = []
        self.queue: Queue[One] = Queue(lambda one: one.pn, self.gone.append, self.time)
        self.number = 0

    def put(self, entity: str, host: str, **more: Any) -> One:
        self.number += 1
        one = One(EntityId(entity), host, since=self.time.now, number=self.number, **more)
        self.queue.put(one)
        return one

    def all_next(self) -> list[Batch[One]]:
        found = []
        while (batch := self.queue.next()) is not None:
            found.append(batch)
        return found

    def silent(self, *batches: Batch[One]) -> None:
        for batch in batches:
            self.queue.ended(batch, ())


def names(batch: Batch[One]) -> list[str]:
    return [f"{one.entity} {one.host}:{one.port}" for one in batch.askers]


def test_turns_go_over_hosts_and_in_a_host_over_ports() -> None:
    on = Scene()
    for number in range(200):
        on.put(f"a-{number}", "greedy", port=number % 2)
    on.put("b-0", "modest", port=7)
    on.put("b-1", "modest", port=7)
    (batch, *_) = on.all_next()
    assert batch.lane is Lane.OPEN
    assert names(batch)[:5] == ["a-0 greedy:0", "b-0 modest:7", "a-1 greedy:1", "b-1 modest:7", "a-2 greedy:0"]
    assert len(batch.askers) == 64


@pytest.mark.parametrize(("size", "most"), [(SMALL, 64), (LARGE, 40)])
def test_a_batch_is_no_longer_than_a_message_may_be(size: int, most: int) -> None:
    on = Scene()
    for number in range(100):
        on.put(f"a-{number}", "host", size=size)
    batch = on.queue.next()
    assert batch is not None
    assert len(batch.askers) == most


def test_a_batch_is_for_one_pn() -> None:
    on = Scene()
    for number in range(10):
        on.put(f"a-{number}", f"host-{number}", pn="pn-a" if number % 2 else "pn-b")
    assert [{one.pn for one in batch.askers} for batch in on.all_next()] == [{"pn-b"}, {"pn-a"}]


def test_one_host_holds_up_no_other_before_it_is_known_for_silent() -> None:
    on = Scene()
    for number in range(HOST_BATCHES + 3):
        on.put(f"a-{number}", "stranger", port=number)
        on.all_next()
    honest = on.put("honest", "device")
    (batch,) = on.all_next()
    assert batch.askers == [honest]


def test_a_member_waits_for_no_stranger() -> None:
    on = Scene()
    for number in range(MAX_WAITING - UNSHOWN):
        on.put(f"a-{number}", f"stranger-{number}")
    running = on.all_next()
    assert [batch.lane for batch in running] == [Lane.OPEN] * Lane.OPEN.batches
    on.put("member", "elsewhere")
    member = on.put("member", "own", known=True)
    (batch,) = on.all_next()
    assert (batch.lane, batch.askers) == (Lane.MEMBERS, [member])


def test_a_member_does_not_wait_for_who_claims_its_id() -> None:
    on = Scene()
    on.put("member", "stranger")
    (first,) = on.all_next()
    member = on.put("member", "own", known=True)
    (batch,) = on.all_next()
    assert batch.askers == [member]
    on.put("member", "stranger", port=2)
    assert on.all_next() == []
    on.silent(first)
    assert on.all_next() == []  # the member's own is under way
    on.queue.ended(batch, {EntityId("member")})
    assert len(on.all_next()) == 1


def test_who_was_silent_is_in_a_batch_of_its_own_one_at_a_time() -> None:
    on = Scene()
    for number in range(3):
        on.put(f"a-{number}", f"stranger-{number}")
    on.silent(*on.all_next())
    for number in range(3):
        on.put(f"b-{number}", f"stranger-{number}")
    on.put("honest", "device")
    batches = on.all_next()
    assert [(batch.lane, len(batch.askers)) for batch in batches] == [(Lane.OPEN, 1), (Lane.SLOW, 3)]
    on.time.now += 1.0
    for number in range(3):
        on.put(f"c-{number}", f"stranger-{number}")
    assert on.all_next() == []
    on.silent(batches[1])
    assert [batch.lane for batch in on.all_next()] == [Lane.SLOW]


def test_no_more_than_so_many_of_the_silent_go_in_a_second() -> None:
    """Also those that answer at once, and wrongly: each costs us derivations."""
    on = Scene()
    for number in range(100):
        on.put(f"a-{number}", "stranger")
    on.silent(*on.all_next())
    begun = on.time.now
    gone = 0
    while on.time.now - begun < 10:
        for number in range(100 - len(on.queue)):
            on.put(f"b-{on.number}", "stranger", port=number)
        for batch in on.all_next():
            gone += len(batch.askers)
            on.silent(batch)
        on.time.now += 0.1
    assert 500 < gone <= 11 * SLOW_RATE


def test_whose_silence_is_longest_ago_comes_first() -> None:
    on = Scene()
    on.put("honest", "device")
    on.silent(*on.all_next())
    for number in range(200):
        on.put(f"a-{number}", f"stranger-{number}")
    on.time.now += 5
    on.silent(*on.all_next())
    for number in range(200):
        on.put(f"b-{number}", f"stranger-{number}")
    honest = on.put("honest", "device")
    (batch,) = on.all_next()
    assert honest in batch.askers


def test_members_that_were_silent_hold_up_no_other_members_and_wait_for_no_strangers() -> None:
    on = Scene()
    on.put("away", "own", known=True)
    on.put("stranger", "elsewhere")
    on.silent(*on.all_next())
    on.put("away", "own", known=True)
    on.put("there", "own-2", known=True)
    on.put("stranger", "elsewhere")
    lanes = {batch.lane: names(batch) for batch in on.all_next()}
    assert lanes == {
        Lane.MEMBERS: ["there own-2:1"],
        Lane.SLOW_MEMBERS: ["away own:1"],
        Lane.SLOW: ["stranger elsewhere:1"],
    }


def test_who_proves_itself_is_as_if_it_had_never_been_silent() -> None:
    on = Scene()
    on.put("a", "device")
    on.silent(*on.all_next())
    on.put("a", "device")
    (batch,) = on.all_next()
    assert batch.lane is Lane.SLOW
    on.queue.ended(batch, {EntityId("a")})
    on.put("a", "device")
    assert [batch.lane for batch in on.all_next()] == [Lane.OPEN]


def test_nobody_is_judged_by_a_batch_that_came_to_nothing() -> None:
    on = Scene()
    on.put("a", "device")
    (batch,) = on.all_next()
    on.queue.ended(batch, None)
    on.put("a", "device")
    assert [batch.lane for batch in on.all_next()] == [Lane.OPEN]


def test_full_the_newest_of_the_host_with_most_gives_way() -> None:
    on = Scene()
    honest = on.put("honest", "device")
    flood = [on.put(f"a-{number}", "stranger") for number in range(MAX_WAITING - UNSHOWN - 1)]
    unshown = [on.put(f"b-{number}", f"unshown-{number}", shown=False) for number in range(UNSHOWN)]
    with pytest.raises(Refused, match="room_full"):
        on.put("a-one-more", "stranger")
    on.put("honest-2", "device-2")
    assert on.gone == [flood[-1]]
    members = [on.put(f"member-{number}", "stranger", known=True) for number in range(KEPT_FOR_MEMBERS)]
    assert len(on.gone) == 1
    assert len(on.queue) == MAX_WAITING + KEPT_FOR_MEMBERS
    assert {honest, *unshown, *members}.isdisjoint(on.gone)


def test_under_load_a_few_places_are_for_who_shows_no_address() -> None:
    """As many hosts as there are messages, as a forged source is any: they have half of the places, and those few."""
    on = Scene()
    half = MAX_WAITING // 2 + 1
    for number in range(half):
        on.put(f"a-{number}", f"forged-{number}", shown=False)
    for number in range(UNSHOWN):
        on.put(f"b-{number}", f"forged-b-{number}", shown=False)
    for known, entity in ((False, "c"), (False, "a-0")):
        with pytest.raises(AddressUnproven):
            on.put(entity, "forged-c", shown=False)
        with pytest.raises(AddressUnproven):
            on.queue.look_at(known=known, shown=False)
    shown = [on.put(f"d-{number}", f"device-{number}") for number in range(MAX_WAITING - half - UNSHOWN)]
    on.put("member", "own", known=True, shown=False)
    assert on.gone == []
    on.queue.take(shown)
    on.queue.take_all()
    on.put("c", "forged-c", shown=False)
    on.queue.look_at(known=False, shown=False)


def test_who_shows_no_address_shares_those_places_by_host_too() -> None:
    on = Scene()
    for number in range(MAX_WAITING // 2 + 1):
        on.put(f"a-{number}", f"forged-{number}", shown=False)
    greedy = [on.put(f"b-{number}", "greedy", shown=False) for number in range(UNSHOWN)]
    on.put("old", "device", shown=False)
    assert on.gone == [greedy[-1]]


def test_who_has_given_up_waits_no_longer() -> None:
    on = Scene()
    old = on.put("a", "device")
    on.time.now += PATIENCE
    new = on.put("b", "device")
    on.time.now += 0.1
    assert on.queue.take_old() == [old]
    assert on.queue.take_all() == [new]
    assert len(on.queue) == 0


@pytest.mark.parametrize("ports", [1, 1000])
def test_the_honest_one_of_those_that_name_one_id_comes_second_at_the_latest(ports: int) -> None:
    """A stranger that names its ID from one host, first and as often as it likes, and is silent."""
    on = Scene()
    for number in range(400):
        on.put("honest", "stranger", port=number % ports)
    (first,) = on.all_next()
    own = on.put("honest", "device")
    assert on.all_next() == []
    on.silent(first)
    (second,) = on.all_next()
    assert second.askers == [own]


def test_of_many_hosts_that_name_one_id_the_one_that_asks_once_comes_before_those_that_ask_often() -> None:
    on = Scene()
    for number in range(400):
        on.put("honest", f"stranger-{number % 200}")
    (first,) = on.all_next()
    own = on.put("honest", "device")
    on.silent(first)
    (second, *_) = on.all_next()
    assert own in second.askers


_ASKS = st.tuples(st.integers(0, 5), st.integers(0, 7), st.integers(0, 2), st.booleans(), st.sampled_from("xy"))
_MOVES = st.lists(st.one_of(_ASKS, st.sampled_from(["next", "second", "end", "prove", "nobody"])), max_size=120)


@given(_MOVES)
def test_its_promises_hold_whatever_comes(moves: list[Any]) -> None:
    on = Scene()
    running: list[Batch[One]] = []
    for move in moves:
        if isinstance(move, tuple):
            entity, host, port, known, pn = move
            on.put(f"e-{entity}", f"h-{host}", port=port, known=known, pn=pn, size=LARGE if port else SMALL)
        elif move == "second":
            on.time.now += 1.0
        elif move == "next":
            running += on.all_next()
        elif running:
            batch = running.pop(0)
            proved = {one.entity for one in batch.askers} if move == "prove" else None if move == "nobody" else ()
            on.queue.ended(batch, proved)
        lanes = Counter(batch.lane for batch in running)
        assert all(count <= lane.batches for lane, count in lanes.items())
        under_way = Counter((one.entity, one.known) for batch in running for one in batch.askers)
        assert all(count == 1 for count in under_way.values())
        hosts = Counter(host for b in running if b.lane is Lane.OPEN for host in {one.host for one in b.askers})
        assert all(count <= HOST_BATCHES for count in hosts.values())
        for batch in running:
            assert 0 < sum(one.size for one in batch.askers) <= BATCH_SIZE
            assert len({one.pn for one in batch.askers}) == 1
            assert {one.known for one in batch.askers} == {batch.lane.known}


@given(st.lists(_ASKS, max_size=60), st.integers(0, 3))
def test_an_honest_one_gets_its_turn_in_bounded_time(strangers: list[Any], silent_before: int) -> None:
    """However strangers on other hosts come first and stay silent, and though it was silent itself before."""
    on = Scene()
    for _ in range(silent_before):
        on.put("honest", "device")
        on.silent(*on.all_next())
        on.time.now += 60
    for entity, host, port, _, pn in strangers:
        on.put("honest" if entity == 0 else f"e-{entity}", f"h-{host}", port=port, pn=pn)
    running = on.all_next()
    own = on.put("honest", "device", pn="x")
    rounds = 0
    while not any(own in batch.askers for batch in running):
        on.time.now += 2.5
        on.silent(*running)
        running = on.all_next()
        rounds += 1
        assert rounds <= 8, "at most one for each host that names its ID"
