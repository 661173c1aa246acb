"""Answers and news in every order: no copy goes back, at a PNE, a PN GW or another process of the server.

`tests/unit/test_order.py` holds the rule alone against a model. Here the copies themselves are used, as their holders
use them, and the processes with what they say to each other.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import permutations
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cpns.errors import Refused, Result
from cpns.ids import EntityId, PnId
from cpns.ports import topics
from cpns.server.gateways import Gateways
from cpns.service.copies import Copies
from cpns.service.siblings import Alone

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
        self.gone_at = 0
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
        question, moment, version = one
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
        if one.gone:
            if not self.copies.told_gone(KEY, one.version):
                self.fetch()
        elif self.delta and before is not None and one.version - before.version in (0, 1):
            if not self.copies.told(KEY, one.version, Held(one.version, one.moment)):
                self.fetch()
        else:
            self.fetch()
        self.look(before, one.moment)

    @rule()
    def it_asks(self) -> None:
        self.fetch()

    def look(self, before: Held | None, moment: int) -> None:
        """What was true before what the holder has seen takes no effect on what it holds."""
        after = self.copies.of.get(KEY)
        if after == before:
            return
        if before is not None and after is not None:
            assert after.version >= before.version
        if after is None:
            assert before is not None
            assert moment > before.moment

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
        question, moment, version = self.answered.pop()
        if version is None:
            question.there.set_exception(Refused(Result.UNKNOWN_SG, "no_such_group"))
        else:
            question.there.set_result((version, Held(version, moment)))
        self.turn()


class Pne(Holder):
    delta = False


Holder.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
Pne.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestGateway = Holder.TestCase
TestPne = Pne.TestCase


class Bus(Alone):
    """Keeps who answers what."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def serve(self, what: Any, handler: Any) -> None:
        self.handlers[what.name] = handler


ONE, OTHER = PnId("pn-1"), PnId("pn-2")
SAID = [(ONE, True, 3), (ONE, False, 4), (ONE, True, 7), (OTHER, True, 2), (OTHER, False, 9)]


@pytest.mark.parametrize("order", [*permutations(range(len(SAID)))])
async def test_a_process_knows_which_networks_a_gateway_serves_whatever_comes_first(order: tuple[int, ...]) -> None:
    """Two switches at two processes: what each says may overtake what the other did."""
    bus, hub = Bus(), EntityId("hub")
    clock = cast(Any, SimpleNamespace(now=lambda: 1.0, monotonic=lambda: 1.0))
    gateways = Gateways(clock, cast(Any, bus), lambda gateway, hosts: None)
    peer = cast(Any, SimpleNamespace(gateway_id=hub, pns=[], served_since={}, session=None))
    link = cast(Any, SimpleNamespace(closed=False, keep=lambda: None, party=lambda _: SimpleNamespace(host="h")))
    assert gateways.add(peer, link)
    for number in order:
        pn_id, now, version = SAID[number]
        for _ in range(2):  # and whatever is said twice
            await bus.handlers[topics.GATEWAY_SERVES.name](topics.GatewayServes(hub, pn_id, now, version))
    assert peer.pns == [ONE]
