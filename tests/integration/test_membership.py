"""The end of a membership: revoked, or moved to another gateway; hop session and LocalEUKey end with it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns.domain.actor import OPERATOR
from cpns.gateway.app import Gateway
from cpns.ids import EntityId, PnId
from tests.support.world import World, until, world

PNE = EntityId("pne-1")
OTHER = EntityId("pne-2")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


async def kept(gateway: Gateway) -> set[str]:
    """Return the PNEs that are on the gateway's disk, with their LocalEUKeys."""
    store = gateway.members._store
    assert store is not None
    return {held.pne_id for held in await store.members()}


@pytest.mark.req("DEF-8")
async def test_a_revoked_pne_is_gone_at_the_gateway_when_the_command_returns(here: World) -> None:
    gateway = await here.start_gateway(kept=True)
    for name in (PNE, OTHER):
        await here.joined_pne(name, gateway)
    assert await kept(gateway) == {PNE, OTHER}
    assert await here.provisioning.revoke(OPERATOR, PNE) == 1
    assert gateway.members.get(PNE) is None
    assert gateway.pans[0].hops.with_peer(PNE) is None
    assert await kept(gateway) == {OTHER}
    assert gateway.pans[0].hops.with_peer(OTHER) is not None
    assert await here.members_of("gw-1") == [OTHER]
    notified = [one for one in here.passed if one.what == "PNChangeNotify"]
    assert "gw-server" in {one.session for one in notified}


async def test_a_gateway_that_was_away_learns_of_it_before_it_serves(here: World) -> None:
    gateway = await here.start_gateway(kept=True)
    for name in (PNE, OTHER):
        await here.stop(await here.joined_pne(name, gateway))
    await here.stop(gateway)
    await here.provisioning.revoke(OPERATOR, PNE)
    gateway = await here.start_gateway(kept=True)
    assert gateway.members.get(PNE) is None
    assert gateway.members.get(OTHER) is not None
    assert await kept(gateway) == {OTHER}


async def test_the_older_gateway_of_a_pne_that_moved_forgets_it(here: World) -> None:
    older = await here.start_gateway("gw-1", kept=True)
    newer = await here.start_gateway("gw-2")
    await here.stop(await here.joined_pne(PNE, older))
    await here.joined_pne(PNE, newer)
    async with asyncio.timeout(40):
        while older.members.get(PNE) is not None:
            await asyncio.sleep(0.02)
    assert await kept(older) == set()
    assert older.pans[0].hops.with_peer(PNE) is None
    assert newer.members.get(PNE) is not None
    assert await here.members_of("gw-2") == [PNE]


async def test_a_gateway_of_a_server_that_was_set_up_anew_is_served(here: World) -> None:
    gateway = await here.start_gateway(kept=True)
    await here.stop(await here.joined_pne(PNE, gateway))
    await here.stop(gateway)
    again = await here.start_gateway(kept=True, wait=False)
    await again.uplink.wait(40)
    again.members.pns = [PnId("pn-of-another-life")]
    standing = again.uplink.standing
    standing.link.close()
    async with asyncio.timeout(40):
        while again.uplink.standing in (standing, None):
            await asyncio.sleep(0.02)
    await here.joined_pne(PNE, again)


@pytest.mark.req("SES-1")
async def test_a_pne_that_loses_its_gateway_turns_up_at_another(here: World) -> None:
    """Readings go on through the other gateway, with no new provisioning; none is lost, none stored twice."""
    first = await here.start_gateway("gw-1")
    second = await here.start_gateway("gw-2")
    pne = await here.joined_pne(
        PNE, first, gateways=(here.pan(first), here.pan(second)), timer=1.0, request_timeout=0.8, presence=0.5
    )

    acknowledged: list[int] = []

    async def send() -> None:
        for number in range(60):
            await pne.send(pne.next_reading({"n": number}))
            acknowledged.append(number)
            await asyncio.sleep(0.01)

    sending = asyncio.create_task(send())
    await until(lambda: len(acknowledged) > 9)
    await here.stop(first)
    begun = asyncio.get_running_loop().time()
    await asyncio.wait_for(sending, 40)
    stored = await here.store.readings(0, 200)
    assert sorted(json.loads(row.body)["n"] for row in stored) == list(range(60))
    assert {row.gateway_id for row in stored} == {"gw-1", "gw-2"}
    print(f"all readings there {asyncio.get_running_loop().time() - begun:.1f} s after the loss of the gateway")
