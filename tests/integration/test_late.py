"""What is late never takes the place of what is newer, at PNE and PN GW; a server that was set back is believed."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cpns.domain import group as rules
from cpns.domain.actor import OPERATOR, Actor, Role
from cpns.domain.inventory import Kind, Outcome
from cpns.domain.member_list import Policy
from cpns.errors import Result
from cpns.gateway.app import Gateway
from cpns.ids import EntityId, PnId, SgId
from cpns.pne.app import Pne
from cpns.store.server_store import ServerStore
from cpns.wire import pn_messages as pm
from cpns.wire import sg_messages as sg
from cpns.wire.registry import Change, JoinPolicy, Place
from tests.support.groups import all_have, epoch, patiently
from tests.support.world import CLOCK, FAST, SERVER, World, until, world

ANN, BEN = EntityId("ann"), EntityId("ben")


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("cpns.pne.groups.CATCH_UP_PAUSES", (0.3, 1.0))
    async with world(tmp_path) as one:
        yield one


async def two(here: World) -> tuple[Gateway, Pne, Pne, SgId]:
    """Return ann and ben behind one PN GW, in a group of ann's; all that they ask for has been answered."""
    await here.start_server()
    gateway = await here.start_gateway("gw-1", kept=True)
    ann, ben = [await here.joined_pne(name, gateway, **FAST) for name in ("ann", "ben")]
    sg_id, _ = await ann.groups.create("family", JoinPolicy.OPEN)
    await ben.groups.join(sg_id)
    await settled(here, sg_id, ann, ben)
    for pne in (ann, ben):
        await until(lambda pne=pne: set(pne.groups.views[sg_id].places) == {"ann", "ben"})  # type: ignore[misc]
    return gateway, ann, ben, sg_id


async def settled(here: World, sg_id: SgId, *pnes: Pne) -> bytes:
    """Wait until nobody comes or leaves any more, and all have the key of that epoch."""
    while (found := await here.store.group(sg_id)) is not None and found.group.due is not None:
        await asyncio.sleep(0.02)
    return await all_have(here, sg_id, *pnes)


def held_back(owner: Any, name: str, whose: Callable[[Any, Any], bool]) -> asyncio.Event:
    """Let the server hold an answer back that it has made, until the event is set."""
    answer, goes_on = getattr(owner, name), asyncio.Event()

    async def late(source: Any, request: Any) -> Any:
        made = await answer(source, request)
        if whose(source, request):
            await goes_on.wait()
        return made

    setattr(owner, name, late)
    return goes_on


async def tell(here: World, pne: EntityId, notice: sg.SgChangeNotify) -> None:
    way = here.server.pnes.here(pne)
    assert way is not None
    await way[0].tell(notice, timeout=5, session=way[1])


@pytest.mark.req("FN-7", "DEF-4")
async def test_who_is_put_out_is_not_brought_back_by_a_late_answer(here: World) -> None:
    _, ann, ben, sg_id = await two(here)
    goes_on = held_back(here.server.groups.queries, "answer", lambda source, request: source.peer_id == BEN)
    await here.store.change_group(sg_id, partial(rules.update, policy=Policy.CLOSED), 9.0, OPERATOR)
    asking = asyncio.create_task(ben.groups.refresh(sg_id))
    await asyncio.sleep(0.2)
    await ann.groups.expel(sg_id, [BEN])
    await until(lambda: sg_id not in ben.groups.views)
    goes_on.set()
    await asyncio.gather(asking, return_exceptions=True)
    assert (sg_id in ben.groups.views, sg_id in ben.groups.keys) == (False, False)


@pytest.mark.req("FN-7")
async def test_news_that_is_late_puts_nobody_out(here: World) -> None:
    """It left, and came back; of the two notices the older comes last."""
    _, ann, ben, sg_id = await two(here)
    await ben.groups.leave(sg_id)
    await ben.groups.join(sg_id)
    key = await settled(here, sg_id, ann, ben)
    told = len(here.group_changes["ben"])
    await tell(here, BEN, sg.SgChangeNotify(sg_id, (BEN,), ben.groups.views[sg_id].version, Change.LEFT, 1))
    await asyncio.sleep(0.2)
    assert sg_id in ben.groups.views
    assert await settled(here, sg_id, ann, ben) == key
    assert all(BEN not in one.members or one.change != Change.LEFT for one in here.group_changes["ben"][told:])


@pytest.mark.req("FN-7")
async def test_a_list_that_changes_while_it_is_read_is_read_anew(here: World) -> None:
    """At the member that looks, and at its PN GW: all members at once, or none."""
    gateway, _, ben, sg_id = await two(here)
    many = [EntityId(f"pne-{number:03}") for number in range(70)]
    for pne in many:
        await here.provision(Kind.PNE, pne)
    for pne in many:
        await here.store.change_group(sg_id, rules.join, 9.0, Actor(Role.PNE, pne))
    await here.store.begin_epoch(sg_id, 20.0)
    answer, changes = here.server.groups.queries.answer, iter([many[-1], many[10], many[0]])

    async def changing(source: Any, request: sg.SgInventoryRequest) -> sg.SgInventoryResponse:
        made = await answer(source, request)
        if made.more and (pne := next(changes, None)) is not None:
            await here.store.change_group(sg_id, partial(rules.expel, whom=[pne]), 30.0, OPERATOR)
        return made

    here.server.groups.queries.answer = changing  # type: ignore[method-assign]
    await ben.groups.refresh(sg_id)
    found = await here.store.group(sg_id)
    assert found is not None
    view = ben.groups.views[sg_id]
    members = {pne for pne, place in view.places.items() if place == Place.MEMBER}
    assert members == {*found.members} == {*many, "ann", "ben"} - {many[-1], many[10], many[0]}
    assert view.version == found.group.version
    await gateway.groups._copies.fetch(sg_id)
    copy = gateway.groups.copies[sg_id]
    assert (set(copy.members), copy.version) == (members, found.group.version)


@pytest.mark.req("DEF-3")
async def test_a_gateway_puts_nobody_out_for_news_that_is_late(here: World) -> None:
    """Nor does an answer take the place of news that overtook it."""
    gateway, _, ben, _ = await two(here)
    copy = gateway.networks.copies[await copied(gateway, ben)]
    for version, stays in ((copy.version - 1, True), (copy.version + 1, False)):
        notice = pm.PnChangeNotify(copy.pn_id, (BEN,), version, Change.EXPELLED)
        await here.server.gateways.tell(EntityId("gw-1"), notice)
        assert (gateway.members.get(BEN) is not None) is stays


@pytest.mark.req("DEF-3")
async def test_a_late_copy_of_a_network_is_not_taken(here: World) -> None:
    gateway, _, ben, _ = await two(here)
    pn_id = await copied(gateway, ben)
    goes_on = held_back(here.server.networks.queries, "inventory", lambda source, request: source.peer_id == "gw-1")
    asking = asyncio.create_task(gateway.networks._fetch(pn_id))
    await asyncio.sleep(0.2)
    cat = await here.joined_pne("cat", gateway, **FAST)
    await until(lambda: "cat" in gateway.networks.copies[pn_id].members)
    goes_on.set()
    await asking
    assert "cat" in gateway.networks.copies[pn_id].members
    assert gateway.members.get(cat.config.pne_id) is not None


async def copied(gateway: Gateway, pne: Pne) -> PnId:
    """Return the PN, of which the PN GW has a copy with both in it."""
    assert pne.joined is not None
    pn_id = pne.joined.pn_id
    copies = gateway.networks.copies
    await until(lambda: pn_id in copies and {*copies[pn_id].members} == {"ann", "ben"})
    return pn_id


async def set_back(here: World, *, meanwhile: Callable[[], Any], at: float | None = None) -> None:
    """Stop the server, copy its store, start it; after *meanwhile* put the copy back, and start it again.

    With *at* the store first goes on from there, as `cpns server set-back` has it.
    """
    store, copy = Path(here.place), here.folder / "copy.db"
    await here.stop(here.server)
    shutil.copy(store, copy)
    await here.start_server()
    await meanwhile()
    await here.stop(here.server)
    shutil.copy(copy, store)
    if at is not None:
        older = ServerStore.open(store)
        await older.set_back(Outcome(at, "set_back", SERVER, OPERATOR, Result.SUCCESS))
        await older.close()
    await here.start_server()


@pytest.mark.req("FN-7", "DEF-6")
@pytest.mark.parametrize("seconds", [0.0, 1.0], ids=["first", "after its devices are back"])
@pytest.mark.parametrize("many", [0, 3], ids=["one by one", "by broadcast"])
async def test_after_the_store_was_put_back_all_speak_and_hear_again(here: World, many: int, seconds: float) -> None:
    """In an epoch whose number was given before, under another key; and with lower versions than they know.

    Whether their PN GW looks what became of its groups first, or is told of that by and by.
    """
    gateway, ann, ben, sg_id = await two(here)
    learn = gateway.groups.learn

    async def learn_late(standing: Any) -> None:
        await asyncio.sleep(seconds)
        await learn(standing)

    gateway.groups.learn = learn_late  # type: ignore[method-assign]
    others = [await here.joined_pne(f"pne-{number}", gateway, **FAST) for number in range(many)]
    for pne in others:
        await pne.groups.join(sg_id)
    everybody = [ann, ben, *others]
    await settled(here, sg_id, *everybody)
    await ann.messages.send(sg_id, "before")
    cat = await here.joined_pne("cat", gateway, **FAST)

    async def meanwhile() -> None:
        await asyncio.gather(*(asyncio.wait_for(back(here, one), 40) for one in [*everybody, cat]))
        for leaves in (False, True) * 3:
            await patiently(cat, sg_id, leaves=leaves)
        await settled(here, sg_id, *everybody)

    first = await epoch(here, sg_id)
    await set_back(here, meanwhile=meanwhile)
    await asyncio.gather(*(asyncio.wait_for(back(here, one), 40) for one in [*everybody, cat]))
    assert await epoch(here, sg_id) == first
    await asyncio.wait_for(ben.messages.send(sg_id, "after"), 40)
    await patiently(cat, sg_id, leaves=False)  # an epoch that there was before, with another key
    await settled(here, sg_id, *everybody, cat)
    await asyncio.wait_for(ann.messages.send(sg_id, "with cat"), 40)
    await until(lambda: [one.text for one in here.said["ben"]] == ["before", "with cat"])
    await until(lambda: "after" in [one.text for one in here.said["ann"]])
    await until(lambda: [one.text for one in here.said["cat"]] == ["with cat"])
    for pne in everybody:
        assert pne.groups.views[sg_id].version == (await version(here, sg_id))


@pytest.mark.req("FN-7", "DEF-6")
async def test_a_store_that_was_set_back_gives_no_number_twice(here: World) -> None:
    """Neither of readings, nor of changes, epochs, runs; so all groups speak, and nobody has to find out why."""
    _, ann, ben, sg_id = await two(here)
    await ann.messages.send(sg_id, "before")
    numbers: list[int] = []
    given: list[tuple[int, ...]] = []

    async def look() -> None:
        numbers.extend(one.number for one in await here.store.readings(max(numbers, default=0), 100))
        found, registered = await here.store.group(sg_id), await here.store.register_sender(ANN, None, 9.0)
        assert found is not None
        assert ann.joined is not None
        network = await here.store.network(ann.joined.pn_id)
        assert network is not None
        given.append((found.group.version, found.group.epoch, registered.run, network.version))

    async def meanwhile() -> None:
        await asyncio.gather(back(here, ann), back(here, ben))
        for number in range(3):
            await asyncio.wait_for(ann.send(ann.next_reading({"lost": number})), 40)
        cat = await here.joined_pne("cat", here.gateways[0], **FAST)
        await patiently(cat, sg_id, leaves=False)
        await settled(here, sg_id, ann, ben, cat)
        await look()

    await asyncio.wait_for(ann.send(ann.next_reading({"first": 1})), 40)
    await set_back(here, meanwhile=meanwhile, at=CLOCK.now())
    await asyncio.wait_for(asyncio.gather(back(here, ann), back(here, ben)), 40)
    assert await here.store.last_reading_number() > max(numbers)
    await asyncio.wait_for(ann.send(ann.next_reading({"new": 1})), 40)
    await look()
    assert len(numbers) == 5
    assert numbers == sorted(set(numbers))
    assert all(new > old for old, new in zip(*given, strict=True))
    await asyncio.wait_for(ben.messages.send(sg_id, "after"), 40)
    await until(lambda: "after" in [one.text for one in here.said["ann"]])
    await asyncio.wait_for(ann.messages.send(sg_id, "again"), 40)
    await until(lambda: [one.text for one in here.said["ben"]] == ["before", "again"])


async def back(here: World, pne: Pne) -> None:
    while here.server.sessions.with_peer(pne.config.pne_id) is None:
        await asyncio.sleep(0.05)


async def version(here: World, sg_id: SgId) -> int:
    found = await here.store.group(sg_id)
    assert found is not None
    return found.group.version
