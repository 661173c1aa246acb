"""Changing-Mode devices: life in two modes, the ways they choose, the life of their keys (S2)."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from cpns.admin.service import Admin
from cpns.domain.actor import OPERATOR
from cpns.domain.cm import CmDevice, CmKey
from cpns.domain.inventory import Kind, State
from cpns.errors import NotFound, Refused, Result, Unavailable
from cpns.gateway.uplink import Uplink
from cpns.gateway.uplink_states import Standing
from cpns.ids import EntityId
from cpns.node.app import Node
from cpns.node.cm import Keys
from cpns.node.config import Prefer
from cpns.transport import pan as pan_module
from cpns.wire import cm_messages as cm
from cpns.wire.registry import Mode
from tests.integration.test_roaming import via
from tests.support import switches
from tests.support.device import device
from tests.support.hostile_gateway import HostileGateway
from tests.support.lossy import Losses, UdpProxy
from tests.support.tap import TcpTap
from tests.support.world import CLOCK, FAST, SERVER, World, until, world

LOOK = 0.05


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


def admin_of(here: World, *, running: bool = True) -> Admin:
    return Admin(SERVER, here.store, here.provisioning, here.server if running else None, CLOCK)


async def only(here: World) -> CmDevice:
    (found,) = await here.store.cm_devices()
    return found


def own_id(node: Node) -> EntityId:
    assert node.keys is not None
    assert node.keys.newest is not None
    return node.keys.newest.cm_device_id


def generation(node: Node) -> int:
    """Return the generation of its key where it has one key, -1 where it has none or two."""
    assert node.keys is not None
    keys = node.keys._keys
    return keys[0].generation if len(keys) == 1 else -1


async def assigned(node: Node) -> EntityId:
    await until(lambda: generation(node) == 0)
    return own_id(node)


async def settled(node: Node) -> None:
    """Wait until it has gone direct and uses a key that no gateway knows."""
    await until(lambda: node.mode is Mode.BOTH)
    await until(lambda: generation(node) >= 1)
    await until(lambda: node.gateway is not None and node.gateway.uplink.standing is not None)


async def readings_of(here: World, name: str = "tablet") -> list[Any]:
    return [json.loads(row.body) for row in await here.store.readings(0, 10_000, EntityId(name))]


async def wifi(here: World) -> TcpTap:
    """Return a broadband that can be cut (`close`) and given back (`start`)."""
    one = TcpTap(here.address)
    await one.start()
    here.closes(one)
    return one


# Two modes


@pytest.mark.req("CM-0", "CM-A", "CM-B", "DEF-2")
@pytest.mark.parametrize("secure", [False, True])
async def test_it_lives_in_two_modes(here: World, secure: bool) -> None:
    """PNE behind the external gateway; then direct, its own gateway serving itself and another; and back."""
    await here.start_server()
    external = await here.start_gateway("gw-1", secure=secure)
    tablet = await device(here, external, pne={"pan_secure": secure})
    own = await assigned(tablet)
    await until(lambda: via(here, "tablet") == "gw-1")
    await tablet.send({"mode": "pne"})
    await tablet.change(Mode.BOTH)
    assert via(here, "tablet") == own
    assert here.server.pnes.is_connected_here(own)
    assert tablet.gateway is not None
    other = await here.joined_pne("watch", tablet.gateway, **FAST)
    assert via(here, "watch") == own
    await other.send(other.next_reading({"of": "watch"}))
    await tablet.send({"mode": "both"})
    assert await admin_of(here).send(OPERATOR, "tablet", "hello", 0) == "tablet got hello"
    await tablet.change(Mode.PNE)
    assert via(here, "tablet") == "gw-1"
    await tablet.send({"mode": "pne again"})
    assert [one["mode"] for one in await readings_of(here)] == ["pne", "both", "pne again"]
    await until(lambda: not here.server.pnes.is_connected_here(own))


@pytest.mark.req("CM-0")
async def test_switches_at_random_moments_lose_nothing_and_double_nothing(here: World) -> None:
    """Under constant traffic both ways, by command and as its broadband comes and goes; `make switches` does 1,000."""
    told = await switches.changing(here, 60, seed=2)
    await switches.check(here, told)
    print("\n".join(told.line(how) for how in (None, "command", "cut", "back")))


@pytest.mark.req("CM-0", "CM-11")
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_lossy_pan_costs_time_and_nothing_else(here: World, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """A sixth of the datagrams lost, some twice, some late: assigned all the same, and no reading lost or doubled."""
    monkeypatch.setattr(pan_module, "PAN_TUNING", dataclasses.replace(pan_module.PAN_TUNING, ack_timeout=0.2))
    await here.start_server()
    external = await here.start_gateway("gw-1")
    pan = UdpProxy(here.pan(external), Losses(seed, drop=0.16, repeat=0.1, late=0.1, longest=0.1))
    here.closes(pan)
    tablet = await device(here, pan.address)
    await until(lambda: generation(tablet) == 0, 60)
    for number in range(6):
        with contextlib.suppress(Refused):
            await tablet.change(Mode.PNE if tablet.mode is Mode.BOTH else Mode.BOTH)
        await asyncio.wait_for(tablet.send({"n": number}), 40)
    assert sorted(one["n"] for one in await readings_of(here)) == list(range(6))
    assert (await only(here)).cm_device_id == own_id(tablet)


@pytest.mark.req("CM-11", "CM-0")
async def test_two_devices_get_two_ids_and_keys(here: World) -> None:
    await here.start_server()
    external = await here.start_gateway("gw-1")
    nodes = [await device(here, external, name=name) for name in ("tablet", "car")]
    ids = [await assigned(node) for node in nodes]
    assert ids[0] != ids[1]
    keys = [node.keys.newest.key.reveal() for node in nodes if node.keys and node.keys.newest]
    assert keys[0] != keys[1]
    assert {(one.cm_device_id, one.pne_id) for one in await here.store.cm_devices()} == {
        (ids[0], "tablet"),
        (ids[1], "car"),
    }


# The way that it chooses


@pytest.mark.req("CM-0")
async def test_it_goes_direct_when_its_broadband_comes_and_back_when_that_goes(here: World) -> None:
    await here.start_server()
    external = await here.start_gateway("gw-1")
    broadband = await wifi(here)
    await broadband.close()
    where = broadband.host, broadband.port
    tablet = await device(here, external, server=where, prefer=Prefer.DIRECT, look=LOOK)
    await assigned(tablet)
    await until(lambda: via(here, "tablet") == "gw-1")
    await broadband.start()
    await settled(tablet)
    await broadband.close()
    await until(lambda: tablet.mode is Mode.PNE)
    await until(lambda: via(here, "tablet") == "gw-1")
    await tablet.send({"goes": "on"})


@pytest.mark.req("CM-0")
@pytest.mark.parametrize("prefer", [Prefer.GATEWAY, Prefer.METERED])
async def test_it_goes_direct_only_while_no_gateway_carries_it(here: World, prefer: Prefer) -> None:
    """Metered, it does so only when something waits to be sent; and it comes back to the gateway by itself."""
    await here.start_server()
    external = await here.start_gateway("gw-1", kept=True)
    broadband = await wifi(here)
    where = broadband.host, broadband.port
    tablet = await device(here, external, server=where, prefer=prefer, look=LOOK)
    await assigned(tablet)
    await asyncio.sleep(10 * LOOK)
    assert (tablet.mode, broadband.raw) == (Mode.PNE, [])
    await here.stop(external)
    if prefer is Prefer.METERED:
        await until(lambda: tablet.pne is not None and not tablet.pne.is_carried)
        await asyncio.sleep(10 * LOOK)
        assert (tablet.mode, broadband.raw) == (Mode.PNE, [])  # not a byte without need
    await asyncio.wait_for(tablet.send({"must": "go"}), 40)
    await until(lambda: tablet.mode is Mode.BOTH)  # the reading may have been first
    await until(lambda: via(here, "tablet") == own_id(tablet))
    again = await here.start_gateway("gw-1", kept=True, pans=external.config.pans)
    await until(lambda: tablet.mode is Mode.PNE)
    await until(lambda: via(here, "tablet") == "gw-1")
    assert len(again.members) == 1
    await tablet.send({"goes": "on"})


@pytest.mark.req("CM-0")
async def test_a_command_holds_until_it_may_choose_again(here: World) -> None:
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await device(here, external, prefer=Prefer.DIRECT, look=LOOK)
    await settled(tablet)
    await tablet.command(Mode.PNE)
    await asyncio.sleep(10 * LOOK)
    assert (tablet.mode, via(here, "tablet")) == (Mode.PNE, "gw-1")
    tablet.choose_by_itself()
    await until(lambda: tablet.mode is Mode.BOTH)


@pytest.mark.req("CM-0", "DEF-2")
async def test_a_change_that_fails_leaves_it_where_it_is(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither broadband nor an external gateway: it stays on the way that it has."""
    monkeypatch.setattr("cpns.node.modes.UPLINK_SECONDS", 0.5)
    await here.start_server()
    external = await here.start_gateway("gw-1")
    broadband = await wifi(here)
    tablet = await device(here, external, server=(broadband.host, broadband.port))
    await assigned(tablet)
    await broadband.close()
    with pytest.raises(Refused):
        await tablet.change(Mode.BOTH)
    assert (tablet.mode, tablet.gateway, via(here, "tablet")) == (Mode.PNE, None, "gw-1")
    await broadband.start()
    await tablet.change(Mode.BOTH)
    await here.stop(external)
    with pytest.raises(Refused):
        await tablet.change(Mode.PNE)
    assert (tablet.mode, via(here, "tablet")) == (Mode.BOTH, own_id(tablet))
    await tablet.send({"goes": "on"})


# A restart between any two steps

BETWEEN: list[type[Any]] = [cm.CmAssignRequest, cm.CmIdRequest, cm.CmConfirmRequest, cm.CmKeyRequest]


async def restarted(here: World) -> None:
    await here.stop(here.server)
    await here.start_server()


@pytest.mark.req("CM-1", "CM-5", "CM-9", "CM-11")
@pytest.mark.parametrize("step", BETWEEN, ids=lambda step: step.__name__)
async def test_the_server_restarts_during_the_assignment(here: World, step: type[Any]) -> None:
    """What was begun is gone without a trace at all three, or (after step 10) complete; a new run then works."""
    await here.start_server()
    gateway: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway, setup_timeout=1.0)
    happened: list[bool] = []

    async def before(body: Any) -> None:
        if type(body) is step and not happened:
            happened.append(True)
            await restarted(here)

    gateway.before = before
    tablet = await device(here, gateway)
    await until(lambda: happened)
    await assigned(tablet)
    found = await only(here)
    assert (found.cm_device_id, found.pne_id, found.generation) == (own_id(tablet), "tablet", 0)
    asked = len([body for _, _, body in gateway.log if type(body) is cm.CmAssignRequest])
    assert asked == 1 if step is cm.CmKeyRequest else asked > 1
    await tablet.change(Mode.BOTH)
    await settled(tablet)


@pytest.mark.req("CM-13", "CM-16")
async def test_the_server_restarts_between_its_code_and_the_first_message(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing hangs on step 12 or 14: the device comes again."""
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await device(here, external)
    await assigned(tablet)
    happened: list[bool] = []
    connect = Uplink._connect

    async def slowly(self: Uplink) -> None:
        prepare = self._prepare

        async def first_restart(standing: Standing) -> None:
            if not happened:
                happened.append(True)
                await restarted(here)
            await prepare(standing)

        self._prepare = first_restart  # type: ignore[method-assign]
        try:
            await connect(self)
        finally:
            self._prepare = prepare  # type: ignore[method-assign]

    monkeypatch.setattr(Uplink, "_connect", slowly)
    await tablet.change(Mode.BOTH)
    assert happened
    await settled(tablet)
    await tablet.send({"goes": "on"})


@pytest.mark.req("CM-18")
@pytest.mark.parametrize("lost", ["answer", "new key"])
async def test_a_rekey_that_is_cut_off_is_begun_again(here: World, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """The server agreed, and the device did not hear of it; or it did, and the server restarts: it gets in anyway."""
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await device(here, external)
    own = await assigned(tablet)
    happened: list[bool] = []
    if lost == "answer":
        rekey = here.server.changing.devices.rekey

        async def unheard(source: Any, request: Any) -> Any:
            answer = await rekey(source, request)
            if not happened:
                happened.append(True)
                raise Refused(Result.SERVER_ERROR, "lost_on_its_way")
            return answer

        monkeypatch.setitem(here.server.from_pne.handlers, cm.CmRekeyRequest, unheard)
    else:
        add = Keys.add

        async def and_restarts(self: Keys, key: CmKey) -> None:
            await add(self, key)
            happened.append(True)
            await restarted(here)

        monkeypatch.setattr(Keys, "add", and_restarts)
    await tablet.change(Mode.BOTH)
    await until(lambda: happened)
    await settled(tablet)
    found = await only(here)
    assert (found.cm_device_id, found.generation, found.rekeying) == (own, 1, False)
    await tablet.send({"goes": "on"})


@pytest.mark.req("CM-11", "CM-12", "DEF-8")
async def test_a_device_that_restarts_goes_direct_with_the_key_that_it_kept(here: World) -> None:
    """No gateway has to mediate again; and none is there."""
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await device(here, external, kept=True, prefer=Prefer.DIRECT, look=LOOK)
    await settled(tablet)
    own = own_id(tablet)
    await here.stop(tablet)
    await here.stop(external)
    again = await device(here, external, kept=True, mode=Mode.BOTH)
    assert (own_id(again), generation(again)) == (own, 1)
    await again.send({"is": "back"})
    assert via(here, "tablet") == own


# The life of a key


@pytest.mark.req("CM-17")
async def test_a_revoked_one_can_not_go_direct_and_gets_no_other(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its device stays behind gateways, until the operator says that it may be assigned another."""
    monkeypatch.setattr("cpns.node.modes.UPLINK_SECONDS", 1.5)
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await device(here, external)
    own = await assigned(tablet)
    await tablet.change(Mode.BOTH)
    await settled(tablet)
    admin = admin_of(here)
    revoked, ended = await admin.cm.revoke(OPERATOR, "tablet", reassign=False)
    assert (revoked.state, ended) == (State.REVOKED, 2)  # that of its gateway, and of its PNE through it
    assert not here.server.pnes.is_connected_here(own)
    await tablet.change(Mode.PNE)
    await tablet.send({"behind": "a gateway"})
    with pytest.raises(Refused):
        await tablet.change(Mode.BOTH)
    assert (await here.refusal(own)).reason == "revoked"
    assert len(await here.store.cm_devices()) == 1
    await admin.cm.revoke(OPERATOR, own, reassign=True)
    await tablet.assign()
    assert own_id(tablet) != own
    await tablet.change(Mode.BOTH)
    await settled(tablet)


@pytest.mark.req("CM-18")
async def test_who_loses_its_key_gets_another_id_and_the_older_one_ends(here: World) -> None:
    """Not before its PNE has agreed on the new one's key itself: a gateway alone could have begun it."""
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await device(here, external, prefer=Prefer.DIRECT, look=LOOK)
    await settled(tablet)
    first = own_id(tablet)
    await tablet.command(Mode.PNE)
    await tablet.assign()
    second = own_id(tablet)
    assert {one.cm_device_id: one.state for one in await here.store.cm_devices()} == {
        first: State.ACTIVE,
        second: State.ACTIVE,
    }
    await tablet.change(Mode.BOTH)
    await settled(tablet)
    assert {one.cm_device_id: one.state for one in await here.store.cm_devices()} == {
        first: State.REVOKED,
        second: State.ACTIVE,
    }


@pytest.mark.req("CM-18", "CM-17")
async def test_rotation_by_the_operator(here: World) -> None:
    """It is told at once, end to end; one that is away when it is heard again, over a restart of the server."""
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await device(here, external, kept=True, prefer=Prefer.DIRECT, look=LOOK)
    await settled(tablet)
    admin = admin_of(here)
    (asked,) = await admin.cm.rotate(OPERATOR, ["tablet"])
    assert asked.rotation_due
    await until(lambda: generation(tablet) == 2)
    await until(lambda: tablet.gateway is not None and tablet.gateway.uplink.standing is not None)
    found = await only(here)
    assert (found.generation, found.rotation_due) == (2, False)
    await here.stop(tablet)
    await admin_of(here, running=False).cm.rotate(OPERATOR, [own_id(tablet)])
    await restarted(here)
    again = await device(here, external, kept=True)
    await until(lambda: own_id(again) and again.keys is not None and again.keys.to_try().generation == 3)
    assert (await only(here)).rotation_due  # agreed on, not yet used: behind a gateway there is no need
    await again.change(Mode.BOTH)
    found = await only(here)
    assert (found.generation, found.rotation_due) == (3, False)


@pytest.mark.req("CM-18")
async def test_a_rotation_waits_until_the_fresh_key_is_in_use(here: World) -> None:
    """To the server the key after it is not the next one yet: who asks for that must not lose its CM Device."""
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await device(here, external, kept=True, prefer=Prefer.DIRECT, look=LOOK)
    await settled(tablet)
    await here.stop(tablet)
    again = await device(here, external, kept=True)
    await until(lambda: own_id(again))
    own = own_id(again)
    for _ in range(2):
        await admin_of(here).cm.rotate(OPERATOR, [own])
        await until(lambda: again.keys is not None and again.keys.to_try().generation == 2)
    await asyncio.sleep(0.7)
    assert own_id(again) == own
    await again.change(Mode.BOTH)
    await until(lambda: again.keys is not None and again.keys.to_try().generation == 3)
    assert (await only(here)).cm_device_id == own


@pytest.mark.req("CM-17")
async def test_what_a_gateway_that_is_revoked_has_set_up(here: World) -> None:
    """Those that took a fresh key since are named too, and not offered: it knows their keys no more."""
    await here.start_server()
    external = await here.start_gateway("gw-1")
    used = await device(here, external, name="tablet", prefer=Prefer.DIRECT, look=LOOK)
    await settled(used)
    unused = await device(here, external, name="car")
    await assigned(unused)
    found = {one.pne_id: one.is_known_to_gateway for one in await admin_of(here).cm.all(EntityId("gw-1"))}
    assert found == {"tablet": False, "car": True}
    await here.provisioning.revoke(OPERATOR, "gw-1")
    await used.send({"goes": "on"})  # what it set up stands


@pytest.mark.req("CM-17", "CM-1")
async def test_a_revoked_device_takes_its_cm_device_along(here: World) -> None:
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await device(here, external, prefer=Prefer.DIRECT, look=LOOK)
    await settled(tablet)
    await here.provisioning.revoke(OPERATOR, "tablet")
    assert (await only(here)).state is State.REVOKED
    await until(lambda: not here.server.pnes.is_connected_here(own_id(tablet)))


@pytest.mark.req("CM-1")
async def test_unused_ones_expire(here: World) -> None:
    await here.start_server(cm_unused=0.3, half_open=0.2)
    external = await here.start_gateway("gw-1")
    tablet = await device(here, external)
    own = await assigned(tablet)
    async with asyncio.timeout(40):
        while await here.store.cm_devices():
            await asyncio.sleep(0.02)
    assert await here.audit(own, "cm_expired")
    with pytest.raises(NotFound):
        await admin_of(here).cm.one(own)
    assert await here.store.entity(own) is None


async def test_a_store_that_is_away_for_a_while_ends_no_upkeep(
    here: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await here.start_server(cm_unused=0.3, half_open=0.2)
    external = await here.start_gateway("gw-1")
    await assigned(await device(here, external))
    with monkeypatch.context() as away:
        away.setattr(here.store, "expire_cm", AsyncMock(side_effect=Unavailable("store_unavailable", "it is away")))
        await until(lambda: "it is away" in caplog.text)
    async with asyncio.timeout(40):
        while await here.store.cm_devices():
            await asyncio.sleep(0.02)


@pytest.mark.req("CM-1", "CM-11")
async def test_a_device_that_is_bound_to_one_gateway_is_assigned_none(here: World) -> None:
    """ "Through this gateway alone" is what its operator said; so it does not go past it."""
    await here.start_server()
    external = await here.start_gateway("gw-1")
    await here.provision(Kind.PNE, "tablet", "gw-1")
    tablet = await device(here, external)
    await until(lambda: via(here, "tablet") == "gw-1")
    assert tablet.pne is not None
    await tablet.pne.wait_established()
    with pytest.raises(Refused) as refused:
        await tablet.assign()
    assert refused.value.result is Result.NOT_ALLOWED
    assert await here.store.cm_devices() == []


async def test_what_a_cm_device_is_asked_for_by_name(here: World) -> None:
    await here.start_server()
    external = await here.start_gateway("gw-1")
    tablet = await device(here, external)
    own = await assigned(tablet)
    admin = admin_of(here)
    assert (await admin.cm.one("tablet")).cm_device_id == (await admin.cm.one(own)).cm_device_id == own
    for name in ("gw-1", "nobody"):
        with pytest.raises(NotFound):
            await admin.cm.one(name)
    with pytest.raises(NotFound):
        await admin.cm.rotate(OPERATOR, [own, "nobody"])
    assert not (await only(here)).rotation_due  # all or none
