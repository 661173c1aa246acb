"""Answers and news in every order: no copy goes back, at a PNE, a PN GW or another process of the server.

`tests/unit/test_order.py` holds the rule alone against a model. Here the copies themselves are used, as their holders
use them, and the processes with what they say to each other.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cpns.crypto.secret import Secret
from cpns.domain.event import PnChanged
from cpns.domain.order import Order, Question
from cpns.errors import Refused, Result
from cpns.ids import EntityId, PnId
from cpns.ports import topics
from cpns.server.networks.delivery import NetworkDelivery
from cpns.server.peers import gateways
from cpns.server.peers.gateways import Gateways
from cpns.server.peers.peer import GatewayPeer
from cpns.server.peers.presence import Presences
from cpns.service.cluster import Alone
from cpns.service.copies import Copies
from cpns.session.table import Sessions
from cpns.transport.errors import Answer, Code
from cpns.wire import codec
from cpns.wire import pn_messages as pm
from cpns.wire.registry import CPNS_PATH

KEY = "the thing"


@dataclass(frozen=True)
class Held:
    """A copy: which version of which moment."""

    version: int
    moment: int


@dataclass(eq=False)
class Asked:
    """A question: on its way, then answered with what is true at that moment, then there."""

    asks: Callable[[], None]
    there: "asyncio.Future[tuple[int, Held] | None]" = field(
        default_factory=lambda: asyncio.get_event_loop().create_future()
    )


@dataclass(frozen=True)
class News:
    """That the thing changed, or is none of the holder's any more."""

    version: int
    moment: int
    gone: bool


class Holder(RuleBasedStateMachine):
    """A holder of a copy, and the server: what happens there, what is told of it, what is asked and answered.

    A PN GW follows a change without asking where it is the next one (`delta`); a PNE asks each time.
    """

    delta = True

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.moment, self.version, self.ours = 1, 1, True
        self.seen = 0
        """The latest moment that the holder has known the truth of."""
        self.asked: list[Asked] = []
        self.answered: list[tuple[Asked, int, int | None]] = []
        self.news: list[News] = []
        self.fetches: list[asyncio.Task[None]] = []
        self.copies: Copies[str, Held] = Copies(self.read, Result.UNKNOWN_SG)
        self.fetch()

    def teardown(self) -> None:
        for task in self.fetches:
            task.cancel()
        self.turn()
        self.loop.close()
        asyncio.set_event_loop(None)

    async def read(self, key: str, asks: Callable[[], None]) -> tuple[int, Held] | None:
        asks()
        one = Asked(asks)
        self.asked.append(one)
        return await one.there

    def fetch(self) -> None:
        self.fetches.append(self.loop.create_task(self.copies.fetch(KEY)))
        self.turn()

    def turn(self) -> None:
        for _ in range(6):
            self.loop.run_until_complete(asyncio.sleep(0))
        for task in [one for one in self.fetches if one.done()]:
            self.fetches.remove(task)
            if not task.cancelled():
                task.exception()

    # what happens at the server

    @rule(leaves=st.sampled_from([False, False, True]), told=st.sampled_from([True, True, False]))
    def it_changes(self, leaves: bool, told: bool) -> None:
        self.moment += 1
        self.version += 1
        self.ours = not leaves
        if told:
            self.news.append(News(self.version, self.moment, not self.ours))

    @precondition(lambda self: self.asked)
    @rule()
    def it_answers(self) -> None:
        one = self.asked.pop(0)
        self.moment += 1
        self.answered.append((one, self.moment, self.version if self.ours else None))

    # what comes to the holder, in any order

    @precondition(lambda self: self.answered)
    @rule(data=st.data())
    def an_answer_comes(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.answered))
        self.answered.remove(one)
        self.take_answer(*one)

    def take_answer(self, question: Asked, moment: int, version: int | None) -> None:
        before = self.copies.of.get(KEY)
        if version is None:
            question.there.set_exception(Refused(Result.UNKNOWN_SG, "no_such_group"))
        else:
            question.there.set_result((version, Held(version, moment)))
        self.turn()
        self.look(before, moment)

    @precondition(lambda self: self.news)
    @rule(data=st.data(), again=st.sampled_from([False, False, False, True]))
    def news_comes(self, data: st.DataObject, again: bool) -> None:
        """Maybe a second time, as datagrams do."""
        one = data.draw(st.sampled_from(self.news))
        if not again:
            self.news.remove(one)
        before = self.copies.of.get(KEY)
        taken = False
        if one.gone:
            taken = self.copies.told_gone(KEY, one.version)
        elif self.delta and before is not None and one.version - before.version in (0, 1):
            taken = self.copies.told(KEY, one.version, Held(one.version, one.moment))
        if not taken:
            self.fetch()
        self.look(before, one.moment)
        if taken:
            self.seen = max(self.seen, one.moment)

    @rule()
    def it_asks(self) -> None:
        self.fetch()

    def look(self, before: Held | None, moment: int) -> None:
        """What was true before what the holder has seen takes no effect on what it holds."""
        after = self.copies.of.get(KEY)
        if (None if after is None else after.version) != (None if before is None else before.version):
            assert moment > self.seen
            self.seen = moment

    @invariant()
    def one_question_at_a_time(self) -> None:
        assert len(self.asked) + len(self.answered) <= 1

    @invariant()
    def in_the_end_it_has_what_is(self) -> None:
        """Nothing under way, and all news there: then the holder holds what is true, or asks."""
        if self.moment % 5 or self.asked or self.answered or self.news:
            return
        self.fetch()
        while self.asked:
            self.it_answers_now()
        held = self.copies.of.get(KEY)
        assert (None if held is None else held.version) == (self.version if self.ours else None)

    def it_answers_now(self) -> None:
        self.it_answers()
        self.take_answer(*self.answered.pop())


class Pne(Holder):
    delta = False


Holder.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
Pne.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestGateway = Holder.TestCase
TestPne = Pne.TestCase


# a process of the server, and which PNs a PN GW serves


class Bus(Alone):
    """Keeps who answers what."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def serve(self, what: Any, handler: Any) -> None:
        self.handlers[what.name] = handler


class Link:
    """The connection of the PN GW: what it is told, it knows."""

    closed = False

    def __init__(self) -> None:
        self.knows: dict[PnId, int] = {}

    def keep(self) -> None:
        """It counts."""

    def close(self) -> None:
        self.closed = True

    def party(self, session: object) -> Any:
        return SimpleNamespace(host="h")

    async def exchange(self, path: str, body: bytes, **how: object) -> Answer:
        if path == CPNS_PATH:
            told = codec.decode(body, pm.PnChangeNotify)
            self.knows[told.pn_id] = max(told.version, self.knows.get(told.pn_id, 0))
        return Answer(Code.CHANGED)


HUB, DEN = EntityId("hub"), EntityId("den")
PNS = PnId("pn-1"), PnId("pn-2")


class Process(RuleBasedStateMachine):
    """A process that one of two PN GWs is connected to, and PNs that other processes hand to and fro between the two.

    What they say may be lost, and comes in any order, and twice; the events come in their order, each once. The PN GW
    may connect anew at any moment, and then the process reads from the store what it serves.
    """

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.bus = Bus()
        self.time = 1.0
        self.clock = cast(Any, SimpleNamespace(now=lambda: self.time, monotonic=lambda: self.time))
        self.gateways = Gateways(self.clock, cast(Any, self.bus), lambda gateway, hosts: None)
        here = SimpleNamespace(
            sessions=Sessions(),
            gateways=self.gateways,
            presences=Presences(self.clock),
            clock=self.clock,
            cluster=self.bus,
            replaced=MagicMock(),
        )
        self.networks = NetworkDelivery(cast(Any, here))
        self.versions = dict.fromkeys(PNS, 1)
        self.served_by = dict.fromkeys(PNS, HUB)
        self.said: list[topics.GatewayServes] = []
        self.events: list[PnChanged] = []
        self.it_connects()

    def teardown(self) -> None:
        self.loop.run_until_complete(self.gateways.finish())
        self.loop.close()
        asyncio.set_event_loop(None)

    @rule()
    def it_connects(self) -> None:
        self.time += 1
        self.link = Link()
        here = {pn_id: self.versions[pn_id] for pn_id in PNS if self.served_by[pn_id] == HUB}
        self.link.knows = dict(self.versions)  # it asks for all
        session = SimpleNamespace(peer_id=HUB, since=self.time, via=None)
        self.peer = GatewayPeer(HUB, cast(Any, session), Secret(bytes(32)), [*here], here)

        async def add() -> bool:
            return self.gateways.add(self.peer, cast(Any, self.link))

        assert self.loop.run_until_complete(add())

    @rule(pn_id=st.sampled_from(PNS), told=st.sampled_from([True, True, False]))
    def it_is_switched(self, pn_id: PnId, told: bool) -> None:
        frm = self.served_by[pn_id]
        to = DEN if frm == HUB else HUB
        self.time += 1
        self.versions[pn_id] += 1
        self.served_by[pn_id] = to
        version = self.versions[pn_id]
        if told:
            self.said.append(topics.GatewayServes(HUB, pn_id, to == HUB, version, self.time))
        self.events.append(PnChanged(self.time, pn_id, version, to, frm, (), released=False))

    @precondition(lambda self: self.said)
    @rule(data=st.data(), again=st.sampled_from([False, False, True]))
    def another_process_says_it(self, data: st.DataObject, again: bool) -> None:
        one = data.draw(st.sampled_from(self.said))
        if not again:
            self.said.remove(one)
        self.loop.run_until_complete(self.bus.handlers[topics.GATEWAY_SERVES.name](one))

    @precondition(lambda self: self.events)
    @rule()
    def an_event_comes(self) -> None:
        self.loop.run_until_complete(self.networks.changed_anywhere(self.events.pop(0)))

    @invariant()
    def in_the_end_it_knows_what_is(self) -> None:
        if self.events or self.said:
            return
        assert {*self.peer.pns} == {pn_id for pn_id in PNS if self.served_by[pn_id] == HUB}
        assert self.link.knows == self.versions


Process.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestProcess = Process.TestCase


# that each of the three can fail


def believes_all_news(order: Order, version: int, *, again: bool = False) -> bool:
    return order._learn(version)


def believes_all_answers(order: Order, question: Question, version: int) -> bool:
    return order._learn(version)


def remembers_nothing(versions: dict[PnId, int], pn_id: PnId, version: int) -> None:
    """So that whatever comes is newer."""


MUTANTS = [
    (Holder, (Order, "told", believes_all_news)),
    (Holder, (Order, "answered", believes_all_answers)),
    (Pne, (Order, "told", believes_all_news)),
    (Pne, (Order, "answered", believes_all_answers)),
    (Process, (gateways, "_remember", remembers_nothing)),
]


@pytest.mark.parametrize(("machine", "mutant"), MUTANTS)
def test_without_the_check_of_versions_it_fails(
    machine: type[RuleBasedStateMachine], mutant: tuple[Any, str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*mutant)
    found = settings(max_examples=1000, stateful_step_count=40, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=found)
