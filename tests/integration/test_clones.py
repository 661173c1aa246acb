"""One credential in two devices, or in two gateways: it is found out by asking both, told, and slowed down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.admin.service import Admin
from cpns.domain import clones as rules
from cpns.domain.explanation import Finding
from cpns.domain.inventory import Kind
from cpns.errors import Refused
from cpns.gateway.app import Gateway
from cpns.gateway.config import PanConfig
from cpns.ids import EntityId
from cpns.node.app import Node
from cpns.pne.app import Pne
from cpns.server.peers import clones
from cpns.wire.registry import Mode
from tests.support.device import device
from tests.support.processes import processes
from tests.support.world import CLOCK, SERVER, World, until, world

WATCH, HUB = EntityId("watch"), EntityId("hub")
QUICK: dict[str, Any] = {"timer": 1.0, "request_timeout": 1.0, "presence": 0.3}
PATIENCE = 60.0


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


def admin_of(here: World) -> Admin:
    return Admin(SERVER, here.store, here.provisioning, here.server, CLOCK)


async def finding(here: World, step: str, device: EntityId = WATCH) -> Finding | None:
    """Return one row of `explain`, or None."""
    return next((one for one in await admin_of(here).explain(device) if one.step == step), None)


@contextlib.asynccontextmanager
async def speaking(*pnes: Pne) -> AsyncIterator[None]:
    """Let devices send a reading again and again."""

    async def speak(pne: Pne) -> None:
        while True:
            with contextlib.suppress(Refused):
                await pne.send(pne.next_reading({"n": 1}))
            await asyncio.sleep(0.2)

    tasks = [asyncio.create_task(speak(pne)) for pne in pnes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def certain(here: World, entity: EntityId, times: int = rules.TIMES) -> None:
    """Wait until the server knows that two have the key of *entity*."""
    await until(lambda: (found := here.server.clones.of(entity)) is not None and found[0] >= times, PATIENCE)


async def two_devices(here: World, *gateways: Gateway, secure: bool = False) -> list[Pne]:
    """Start a device, and another with its key, each behind its gateway, or both behind one."""
    return [await here.start_pne("watch", one, pan_secure=secure, **QUICK) for one in (gateways[0], gateways[-1])]


# devices


@pytest.mark.parametrize("secure", [False, True], ids=["open PAN", "Secure PAN"])
@pytest.mark.parametrize("names", [("hub", "den"), ("hub",)], ids=["two gateways", "one gateway"])
async def test_two_devices_with_one_key(
    here: World, names: tuple[str, ...], secure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    gateways = [await here.start_gateway(name, secure=secure) for name in names]
    pnes = await two_devices(here, *gateways, secure=secure)
    async with speaking(*pnes):
        await certain(here, WATCH)
    places = " and ".join(sorted(names))
    told = await finding(here, "copies")
    assert told is not None
    assert told.good is False
    assert f"two devices with the key of watch push each other out, at {places}" in told.what
    assert "cpns device add" in told.next_step
    assert f"two have the key of watch, and push each other out: look at {places}" in caplog.text
    assert [row.reason for row in await here.audit("watch", "cloned")] == [places]


async def test_devices_that_only_say_that_they_are_there(here: World) -> None:
    """Without a reading, a device finds out by its hop session that it was pushed out."""
    gateways = [await here.start_gateway(name) for name in ("hub", "den")]
    await two_devices(here, *gateways)
    await certain(here, WATCH)


async def test_the_next_one_waits_while_the_other_is_served(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is in stays in for the wait, and who proves itself meanwhile is refused as with a wrong key."""
    monkeypatch.setattr(rules, "wait", lambda found, now: 60.0 if rules.is_certain(found, now) else 0.0)
    gateways = [await here.start_gateway(name) for name in ("hub", "den")]
    async with speaking(*await two_devices(here, *gateways)):
        await certain(here, WATCH)
        refused = await here.refusal("watch", PATIENCE)
        assert (refused.reason, int(refused.result)) == ("cloned", 21)
        session = here.server.sessions.with_peer(WATCH)
        before = len(await here.store.readings(0, 10_000))
        async with asyncio.timeout(PATIENCE):
            while len(await here.store.readings(0, 10_000)) < before + 5:
                await asyncio.sleep(0.05)
        assert here.server.sessions.with_peer(WATCH) is session
    audit = await here.store.audit(WATCH, 1000)
    assert sum(row.event == "refused" and row.reason == "cloned" for row in audit) <= 1


async def test_one_that_is_left_alone_comes_in_again(here: World) -> None:
    """The other is stopped: after the wait all is as before."""
    gateways = [await here.start_gateway(name) for name in ("hub", "den")]
    pnes = await two_devices(here, *gateways)
    async with speaking(*pnes):
        await certain(here, WATCH)
    await here.stop(pnes[1])
    await until(lambda: not here.server.clones.waits(WATCH), PATIENCE)
    times = here.server.clones.of(WATCH)
    for _ in range(3):
        pnes[0].life.suspect(pnes[0]._way.session, lost=True)
        await asyncio.wait_for(pnes[0].wait_established(), PATIENCE)
    await asyncio.wait_for(pnes[0].send(pnes[0].next_reading({"n": 2})), PATIENCE)
    found = here.server.clones.of(WATCH)
    assert times is not None
    assert found is not None
    assert found[0] == times[0]


async def test_a_device_that_starts_again_and_again_is_one(here: World, asked: list[EntityId]) -> None:
    """It has the same key, another socket, and its last session is not over: it is asked about, nothing is found."""
    gateways = [await here.start_gateway(name) for name in ("hub", "den")]
    for number in range(6):
        pne = await here.joined_pne("watch", gateways[number % 2 if number > 2 else 0], **QUICK)
        await pne.send(pne.next_reading({"n": number}))
        await until(lambda: not here.server.replaced._asking, PATIENCE)
        await here.stop(pne)
    assert len(asked) == 4
    assert here.server.clones._seen == {}
    assert await finding(here, "copies") is None
    assert await here.reasons("watch") == []


async def test_a_device_that_goes_to_and_fro_is_one(here: World, asked: list[EntityId]) -> None:
    """Its older session serves until the newer one does, as long as its hop takes."""
    gateways = [await here.start_gateway(name) for name in ("hub", "den")]
    pne = await here.joined_pne("watch", gateways[0], **QUICK)
    async with speaking(pne):
        for number in range(6):
            where = await here.pne_config("watch", here.pan(gateways[(number + 1) % 2]))
            await pne.go(where.where)
        await until(lambda: len(asked) >= 1, PATIENCE)
    assert here.server.clones._seen == {}
    assert await here.reasons("watch") == []


@pytest.fixture
def asked(here: World) -> list[EntityId]:
    """Return the devices of which both were asked, to the end."""
    over: list[EntityId] = []
    clones_ = here.server.replaced
    answers = clones_._newer_answers

    async def counted(pne: EntityId) -> bool:
        found = await answers(pne)
        over.append(pne)
        return found

    clones_._newer_answers = counted  # type: ignore[method-assign]
    return over


# gateways


async def test_two_gateways_with_one_key(here: World, caplog: pytest.LogCaptureFixture) -> None:
    await here.provision(Kind.GATEWAY, "hub")
    first = await here.start_gateway("hub")
    await here.start_gateway("hub")
    await certain(here, HUB)
    pne = await here.start_pne("watch", first, **QUICK)
    await asyncio.wait_for(pne.wait_established(), PATIENCE)
    told = await finding(here, "copies of gateway")
    assert told is not None
    assert told.good is False
    assert "two gateways with the key of hub push each other out, at 127.0.0.1" in told.what
    assert "cpns gateway add" in told.next_step
    assert "two have the key of hub" in caplog.text
    assert len(await here.audit("hub", "cloned")) == 1


async def test_who_waits_is_told_to_come_again(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "wait", lambda found, now: 60.0 if rules.is_certain(found, now) else 0.0)
    both = [await here.start_gateway("hub") for _ in range(2)]
    await certain(here, HUB)
    await until(lambda: any(one.uplink.last_refusal == "peer_answered_too_many" for one in both), PATIENCE)
    assert [one.reason for one in await here.audit("hub")] == ["cloned"]
    before = len(await here.audit("hub", "gateway_activated"))
    waits = next(one for one in both if one.uplink.last_refusal == "peer_answered_too_many")
    stands = next(one for one in both if one is not waits)
    standing = stands.uplink.standing
    assert standing is not None
    await asyncio.sleep(1.0)
    assert stands.uplink.standing is standing
    assert len(await here.audit("hub", "gateway_activated")) == before
    assert len(await here.audit("hub")) == 1


async def test_a_gateway_that_connects_anew_is_one(here: World) -> None:
    """Also where the server has not noticed that its older connection is gone."""
    gateway = await here.start_gateway("hub")
    for _ in range(5):
        th2 = gateway.uplink.standing.session.keys.th2
        gateway.uplink.renew()
        async with asyncio.timeout(PATIENCE):
            while gateway.uplink.standing is None or gateway.uplink.standing.session.keys.th2 == th2:
                await asyncio.sleep(0.01)
    assert here.server.clones._seen == {}


async def test_two_cm_devices_with_one_key(here: World) -> None:
    """A PN GW embedded in a device proves itself by a key of its own, which may be in two places as well."""
    external = await here.start_gateway("gw-1")
    tablet = await device(
        here, external, gateway={"pans": (PanConfig("127.0.0.1", 0, secure=False),)}
    )  # a port for each
    await until(lambda: tablet.keys is not None and tablet.keys.newest is not None, PATIENCE)
    await tablet.change(Mode.BOTH)
    own = own_gateway(tablet)
    copy = tablet._modes._make_gateway(own)
    here.closes(copy)
    await copy.start()
    await certain(here, own)
    assert [row.reason for row in await here.audit(own, "cloned")] == ["127.0.0.1"]


def own_gateway(node: Node) -> EntityId:
    assert node.keys is not None
    assert node.keys.newest is not None
    return node.keys.newest.cm_device_id


# several processes of one server


async def test_two_devices_behind_two_processes(tmp_path: Path) -> None:
    async with processes(tmp_path, 2) as (_, (one, other)):
        gateways = [await one.start_gateway("hub"), await other.start_gateway("den")]
        pnes = [
            await one.start_pne("watch", gateways[0], **QUICK),
            await other.start_pne("watch", gateways[1], **QUICK),
        ]
        async with speaking(*pnes):
            for process in (one, other):
                await certain(process, WATCH)
        for process in (one, other):
            told = await finding(process, "copies")
            assert told is not None
            assert "at den and hub" in told.what


async def test_two_gateways_at_two_processes(tmp_path: Path) -> None:
    async with processes(tmp_path, 2) as (_, (one, other)):
        for process in (one, other):
            await process.start_gateway("hub")
        for process in (one, other):
            await certain(process, HUB)


# what is kept of it


async def test_what_is_over_is_forgotten(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    known, replaced = here.server.clones, here.server.replaced
    known.seen(HUB, ("a", "b"))
    replaced._replaced_at[WATCH] = CLOCK.monotonic()
    known.sweep()
    replaced.sweep()
    assert known._seen
    assert replaced._replaced_at
    monkeypatch.setattr(rules, "WITHIN_SECONDS", 0.0)
    monkeypatch.setattr(clones, "HURRY_SECONDS", 0.0)
    known.sweep()
    replaced.sweep()
    assert not known._seen
    assert not replaced._replaced_at
