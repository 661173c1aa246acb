"""Answers and news of one thing in every order, against a model that knows at which moment each of them was true."""

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cpns.domain.order import Order, Question


@dataclass(frozen=True)
class State:
    """The thing at the server, at one moment; version None: it is none of ours."""

    moment: int
    version: int | None


@dataclass(frozen=True)
class Arriving:
    """What is on its way to us: the answer to a question, or the news of a change."""

    told: State
    question: Question | None
    version: int
    """Of the thing after the change; of an answer, unused."""


class Delivery(RuleBasedStateMachine):
    """A server whose thing changes, ends for us, and comes back; and us, who ask, are told, and give it up.

    What was true at a moment never takes the place of what was true later: of all that arrives in whatever order,
    or not at all. The server's store may be set back to an older copy; then its sessions, and all on the way, are gone.
    """

    @initialize()
    def begin(self) -> None:
        self.moment = 1
        self.counter = 1
        self.server = State(1, 1)
        self.copies = [(1, self.server)]
        self.order = Order()
        self.held = State(0, None)
        self.asked: list[Question] = []
        self.arriving: list[Arriving] = []

    def turn(self, *, ours: bool) -> None:
        self.moment += 1
        self.counter += 1
        self.server = State(self.moment, self.counter if ours else None)

    @rule(ours=st.booleans(), is_told=st.sampled_from([True, True, False]))
    def it_changes(self, ours: bool, is_told: bool) -> None:
        self.turn(ours=ours)
        if is_told:
            self.arriving.append(Arriving(self.server, None, self.counter))

    @precondition(lambda self: len(self.asked) < 3)
    @rule()
    def we_ask(self) -> None:
        self.asked.append(self.order.ask())

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def it_answers(self, data: st.DataObject) -> None:
        question = data.draw(st.sampled_from(self.asked))
        self.asked.remove(question)
        self.moment += 1  # it is true now
        self.server = State(self.moment, self.server.version)
        self.arriving.append(Arriving(self.server, question, 0))

    @precondition(lambda self: self.arriving)
    @rule(data=st.data(), lost=st.sampled_from([False] * 4 + [True]))
    def something_arrives(self, data: st.DataObject, lost: bool) -> None:
        one = data.draw(st.sampled_from(self.arriving))
        self.arriving.remove(one)
        if not lost:
            self.take(one)

    def take(self, one: Arriving) -> None:
        if one.question is None:
            taken = self.order.told(one.version)
        elif one.told.version is None:
            taken = self.order.refused(one.question)
        else:
            taken = self.order.answered(one.question, one.told.version)
        if taken:
            assert one.told.moment > self.held.moment
            self.held = one.told

    @precondition(lambda self: self.server.version is not None and self.moment % 8 == 0)
    @rule()
    def we_give_it_up(self) -> None:
        """What says so, the answer, has no version; it is there when we take it up, and nothing has changed since."""
        self.turn(ours=False)
        self.order.left()
        self.held = self.server

    @precondition(lambda self: self.moment % 4 == 0)
    @rule()
    def it_is_copied(self) -> None:
        self.copies.append((self.counter, self.server))

    @precondition(lambda self: self.moment % 16 == 0)
    @rule(data=st.data())
    def it_is_set_back(self, data: st.DataObject) -> None:
        self.counter, before = data.draw(st.sampled_from(self.copies))
        self.moment += 1
        self.server = State(self.moment, before.version)
        self.asked.clear()
        self.arriving.clear()

    @invariant()
    def who_asks_last_knows_it(self) -> None:
        """Whatever arrived: the answer to what is asked now is taken if nothing overtakes it, a lower version too."""
        question = self.order.ask()
        assert self.order.is_last(question)
        version = self.server.version
        probe = Order()
        probe.__dict__.update(self.order.__dict__)
        assert probe.refused(question) if version is None else probe.answered(question, version)


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=60, stateful_step_count=60)


def learned(*versions: int) -> Order:
    order = Order()
    for version in versions:
        assert order.told(version)
    return order


def test_a_late_answer_is_dropped() -> None:
    order = Order()
    early = order.ask()
    assert order.told(6)
    assert not order.answered(early, 5)
    assert not order.answered(early, 6)
    assert order.answered(early, 7)  # it is newer than the news that overtook it


def test_who_was_put_out_is_not_brought_back_by_what_left_before() -> None:
    order = learned(5)
    early = order.ask()
    assert order.told(9)
    assert not order.answered(early, 8)
    assert not order.refused(early)
    order.left()
    assert not order.answered(early, 99)


def test_a_lower_version_is_taken_as_the_answer_to_what_left_last() -> None:
    order = learned(9)
    assert not order.told(3)
    assert order.answered(order.ask(), 3)
    assert order.told(4)


@pytest.mark.parametrize("version", [1, 2])
def test_a_change_in_parts_is_taken_part_by_part(version: int) -> None:
    order = learned(2)
    assert order.told(version, again=True) is (version == 2)
    assert not order.told(version)


def test_of_two_answers_the_older_is_dropped() -> None:
    for first, second, taken in ((5, 6, True), (6, 5, False), (6, 6, False)):
        order = Order()
        questions = order.ask(), order.ask()
        assert order.answered(questions[0], first)
        assert order.answered(questions[1], second) is taken


def test_a_refusal_counts_if_nothing_was_learned_since() -> None:
    order = Order()
    early = order.ask()
    assert order.told(4)
    assert not order.refused(early)
    assert order.refused(order.ask())
    assert not order.told(5)  # of a thing that is none of ours: it is asked about
    assert order.answered(order.ask(), 5)
