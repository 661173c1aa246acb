"""False and slow gateways from the side of a device: it looks elsewhere when the documents say so."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns.gateway.app import Gateway
from cpns.pne.app import LOYALTY_SECONDS
from tests.support.groups import FAST
from tests.support.world import World, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def holds(here: World, name: str) -> Gateway:
    """Return a gateway that brings devices in, and says of all that it should relay that it holds it."""
    gateway: Gateway = await here.start_gateway(name)
    for pan in gateway.pans:
        pan.relay._route = lambda destination: None
    return gateway


@pytest.mark.req("SES-3", "FN-8")
@pytest.mark.parametrize("false", [1, 2])
async def test_a_first_message_that_is_held_is_asked_about_elsewhere(here: World, false: int) -> None:
    """However many hold it: each costs the four seconds that a device is loyal, and not its whole patience."""
    await here.start_server()
    evil = [await holds(here, f"evil-{number}") for number in range(false)]
    honest = await here.start_gateway("honest")
    where = tuple(map(here.pan, [*evil, honest]))
    alice = await here.start_pne("alice", honest, gateways=where, **{**FAST, "request_timeout": 6.0})
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(false * (LOYALTY_SECONDS + 1.5) + 1):
        await alice.send(alice.next_reading({"elsewhere": True}))
    took = asyncio.get_running_loop().time() - began
    assert took > false * LOYALTY_SECONDS
    assert alice.joined is not None
    assert alice.joined.gateway_id == "honest"


@pytest.mark.req("SES-3")
async def test_a_first_message_that_is_held_by_the_only_gateway_waits(here: World) -> None:
    """There is nowhere else to go: it is carried on as soon as there is a way."""
    await here.start_server()
    only = await here.start_gateway("only")
    relay = only.pans[0].relay
    route, relay._route = relay._route, lambda destination: None
    alice = await here.start_pne("alice", only, **{**FAST, "request_timeout": 6.0})
    await alice.wait_established()
    await asyncio.sleep(LOYALTY_SECONDS + 1)
    session = alice._way.session
    relay._route = route
    relay.resume()
    await asyncio.wait_for(alice.send(alice.next_reading({"carried": "on"})), 3)
    assert alice._way.session is session
