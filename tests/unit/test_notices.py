"""Notices to members: one at a time to each, none while it is silent, and nothing of what it missed is lost (FN-4)."""

import asyncio
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.gateway.notices import GIVEN_AT_ONCE, Notices
from cpns.ids import EntityId, PnId
from cpns.wire.pn_messages import PnChangeNotify
from cpns.wire.registry import MAX_MEMBERS, Change

PN = PnId("pn-1")
ANNA, BEN = EntityId("anna"), EntityId("ben")


def change(version: int, kind: Change, *about: str) -> PnChangeNotify:
    return PnChangeNotify(PN, tuple(map(EntityId, about)), version, kind)


class Members:
    """Takes notices; each waits until the test lets it end."""

    def __init__(self) -> None:
        self.notices = Notices(self.give)
        self.given: dict[EntityId, list[PnChangeNotify]] = defaultdict(list)
        self.taken: dict[EntityId, list[PnChangeNotify]] = defaultdict(list)
        self.under_way: dict[EntityId, asyncio.Future[bool]] = {}
        self.most = 0

    async def give(self, pne: EntityId, notice: PnChangeNotify) -> bool:
        assert pne not in self.under_way, "one at a time"
        self.given[pne].append(notice)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.under_way[pne] = answer
        self.most = max(self.most, len(self.under_way))
        try:
            took = await answer
        finally:
            del self.under_way[pne]
        if took:
            self.taken[pne].append(notice)
        return took

    async def answer(self, pne: EntityId, took: bool) -> None:
        self.under_way[pne].set_result(took)
        await self.turn()

    @staticmethod
    async def turn() -> None:
        for _ in range(10):
            await asyncio.sleep(0)


async def test_what_happens_meanwhile_is_told_after_that_and_once() -> None:
    here = Members()
    here.notices.tell(ANNA, change(1, Change.JOINED, "b"))
    await here.turn()
    for version, who in enumerate("cde", 2):
        here.notices.tell(ANNA, change(version, Change.JOINED, who))
    await here.turn()
    assert len(here.given[ANNA]) == 1
    await here.answer(ANNA, True)
    await here.answer(ANNA, True)
    assert here.taken[ANNA] == [change(1, Change.JOINED, "b"), change(4, Change.JOINED, "c", "d", "e")]
    assert not here.under_way
    await here.notices.close()


async def test_who_does_not_answer_is_told_when_it_is_heard() -> None:
    here = Members()
    here.notices.tell(ANNA, change(1, Change.JOINED, "b"))
    await here.turn()
    await here.answer(ANNA, False)
    for version in range(2, 1000):
        here.notices.tell(ANNA, change(version, Change.LEFT, f"other-{version % 7}"))
        here.notices.tell(BEN, change(version, Change.LEFT, f"other-{version % 7}"))
    await here.turn()
    assert len(here.given[ANNA]) == 1
    assert len(here.given[BEN]) == 1, "the other one is told"
    here.notices.heard(ANNA)
    await here.turn()
    await here.answer(ANNA, True)
    await here.answer(ANNA, True)
    kinds = [(one.change, len(one.members)) for one in here.taken[ANNA]]
    assert kinds == [(Change.JOINED, 1), (Change.LEFT, 7)]
    await here.notices.close()


async def test_many_that_vanished_cost_one_notice_each() -> None:
    here = Members()
    vanished = [EntityId(f"gone-{number}") for number in range(500)]
    for version in range(100):
        for pne in vanished:
            here.notices.tell(pne, change(version, Change.JOINED, f"new-{version}"))
        await here.turn()
        for pne in list(here.under_way):
            await here.answer(pne, False)
    while here.under_way:
        for pne in list(here.under_way):
            await here.answer(pne, False)
    assert {len(given) for given in here.given.values()} == {1}
    assert here.most <= GIVEN_AT_ONCE
    await here.notices.close()


async def test_what_is_urgent_goes_first_and_to_a_silent_one_too() -> None:
    here = Members()
    here.notices.tell(ANNA, change(1, Change.JOINED, "b"))
    await here.turn()
    await here.answer(ANNA, False)
    here.notices.tell(ANNA, change(2, Change.RELEASED), urgent=True)
    await here.turn()
    settled = asyncio.create_task(here.notices.settle())
    await here.answer(ANNA, False)
    await settled
    assert [one.change for one in here.given[ANNA]] == [Change.JOINED, Change.RELEASED]
    await here.notices.close()


async def test_who_is_forgotten_is_told_no_more() -> None:
    here = Members()
    here.notices.tell(ANNA, change(1, Change.JOINED, "b"))
    here.notices.tell(ANNA, change(1, Change.LEFT, "c"))
    await here.turn()
    here.notices.forget([ANNA])
    await here.answer(ANNA, True)
    here.notices.heard(ANNA)
    await here.turn()
    assert len(here.given[ANNA]) == 1
    await here.notices.close()


STEPS = st.one_of(
    st.tuples(st.just("tell"), st.sampled_from([Change.JOINED, Change.LEFT, Change.EXPELLED]), st.integers(0, 90)),
    st.tuples(st.just("answer"), st.booleans(), st.just(0)),
    st.tuples(st.just("heard"), st.just(0), st.just(0)),
)


@given(st.lists(STEPS, max_size=MAX_MEMBERS))
@settings(max_examples=200)
def test_the_last_word_about_each_is_what_happened_last(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is lost on the way: once it answers again, a member knows of each other one what became of that."""
    asyncio.run(_last_words(steps))


async def _last_words(steps: list[tuple[str, int, int]]) -> None:
    here, last, version = Members(), {}, 0
    for what, value, number in steps:
        if what == "tell":
            version += 1
            last[f"other-{number}"] = Change(value)
            here.notices.tell(ANNA, change(version, Change(value), f"other-{number}"))
            await here.turn()
        elif what == "heard":
            here.notices.heard(ANNA)
            await here.turn()
        elif ANNA in here.under_way:
            await here.answer(ANNA, bool(value))
    here.notices.heard(ANNA)
    await here.turn()
    while ANNA in here.under_way:
        await here.answer(ANNA, True)
    known = {pne: Change(one.change) for one in here.taken[ANNA] for pne in one.members}
    assert known == last
    await here.notices.close()


@pytest.mark.parametrize("more", [0, 40])
async def test_a_notice_names_no_more_than_it_may(more: int) -> None:
    here = Members()
    here.notices.tell(ANNA, change(1, Change.JOINED, "first"))
    await here.turn()
    for number in range(MAX_MEMBERS + more):
        here.notices.tell(ANNA, change(2 + number, Change.JOINED, f"other-{number}"))
    await here.answer(ANNA, True)
    newest = tuple(EntityId(f"other-{number}") for number in range(more, MAX_MEMBERS + more))
    assert here.given[ANNA][1].members == newest
    await here.answer(ANNA, True)
    await here.notices.close()
