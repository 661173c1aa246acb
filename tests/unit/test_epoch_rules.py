"""When an epoch begins, which keys are taken, and at what pace: rules, and what the store makes of them (DEF-6)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest

from cpns.domain import epoch as epochs
from cpns.domain import group as rules
from cpns.domain.actor import OPERATOR, Actor, Role
from cpns.domain.actor import pne as pne_actor
from cpns.domain.group import Group, GroupChange, GroupRule, Listed
from cpns.domain.inventory import Kind, NewEntity
from cpns.domain.member_list import Policy, Standing
from cpns.domain.pace import CREATIONS, JOINS, Limit, Pace, paced
from cpns.errors import Refused, Result
from cpns.ids import EntityId, SgId
from cpns.store.server_store import ServerStore
from tests.support.stores import Location

OWNER, ANN, BEN, CAT, DAN = PNES = [EntityId(name) for name in ("owner", "ann", "ben", "cat", "dan")]
SG = SgId("sg-1")
MEMBER, COMING, LEAVING, INVITED, BARRED = (
    *(Standing.MEMBER, Standing.COMING, Standing.LEAVING),
    *(Standing.INVITED, Standing.BARRED),
)
AS_OWNER = Actor(Role.OWNER, OWNER)
GROUP = Group(SG, "walk", None, OWNER, Policy.OPEN, 5, 3, 1.0, begun=100.0)
PLACES = {
    OWNER: Listed(OWNER, MEMBER, 1.0),
    ANN: Listed(ANN, MEMBER, 2.0),
    BEN: Listed(BEN, COMING, 100.2),
    CAT: Listed(CAT, LEAVING, 100.3),
    DAN: Listed(DAN, INVITED, 3.0),
}


def turned(change: GroupChange, at: float, due: float | None = 101.0) -> epochs.Turn:
    return epochs.turn(replace(GROUP, due=due), PLACES, change, at)


@pytest.mark.req("DEF-6", "FN-9")
@pytest.mark.parametrize(("who", "begins", "closes"), [(ANN, True, True), (BEN, False, True), (DAN, False, False)])
def test_who_is_put_out_goes_with_an_epoch_at_once(who: EntityId, begins: bool, closes: bool) -> None:
    """And with it come and go all that waited for the next; who has no key of any epoch needs none."""
    found = turned(rules.expel(GROUP, epochs.seen(PLACES, 100.5), AS_OWNER, [who]), 100.5)
    assert (found.begins, found.closes) == (begins, closes)
    assert found.standings[who] is BARRED
    if begins:
        assert found.standings == {ANN: BARRED, BEN: MEMBER, CAT: None}
        assert found.due is None


@pytest.mark.req("DEF-6")
@pytest.mark.parametrize(("at", "due", "begins"), [(100.5, None, False), (101.0, None, True), (100.5, 100.4, True)])
def test_who_leaves_by_itself_waits_for_the_second_to_end(at: float, due: float | None, begins: bool) -> None:
    found = turned(rules.leave(GROUP, epochs.seen(PLACES, at), pne_actor(ANN)), at, due)
    assert (found.begins, found.closes, found.shown) == (begins, False, begins)
    assert found.standings == ({ANN: None, BEN: MEMBER, CAT: None} if begins else {ANN: LEAVING})
    assert found.due == (None if begins else 101.0)


@pytest.mark.req("DEF-6")
def test_who_comes_back_in_the_same_second_was_never_out() -> None:
    found = turned(rules.join(GROUP, epochs.seen(PLACES, 100.5), pne_actor(CAT)), 100.5)
    assert (found.standings, found.begins, found.shown, found.due) == ({CAT: MEMBER}, False, False, 101.0)
    alone = {pne: PLACES[pne] for pne in (OWNER, CAT)}
    found = epochs.turn(GROUP, alone, rules.join(GROUP, epochs.seen(alone, 100.5), pne_actor(CAT)), 100.5)
    assert found.due is None  # nobody waits for an epoch any more


@pytest.mark.req("DEF-6")
def test_who_leaves_and_is_invited_is_out_at_once() -> None:
    found = turned(rules.invite(GROUP, epochs.seen(PLACES, 100.5), AS_OWNER, [CAT]), 100.5)
    assert (found.standings, found.begins, found.closes) == ({CAT: INVITED, BEN: MEMBER}, True, False)


@pytest.mark.req("DEF-6")
@pytest.mark.parametrize(
    ("due", "at", "is_due"),
    [(None, 9.0, False), (9.5, 9.0, False), (9.0, 9.0, True), (8.0, 9.0, True), (99.0, 9.0, True)],
)
def test_a_clock_that_is_set_back_holds_up_no_epoch(due: float | None, at: float, is_due: bool) -> None:
    assert epochs.is_due(replace(GROUP, due=due), at) is is_due


@pytest.mark.parametrize(
    ("ended_at", "at", "taken"),
    [(None, 9.0, True), (9.0, 9.0, True), (7.1, 9.0, True), (7.0, 9.0, False), (9.1, 9.0, False)],
)
def test_how_long_an_older_epoch_is_taken(ended_at: float | None, at: float, taken: bool) -> None:
    assert epochs.is_taken(ended_at, at) is taken


def test_a_pace_is_so_many_and_then_a_wait() -> None:
    limit = Limit(3, 60.0)
    pace: Pace | None = None
    for at in (0.0, 10.0, 50.0):
        pace = paced(pace, limit, at)
    assert pace == Pace(3, 50.0)
    for at in (50.0, 61.0, 109.9):
        with pytest.raises(Refused) as refused:
            paced(pace, limit, at)
        assert refused.value.result is Result.TOO_MANY
    assert paced(pace, limit, 110.0) == Pace(1, 110.0)
    assert paced(pace, limit, 40.0) == Pace(1, 40.0)  # the clock was set back
    assert paced(Pace(2, 0.0), limit, 60.0) == Pace(1, 60.0)


# --- in the store


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    one = ServerStore.open(place)
    await one.add_entities([NewEntity(pne, Kind.PNE, None, "", b"sealed", pne.encode(), 1.0) for pne in PNES], OPERATOR)
    await one.create_group(Group(SG, "walk", None, OWNER, Policy.OPEN, 1, 1, 1.0), 9)
    yield one
    await one.close()


async def do(store: ServerStore, rule: GroupRule, at: float, by: EntityId | None, sg_id: SgId = SG) -> None:
    await store.change_group(sg_id, rule, at, OPERATOR if by is None else pne_actor(by))


async def taken(store: ServerStore, at: float) -> dict[int, bytes]:
    found = await store.group_key(SG, lambda _, epoch: b"key of %d" % epoch, at)
    assert found is not None
    return {found.inventory.group.epoch: found.sealed_key, **found.older}


@pytest.mark.req("DEF-6", "DEF-8", "FN-9")
async def test_keys_of_older_epochs_go_with_time_and_with_who_is_put_out(store: ServerStore) -> None:
    assert await taken(store, 9.0) == {1: b"key of 1"}
    await do(store, rules.join, 10.0, ANN)
    assert await taken(store, 10.1) == {2: b"key of 2", 1: b"key of 1"}
    await do(store, rules.join, 10.5, BEN)
    await store.begin_epoch(SG, 11.0)
    assert set(await taken(store, 11.1)) == {3, 2, 1}
    assert set(await taken(store, 12.5)) == {3, 2}
    assert set(await taken(store, 13.1)) == {3}
    await do(store, rules.leave, 13.2, BEN)
    assert set(await taken(store, 13.3)) == {4, 3}
    await do(store, partial(rules.expel, whom=[ANN]), 13.4, OWNER)
    assert set(await taken(store, 13.5)) == {5}
    await do(store, rules.join, 14.5, CAT)
    assert set(await taken(store, 14.5)) == {6, 5}
    await store.revoke(CAT, 14.6, OPERATOR)
    assert set(await taken(store, 14.7)) == {7}
    await store.sweep_bounds(99.0)
    assert set(await taken(store, 99.0)) == {7}


@pytest.mark.req("DEF-6", "FN-9")
async def test_who_left_and_comes_back_is_put_out_of_what_it_had(store: ServerStore) -> None:
    """It is coming, and in no epoch that runs; the one that ended a moment ago it was in."""
    await do(store, rules.join, 10.0, ANN)
    assert set(await taken(store, 11.0)) == {2}
    await do(store, rules.leave, 11.0, ANN)
    await do(store, rules.join, 11.5, ANN)
    assert set(await taken(store, 11.6)) == {3, 2}
    await do(store, partial(rules.expel, whom=[ANN]), 11.7, OWNER)
    assert set(await taken(store, 11.8)) == {3}


@pytest.mark.req("DEF-6")
async def test_an_epoch_begins_once_whoever_begins_it(store: ServerStore) -> None:
    await do(store, rules.join, 10.0, ANN)
    await do(store, rules.join, 10.4, BEN)
    assert await store.due_epochs(9) == [SG]
    early = await store.begin_epoch(SG, 10.6)
    assert early is not None
    assert (early.after.epoch, early.after.due) == (2, 11.0)
    begun = [await store.begin_epoch(SG, 11.0) for _ in range(2)]
    assert [one.after.epoch - one.before.epoch for one in begun if one is not None] == [1, 0]
    assert begun[0] is not None
    assert (begun[0].came, begun[0].went, begun[0].members) == ((BEN,), (), (ANN, BEN, OWNER))
    assert await store.due_epochs(9) == []
    assert await store.begin_epoch(SgId("sg-9"), 11.0) is None


# --- paces and bounds


@pytest.mark.req("DEF-5")
async def test_how_many_groups_one_makes_and_how_fast(store: ServerStore) -> None:
    async def makes(number: int, at: float, owner: EntityId = ANN, most: int = 99) -> None:
        await store.create_group(Group(SgId(f"g-{number}"), f"{number}", None, owner, Policy.OPEN, 1, 1, at), most)

    for number in range(CREATIONS.times):
        await makes(number, 10.0)
    with pytest.raises(Refused, match="too_often"):
        await makes(90, 11.0)
    await makes(91, 11.0, BEN)
    await makes(92, 11.0 + CREATIONS.seconds)
    with pytest.raises(Refused, match="too_many_groups") as refused:
        await makes(93, 12.0 + CREATIONS.seconds, most=CREATIONS.times + 1)
    assert refused.value.result is Result.TOO_MANY


@pytest.mark.req("DEF-4")
async def test_who_joins_again_and_again_waits_and_may_always_leave(store: ServerStore) -> None:
    for number in range(JOINS.times):
        await do(store, rules.join, 10.0 + number, ANN)
        await do(store, rules.leave, 10.1 + number, ANN)
    with pytest.raises(Refused, match="too_often"):
        await do(store, rules.join, 15.0, ANN)
    await do(store, partial(rules.invite, whom=[ANN]), 16.0, OWNER)
    await do(store, rules.leave, 17.0, ANN)
    await do(store, rules.join, 10.0 + JOINS.times - 1 + JOINS.seconds, ANN)
