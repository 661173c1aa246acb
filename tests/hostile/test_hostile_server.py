"""A server that lies, or has gone wrong: PN GW and PNE believe what it may decide, and keep themselves safe."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cpns.errors import Refused, Result
from cpns.ids import EntityId, PnId, SgId
from cpns.service import pages
from cpns.session.table import Session
from cpns.wire import pn_messages as pm
from cpns.wire import sg_messages as sg
from cpns.wire.registry import JoinPolicy, Place, Presence, Source
from tests.support.groups import all_have
from tests.support.world import FAST, World, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


# lists without an end


class Endless:
    """Answers of a server that says `more` for ever.

    Args:
        forward: whether each page has entries that nobody has seen; else all have the same.
    """

    def __init__(self, *, forward: bool) -> None:
        self.forward = forward
        self.pages: Counter[str] = Counter()

    def ids(self, asker: str) -> list[EntityId]:
        self.pages[asker] += 1
        page = self.pages[asker] if self.forward else 0
        return [EntityId(f"pne-{page:06}-{number:02}") for number in range(64)]

    async def of_network(self, source: Any, request: pm.InventoryRequest) -> pm.InventoryResponse:
        pn_id = request.pn_id or PnId("pn-1")
        if request.pn_id is None:
            return pm.InventoryResponse(Result.SUCCESS, networks=(pn_id,))
        entries = tuple(
            pm.InventoryEntry(one, Presence.AWAY, 0, Source.SERVER, False) for one in self.ids(source.peer_id)
        )
        return pm.InventoryResponse(Result.SUCCESS, pn_id, 1, EntityId("gw-1"), entries=entries, more=True)

    async def of_group(self, source: Any, request: sg.SgInventoryRequest) -> sg.SgInventoryResponse:
        sg_id = request.sg_id or SgId("sg-1")
        if request.sg_id is None:
            return sg.SgInventoryResponse(Result.SUCCESS, groups=(sg_id,))
        entries = tuple(sg.SgMemberEntry(one, Place.MEMBER) for one in self.ids(source.peer_id))
        owner = EntityId("pne-1")
        head = (Result.SUCCESS, sg_id, 9, "family", owner, None, JoinPolicy.OPEN)
        return sg.SgInventoryResponse(*head, entries, more=True, epoch=9)

    async def of_groups(self, source: Session, request: sg.SgDiscoveryRequest) -> sg.SgDiscoveryResponse:
        entries = tuple(sg.SgEntry(SgId(f"sg-{one}"), "x", JoinPolicy.OPEN, one, 1) for one in self.ids(source.peer_id))
        return sg.SgDiscoveryResponse(Result.SUCCESS, entries, more=True)


@pytest.fixture
def few_pages(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(pages, "MAX_PAGES", 20)
    return 20


WAYS = pytest.mark.parametrize("forward", [True, False], ids=["new entries", "the same entries"])


@WAYS
async def test_a_gateway_ends_a_list_of_members_without_end(
    here: World, few_pages: int, forward: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It serves nobody with half a list, says why, and takes up its work when the server tells the truth again."""
    server = await here.start_server()
    endless, honest = Endless(forward=forward), server.networks.queries.inventory
    server.networks.queries.inventory = endless.of_network  # type: ignore[method-assign]
    gateway = await here.start_gateway(wait=False)
    await until(lambda: gateway.uplink.last_refusal)
    assert gateway.uplink.last_refusal == ("list_without_end" if forward else "list_goes_back")
    assert gateway.uplink.last_refusal in caplog.text
    assert gateway.uplink.standing is None
    server.networks.queries.inventory = honest  # type: ignore[method-assign]
    await gateway.uplink.wait(40)
    assert gateway.networks.copies == {}


@WAYS
async def test_a_gateway_ends_a_list_of_a_group_without_end(here: World, few_pages: int, forward: bool) -> None:
    server = await here.start_server()
    gateway = await here.start_gateway()
    await until(lambda: any(one.what == "SG-INVENTORY Request" for one in here.passed))
    await asyncio.sleep(0.1)  # it has asked which groups there are
    endless = Endless(forward=forward)
    server.groups.queries.answer = endless.of_group  # type: ignore[method-assign]
    with pytest.raises(Refused, match="list_without_end" if forward else "list_goes_back"):
        await gateway.groups._copies.fetch(SgId("sg-1"))
    assert endless.pages["gw-1"] == (few_pages + 1 if forward else 2)
    pne = await here.joined_pne("pne-1", gateway)
    await pne.send(pne.next_reading({"served": "on"}))
    assert gateway.groups.copies == {}


@WAYS
async def test_a_pne_ends_lists_without_end(here: World, few_pages: int, forward: bool) -> None:
    server = await here.start_server()
    gateway = await here.start_gateway()
    pne = await here.joined_pne("pne-1", gateway, **FAST)
    sg_id, _ = await pne.groups.create("family", JoinPolicy.OPEN)
    await all_have(here, sg_id, pne)
    await until(lambda: gateway.networks.copies)  # its gateway has asked all that it asks
    view = pne.groups.views[sg_id]
    endless = Endless(forward=forward)
    server.networks.queries.inventory = endless.of_network  # type: ignore[method-assign]
    server.groups.queries.answer = endless.of_group  # type: ignore[method-assign]
    server.groups.queries.discovered = endless.of_groups  # type: ignore[method-assign]
    lists: dict[str, Callable[[], Any]] = {
        "members": pne.network.inventory,
        "group": lambda: pne.groups.refresh(sg_id),
        "groups": pne.groups.discover,
    }
    for ask in lists.values():
        endless.pages.clear()
        with pytest.raises(Refused, match="list_without_end" if forward else "list_goes_back"):
            await ask()
        assert endless.pages["pne-1"] == (few_pages + 1 if forward else 2)
    assert pne.groups.views[sg_id] == view
