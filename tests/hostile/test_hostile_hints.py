"""A gateway that lies about its uplink: a lie costs what refusing service costs, and nothing more."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.gateway.app import Gateway
from cpns.pne import loyalty
from cpns.pne.app import Pne
from cpns.transport.coap import response_of
from cpns.transport.endpoint import Inbound
from cpns.transport.errors import Answer, Code
from cpns.wire import application
from tests.support.world import World, until, world

QUICK: dict[str, Any] = {"timer": 5.0, "request_timeout": 3.0, "presence": 0.2}


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(loyalty, "LOYALTY_SECONDS", 0.2)
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


async def settled(here: World, name: str, gateway: Gateway, **options: Any) -> Pne:
    """Return a PNE whose first message to the server was answered too."""
    pne = await here.joined_pne(name, gateway, **options)
    await until(lambda: not pne.is_joining)
    return pne


async def says(here: World, name: str, payload: bytes) -> Gateway:
    """Return a gateway that carries all, and answers each ``/presence`` with *payload*."""
    gateway: Gateway = await here.start_gateway(name)
    gateway._uplink_hint = lambda: Answer(Code.CHANGED, payload)  # type: ignore[method-assign]
    return gateway


@pytest.mark.req("SES-6")
async def test_who_says_that_its_uplink_is_away_is_left_and_the_honest_one_is_not(here: World) -> None:
    liar = await says(here, "liar", application.encode_away(3600))
    honest = await here.start_gateway("honest")
    pne = await settled(here, "watch", liar, gateways=(here.pan(liar), here.pan(honest)), **QUICK)
    await until(lambda: pne.joined is not None and pne.joined.gateway_id == "honest")
    session = pne._way.session
    await asyncio.sleep(1.5)
    assert pne._way.session is session


@pytest.mark.req("SES-6")
async def test_where_all_lie_readings_go_on(here: World) -> None:
    """A device that goes from one to the other has sessions all the time, and slower and slower does so."""
    liars = [await says(here, name, application.encode_away(1)) for name in ("liar-1", "liar-2")]
    pne = await settled(here, "watch", liars[0], gateways=tuple(map(here.pan, liars)), **QUICK)
    for number in range(20):
        await asyncio.wait_for(pne.send(pne.next_reading({"n": number})), 40)
        await asyncio.sleep(0.1)
    assert await here.store.last_reading_number() == 20


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x80", b"\x81\x20", bytes(4000)])
async def test_what_is_no_hint_moves_nobody(here: World, payload: bytes) -> None:
    """An older gateway answers without a payload."""
    older = await says(here, "older", payload)
    other = await here.start_gateway("other")
    pne = await settled(here, "watch", older, gateways=(here.pan(older), here.pan(other)), **QUICK)
    session = pne._way.session
    await asyncio.sleep(1)
    assert pne._way.session is session
    assert pne.is_carried


@pytest.mark.req("SES-6")
async def test_a_hint_from_outside_the_hop_session_is_none(here: World) -> None:
    """Whoever is on the PAN can answer in the gateway's name; such an answer does not open."""
    first, second = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    pne = await settled(here, "watch", first, gateways=(here.pan(first), here.pan(second)), **QUICK)
    session, forged = pne._way.session, 0
    in_hop_session = first._in_hop_session

    async def after_a_forged_one(pan: Any, source: Any, inbound: Inbound) -> Any:
        nonlocal forged
        forged += 1
        plain = Answer(Code.CHANGED, application.encode_away(3600))
        inbound.link.remote.respond(requests[-1], response_of(plain))
        return await in_hop_session(pan, source, inbound)

    requests: list[Any] = []
    begin: Any = first.pans[0].endpoint._begin

    def kept(turn: Any) -> float:
        if turn.item.session is not None:
            requests.append(turn.item.request)
        cost: float = begin(turn)
        return cost

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first, "_in_hop_session", after_a_forged_one)
        patch.setattr(first.pans[0].endpoint._intake, "_begin", kept)
        await until(lambda: forged >= 4)
    assert pne._way.session is session
    assert pne.is_carried
