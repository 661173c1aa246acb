"""An uplink that is silent: who finds out, how soon, and what both sides say of it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns.admin.service import Admin
from cpns.domain.actor import OPERATOR
from cpns.errors import NoAnswer, Unavailable
from cpns.gateway import uplink
from cpns.gateway.app import Gateway
from cpns.ids import EntityId
from cpns.pne.join import Wanted
from cpns.server.peers import gateways, sending
from cpns.session.table import Session
from cpns.transport.errors import Answer, Code
from cpns.wire import application
from tests.support.tap import TcpTap
from tests.support.world import CLOCK, SERVER, World, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


async def through_nat(here: World) -> TcpTap:
    """Put something between gateways and server that may forget connections."""
    nat = TcpTap(here.address)
    here.address = await nat.start()
    here.closes(nat)
    return nat


def admin(here: World) -> Admin:
    return Admin(SERVER, here.store, here.provisioning, here.server, CLOCK)


@pytest.mark.req("AUTH-7.5.5")
async def test_an_uplink_that_a_nat_forgot_is_made_anew_and_sessions_go_on(
    here: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After the silence that the gateway bears there are two pings; the devices need not set up again."""
    monkeypatch.setattr(uplink, "PING_SECONDS", 1.0)
    nat = await through_nat(here)
    gateway = await here.start_gateway(keepalive=1.0)
    pne = await here.joined_pne("watch", gateway)
    session, before = pne._way.session, gateway.uplink.standing
    nat.forget()
    began = here.now()
    await until(lambda: gateway.uplink.standing not in (before, None))
    assert here.now() - began > 1.0
    assert "is silent for" in caplog.text
    assert "2 pings have no answer" in caplog.text
    await asyncio.wait_for(pne.send(pne.next_reading({"after": "all"})), 40)
    assert pne._way.session is session


async def test_an_uplink_that_carries_something_is_not_silent(here: World) -> None:
    """A ping is for silence: whatever comes is a sign of life, at both ends."""
    gateway = await here.start_gateway("hub", keepalive=1000.0)
    pne = await here.joined_pne("watch", gateway)
    ends = [gateway.uplink.standing.link, here.server.gateways.link(EntityId("hub"))]
    for end in ends:
        end.remote._heard_at -= 500
        assert end.silence >= 500
    await pne.send(pne.next_reading({"a": "word"}))
    assert all(end.silence < 400 for end in ends)
    assert not [one for one in here.passed if one.what == "/ping"]


async def test_one_ping_that_is_lost_ends_nothing(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it waits for an answer it stays."""
    gateway = await here.start_gateway(keepalive=1.0)
    standing = gateway.uplink.standing
    asked = 0
    handle = here.server._from_gateway

    async def deaf_once(source: Session, inbound: object) -> Answer | None:
        nonlocal asked
        if getattr(inbound, "path", "") == application.PING_PATH:
            asked += 1
            if asked == 1:
                return None
        return await handle(source, inbound)  # type: ignore[arg-type]

    monkeypatch.setattr(here.server, "_from_gateway", deaf_once)
    await until(lambda: asked >= 3)
    assert gateway.uplink.standing is standing


async def silent_gateway(here: World, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """Return a gateway with a device, watch, whose uplink is silent, and which does not look after it."""
    monkeypatch.setattr(sending, "PUSH_TIMEOUT", 0.3)
    monkeypatch.setattr(gateways, "SILENT_SECONDS", 0.2)
    nat = await through_nat(here)
    gateway: Gateway = await here.start_gateway("hub", keepalive=1000.0)
    await here.joined_pne("watch", gateway)
    nat.forget()
    return gateway


async def test_a_text_that_fails_names_the_uplink_and_not_the_device(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await silent_gateway(here, monkeypatch)
    with pytest.raises(Unavailable, match="The uplink of gateway hub is silent") as told:
        await admin(here).send(OPERATOR, "watch", "hello", 0)
    assert told.value.code == "uplink_silent"


async def test_explain_names_an_uplink_that_is_silent(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await silent_gateway(here, monkeypatch)
    await asyncio.sleep(0.3)
    found = {one.step: one for one in await admin(here).explain("watch")}
    assert found["gateway"].good is False
    assert found["gateway"].what == "the uplink of gateway hub is silent"
    assert "connects anew" in found["gateway"].next_step


async def test_a_device_that_is_silent_is_named_where_its_gateway_answers(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "PUSH_TIMEOUT", 0.3)
    monkeypatch.setattr(gateways, "SILENT_SECONDS", 10.0)
    gateway = await here.start_gateway("hub", keepalive=1000.0)
    pne = await here.joined_pne("watch", gateway)
    await here.stop(pne)
    end = here.server.gateways.link(EntityId("hub"))
    assert end is not None
    end.remote._heard_at -= 500
    with pytest.raises(Unavailable) as told:
        await admin(here).send(OPERATOR, "watch", "hello", 0)
    assert told.value.code == "asleep"
    end.remote._heard_at -= 500
    found = {one.step: one for one in await admin(here).explain("watch")}
    assert found["gateway"].good is True
    assert end.silence < 400


async def test_a_flood_of_pings_keeps_nobody_else_out(here: World) -> None:
    """Each counts to the share of the gateway that sends it, and changes nothing."""
    loud, quiet = await here.start_gateway("loud"), await here.start_gateway("quiet")
    pne = await here.joined_pne("watch", quiet)
    standing = loud.uplink.standing
    answers: list[Answer] = []

    async def ask_on() -> None:
        while True:
            with contextlib.suppress(NoAnswer):
                one = standing.link.exchange(application.PING_PATH, b"", timeout=30, session=standing.session)
                answers.append(await one)

    flood = [asyncio.create_task(ask_on()) for _ in range(300)]
    await until(lambda: len(answers) > 300)
    for number in range(3):
        await asyncio.wait_for(pne.send(pne.next_reading({"through": number})), 40)
    for one in flood:
        one.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert {one.code for one in answers} == {Code.CHANGED, Code.SERVICE_UNAVAILABLE}  # so much is over its share
    assert await here.store.last_reading_number() == 3


async def test_a_run_that_nobody_answers_leaves_no_task(here: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        pne = await here.make_pne("lamp", nobody.getsockname(), timer=0.1)
        link = await pne._endpoint.link_to(*nobody.getsockname())
        before = asyncio.all_tasks()
        for _ in range(3):
            with pytest.raises(NoAnswer):
                await pne._join.setup(link, Wanted())
        await until(lambda: asyncio.all_tasks() <= before)
