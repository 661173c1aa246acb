"""How often a device may be asked whether it comes into a group, or owns one: who says no has an hour of peace."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns.domain.actor import OPERATOR
from cpns.domain.member_list import Standing
from cpns.domain.pace import ASKED, ASKS, DECLINED, Limit
from cpns.errors import Refused, Result
from cpns.ids import EntityId, SgId
from cpns.pne.app import Pne
from cpns.store.server_store import ServerStore
from cpns.wire.registry import JoinPolicy
from tests.support.stores import Location
from tests.support.world import World, until, world

ANN, BEN, CAT, EVE = (EntityId(name) for name in ("ann", "ben", "cat", "eve"))
NO, AWAY, TOO_MANY = Result.REFUSED_BY_USER, Result.OUT_OF_REACH, Result.TOO_MANY


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


async def three(here: World) -> tuple[Pne, Pne, Pne]:
    gateway = await here.start_gateway()
    ann, ben, cat = [await here.joined_pne(name, gateway) for name in (ANN, BEN, CAT)]
    return ann, ben, cat


async def invited(pne: Pne, sg_id: SgId, whom: EntityId) -> Result:
    return (await pne.groups.invite(sg_id, [whom]))[whom]


async def standing(here: World, sg_id: SgId, pne: EntityId) -> Standing | None:
    found = await here.store.group(sg_id)
    assert found is not None
    return next((one.standing for one in found.listed if one.pne_id == pne), None)


def asked(here: World, name: str) -> int:
    return len(here.asked.get(name, []))


@pytest.mark.req("FN-7", "DEF-5")
async def test_who_says_no_is_not_asked_again_and_may_come_by_itself(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whoever asks for that owner, into whichever group of it; others may ask."""
    ann, ben, cat = await three(here)
    first, _ = await ann.groups.create("first", JoinPolicy.OPEN)
    assert await cat.groups.join(first) is Result.SUCCESS
    assert [await invited(one, first, BEN) for one in (ann, ann, cat, ann, ann, ann)] == [NO] * 6
    second, results = await ann.groups.create("second", JoinPolicy.CLOSED, None, [BEN])
    assert results == {BEN: NO}
    assert asked(here, "ben") == 1
    own, _ = await cat.groups.create("own", JoinPolicy.OPEN)
    assert await invited(cat, own, BEN) is NO
    assert asked(here, "ben") == 2
    assert {await standing(here, one, BEN) for one in (first, second, own)} == {Standing.INVITED}
    assert await ben.groups.join(second) is Result.SUCCESS
    monkeypatch.setattr("cpns.store.bound_queries.DECLINED", Limit(1, 0.0))  # the hour is over
    here.accepting.add("ben")
    assert await invited(ann, first, BEN) is Result.SUCCESS
    assert asked(here, "ben") == 3


@pytest.mark.req("FN-7", "DEF-5")
async def test_what_is_written_of_it_is_bounded(here: World) -> None:
    ann, _, _ = await three(here)
    sg_id, _ = await ann.groups.create("first", JoinPolicy.OPEN)
    before = len(await here.store.audit(None, 9999))
    for whom in (BEN, EVE, ANN):
        for _ in range(20):
            await ann.groups.invite(sg_id, [whom])
    rows = [row.event for row in await here.store.audit(None, 9999)]
    assert sorted(rows[: len(rows) - before]) == ["sg_declined", "sg_invited", "sg_invited"]


@pytest.mark.req("FN-7", "DEF-5")
async def test_one_asker_and_all_askers_have_a_pace(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an ID that is away as for one that nobody has; over the pace of all nothing tells that others ask."""
    ann, _, cat = await three(here)
    await here.provision(here.kinds.PNE, "eve")
    sg_id, _ = await ann.groups.create("first", JoinPolicy.OPEN)
    for whom in (EVE, EntityId("nobody")):
        found = [await invited(ann, sg_id, whom) for _ in range(ASKS.times + 2)]
        assert found == [AWAY] * ASKS.times + [TOO_MANY] * 2
    own, _ = await cat.groups.create("own", JoinPolicy.OPEN)
    monkeypatch.setattr("cpns.store.bound_queries.ASKED", Limit(ASKS.times, 60.0))
    here.accepting.add("ben")
    await here.store.may_ask("sg", [BEN] * ASKS.times, [EVE], here.server._clock.now())
    assert await invited(cat, own, BEN) is AWAY
    assert asked(here, "ben") == 0


@pytest.mark.req("FN-8")
async def test_an_invitation_into_a_network_is_held_as_well(here: World) -> None:
    """By a device; the gateway of its PAN, and the operator, ask as they like."""
    gateway = await here.start_gateway()
    ann = await here.joined_pne("ann", gateway)
    await here.start_pne("ben", gateway, waits=True)
    assert ann.joined is not None
    await until(lambda: gateway.pans[0].reach.link(BEN, here.now()))
    assert [(await ann.network.invite([BEN]))[BEN] for _ in range(3)] == [NO] * 3
    assert len(here.invited["ben"]) == 1
    assert await here.server.networks.actions.invite(ann.joined.pn_id, OPERATOR, [BEN]) == {BEN: NO}
    assert len(here.invited["ben"]) == 2
    assert [row.event for row in await here.store.audit(BEN, 99) if "declined" in row.event] == ["pn_declined"] * 2


@pytest.mark.req("DEF-5")
async def test_who_does_not_want_to_own_a_group_is_asked_at_a_pace(here: World) -> None:
    """An hour would leave no way round a slip of the thumb: nobody takes ownership by itself."""
    ann, ben, cat = await three(here)
    sg_id, _ = await ann.groups.create("first", JoinPolicy.OPEN)
    for one in (ben, cat):
        await one.groups.join(sg_id)
    told = []
    for _ in range(ASKS.times + 2):
        with pytest.raises(Refused) as refused:
            await ann.groups.pass_on(sg_id, BEN)
        told.append(refused.value.result)
    assert told == [NO] * ASKS.times + [TOO_MANY] * 2
    assert (asked(here, "ben"), asked(here, "cat")) == (ASKS.times, 0)
    here.accepting.add("ben")
    assert await here.server.groups.actions.pass_on(sg_id, OPERATOR, BEN) == BEN  # nothing bounds the operator


@pytest.mark.req("FN-7", "DEF-5")
async def test_how_long_it_is_held(place: Location) -> None:
    """By the second, over a restart; a clock that was set back makes nobody wait longer."""
    store = ServerStore.open(place)
    at = 1000.0
    await store.declined("sg", BEN, [ANN, CAT], SgId("sg-1"), at)
    await store.close()
    store = ServerStore.open(place)

    async def may(by: list[EntityId], at: float, what: str = "sg", whom: EntityId = BEN) -> Result:
        return (await store.may_ask(what, [whom], by, at))[whom]

    for by in ([ANN], [CAT], [EVE, CAT]):
        assert await may(by, at) is await may(by, at + DECLINED.seconds - 0.1) is NO
    assert await may([ANN], at, "sg_owner") is Result.SUCCESS  # another question
    assert await may([ANN], at, whom=EVE) is Result.SUCCESS  # another one that is asked
    assert await may([EVE], at) is Result.SUCCESS  # another one that asks
    assert await may([ANN, CAT], at + DECLINED.seconds) is Result.SUCCESS
    assert await may([ANN], at - 0.1) is Result.SUCCESS
    for number in range(ASKED.times):
        await may([EntityId(f"pne-{number}")], 90_000.0)
    assert await may([EntityId("another")], 90_000.0) is AWAY
    assert await may([EntityId("another")], 90_000.0 + ASKED.seconds) is Result.SUCCESS
    await store.close()
