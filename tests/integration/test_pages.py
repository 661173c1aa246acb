"""Inventories of many, with the longest names that there are: each part of them gets over a real PAN (DEF-3, DEF-4)."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cpns.domain import group as rules
from cpns.domain.actor import OPERATOR, Actor, Role
from cpns.domain.group import Group
from cpns.domain.inventory import Establishment, Kind, Membership
from cpns.domain.member_list import Policy
from cpns.gateway.config import PanConfig
from cpns.ids import EntityId, PnId, SgId
from cpns.pne.way import ToServer
from cpns.transport.errors import Answer
from cpns.wire import pn_messages as pm
from cpns.wire import sg_messages as sg
from cpns.wire.registry import MAX_ALIAS_BYTES, MAX_MEMBERS, PAGE_BYTES, Change
from tests.support.tap import body_of
from tests.support.world import CLOCK, FAST, World, until, world

NAME_CHARS = 64


def longest(prefix: str, number: int) -> EntityId:
    return EntityId(f"{prefix}-{number:03}-".ljust(NAME_CHARS, "x"))


OWNER = longest("member", 0)
MEMBERS = [longest("member", number) for number in range(MAX_MEMBERS)]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def provisioned(here: World, pnes: Sequence[EntityId]) -> None:
    for pne in pnes:
        if pne not in here.keys:
            await here.provision(Kind.PNE, pne)


async def made(here: World, number: int, members: Sequence[EntityId]) -> SgId:
    """Put a group with the longest names into the store, of senders that sent once."""
    sg_id = SgId(longest("sg", number))
    at = CLOCK.now() + 60 * number  # each in a minute of its own: they are made at a pace
    alias, service = (f"{number:03}".ljust(MAX_ALIAS_BYTES, letter) for letter in "ns")
    await here.store.create_group(
        Group(sg_id, alias, service, members[0], Policy.OPEN, 2**40, 2**40, 60.0 * number), 99
    )
    for pne in members[1:]:
        await here.store.change_group(sg_id, rules.join, at, Actor(Role.PNE, pne))
    await here.store.begin_epoch(sg_id, at + 2.0)
    return sg_id


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the server answers to PNEs, as it was opened there."""
    got: list[bytes] = []
    exchange = ToServer.exchange

    async def noted(self: ToServer, *args: Any) -> Answer:
        answer = await exchange(self, *args)
        got.append(answer.payload)
        return answer

    monkeypatch.setattr(ToServer, "exchange", noted)
    return got


def pages(answers: list[bytes], shape: type[Any]) -> int:
    """Return how many answers of a type there were; each has to fit."""
    found = [one for one in answers if type(body_of(one)) is shape]
    assert all(len(one) <= PAGE_BYTES for one in found)
    return len(found)


@pytest.mark.req("DEF-4", "FN-7")
async def test_members_with_the_longest_names_and_their_keys(here: World, answers: list[bytes]) -> None:
    """64 of them, each of which signs: at its owner, who looks, and is told of the last that came."""
    await here.start_server()
    gateway = await here.start_gateway(longest("gw", 0))
    owner = await here.joined_pne(OWNER, gateway, **FAST)
    await provisioned(here, MEMBERS)
    sg_id = await made(here, 0, MEMBERS)
    for pne in MEMBERS:
        await here.store.register_sender(pne, bytes(32), 9.0)
    answers.clear()
    await owner.groups.refresh(sg_id)
    view = owner.groups.views[sg_id]
    assert [*view.places] == [*view.senders] == MEMBERS
    assert pages(answers, sg.SgInventoryResponse) == 2
    await here.server.groups.actions.expel(sg_id, OPERATOR, MEMBERS[1:])
    await until(lambda: [*owner.groups.views[sg_id].places.values()].count(1) == 1)
    (told,) = [one for one in here.group_changes[OWNER] if one.change == Change.EXPELLED]
    assert len(told.members) == MAX_MEMBERS - 1


@pytest.mark.req("FN-7")
async def test_groups_with_the_longest_names_are_found_with_all_their_members(
    here: World, answers: list[bytes]
) -> None:
    await here.start_server()
    gateway = await here.start_gateway(longest("gw", 0))
    owner = await here.joined_pne(OWNER, gateway, **FAST)
    await provisioned(here, MEMBERS)
    ids = [await made(here, number, MEMBERS if number < 3 else [OWNER]) for number in range(40)]
    found = await owner.groups.discover()
    assert [one.sg_id for one in found] == ids
    with_members = await owner.groups.discover(members=True)
    assert [one.members for one in with_members] == [tuple(MEMBERS)] * 3 + [(OWNER,)] * 37
    assert pages(answers, sg.SgDiscoveryResponse) > 5


@pytest.mark.req("DEF-3")
async def test_a_network_of_devices_with_the_longest_names(here: World, answers: list[bytes]) -> None:
    await here.start_server()
    gateway = await here.start_gateway(longest("gw", 0))
    owner = await here.joined_pne(OWNER, gateway, **FAST)
    many = [longest("member", number) for number in range(100)]
    await provisioned(here, many)
    assert owner.joined is not None
    joining = tuple(Membership(pne, pan_secure=False) for pne in many[1:])
    came = Establishment(owner.joined.pn_id, gateway.config.gateway_id, None, Policy.OPEN, 5.0, joining, {})
    await here.store.establish(came)
    _, entries = await owner.network.inventory()
    assert [one.entity_id for one in entries] == many
    assert pages(answers, pm.InventoryResponse) == 2


@pytest.mark.req("DEF-4")
async def test_a_gateway_learns_of_all_groups_of_its_devices(here: World) -> None:
    """More than there are in one page, of devices of which none is in more than one page has."""
    await here.start_server()
    gateway = await here.start_gateway("gw-1", kept=True)
    pan = PanConfig(*here.pan(gateway), secure=False)
    pnes = [await here.joined_pne(name, gateway, **FAST) for name in ("ann", "ben")]
    ids = [await made(here, number, [pnes[number % 2].config.pne_id]) for number in range(2 * MAX_MEMBERS)]
    await here.stop(gateway)
    again = await here.start_gateway("gw-1", kept=True, pans=(pan,))
    await until(lambda: [*again.groups.copies] == ids)


@pytest.mark.req("DEF-3")
async def test_a_gateway_serves_more_networks_than_a_page_has(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway("gw-1", kept=True)
    await here.provision(Kind.PNE, "ann")
    came = (Membership(EntityId("ann"), pan_secure=False),)
    ids = [PnId(f"pn-{number:03}") for number in range(MAX_MEMBERS + 6)]
    for at, pn_id in enumerate(reversed(ids)):
        await here.store.establish(
            Establishment(pn_id, gateway.config.gateway_id, None, Policy.OPEN, float(at), came, {})
        )
    await here.stop(gateway)
    again = await here.start_gateway("gw-1", kept=True)
    assert sorted(again.networks.copies) == sorted(again.members.pns) == ids
