"""Turns: who waits for whom, and how long; by generated moves, and the rules one by one."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.shares.turns import QUANTUM, UNLIMITED, Limits, Turn, Turns

Item = tuple[int, str, str]  # number, uplink, session
UPLINKS = st.sampled_from("abcd")
SESSIONS = st.sampled_from("wxyz")
COSTS = st.sampled_from([0.5, 1.0, 3.0, 10.0])
PUTS = st.tuples(st.just("put"), UPLINKS, SESSIONS, COSTS)
AT_ONCE = st.tuples(st.just("at once"), UPLINKS, SESSIONS)
MOVES = st.one_of(PUTS, PUTS, PUTS, AT_ONCE, st.just(("take",)), st.tuples(st.just("done"), st.integers(0, 50)))

WAITING = Limits(session=3, uplink=8, total=12)
RUNNING = Limits(session=2, uplink=4, total=6)
STRANGERS = 3


@dataclass
class Seen:
    """What went in, and what became of it."""

    turns: Turns[Item] = field(default_factory=lambda: Turns(WAITING, RUNNING, STRANGERS))
    waiting: dict[tuple[str, str], list[Item]] = field(default_factory=lambda: defaultdict(list))
    running: list[Turn[Item]] = field(default_factory=list)
    put: int = 0

    def do(self, move: tuple[object, ...]) -> None:
        match move:
            case ("put", str(uplink), str(session), float(cost)):
                item = (self.put, uplink, session)
                self.put += 1
                self.waiting[uplink, session].append(item)
                gone = self.turns.put(uplink, session, item, cost, stranger=uplink in "ab")
                if gone is not None:
                    assert self.waiting[gone[1], gone[2]].pop() == gone  # the newest of its session
            case ("at once", str(uplink), str(session)):
                turn = self.turns.at_once(uplink, session, (self.put, uplink, session), stranger=uplink in "ab")
                assert (turn is not None) == (not any(self.waiting.values()) and self.may_run(uplink))
                self.put += 1
                self.runs(turn)
            case ("take",):
                turn = self.turns.take()
                if turn is None:
                    assert not any(self.may_run(uplink) for (uplink, _), items in self.waiting.items() if items)
                else:
                    assert self.waiting[turn.item[1], turn.item[2]].pop(0) == turn.item  # order is kept
                self.runs(turn)
            case ("done", int(which)) if self.running:
                self.running.pop(which % len(self.running)).done()
        self.check()

    def runs(self, turn: Turn[Item] | None) -> None:
        if turn is None:
            return
        beside = sum(other.item[1:] == turn.item[1:] for other in self.running)
        assert turn.refused or beside < RUNNING.session
        if turn.refused:
            turn.done()
        else:
            self.running.append(turn)

    def may_run(self, uplink: str) -> bool:
        run = Counter(turn.item[1] for turn in self.running)
        return (
            run.total() < RUNNING.total
            and run[uplink] < RUNNING.uplink
            and (uplink not in "ab" or run["a"] + run["b"] < STRANGERS)
        )

    def check(self) -> None:
        lengths = {party: len(items) for party, items in self.waiting.items()}
        uplinks: Counter[str] = Counter()
        for (uplink, _), length in lengths.items():
            uplinks[uplink] += length
        assert len(self.turns) == sum(lengths.values()) <= WAITING.total
        assert self.turns.sessions == sum(map(bool, lengths.values()))
        assert max(lengths.values(), default=0) <= 2 * WAITING.session
        assert max(uplinks.values(), default=0) <= WAITING.uplink
        assert self.turns.running == len(self.running) <= RUNNING.total


@settings(max_examples=300)
@given(st.lists(MOVES, max_size=120))
def test_nothing_is_lost_nothing_is_over_its_bound_and_order_is_kept(moves: list[tuple[object, ...]]) -> None:
    seen = Seen()
    for move in moves:
        seen.do(move)
    while len(seen.turns):  # and all that waits comes to its end
        before = len(seen.turns)
        seen.do(("take",))
        if len(seen.turns) == before:
            seen.do(("done", 0))
    while seen.running:
        seen.do(("done", 0))
    assert seen.turns.take() is None


def fill(turns: Turns[str], uplink: str, count: int, cost: float = 1.0, session: str = "") -> None:
    for _ in range(count):
        assert turns.put(uplink, session, uplink + session, cost) is None


def served(turns: Turns[str], count: int, charged: float = 0.0) -> list[str]:
    found = []
    for _ in range(count):
        turn = turns.take()
        if turn is not None:
            turn.charge(charged)
            turn.done()
            found.append(turn.item)
    return found


@given(st.lists(COSTS, min_size=1, max_size=8), COSTS, st.integers(0, 30))
def test_nobody_waits_for_more_than_a_turn_of_each_other(costs: list[float], own: float, before: int) -> None:
    """Whatever the others have waiting, and whatever one of their messages costs."""
    turns: Turns[str] = Turns(UNLIMITED, UNLIMITED, 0)
    for number, cost in enumerate(costs):
        fill(turns, f"greedy {number}", 100, cost)
    served(turns, before)
    turns.put("honest", "", "honest", own)
    work = 0.0
    while (turn := turns.take()) is not None and turn.item != "honest":
        work += costs[int(turn.item.split()[1])]
        turn.done()
    assert work <= sum(QUANTUM + cost for cost in costs)


@given(st.lists(COSTS, min_size=2, max_size=5), st.integers(50, 300))
def test_work_is_shared_evenly_by_uplinks_whatever_each_of_their_messages_costs(costs: list[float], count: int) -> None:
    turns: Turns[str] = Turns(UNLIMITED, UNLIMITED, 0)
    for number, cost in enumerate(costs):
        fill(turns, str(number), count, cost)
    work = {str(number): 0.0 for number in range(len(costs))}
    for item in served(turns, count):
        work[item] += costs[int(item)]
    assert max(work.values()) - min(work.values()) <= QUANTUM + max(costs)


def test_an_uplink_with_many_sessions_is_one_party_and_shares_its_turns_among_them() -> None:
    turns: Turns[str] = Turns(UNLIMITED, UNLIMITED, 0)
    for session in "0123456789":
        fill(turns, "big", 100, session=session)
    fill(turns, "small", 500)
    found = Counter(served(turns, 1000))
    assert found.pop("small") == pytest.approx(500, abs=2)
    assert set(found.values()) <= set(range(48, 53))


def test_what_a_message_is_found_to_cost_is_paid_in_the_next_turns() -> None:
    turns: Turns[str] = Turns(UNLIMITED, UNLIMITED, 0)
    fill(turns, "dear", 100)
    fill(turns, "cheap", 100)
    found: list[str] = []
    while len(found) < 60:
        turn = turns.take()
        assert turn is not None
        turn.charge(19.0 if turn.item == "dear" else 0.0)
        turn.done()
        found.append(turn.item)
    assert Counter(found)["dear"] in (3, 4)


def test_a_debt_outlasts_an_empty_queue_while_others_wait() -> None:
    """Who sends its dear messages one by one pays as who sends them at once."""
    turns: Turns[str] = Turns(UNLIMITED, UNLIMITED, 0)
    fill(turns, "cheap", 100)
    found = ["dear"]
    for _ in range(60):
        if found[-1] == "dear":
            fill(turns, "dear", 1)
        turn = turns.take()
        assert turn is not None
        turn.charge(19.0 if turn.item == "dear" else 0.0)
        turn.done()
        found.append(turn.item)
    assert Counter(found)["dear"] <= 4


def test_over_its_bound_a_session_is_refused_in_turn_and_over_twice_that_dropped() -> None:
    turns: Turns[int] = Turns(Limits(2, 100, 100), UNLIMITED, 0)
    gone = [turns.put("a", "", number, 1.0) for number in range(6)]
    assert gone == [None, None, None, None, 4, 5]
    found = []
    while (turn := turns.take()) is not None:
        found.append((turn.item, turn.refused))
        turn.done()
    assert found == [(0, False), (1, False), (2, True), (3, True)]


def test_a_session_that_runs_as_many_as_it_may_is_refused_and_not_kept_waiting() -> None:
    turns: Turns[int] = Turns(UNLIMITED, Limits(2, 8, 100), 0)
    for number in range(4):
        turns.put("a", "session", number, 1.0)
        turns.put("a", None, number, 1.0)  # the uplink's own, which may have half of what the uplink may
    running = [turn for _ in range(8) if (turn := turns.take()) is not None]
    refused = [turn for turn in running if turn.refused]
    assert len(running) == 8
    assert [turn.item for turn in refused] == [2, 3]


def test_who_floods_is_served_on_at_its_share() -> None:
    """What is refused takes no room from what is served."""
    turns: Turns[int] = Turns(Limits(2, 100, 100), UNLIMITED, 0)
    taken = 0
    for number in range(300):
        turns.put("a", "", number, 1.0)
        if number % 3 == 0 and (turn := turns.take()) is not None:
            taken += not turn.refused
            turn.done()
    assert taken > 30


def test_the_longest_gives_way_and_a_short_one_never() -> None:
    turns: Turns[str] = Turns(Limits(50, 60, 100), UNLIMITED, 0)
    for number in range(1000):
        turns.put(f"greedy {number % 2}", str(number % 7), "greedy", 1.0)
    assert turns.put("honest", "", "honest", 1.0) == "greedy"
    assert "honest" in served(turns, 5)


def test_strangers_leave_half_of_what_runs_to_the_others() -> None:
    turns: Turns[str] = Turns(UNLIMITED, Limits(8, 8, 8), 4)
    for number in range(20):
        turns.put(f"host {number}", "", "stranger", 1.0, stranger=True)
    running = [turn for _ in range(8) if (turn := turns.take()) is not None]
    assert len(running) == 4
    turns.put("gateway", "", "known", 1.0)
    turn = turns.take()
    assert turn is not None
    assert turn.item == "known"
    running[0].done()
    turn = turns.take()
    assert turn is not None
    assert turn.item == "stranger"
    assert turns.take() is None


def test_strangers_together_have_half_of_the_work_while_others_wait() -> None:
    """Ten thousand hosts, which anybody can make up, keep none waiting who is there."""
    turns: Turns[str] = Turns(UNLIMITED, UNLIMITED, 2**62)
    for number in range(10_000):
        turns.put(f"host {number}", "", "stranger", 3.0, stranger=True)
    fill(turns, "gateway 1", 100, 0.5)
    fill(turns, "gateway 2", 100, 1.0)
    found = served(turns, 100)
    work = {"stranger": 3.0, "gateway 1": 0.5, "gateway 2": 1.0}
    done = {who: found.count(who) * work[who] for who in work}
    assert abs(done["stranger"] - done["gateway 1"] - done["gateway 2"]) <= 3.0 + QUANTUM
    assert abs(done["gateway 1"] - done["gateway 2"]) <= QUANTUM + 1.0
    assert "gateway" in found[0], "who comes does not wait for any of them"


def test_strangers_have_all_where_nobody_else_waits_and_owe_nothing_for_it() -> None:
    turns: Turns[str] = Turns(UNLIMITED, UNLIMITED, 2**62)
    for _ in range(1000):
        turn = turns.at_once("gateway", "", "gateway")
        assert turn is not None
        turn.charge(1.0)
        turn.done()
    for number in range(200):
        turns.put(f"host {number}", "", "stranger", 1.0, stranger=True)
    assert served(turns, 100) == ["stranger"] * 100
    fill(turns, "gateway", 100)
    found = served(turns, 20)
    assert 8 <= found.count("stranger") <= 12


def test_a_stranger_gives_way_before_another_with_as_many() -> None:
    turns: Turns[str] = Turns(Limits(8, 8, 100), UNLIMITED, 2**62)
    assert turns.put("device", "", "device", 1.0) is None
    for number in range(99):
        assert turns.put(f"host {number}", "", "stranger", 1.0, stranger=True) is None
    assert turns.put("host 99", "", "stranger", 1.0, stranger=True) == "stranger"
    assert turns.put("device 2", "", "device 2", 1.0) == "stranger"
