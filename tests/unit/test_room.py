"""A room against a plain model, and the rules that its documents promise."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.errors import Refused
from cpns.service.places import place
from cpns.shares.party import PAN_PREFIX, UPLINK_PREFIX, host_of
from cpns.shares.room import Room, Slot
from cpns.shares.silence import LONGEST_WAIT, MAX_SILENT


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def ignored() -> None:
    """A holder that lets go at once."""


def filled(room: Room, group: str, count: int, **how: Any) -> list[Slot]:
    return [room.enter(group, ignored, **how) for _ in range(count)]


def taken(room: Room, group: str, gone: list[str]) -> Callable[[], None]:
    return lambda: gone.append(group)


class Model:
    """The rules as they are told, by looking at everything each time."""

    def __init__(self, total: int, kept: int) -> None:
        self.total, self.kept = total, kept
        self.slots: list[tuple[str, bool, int, int]] = []  # group, known, size, number; oldest first

    def size(self, group: str | None = None, known: bool | None = None) -> int:
        return sum(s for g, k, s, _ in self.slots if group in (None, g) and known in (None, k))

    def enter(self, group: str, known: bool, size: int, number: int) -> list[int] | None:
        gone: list[int] = []
        while (not known and self.size(known=False) + size > self.total - self.kept) or (
            self.size() + size > self.total
        ):
            halves = (False, True) if known else (False,)
            shares = {(g, k): self.size(g, k) for g, k, _, _ in self.slots if k in halves}
            most = max(shares.values(), default=0)
            if most == self.size(group) + size:
                raise _TieError
            if most < self.size(group) + size:
                return None if not gone else [*gone, -1]
            (victim, half) = next(who for who, share in shares.items() if share == most)
            if [share for share in shares.values()].count(most) > 1:
                raise _TieError
            newest = max(n for g, k, _, n in self.slots if (g, k) == (victim, half))
            gone.append(newest)
            self.slots = [one for one in self.slots if one[3] != newest]
        self.slots.append((group, known, size, number))
        return gone


class _TieError(Exception):
    """Equal groups: silence decides, which this model does not know."""


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(1, 4), st.booleans()), min_size=1, max_size=60
    )
)
def test_it_does_as_the_plain_model_does(moves: list[tuple[str, bool, int, bool]]) -> None:
    room, model = Room(12, 4, Time()), Model(12, 4)
    held: dict[int, Slot] = {}
    gone: list[int] = []
    for number, (group, known, size, leaves) in enumerate(moves):
        if leaves and held:
            oldest = min(held)
            room.leave(held.pop(oldest), proved=True)
            model.slots = [one for one in model.slots if one[3] != oldest]
            continue
        if not known and room.silence(group):
            continue
        gone.clear()
        try:
            expected = model.enter(group, known, size, number)
        except _TieError:
            return
        try:
            held[number] = room.enter(group, lambda n=number: gone.append(n), known=known, size=size)  # type: ignore[misc]
        except Refused:
            gone.append(-1)
        assert gone == (expected if expected is not None else [-1])
        for number_gone in gone:
            held.pop(number_gone, None)
        assert len(room) == model.size() <= 12
        assert all(room.share(one) == model.size(one) for one in "abcd")


def test_a_flood_throws_itself_out_and_the_oldest_run_goes_on() -> None:
    room, gone = Room(100, 0, Time()), []  # type: ignore[var-annotated]
    slow = room.enter("honest", taken(room, "honest", gone))
    for _ in range(99):
        room.enter("flood", taken(room, "flood", gone))
    for _ in range(1000):
        with pytest.raises(Refused, match="room_full"):
            room.enter("flood", taken(room, "flood", gone))
    others = [room.enter(f"device-{n}", taken(room, "device", gone)) for n in range(40)]
    assert slow.held
    assert all(one.held for one in others)
    assert gone == ["flood"] * 40


def test_many_hosts_with_one_run_each_give_way_once_they_were_silent() -> None:
    time = Time()
    room = Room(50, 0, time)
    slots = [room.enter(f"stranger-{n}", ignored) for n in range(50)]
    with pytest.raises(Refused, match="room_full"):
        room.enter("honest", ignored)
    for one in slots:
        room.leave(one, proved=False)
    time.now = 2.0
    for n in range(50):
        room.enter(f"stranger-{n}", ignored)
    assert room.enter("honest", ignored).held


def test_the_kept_places_are_for_those_who_are_known() -> None:
    room = Room(10, 3, Time())
    filled(room, "stranger", 7)
    with pytest.raises(Refused):
        room.enter("stranger", ignored)
    known = filled(room, "known", 5, known=True)
    assert all(one.held for one in known)
    assert room.share("stranger") == 5


def test_who_leaves_runs_unproved_waits_longer_each_time() -> None:
    time = Time()
    room = Room(10, 0, time)
    for expected in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_WAIT, LONGEST_WAIT):
        room.leave(room.enter("silent", ignored), proved=False)
        assert room.wait("silent") == expected
        with pytest.raises(Refused, match="unanswered_runs"):
            room.enter("silent", ignored)
        assert room.enter("silent", ignored, known=True).held
        time.now += expected
    room.leave(room.enter("silent", ignored), proved=True)
    assert room.wait("silent") == 0.0


def test_who_has_proved_itself_gives_way_to_nobody() -> None:
    room = Room(10, 0, Time())
    proven = filled(room, "host", 8)
    for one in proven:
        room.prove(one)
    assert (len(room), room.share("host")) == (8, 0)
    filled(room, "other", 2)
    with pytest.raises(Refused, match="room_full"):
        room.enter("host", ignored, known=True, size=2)
    assert all(one.held for one in proven)
    for one in proven:
        room.leave(one, proved=False)
        room.leave(one, proved=False)
    assert (len(room), room.silence("host")) == (2, 0)


def test_a_room_without_waits_lets_in_again_at_once() -> None:
    room = Room(10, 0, Time(), longest_wait=0)
    for _ in range(5):
        room.leave(room.enter("health check", ignored), proved=False)
    assert (room.wait("health check"), room.silence("health check")) == (0.0, 5)


def test_what_it_remembers_of_strangers_is_bounded() -> None:
    time = Time()
    room = Room(10, 0, time)
    for n in range(MAX_SILENT + 500):
        room.leave(room.enter(n, ignored), proved=False)
    assert room.wait(0) == 0.0
    assert room.wait(MAX_SILENT + 499) == 1.0


async def test_a_run_that_gives_way_ends_with_too_many() -> None:
    room = Room(1, 0, Time())
    room.leave(room.enter("greedy", ignored), proved=False)
    ended: list[str] = []

    async def run(group: str, known: bool) -> None:
        try:
            async with place(room, group, known=known):
                await asyncio.sleep(3600 if group == "greedy" else 0)
        except Refused as refused:
            ended.append(f"{group} {refused.reason}")

    greedy = asyncio.create_task(run("greedy", True))
    await asyncio.sleep(0)
    await run("honest", True)
    await greedy
    assert ended == ["greedy gave_way"]
    assert len(room) == 0


@pytest.mark.parametrize(
    ("address", "prefix", "host"),
    [
        ("192.0.2.7", UPLINK_PREFIX, "192.0.2.7"),
        ("2001:db8:1:2:3::4", UPLINK_PREFIX, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::4", PAN_PREFIX, "2001:db8:1:2:3::4"),
        ("fe80::1%eth0", PAN_PREFIX, "fe80::1%eth0"),
        ("::ffff:192.0.2.7", UPLINK_PREFIX, "192.0.2.7"),
        ("not an address:", UPLINK_PREFIX, "not an address:"),
    ],
)
def test_a_host_is_an_address_or_a_network(address: str, prefix: int, host: str) -> None:
    assert host_of(address, prefix) == host
