"""The processes of a server know of each other by the store, whatever is between them: nobody is missed in silence."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from cpns.admin.api import create_app
from cpns.admin.service import Admin
from cpns.admin.warned import warnings_of
from cpns.domain.actor import OPERATOR
from cpns.domain.explanation import Finding
from cpns.errors import Unavailable
from cpns.ids import EntityId
from cpns.service import processes as known
from cpns.service.cluster import collecting_warnings
from cpns.service.system import StoreClock, SystemClock
from tests.support.processes import Wrong, processes, start
from tests.support.stores import started
from tests.support.world import FAST, SERVER, World, push_of, until

ALICE = EntityId("alice")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.service.processes.SAY_SECONDS", 0.1)
    monkeypatch.setattr("cpns.server.peers.revocations.LOOK_SECONDS", 0.1)


def admin(world: World) -> Admin:
    return Admin(SERVER, world.store, world.provisioning, world.server, world.clock)


def warnings(caplog: pytest.LogCaptureFixture, containing: str) -> list[str]:
    found = [one for one in caplog.records if one.levelno == logging.WARNING]
    return [one.getMessage() for one in found if containing in one.getMessage()]


@pytest.mark.req("FN-1")
@pytest.mark.parametrize("alone", [(0, 1), (1,)], ids=["both without NATS", "one without NATS"])
async def test_processes_without_a_bus_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, alone: tuple[int, ...]
) -> None:
    """At both, again after a while, and in each answer that needed the other."""
    async with processes(tmp_path, 2, alone=alone) as (_, (one, other)):
        gateway = await one.start_gateway("gw-1")
        await one.joined_pne("alice", gateway, **FAST)
        await until(lambda: len(warnings(caplog, "can't be reached")) == 2)
        assert all("--nats" in said for said in warnings(caplog, "can't be reached"))
        with collecting_warnings() as warned, pytest.raises(Unavailable) as refused:
            await other.server.sending.send(ALICE, "inbox", push_of("hello"))
        assert refused.value.code == "other_processes_away"
        assert [said for said in warned if "--nats" in said]
        with collecting_warnings() as warned:
            assert await one.server.sending.send(ALICE, "inbox", push_of("hello")) == "alice got hello"
        assert not warned  # it needed nobody else
        monkeypatch.setattr(known, "WARN_SECONDS", 0.0)  # an hour has passed
        await until(lambda: len(warnings(caplog, "can't be reached")) > 3)


async def test_processes_that_hear_each_other_are_not_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with processes(tmp_path, 2) as (_, (_, other)):
        await other.provision(other.kinds.PNE, "alice")
        with collecting_warnings() as warned, pytest.raises(Unavailable) as refused:
            await other.server.sending.send(ALICE, "inbox", push_of("hello"))
        assert refused.value.code == "not_established"
        assert not warned
        await asyncio.sleep(0.5)
    assert not warnings(caplog, "can't be reached")
    assert not warnings(caplog, "clocks")


@pytest.mark.req("FN-9")
@pytest.mark.parametrize("off", [60.0, -60.0, 3600.0])
async def test_clocks_that_are_apart_keep_no_process_from_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, off: float
) -> None:
    """The store's clock counts; both times are named; a revocation has reached the other when it returns."""
    async with processes(tmp_path, 2, off=(0.0, off)) as (_, (one, other)):
        gateway = await one.start_gateway("gw-1")
        alice = await one.joined_pne("alice", gateway, **FAST)
        await alice.send(alice.next_reading({"n": 1}))
        assert await other.server.sending.send(ALICE, "inbox", push_of("hello")) == "alice got hello"
        assert abs(one.clock.now() - other.clock.now()) < 2
        assert await other.server.overview.session(ALICE) is not None
        assert await other.server.pnes.connected([ALICE, EntityId("gw-1")]) == {"alice", "gw-1"}
        await until(lambda: len(warnings(caplog, "clocks")) >= 2)
        with collecting_warnings() as warned:
            assert await other.provisioning.revoke(OPERATOR, ALICE) == 1
        assert not warned
        assert one.server.sessions.with_peer(ALICE) is None
        assert gateway.members.get(ALICE) is None


@pytest.mark.req("FN-9")
@pytest.mark.parametrize("off", [0.0, 60.0])
@pytest.mark.parametrize("how", ["without NATS", "NATS away"])
async def test_a_revocation_waits_until_the_other_process_has_found_it(tmp_path: Path, how: str, off: float) -> None:
    alone = (0, 1) if how == "without NATS" else ()
    async with processes(tmp_path, 2, alone=alone, off=(off, 0.0)) as (nats, (one, other)):
        gateway = await one.start_gateway("gw-1")
        for name in ("alice", "bob", "carol"):
            await one.joined_pne(name, gateway, **FAST)
        (pn,) = await one.store.networks()
        if not alone:
            nats.stop()
            await until(lambda: not other.cluster.connected)  # type: ignore[union-attr]
        with collecting_warnings() as warned:
            await other.provisioning.revoke(OPERATOR, ALICE)
        assert one.server.sessions.with_peer(ALICE) is None
        assert one.server.sessions.with_peer(EntityId("bob")) is not None
        await admin(other).update(OPERATOR, EntityId("bob"), "gw-9", None, allow_unknown_gateway=True)
        assert one.server.sessions.with_peer(EntityId("bob")) is None
        await admin(other).networks.expel(OPERATOR, pn.network.pn_id, ["carol"])
        assert one.server.sessions.with_peer(EntityId("carol")) is None
        assert warned  # what the other process's gateway was not told of
        assert not [said for said in warned if "confirmed" in said]


@pytest.mark.req("FN-9")
async def test_a_revocation_names_the_process_that_does_not_confirm_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hangs, or has lost the store."""
    async with processes(tmp_path, 2, alone=(0, 1)) as (_, (one, other)):
        gateway = await one.start_gateway("gw-1")
        await one.joined_pne("alice", gateway, **FAST)
        monkeypatch.setattr(known, "HEED_SECONDS", 0.5)
        monkeypatch.setattr(one.server.revocations, "look", asyncio.Event().wait)
        await asyncio.sleep(0.3)  # until its last look is over
        with collecting_warnings() as warned:
            await other.provisioning.revoke(OPERATOR, ALICE)
        (said,) = [said for said in warned if "confirmed" in said]
        assert "has not confirmed that alice is out" in said
        monkeypatch.undo()


@pytest.mark.req("FN-9")
async def test_a_process_that_fell_behind_what_is_kept_of_revocations_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a machine that slept for a week: what it missed can't be made up for one by one."""
    async with processes(tmp_path, 2, alone=(0, 1)) as (_, (one, other)):
        gateway = await one.start_gateway("gw-1")
        for name in ("alice", "bob"):
            await one.joined_pne(name, gateway, **FAST)
        before = one.server.sessions.with_peer(EntityId("bob"))
        assert before is not None
        monkeypatch.setattr(known, "HEED_SECONDS", 0.1)
        monkeypatch.setattr(one.server.revocations, "look", asyncio.Event().wait)
        await asyncio.sleep(0.3)  # until its last look is over
        await other.provisioning.revoke(OPERATOR, ALICE)
        await other.store.drop_kept(9e12)
        assert one.server.sessions.with_peer(ALICE) is not None
        monkeypatch.undo()
        monkeypatch.setattr("cpns.server.peers.revocations.LOOK_SECONDS", 0.1)
        await one.server.revocations.look()
        assert one.server.sessions.with_peer(ALICE) is None
        await until(lambda: one.server.sessions.with_peer(EntityId("bob")) not in (None, before))
        assert one.server.sessions.with_peer(ALICE) is None


async def test_a_process_that_ends_is_missed_by_nobody_and_one_that_died_is_named(tmp_path: Path) -> None:
    async with processes(tmp_path, 2) as (nats, (one, other)):
        _, there = await other.store.processes()
        assert len(there) == 2
        await one.stop(one.server)
        _, there = await other.store.processes()
        assert len(there) == 1
        await other.provision(other.kinds.PNE, "alice")
        with collecting_warnings() as warned, pytest.raises(Unavailable) as refused:
            await other.server.sending.send(ALICE, "inbox", push_of("hello"))
        assert refused.value.code == "not_established"
        assert not warned
        await start(one, nats)
        _, there = await other.store.processes()
        assert len(there) == 2


def test_a_wrong_clock_is_one() -> None:
    clock = StoreClock(Wrong(60.0))
    assert clock.now() - SystemClock().now() > 50


@pytest.mark.parametrize("how", ["without NATS", "NATS away"])
async def test_what_another_process_may_know_is_not_denied(tmp_path: Path, how: str) -> None:
    """`explain`, lists and members say "?" at the process that can't ask, and why; the other one knows."""
    alone = (0, 1) if how == "without NATS" else ()
    async with processes(tmp_path, 2, alone=alone) as (nats, (one, other)):
        gateway = await one.start_gateway("gw-1")
        alice = await one.joined_pne("alice", gateway, **FAST)
        await alice.send(alice.next_reading({"n": 1}))
        if not alone:
            nats.stop()
            await until(lambda: not other.cluster.connected)  # type: ignore[union-attr]
        there, here = await explained(other), await explained(one)
        assert [there[step].good for step in ("gateway", "session", "reach", "readings")] == [None, None, None, True]
        assert all("can't be asked" in there[step].what for step in ("gateway", "session", "reach"))
        assert [here[step].good for step in ("gateway", "session", "reach", "readings")] == [True] * 4
        for url, shown in (("/devices", "connected"), ("/gateways", "connected")):
            status, body, warned = await asked(other, url)
            assert (status, body["items"][0][shown]) == (200, None)
            (said,) = warned
            assert "can't be asked" in said
            assert ("--nats" if alone else "NATS at") in said
            assert (await asked(one, url))[1]["items"][0][shown] is True
        _, body, warned = await asked(other, "/networks")
        assert body["items"][0]["members"][0]["state"] is None
        assert warned
        status, _, warned = await asked(other, "/devices/alice/ping", "POST")
        assert status == 503
        assert warned


async def explained(world: World) -> dict[str, Finding]:
    return {one.step: one for one in await admin(world).explain("alice")}


async def asked(world: World, path: str, method: str = "GET") -> tuple[int, Any, list[str]]:
    """Ask the API of a process; return status, body, and what it warns of."""
    transport = httpx.ASGITransport(create_app(admin(world)))
    async with httpx.AsyncClient(transport=transport, base_url="http://cpns/api/v1") as client:
        answer = await client.request(method, path)
    return answer.status_code, answer.json(), warnings_of(answer)


async def test_status_tells_of_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with processes(tmp_path, 2, off=(0.0, 60.0)) as (nats, (one, other)):
        await one.start_gateway("gw-1")
        await other.provision(other.kinds.PNE, "alice")
        for world, gateways in ((one, [["gw-1"], []]), (other, [[], ["gw-1"]])):
            status, up, warned = await asked(world, "/status")
            assert (status, warned) == (200, [])
            assert [each["condition"] for each in up["processes"]] == ["up", "up"]
            assert [each["here"] for each in up["processes"]] == [True, False]
            assert [each["gateways"] for each in up["processes"]] == gateways
            assert (up["sessions"], up["gateways"], up["devices"]) == (1, 1, 1)
            assert up["bus"] == {"url": nats.url, "connected": True}
        _, up, _ = await asked(one, "/status")
        assert [round(each["clock_ahead"], -1) for each in up["processes"]] == [0, 60]
        nats.stop()
        await until(lambda: not one.cluster.connected)  # type: ignore[union-attr]
        _, up, warned = await asked(one, "/status")
        assert [each["condition"] for each in up["processes"]] == ["up", "unasked"]
        assert [each["sessions"] for each in up["processes"]] == [1, None]
        assert up["bus"]["connected"] is False
        assert warned
        monkeypatch.setattr("cpns.domain.process.GONE_SECONDS", -1.0)  # nobody says anything any more
        _, up, warned = await asked(one, "/status")
        assert [each["condition"] for each in up["processes"]] == ["up", "silent"]
        offline = Admin(SERVER, one.store, one.provisioning, None, one.clock)
        assert [each.condition for each in (await offline.status()).processes] == ["silent", "silent"]


async def test_status_tells_what_is_up_while_the_store_is_away(tmp_path: Path) -> None:
    server = started()
    try:
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE cpns TEMPLATE template0 ENCODING 'UTF8'")
        one = World(tmp_path, server.url("cpns"))
        await one.start_server()
        server.halt()
        status, up, _ = await asked(one, "/status")
        assert status == 200
        assert (up["running"], up["devices"], len(up["processes"])) == (True, None, 1)
        assert "failed" in up["store"]["trouble"]
        await one.close()
    finally:
        server.stop()
