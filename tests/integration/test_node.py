"""A device that hosts a PNE and a PN GW, and changes its mode while it runs (DEF-1, DEF-2)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind
from cpns.errors import Refused, Result
from cpns.gateway.app import Gateway
from cpns.ids import EntityId
from cpns.node.app import Node
from cpns.wire import pn_messages as pm
from cpns.wire.registry import Mode
from tests.integration.test_roaming import Traffic, network_of, nothing_lost, via
from tests.support.device import device
from tests.support.raw import Scripted, said
from tests.support.world import FAST, World, address_of, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def node(here: World, external: Gateway, **options: Any) -> Node:
    """Return a started device ``tablet`` with the provisioned PN GW ``tablet-gw``."""
    return await device(here, external, provisioned="tablet-gw", **options)


@pytest.mark.req("DEF-2", "DEF-1")
async def test_it_changes_its_mode_while_it_runs(here: World) -> None:
    """PNE behind an external gateway; both, with its own gateway for itself and another device; PNE again."""
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await node(here, external)
    assert tablet.mode is Mode.PNE
    await until(lambda: via(here, "tablet") == "gw-1")
    assert not here.server.pnes.is_connected_here(EntityId("tablet-gw"))
    await tablet.change(Mode.BOTH)
    assert here.server.pnes.is_connected_here(EntityId("tablet-gw"))
    await until(lambda: via(here, "tablet") == "tablet-gw")
    assert tablet.gateway is not None
    other = await here.joined_pne("watch", tablet.gateway, **FAST)
    assert via(here, "watch") == "tablet-gw"
    await tablet.send({"through": "itself"})
    await tablet.change(Mode.PN_GW)
    assert tablet.pne is None
    await other.send(other.next_reading({"goes": "on"}))
    await tablet.change(Mode.PNE)
    await until(lambda: via(here, "tablet") == "gw-1")
    await until(lambda: not here.server.pnes.is_connected_here(EntityId("tablet-gw")))
    assert tablet.gateway is None


@pytest.mark.req("DEF-2")
async def test_it_says_as_what_it_runs(here: World) -> None:
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await node(here, external, mode=Mode.BOTH)
    asker = Scripted("somebody")
    here.closes(asker)
    assert tablet.gateway is not None
    for where, mode in ((here.pan(tablet.gateway), Mode.BOTH), (here.pan(external), Mode.PN_GW)):
        question = pm.EntityDiscoveryRequest(EntityId("somebody"), Mode.PNE)
        found = await said(await asker.link(where), question, pm.EntityDiscoveryResponse)
        assert found.mode == mode


@pytest.mark.req("DEF-2", "FN-8")
@pytest.mark.parametrize("may_change", [True, False])
async def test_it_becomes_a_gateway_when_it_is_asked_and_wants_to(here: World, may_change: bool) -> None:
    """Where there is no gateway in reach, any device may ask it (Gateway Change); its user has the last word."""
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await node(here, external, may_change=may_change)
    await until(lambda: via(here, "tablet") == "gw-1")
    asker = Scripted("somebody")
    here.closes(asker)
    assert tablet.pne is not None
    link = await asker.link(("127.0.0.1", address_of(tablet.pne._endpoint)[1]))
    request = pm.GatewayChangeRequest(EntityId("somebody"), Mode.BOTH)
    answer = await said(link, request, pm.GatewayChangeResponse)
    if not may_change:
        assert answer == pm.GatewayChangeResponse(Result.REFUSED_BY_USER)
        assert (tablet.mode, tablet.gateway) == (Mode.PNE, None)
        return
    assert answer == pm.GatewayChangeResponse(Result.SUCCESS, EntityId("tablet-gw"))
    await until(lambda: tablet.mode is Mode.BOTH)
    await until(lambda: via(here, "tablet") == "tablet-gw")


@pytest.mark.req("DEF-2", "FN-1", "FN-8")
async def test_a_gateway_hands_its_network_to_a_member_that_becomes_one(here: World) -> None:
    """PN GW switching, all nine steps: asked, changed, authenticated, agreed, members told, traffic goes on."""
    await here.start_server()
    external = await here.start_gateway("gw-1", kept=True)
    await node(here, external, may_change=True)
    await until(lambda: via(here, "tablet") == "gw-1")
    pnes = [await here.joined_pne(f"pne-{number}", external, **FAST) for number in range(3)]
    pn_id = (await network_of(here, "gw-1")).network.pn_id
    traffic = [Traffic(pne) for pne in pnes]
    await until(lambda: all(len(one.acknowledged) > 5 for one in traffic))
    assert await external.switching.make_gateway(pn_id, EntityId("tablet")) == "tablet-gw"
    await until(lambda: all(via(here, name) == "tablet-gw" for name in ("tablet", "pne-0", "pne-1", "pne-2")))
    before = [len(one.acknowledged) for one in traffic]
    await until(lambda: all(len(one.acknowledged) > n + 5 for one, n in zip(traffic, before, strict=True)))
    for one in traffic:
        await one.stop()
        await nothing_lost(here, one)
    print(f"a member became the gateway: longest gap {max(one.gap() for one in traffic):.2f} s, nothing lost")
    network = next(one for one in await here.store.networks() if one.network.pn_id == pn_id)
    assert network.network.gateway_id == "tablet-gw"
    assert {member.pne_id for member in network.members} == {"tablet", "pne-0", "pne-1", "pne-2"}
    await until(lambda: len(external.members) == 0)
    assert pn_id not in external.members.pns


@pytest.mark.req("DEF-2")
async def test_a_change_that_fails_changes_nothing(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its PN GW can't authenticate: the present gateway serves on, and the device is the PNE that it was."""
    monkeypatch.setattr("cpns.node.modes.UPLINK_SECONDS", 1.0)
    await here.start_server()
    external = await here.start_gateway("gw-1")
    await here.key(Kind.GATEWAY, "tablet-gw")
    tablet = await node(here, external, may_change=True)
    await until(lambda: via(here, "tablet") == "gw-1")
    await here.provisioning.revoke(OPERATOR, "tablet-gw")
    pn_id = (await network_of(here, "gw-1")).network.pn_id
    with pytest.raises(Refused):
        await external.switching.make_gateway(pn_id, EntityId("tablet"))
    with pytest.raises(Refused):
        await tablet.change(Mode.BOTH)
    assert (tablet.mode, tablet.gateway) == (Mode.PNE, None)
    assert (await network_of(here, "gw-1")).network.pn_id == pn_id
    await tablet.send({"as": "before"})
    assert via(here, "tablet") == "gw-1"
