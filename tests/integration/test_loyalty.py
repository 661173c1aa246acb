"""When a device leaves its gateway: one that says that it has no uplink, one that carries nothing, and no other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.errors import WireError
from cpns.gateway.app import Gateway
from cpns.ids import EntityId, PnId
from cpns.pne import loyalty
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig
from cpns.pne.loyalty import LOYALTY_SECONDS, SIGN_SECONDS, SIGNS
from cpns.transport.errors import Answer, Code
from cpns.wire import application
from tests.support.tap import TcpTap
from tests.support.world import SERVER, World, push_of, until, world

QUICK: dict[str, Any] = {"timer": 5.0, "request_timeout": 3.0, "presence": 0.2, "sign_of_life": 0.0}


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(loyalty, "LOYALTY_SECONDS", 0.2)
    monkeypatch.setattr(loyalty, "SIGN_SECONDS", 0.3)
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


async def with_own_uplink(here: World, name: str, **options: Any) -> tuple[Gateway, TcpTap]:
    """Return a gateway, and what its uplink alone runs through."""
    cable = TcpTap(here.address)
    host, port = await cable.start()
    here.closes(cable)
    return await here.start_gateway(name, server_host=host, server_port=port, **options), cable


def swallows(gateway: Gateway) -> None:
    """Let *gateway* say that all is well, and carry nothing from now on."""

    async def nothing(*_: Any) -> None:
        await asyncio.Event().wait()

    for pan in gateway.pans:
        pan.relay.forward = nothing  # type: ignore[assignment,method-assign]
    gateway._uplink_hint = lambda: Answer(Code.CHANGED, application.encode_away(0))  # type: ignore[method-assign]


async def settled(here: World, name: str, gateway: Gateway, **options: Any) -> Pne:
    """Return a PNE whose first message to the server was answered too."""
    pne = await here.joined_pne(name, gateway, **options)
    await until(lambda: not pne.is_joining)
    return pne


def is_behind(pne: Pne, gateway: str) -> bool:
    return pne.joined is not None and pne.joined.gateway_id == gateway


async def hears(here: World, pne: str) -> None:
    """A text reaches *pne*, end to end."""
    assert await here.server.sending.send(EntityId(pne), application.INBOX_PATH, push_of("there")) == f"{pne} got there"


@pytest.mark.req("SES-5", "SES-6")
@pytest.mark.parametrize("secure", [False, True], ids=["open PAN", "Secure PAN"])
async def test_an_idle_device_leaves_a_gateway_that_says_its_uplink_is_away(here: World, secure: bool) -> None:
    first, cable = await with_own_uplink(here, "gw-1", secure=secure)
    second = await here.start_gateway("gw-2", secure=secure)
    where = (here.pan(first), here.pan(second))
    pne = await settled(here, "watch", first, gateways=where, pan_secure=secure, **QUICK)
    await asyncio.sleep(1)
    assert is_behind(pne, "gw-1")
    await cable.close()
    await until(lambda: is_behind(pne, "gw-2"))
    await hears(here, "watch")


async def test_an_uplink_that_comes_back_in_time_loses_nobody(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loyalty, "LOYALTY_SECONDS", 3.0)
    first, cable = await with_own_uplink(here, "gw-1")
    second = await here.start_gateway("gw-2")
    pne = await settled(here, "watch", first, gateways=(here.pan(first), here.pan(second)), **QUICK)
    session = pne._way.session
    await cable.close()
    await until(lambda: not pne.is_carried)
    await cable.start()
    await until(lambda: pne.is_carried)
    await asyncio.sleep(0.5)
    assert pne._way.session is session
    await hears(here, "watch")


async def test_a_device_that_knows_one_gateway_stays_there(here: World) -> None:
    """Its sessions stand when the uplink does again."""
    only, cable = await with_own_uplink(here, "gw-1")
    pne = await settled(here, "watch", only, **QUICK)
    session = pne._way.session
    await cable.close()
    await until(lambda: not pne.is_carried)
    await asyncio.sleep(1)
    assert is_behind(pne, "gw-1")
    await cable.start()
    await until(lambda: pne.is_carried)
    assert pne._way.session is session


async def test_a_device_that_nobody_else_takes_keeps_its_sessions(here: World) -> None:
    """It sets up elsewhere before it lets go."""
    first, cable = await with_own_uplink(here, "gw-1")
    other, its_cable = await with_own_uplink(here, "gw-2", uplink_patience=0.1)
    where = (here.pan(first), here.pan(other), ("127.0.0.1", 9))
    pne = await settled(here, "watch", first, gateways=where, **{**QUICK, "timer": 2.0})
    session = pne._way.session
    await its_cable.close()
    await cable.close()
    await until(lambda: not pne.is_carried)
    await asyncio.sleep(3)
    assert pne._way.session is session
    await cable.start()
    await until(lambda: pne.is_carried)
    await asyncio.wait_for(pne.send(pne.next_reading({"still": "there"})), 40)


@pytest.mark.req("SES-1")
async def test_an_idle_device_leaves_a_revoked_gateway_that_runs_on(here: World) -> None:
    first, second = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    where = (here.pan(first), here.pan(second))
    pne = await settled(here, "watch", first, gateways=where, **{**QUICK, "sign_of_life": 0.5, "request_timeout": 1.0})
    swallows(first)
    await here.provisioning.revoke(OPERATOR, EntityId("gw-1"))
    await until(lambda: is_behind(pne, "gw-2"))
    await hears(here, "watch")


def test_it_takes_six_minutes_at_most() -> None:
    """The server's word is missed after five; each sign of life waits for its answer."""
    config = PneConfig(EntityId("watch"), SERVER, Secret(bytes(32)))
    waits = config.sign_of_life + (SIGNS - 1) * SIGN_SECONDS + config.request_timeout
    assert waits + 2 * LOYALTY_SECONDS < 6 * 60


async def test_one_sign_of_life_that_is_lost_moves_nobody(here: World) -> None:
    first, second = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    where = (here.pan(first), here.pan(second))
    pne = await settled(here, "watch", first, gateways=where, **{**QUICK, "sign_of_life": 0.3, "request_timeout": 2.0})
    forward, lost = first.pans[0].relay.forward, 0

    async def every_other(*arguments: Any) -> Any:
        nonlocal lost
        lost += 1
        return await (asyncio.Event().wait() if lost % 2 else forward(*arguments))

    first.pans[0].relay.forward = every_other
    await until(lambda: lost >= 4, 60)
    assert is_behind(pne, "gw-1")


async def test_signs_of_life_are_for_who_says_nothing_else(here: World) -> None:
    gateway = await here.start_gateway("gw-1")
    pne = await settled(here, "watch", gateway, **{**QUICK, "sign_of_life": 60.0})
    never = await settled(here, "lamp", gateway, **QUICK)
    here.passed.clear()
    pne._way.heard_at -= 40.0
    await pne.send(pne.next_reading({"a": "word"}))
    assert here.now() - pne._way.heard_at < 30
    pne._way.heard_at -= 40.0
    await hears(here, "watch")
    assert here.now() - pne._way.heard_at < 30
    never._way.heard_at -= 10**6
    await asyncio.sleep(0.5)
    assert not [one for one in here.passed if one.what == "/status"]


async def test_a_device_that_sleeps_gives_no_sign_of_life(here: World) -> None:
    gateway = await here.start_gateway("gw-1")
    pne = await settled(here, "watch", gateway, **{**QUICK, "sign_of_life": 0.3})
    await until(lambda: [one for one in here.passed if one.what == "/status"])
    await pne.sleep()
    await asyncio.sleep(0.2)
    here.passed.clear()
    await asyncio.sleep(1)
    assert not [one for one in here.passed if one.what == "/status"]
    await pne.wake()
    await until(lambda: len([one for one in here.passed if one.what == "/status"]) >= 2)


@pytest.mark.parametrize("seconds", [0, 1, 0.2, 40, 2**40])
def test_what_the_answer_to_presence_says(seconds: float) -> None:
    away = application.decode_away(application.encode_away(seconds))
    assert seconds <= away < seconds + 1 or away == application.MAX_AWAY


@pytest.mark.parametrize("data", ["", "80", "f6", "8120", "820000", "81f5", "8163796573", "811b0000000100000000", "ff"])
def test_what_it_does_not_say(data: str) -> None:
    with pytest.raises(WireError):
        application.decode_away(bytes.fromhex(data))


@pytest.mark.parametrize("home", [None, (PnId("pn-1"), EntityId("hub"))])
def test_what_the_answer_to_status_says(home: application.Home | None) -> None:
    assert application.decode_home(application.encode_home(home)) == home


@pytest.mark.parametrize("data", ["", "f6", "8161", "81646875622d", "82646875622d01", "826020", "8261206161", "ff"])
def test_what_is_no_home(data: str) -> None:
    with pytest.raises(WireError):
        application.decode_home(bytes.fromhex(data))
