"""Each action leaves its events in the transaction that it is; who follows the numbers misses none, or is told so."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from cpns.domain import group, membership
from cpns.domain.actor import OPERATOR, SERVER, Actor, Role
from cpns.domain.event import KEPT_SECONDS, Numbered
from cpns.domain.group import Group
from cpns.domain.inventory import Kind, Outcome
from cpns.domain.member_list import Policy
from cpns.errors import Gone, Refused, Result
from cpns.ids import SgId
from cpns.service.events import Events
from cpns.store import event_queries
from cpns.store.server_store import ServerStore
from tests.support.stores import Location, databases
from tests.unit.test_store import GW1, GW2, PN1, PN2, establishment, new, pne

SG = SgId("sg-1")
WALK = Group(SG, "walk", None, pne(1), Policy.OPEN, 1, 1, 1.0)


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    one = ServerStore.open(place)
    await one.add_entities([new(GW1, Kind.GATEWAY), new(GW2, Kind.GATEWAY), new(pne(1)), new(pne(2))], OPERATOR)
    yield one
    await one.close()


async def left(store: ServerStore, after: int) -> list[tuple[str, str, object]]:
    return [(one.event.kind, one.event.subject, dict(one.event.body)) for one in await store.events(after, 99)]


async def test_provisioning_leaves_an_event_for_each_and_no_key(store: ServerStore) -> None:
    found = await store.events(0, 99)
    assert [(one.number, one.event.kind, one.event.actor) for one in found] == [
        (number, "provisioned", OPERATOR) for number in range(1, 5)
    ]
    assert {tuple(one.event.body.items()) for one in found} == {(("result", "success"),)}


async def test_what_becomes_of_networks(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), pne(2)))
    made = ("pn_changed", PN1, {"version": 1, "gateway": GW1, "came": [pne(1), pne(2)]})
    assert made in await left(store, 4)
    newest = await store.last_event()
    await store.establish(establishment(PN1, GW1, pne(1), at=300.0))  # nothing is new
    assert await left(store, newest) == [("established", PN1, {"pnes": [pne(1)]})]

    newest = await store.last_event()
    await store.establish(establishment(PN2, GW2, pne(2), at=400.0))
    moved = await left(store, newest)
    assert ("pn_changed", PN1, {"version": 2, "gateway": GW1, "gone": [pne(2)]}) in moved
    assert ("pn_changed", PN2, {"version": 1, "gateway": GW2, "came": [pne(2)]}) in moved

    newest = await store.last_event()
    await store.edit(PN1, [], membership.release, 500.0, Actor(Role.GATEWAY, GW1))
    (ended, said) = await store.events(newest, 99)
    assert ended.event.body == {"version": 3, "gateway": GW1, "gone": [pne(1)], "released": True}
    assert (said.event.kind, said.event.actor) == ("pn_released", Actor(Role.GATEWAY, GW1))


async def test_what_becomes_of_groups(store: ServerStore) -> None:
    await store.create_group(WALK, 9)
    newest = await store.last_event()
    await store.change_group(SG, group.join, 9.0, Actor(Role.PNE, pne(2)))
    (changed, joined) = sorted(await store.events(newest, 99), key=lambda one: one.event.kind, reverse=True)
    assert changed.event.kind == "sg_joined"
    assert joined.event.body == {"version": 2, "epoch": 2, "owner": pne(1), "came": [pne(2)]}
    newest = await store.last_event()
    await store.change_group(SG, partial(group.expel, whom=[pne(2)]), 19.0, Actor(Role.PNE, pne(1)))
    body = {"version": 3, "epoch": 3, "owner": pne(1), "went": [pne(2)]}
    (out,) = [one.event for one in await store.events(newest, 99) if one.event.kind == "sg_changed"]
    assert (out.body, out.actor) == (body, Actor(Role.OWNER, pne(1)))
    await store.change_group(SG, group.delete, 29.0, OPERATOR)
    assert ("sg_changed", SG, {"version": 3, "epoch": 3, "owner": pne(1), "deleted": True}) in await left(store, newest)


async def test_what_is_refused_leaves_nothing(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1)))
    newest = await store.last_event()
    steps = [
        store.edit(PN1, [], membership.release, 9.0, Actor(Role.PNE, pne(2)), known=True),
        store.edit(PN1, [pne(1)], partial(membership.settle, owner=pne(2)), 9.0, SERVER),
    ]
    assert [isinstance(one, Refused | KeyError) for one in await asyncio.gather(*steps, return_exceptions=True)] == [
        True,
        True,
    ]
    assert await store.events(newest, 9) == []


async def taken(events: AsyncIterator[Numbered], count: int) -> list[int]:
    return [(await anext(events)).number for _ in range(count)]


async def test_who_follows_gets_what_is_there_and_what_comes(store: ServerStore) -> None:
    events = Events(store)  # never looks by itself: a commit wakes it
    following = events.follow(2)
    assert await taken(following, 2) == [3, 4]
    waits = asyncio.ensure_future(anext(following))
    await asyncio.sleep(0)
    await store.add_reading(pne(1), GW1, bytes(12), "{}", "e2e", 1.0)  # no event
    assert not waits.done()
    await store.record([Outcome(5.0, "gateway_activated", GW1, Actor(Role.GATEWAY, GW1), Result.SUCCESS)])
    async with asyncio.timeout(40):
        assert (await waits).event.kind == "gateway_activated"


async def test_who_is_behind_what_is_kept_is_told_so(store: ServerStore) -> None:
    await store.record([Outcome(1e9, "gateway_activated", GW1, Actor(Role.GATEWAY, GW1), Result.SUCCESS)])
    await store.drop_kept(100.0 + KEPT_SECONDS)
    assert [one.number for one in await store.events(0, 9)] == [1, 2, 3, 4, 5]  # of 100.0: they are not older
    following = Events(store).follow(0)
    await store.drop_kept(100.1 + KEPT_SECONDS)
    with pytest.raises(Gone, match="up to 4 are dropped") as caught:
        await anext(following)
    assert caught.value.code == "events_gone"
    assert [one.number for one in await store.events(4, 9)] == [5]
    await store.drop_kept(2e9)
    assert (await store.events(5, 9), await store.last_event()) == ([], 5)  # no number is given twice
    with pytest.raises(Gone):
        await store.events(4, 9)


async def test_so_many_events_are_kept_and_no_more(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_queries, "MOST", 2)
    monkeypatch.setattr(event_queries, "DROPPED_AT_ONCE", 1)
    for least in (2, 3, 3):
        await store.drop_kept(0.0)
        assert [one.number for one in await store.events(least - 1, 9)] == [*range(least, 5)]


async def test_an_empty_store_has_no_events(new_place: Callable[[], Location]) -> None:
    store = ServerStore.open(new_place())
    await store.drop_kept(9e9)
    assert (await store.events(0, 9), await store.last_event()) == ([], 0)
    await store.close()


async def test_a_process_follows_what_others_commit() -> None:
    url = databases().emptied()
    one, other = ServerStore.open(url), ServerStore.open(url)
    following = Events(one, look_every=0.05).follow(0)
    waits = asyncio.ensure_future(anext(following))
    await other.add_entities([new(pne(1))], OPERATOR)
    async with asyncio.timeout(40):
        assert (await waits).event.subject == pne(1)
    await one.close()
    await other.close()
