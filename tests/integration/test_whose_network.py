"""Into which network a PNE comes that names none: its own, wherever that, and it, have gone meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.domain.actor import OPERATOR, Actor, Role
from cpns.domain.member_list import Policy
from cpns.domain.network import Listed
from cpns.errors import Result
from cpns.gateway.app import Gateway
from cpns.gateway.networks import Copy
from cpns.ids import EntityId, PnId
from cpns.wire import pn_messages as pm
from cpns.wire.registry import Change, Presence, SetupType, Source
from tests.support.raw import ScriptedPne
from tests.support.world import World, until, world

HUB, DEN = EntityId("hub"), EntityId("den")
WATCH = EntityId("watch")
FAST: dict[str, Any] = {"timer": 2.0, "request_timeout": 1.5, "presence": 0.5}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def network_of(here: World, gateway: str) -> PnId:
    """Return the network that a gateway serves alone."""
    (pn_id,) = await here.store.networks_of(EntityId(gateway))
    return pn_id


async def where(here: World, name: str) -> PnId | None:
    """Return the network that a PNE is in."""
    found = await here.store.membership(EntityId(name))
    return None if found is None else found[0]


async def two_networks(here: World, *, present: bool = False) -> tuple[Gateway, PnId, PnId]:
    """Return hub, the network that it made, with a neighbour in it, and the watch's, which den has given to it.

    The watch is off, or *present*.
    """
    hub, den = await here.start_gateway("hub", kept=True), await here.start_gateway("den")
    await here.joined_pne("neighbour", hub)
    await here.stop(await here.joined_pne("watch", den))
    theirs, own = await network_of(here, "hub"), await network_of(here, "den")
    await here.server.networks.actions.switch(own, HUB, OPERATOR)
    if present:
        await here.joined_pne("watch", hub, **FAST)
    return hub, theirs, own


async def exact(here: World, gateway: Gateway, pn_id: PnId) -> Copy:
    """Return the gateway's copy of a network as soon as it says what the server's inventory does."""
    truth: list[Listed] = []

    def is_so() -> Copy | None:
        copy = gateway.networks.copies.get(pn_id)
        if copy is None:
            return None
        listed = [Listed(pne, bool(entry.guest)) for pne, entry in copy.members.items()]
        listed += [Listed(pne, None) for pne in copy.away]
        return copy if sorted(listed, key=lambda one: one.pne_id) == truth else None

    async with asyncio.timeout(40):
        while True:
            truth = await here.store.listed_page(pn_id, "", 100)
            if (copy := is_so()) is not None:
                return copy
            await asyncio.sleep(0.02)


@pytest.mark.req("FN-8", "DEF-3")
@pytest.mark.parametrize("policy", list(Policy))
async def test_a_network_that_was_switched_while_its_device_was_off_is_the_one_that_it_comes_into(
    here: World, policy: Policy
) -> None:
    await here.start_server()
    hub, theirs, own = await two_networks(here)
    await here.server.networks.actions.update(theirs, OPERATOR, policy=policy, alias=None, owner=None)
    await here.joined_pne("watch", hub)
    assert await where(here, "watch") == own
    assert {one.pne_id for one in await here.store.listed_page(theirs, "", 9)} == {"neighbour"}


@pytest.mark.req("FN-8", "DEF-3")
async def test_a_member_that_once_fell_among_the_neighbours_comes_home(here: World) -> None:
    """It is guest in the first network of its gateway, and stands as member in the second."""
    await here.start_server()
    hub, theirs, own = await two_networks(here)
    await here.stop(await here.joined_pne("watch", hub, join=theirs))
    assert await where(here, "watch") == theirs
    await exact(here, hub, own)
    await here.joined_pne("watch", hub)
    assert await where(here, "watch") == own
    assert (await exact(here, hub, theirs)).away == frozenset()


@pytest.mark.req("FN-8", "DEF-3")
async def test_who_goes_from_one_network_of_a_gateway_into_another_keeps_its_hop(here: World) -> None:
    """That it has left the first comes late, and is about the first alone."""
    await here.start_server()
    hub, theirs, own = await two_networks(here, present=True)
    watch = here.pnes[-1]
    telling = here.server.gateways.tell
    told = asyncio.Event()

    async def late(gateway: EntityId, message: Any) -> bool:
        if isinstance(message, pm.PnChangeNotify) and message.change == Change.MOVED:
            await until(lambda: hub.pans[0].hops.with_peer(WATCH) not in (None, before))
            assert await telling(gateway, message)
            told.set()
            return True
        return await telling(gateway, message)

    before = hub.pans[0].hops.with_peer(WATCH)
    here.server.gateways.tell = late  # type: ignore[method-assign]
    here.pause(watch)
    await here.joined_pne("watch", hub, join=theirs, **FAST)
    await asyncio.wait_for(told.wait(), 40)
    member = hub.members.get(WATCH)
    assert member is not None
    assert member.pn_id == theirs
    assert hub.pans[0].hops.with_peer(WATCH) is not None
    assert (await exact(here, hub, own)).away == {WATCH}


@pytest.mark.req("AUTH-0", "FN-8")
async def test_who_is_invited_to_an_establishment_comes_into_that_network(here: World) -> None:
    """Though another network of the gateway is its home."""
    await here.start_server()
    hub, theirs, own = await two_networks(here)
    here.accepting.add("watch")
    watch = await here.start_pne("watch", hub, waits=True)
    await until(lambda: hub.pans[0].reach.link(WATCH, here.now()))
    await here.joined_pne("guide", hub, setup_type=SetupType.LISTED, invite=(WATCH,))
    async with asyncio.timeout(40):
        await watch.wait_established()
    assert (await where(here, "guide"), await where(here, "watch")) == (theirs, theirs)
    assert own != theirs


@pytest.mark.req("DEF-3")
async def test_members_that_are_away_are_told_of_to_the_gateway_alone_that_asks_so(here: World) -> None:
    """A PN GW of before does not ask so, and hears what it always heard; a member hears of who is in."""
    await here.start_server()
    hub, _, own = await two_networks(here, present=True)
    watch = here.pnes[-1]
    await here.stop(await here.joined_pne("clock", hub, join=own))
    elsewhere = await here.start_gateway("shed")
    await here.stop(await here.joined_pne("clock", elsewhere))
    standing = hub.uplink.standing
    assert standing is not None
    asked = await hub.networks._ask(standing, pm.InventoryRequest(own, 0))
    away = pm.InventoryEntry(EntityId("clock"), Presence.AWAY, 0, Source.SERVER)
    assert asked.entries is not None
    assert [one.entity_id for one in asked.entries] == ["clock", "watch"]
    assert asked.entries[0] == away
    assert [one.entity_id for one in (await hub.networks._ask(standing, pm.InventoryRequest(own))).entries or ()] == [
        "watch"
    ]
    for version in (None, 0):
        of_member = await watch.network._ask(pm.InventoryRequest(own, version), pm.InventoryResponse)
        assert [one.entity_id for one in of_member.entries or ()] == ["watch"]


@pytest.mark.req("DEF-3", "FN-8")
async def test_the_copy_of_a_gateway_says_who_stands_as_member_after_each_change(here: World) -> None:
    await here.start_server()
    hub, den = await here.start_gateway("hub"), await here.start_gateway("den")
    await here.joined_pne("host", den)
    await here.joined_pne("neighbour", hub)
    pn_id = await network_of(here, "hub")
    guest = await here.joined_pne("visitor", hub)
    await here.stop(await here.joined_pne("host", hub))  # its home is den's
    for name in ("a", "b", "c", "d"):
        await here.stop(await here.joined_pne(name, hub))
    assert set((await exact(here, hub, pn_id)).members) == {"neighbour", "visitor", "host", "a", "b", "c", "d"}
    networks, gateway = here.server.networks.actions, Actor(Role.GATEWAY, HUB)
    await here.stop(await here.joined_pne("a", den))
    assert (await exact(here, hub, pn_id)).away == {"a"}
    await networks.expel(pn_id, gateway, [EntityId("b")])
    assert (await exact(here, hub, pn_id)).away == {"a", "b"}
    await networks.expel(pn_id, OPERATOR, [EntityId("a"), EntityId("c"), EntityId("host")])
    assert (await exact(here, hub, pn_id)).away == {"b"}
    await guest.leave()
    await here.provisioning.revoke(OPERATOR, "d")
    copy = await exact(here, hub, pn_id)
    assert copy.away == {"b"}
    assert set(copy.members) == {"neighbour"}
    await networks.update(pn_id, OPERATOR, policy=Policy.APPROVAL, alias=None, owner=None)
    pending = ScriptedPne("pending", await here.key(here.kinds.PNE, "pending"))
    here.closes(pending)
    assert (await pending.setup(here.pan(hub))).result == Result.AUTHENTICATION_FAILED
    await networks.approve(pn_id, OPERATOR, EntityId("pending"), let_in=True)
    assert (await exact(here, hub, pn_id)).away == {"b", "pending"}
    await here.joined_pne("b", hub)
    assert (await exact(here, hub, pn_id)).away == {"pending"}


async def test_the_list_comes_in_pages_at_the_store(here: World) -> None:
    await here.start_server()
    hub, den = await here.start_gateway("hub"), await here.start_gateway("den")
    names = [f"pne-{number:02}" for number in range(9)]
    for name in names:
        await here.stop(await here.joined_pne(name, hub))
    for name in names[::2]:
        await here.stop(await here.joined_pne(name, den))
    pn_id = await network_of(here, "hub")
    found: list[Listed] = []
    while page := await here.store.listed_page(pn_id, found[-1].pne_id if found else "", 4):
        found += page
    assert found == [Listed(EntityId(name), None if name in names[::2] else False) for name in names]
