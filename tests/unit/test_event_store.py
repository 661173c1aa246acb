"""Each action leaves its events in the transaction that it is; who follows the numbers misses none, or is told so."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from cpns.domain import group, membership
from cpns.domain.actor import OPERATOR, SERVER, Actor, Role
from cpns.domain.event import KEPT_SECONDS, Cursor, Numbered, PnChanged, SgChanged
from cpns.domain.group import Group
from cpns.domain.inventory import Kind, Outcome
from cpns.domain.member_list import Policy
from cpns.errors import Gone, NotFound, Refused, Result
from cpns.ids import EntityId, SgId
from cpns.service.events import Events
from cpns.store import event_queries, feed
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
    assert PnChanged.of(ended.event) == PnChanged(500.0, PN1, 3, GW1, None, (pne(1),), released=True)

    newest = await store.last_event()
    await store.edit(PN2, [], partial(membership.switch, frm=GW2, to=GW1), 600.0, OPERATOR)
    (switched, _) = await store.events(newest, 99)
    assert PnChanged.of(switched.event) == PnChanged(600.0, PN2, 2, GW1, GW2, (), released=False)


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
    ended = {"version": 3, "epoch": 3, "owner": pne(1), "went": [pne(1)], "deleted": True}
    assert ("sg_changed", SG, ended) in await left(store, newest)
    said = [SgChanged.of(one.event) for one in await store.events(newest, 99) if one.event.kind == "sg_changed"]
    assert said[-1:] == [SgChanged(SG, 3, 3, (pne(1),))]


async def test_what_is_refused_leaves_nothing(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1)))
    newest = await store.last_event()
    steps = [
        store.edit(PN1, [], membership.release, 9.0, Actor(Role.PNE, pne(2)), known=True),
        store.edit(PN1, [pne(1)], partial(membership.update, owner=pne(2)), 9.0, SERVER),
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
    monkeypatch.setattr(event_queries.FEED, "most", 2)
    monkeypatch.setattr(feed, "DROPPED_AT_ONCE", 1)
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


async def test_who_is_out_is_told_for_a_time_and_who_is_behind_that_is_told_so(store: ServerStore) -> None:
    for at, one in ((9e8, pne(1)), (1e9, pne(2))):
        await store.revoke(one, at, OPERATOR)
    await store.drop_kept(1e9 + KEPT_SECONDS - 1)
    (newest, rows) = await store.ended_after(1)
    assert (newest, [row.entity_id for row in rows]) == (2, [pne(2)])
    with pytest.raises(Gone) as caught:
        await store.ended_after(0)
    assert caught.value.code == "revocations_gone"
    await store.drop_kept(2e9)
    assert await store.ended_after(None) == await store.ended_after(2) == (2, [])  # who has heeded all misses nothing
    with pytest.raises(Gone):
        await store.ended_after(1)
    await store.revoke(GW1, 3e9, OPERATOR)
    assert (await store.ended_after(2))[0] == 3  # no number is given twice


# cursors


async def test_a_cursor_begins_with_what_is_new_and_never_goes_back(store: ServerStore) -> None:
    newest = await store.last_event()
    assert await store.move_cursor("backup", None, 5.0, OPERATOR) == Cursor("backup", newest, 5.0, "local")
    await store.add_entities([new(pne(3))], OPERATOR)
    for number in (None, 0, newest):
        assert (await store.move_cursor("backup", number, 6.0, OPERATOR)).number == newest
    moved = await store.move_cursor("backup", newest + 1, 7.0, Actor(Role.OPERATOR, "ophelia"))
    assert moved == Cursor("backup", newest + 1, 7.0, "ophelia")
    assert await store.move_cursor("all", 0, 8.0, OPERATOR) == Cursor("all", 0, 8.0, "local")
    assert await store.cursors() == [Cursor("all", 0, 8.0, "local"), moved]
    with pytest.raises(NotFound) as caught:
        await store.move_cursor("backup", newest + 2, 9.0, OPERATOR)
    assert caught.value.code == "no_such_event"
    await store.drop_cursor("all", 9.0, OPERATOR)
    assert await store.cursors() == [moved]
    with pytest.raises(NotFound) as caught:
        await store.drop_cursor("all", 9.0, OPERATOR)
    assert caught.value.code == "unknown_cursor"


async def test_a_cursor_outlives_its_process(place: Location) -> None:
    store = ServerStore.open(place)
    await store.add_entities([new(pne(1)), new(pne(2))], OPERATOR)
    await store.move_cursor("backup", 1, 5.0, OPERATOR)
    await store.close()
    again = ServerStore.open(place)
    (cursor,) = await again.cursors()
    assert [one.event.subject for one in await again.events(cursor.number, 9)] == [pne(2)]
    await again.close()


async def test_a_cursor_that_went_back_with_the_store_finds_all_that_comes(store: ServerStore) -> None:
    """Some of it a second time; what is new has numbers that nobody was told before, and the first says why."""
    await store.move_cursor("backup", 2, 5.0, OPERATOR)
    told = {one.number for one in await store.events(2, 99)}
    outcome = Outcome(1.8e9, "set_back", EntityId("server.test"), OPERATOR, Result.SUCCESS)
    await store.set_back(outcome)
    await store.record([Outcome(1.8e9, "gateway_activated", GW1, Actor(Role.GATEWAY, GW1), Result.SUCCESS)])
    (cursor,) = await store.cursors()
    rest = await store.events(cursor.number, 99)
    assert {one.number for one in rest[:-2]} == told
    assert [one.event.kind for one in rest[-2:]] == ["set_back", "gateway_activated"]
    assert rest[-2].number > 1.7e9 * 2**20
