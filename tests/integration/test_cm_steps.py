"""Device ID/Key Assignment and activation, step by step (S2): what passes between server, external PN GW and CM Device.

Server and CM Device are processes of the `cpns` command. The PN GW is this process: it is at both ends of steps 1 to 11
and sees them in the clear; on steps 12 to 16, which go past it, there is a tap. What passed is compared with PROTOCOL
section 6, written out here a second time.
"""

import asyncio
import base64
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cpns.crypto.local_eukey import gateway_vault_key
from cpns.crypto.secret import Secret
from cpns.domain.credential import parse_credential
from cpns.domain.inventory import Kind
from cpns.gateway.claim import EukeyClaim
from cpns.gateway.config import GatewayConfig
from cpns.ids import EntityId
from cpns.service.system import random_bytes
from cpns.store.vault import FileVault, open_vault
from cpns.transport.watch import Passed
from cpns.wire import cm_messages as cm
from cpns.wire import messages as m
from tests.support import formula as f
from tests.support.hostile_gateway import HostileGateway, Way
from tests.support.parties import Parties, acknowledged
from tests.support.tap import Seen, TcpTap
from tests.support.world import CLOCK, address_of, pan_config, until

M = TypeVar("M")

SERVER, GATEWAY, DEVICE = EntityId("server.example"), EntityId("gw-1"), EntityId("tablet")


@dataclass
class Evidence:
    """All that was seen and kept.

    Attributes:
        log: what the PN GW sent and got, in order.
        seen: what passed on the CM Device's own connection, in order.
        passed: what the PN GW sent, with the session that protected it.
        traces: what server and device sent, by who traced it.
        after_assignment: copies of the databases of server and device before the device went direct.
        states: what `cpns node status` said then, and `cpns cm show` in the end.
    """

    folder: Path
    log: list[tuple[Way, str, Any]] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    traces: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    after_assignment: dict[str, Path] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    acknowledged: list[Any] = field(default_factory=list)
    readings: list[tuple[str, str, str]] = field(default_factory=list)

    def one(self, way: Way, shape: type[M]) -> M:
        """Return the one message of that type that passed that way."""
        (found,) = [body for at, _, body in self.log if at is way and type(body) is shape]
        return found

    def place(self, shape: type[Any]) -> int:
        """Return where in the order of what passed the PN GW the first of that type is."""
        return next(i for i, (_, _, body) in enumerate(self.log) if type(body) is shape)

    @property
    def seed(self) -> bytes:
        return self.one(Way.FROM_SERVER, cm.CmAssignResponse).key_seed

    @property
    def prk(self) -> bytes:
        return f.mac(b"cpns1 cm", self.seed)

    @property
    def device_id(self) -> str:
        raw = f.expand(self.prk, f.enc("cpns1 cm id", GATEWAY, SERVER), 15)
        return "cm-" + base64.b32encode(raw).decode().lower()

    @property
    def key(self) -> bytes:
        return f.expand(self.prk, f.enc("cpns1 cm key", self.device_id, GATEWAY, SERVER), 32)

    @property
    def confirm_key(self) -> bytes:
        info = f.enc("cpns1 cm confirm", self.device_id, GATEWAY, SERVER)
        return f.expand(f.mac(b"cpns1 cm confirm", self.key), info, 32)

    @property
    def rands(self) -> tuple[bytes, bytes]:
        """rand_S and rand_G."""
        return self.one(Way.FROM_SERVER, cm.CmAssignResponse).rand, self.one(Way.TO_SERVER, cm.CmIdRequest).rand

    @property
    def code_s(self) -> bytes:
        return f.mac(self.confirm_key, f.enc("cpns1 cm code server", *self.rands))[:16]

    @property
    def hello(self) -> m.CmActivateRequest:
        """The first ACTIVATE Request on the device's own connection."""
        return next(one.body for one in self.seen if type(one.body) is m.CmActivateRequest)

    @property
    def answer(self) -> m.CmActivateResponse:
        return next(one.body for one in self.seen if type(one.body) is m.CmActivateResponse)

    def stored(self, which: str, query: str) -> list[Any]:
        with sqlite3.connect(self.after_assignment[which]) as connection:
            rows = connection.execute(query).fetchall()
        connection.close()
        return rows

    def eukey(self) -> Secret:
        return parse_credential((self.folder / f"{DEVICE}.key").read_text(), Kind.PNE).eukey


async def _gateway(parties: Parties, seen: Evidence) -> HostileGateway:
    credential = parse_credential(Path(parties.path("gw-1.key")).read_text(), Kind.GATEWAY)
    config = GatewayConfig(
        *(GATEWAY, SERVER, "127.0.0.1", parties.server_port),
        pans=(pan_config(),),
        announce=False,
    )
    claim = EukeyClaim(config, credential.eukey, random_bytes)
    vault = FileVault(Secret(random_bytes(32)), random_bytes)
    gateway = HostileGateway(config, claim, None, vault, CLOCK, random_bytes, seen.passed.append)
    await gateway.start()
    await gateway.uplink.wait(40)
    return gateway


async def _witness(parties: Parties, seen: Evidence) -> None:
    gateway = await _gateway(parties, seen)
    tap = TcpTap(("127.0.0.1", parties.server_port))
    host, port = await tap.start()
    pan = address_of(gateway.pans[0].endpoint)
    device = parties.start(
        *("node", "run", "--pne-key", parties.path(f"{DEVICE}.key"), "--server", f"{host}:{port}"),
        *("--gateway", f"{pan[0]}:{pan[1]}", "--prefer", "gateway", "--data", parties.path("node")),
        *("--interval", "0.1", "--output", "json", "--timer", "3", "--request-timeout", "1.5", "--presence", "0.5"),
        *("--control", parties.path("node.sock"), "--trace", parties.path("node.trace")),
    )

    async def call(*arguments: str) -> Any:
        return json.loads(await asyncio.to_thread(parties.call, *arguments, "--output", "json"))

    async def status() -> Any:
        return await call("node", "status", "--control", parties.path("node.sock"))

    try:
        await until(lambda: any(type(body) is cm.CmGiven for _, _, body in gateway.log))
        while (now := await status())["cm_device"] is None:
            pass
        seen.states["assigned"] = now
        for name, path in (("server", "server/server.db"), ("node", "node/node.db")):
            seen.after_assignment[name] = copied(parties.folder / path, parties.folder / f"{name}.copy")
        await call("node", "mode", "both", "--control", parties.path("node.sock"))
        await asyncio.to_thread(device.wait_line, '"gateway": "cm-')
        while (await call("cm", "show", DEVICE, "--data", parties.path("server")))["generation"] != 1:
            pass
        before = len(acknowledged(device))
        await until(lambda: len(acknowledged(device)) > before + 5)
        seen.states["cm"] = await call("cm", "show", DEVICE, "--data", parties.path("server"))
    finally:
        await asyncio.to_thread(device.end)
        await gateway.close()
        await tap.close()
    seen.acknowledged = acknowledged(device)
    seen.log, seen.seen = gateway.log, tap.seen


def copied(path: Path, to: Path) -> Path:
    """Return a copy of a database, with what is still in its log."""
    with sqlite3.connect(path) as connection, sqlite3.connect(to) as copy:
        connection.backup(copy)
    connection.close()
    copy.close()
    return to


@pytest.fixture(scope="module")
def seen() -> Iterator[Evidence]:
    """The story of one CM Device, from its first PN GW to its own connection, told once."""
    folder = Path(tempfile.mkdtemp(prefix="cpns-cm-"))
    parties = Parties(folder)
    one = Evidence(folder)
    try:
        parties.provision(DEVICE)
        server = parties.start(
            *("server", "run", "--data", parties.path("server"), "--listen", f"127.0.0.1:{parties.server_port}"),
            *("--trace", parties.path("server.trace")),
        )
        server.wait_line("listening at")
        asyncio.run(_witness(parties, one))
        for name in ("server", "node"):
            one.traces[name] = [json.loads(line) for line in (folder / f"{name}.trace").read_text().splitlines()]
        with sqlite3.connect(f"{parties.path('server')}/server.db") as connection:
            one.readings = connection.execute("select pne_id, gateway_id, body from readings").fetchall()
        connection.close()
        yield one
    finally:
        parties.close()
        shutil.rmtree(folder, ignore_errors=True)


# Assignment


@pytest.mark.req("CM-1")
def test_step_1_the_server_makes_and_stores_a_key_seed(seen: Evidence) -> None:
    """What it stores is sealed, and opens, under its own vault alone, to the Key Seed that it sent."""
    ((sealed,),) = seen.stored("server", f"select sealed_key from entities where entity_id = '{seen.device_id}'")
    vault = open_vault(seen.folder / "server" / "kek", random_bytes)
    assert vault.open("key seed", seen.device_id, sealed).reveal() == seen.seed
    assert len(set(seen.seed)) > 8
    assert seen.seed not in (seen.folder / "server.copy").read_bytes()


@pytest.mark.req("CM-2")
def test_step_2_the_server_sends_it_to_the_external_gateway_in_their_session(seen: Evidence) -> None:
    asked, given = seen.one(Way.TO_SERVER, cm.CmAssignRequest), seen.one(Way.FROM_SERVER, cm.CmAssignResponse)
    assert (asked.txn, asked.pne_id) == (given.txn, DEVICE)
    assert len(given.key_seed) == 32
    (sent,) = [one for one in seen.traces["server"] if one["what"] == "CM-ASSIGN Response" and one["peer"] == GATEWAY]
    assert sent["session"] == "gw-server"


@pytest.mark.req("CM-3")
def test_step_3_the_gateway_makes_id_and_key(seen: Evidence) -> None:
    """CM Device ID from its own identity and the Key Seed; CM Device Key from Key Seed and CM Device ID."""
    made = seen.one(Way.TO_PNE, cm.CmKeyRequest)
    assert (made.cm_device_id, made.cm_device_key) == (seen.device_id, seen.key)


@pytest.mark.req("CM-4")
def test_step_4_the_gateway_names_the_id(seen: Evidence) -> None:
    named = seen.one(Way.TO_SERVER, cm.CmIdRequest)
    assert named.cm_device_id == seen.device_id
    assert named.txn == seen.one(Way.TO_SERVER, cm.CmAssignRequest).txn
    (sent,) = [one for one in seen.passed if one.what == "CM-ID Request"]
    assert (sent.peer, sent.session) == (SERVER, "gw-server")


@pytest.mark.req("CM-5", "CM-6")
def test_steps_5_and_6_the_server_derives_the_key_and_shows_that_by_its_code(seen: Evidence) -> None:
    """Nobody sent it the key, nor anything made with it: its code is right as it derived the key itself."""
    code = seen.one(Way.FROM_SERVER, cm.CmIdResponse)
    assert (code.result, code.code) == (0, seen.code_s)
    before = [body for way, _, body in seen.log[: seen.place(cm.CmIdResponse)] if way is Way.TO_SERVER]
    assert {type(body) for body in before if type(body).__module__ == cm.__name__} == {
        cm.CmAssignRequest,
        cm.CmIdRequest,
    }


@pytest.mark.req("CM-7", "CM-8")
def test_steps_7_and_8_the_gateway_shows_that_it_has_the_key_after_the_server_did(seen: Evidence) -> None:
    """Its code covers the server's: it had seen, and accepted, that one."""
    own = seen.one(Way.TO_SERVER, cm.CmConfirmRequest)
    expected = f.mac(seen.confirm_key, f.enc("cpns1 cm code gw", *seen.rands, seen.code_s))[:16]
    assert own.code == expected
    assert seen.place(cm.CmConfirmRequest) > seen.place(cm.CmIdResponse)


@pytest.mark.req("CM-9", "CM-10")
def test_steps_9_and_10_the_server_verifies_commits_and_replies(seen: Evidence) -> None:
    reply = seen.one(Way.FROM_SERVER, cm.CmConfirmResponse)
    assert (reply.result, reply.cm_device_id) == (0, seen.device_id)
    assert seen.stored("server", "select cm_device_id, gateway_id, pne_id, generation from cm_devices") == [
        (seen.device_id, GATEWAY, DEVICE, 0)
    ]


@pytest.mark.req("CM-11")
def test_step_11_the_gateway_shares_them_with_the_device_in_their_hop_session(seen: Evidence) -> None:
    """After step 10, protected on the hop; the device keeps them sealed, and the gateway keeps nothing."""
    assert seen.place(cm.CmKeyRequest) > seen.place(cm.CmConfirmResponse)
    (sent,) = [one for one in seen.passed if one.what == "CM-KEY Request"]
    assert (sent.peer, sent.session) == (DEVICE, "pne-gw")
    ((device, generation, sealed),) = seen.stored("node", "select cm_device_id, generation, sealed_key from cm_keys")
    assert (device, generation) == (seen.device_id, 0)
    vault = FileVault(gateway_vault_key(seen.eukey(), DEVICE), random_bytes)
    assert vault.open("cm device key", f"{device} 0", sealed).reveal() == seen.key
    assert seen.key not in (seen.folder / "node.copy").read_bytes()
    assert seen.states["assigned"]["mode"] == "pne"


# Activation


@pytest.mark.req("CM-12", "CM-0")
def test_step_12_the_device_signals_to_the_server_itself(seen: Evidence) -> None:
    """On its own connection: its CM Device ID, and a code that only the key makes, over all that it says."""
    first = next(one for one in seen.seen if one.up)
    assert first.body == seen.hello
    assert not first.protected
    one = seen.hello
    hello = f.expand(f.mac(b"cpns1 cm hello", seen.key), f.enc("cpns1 cm hello", seen.device_id, SERVER), 32)
    said = f.enc("cpns1 cm code hello", one.suite, SERVER, seen.device_id, one.rand, one.kid, one.eph)
    assert (one.cm_device_id, one.code) == (seen.device_id, f.mac(hello, said)[:16])
    assert one.suite >= 2


@pytest.mark.req("CM-13", "CM-14", "CM-A")
def test_steps_13_and_14_the_server_checks_and_answers_with_its_own_code(seen: Evidence) -> None:
    """The right code is answered: the key came of ID and Key Seed alone, as nothing else was stored (step 1)."""
    assert seen.answer.server_id == SERVER
    assert (seen.answer.result, len(seen.answer.code), seen.answer.code != seen.hello.code) == (0, 16, True)
    kinds = [type(one.body) for one in seen.seen if not one.protected]
    assert kinds[:2] == [m.CmActivateRequest, m.CmActivateResponse]


@pytest.mark.req("CM-15", "CM-A")
def test_step_15_the_device_verifies_and_only_then_goes_on(seen: Evidence) -> None:
    """The message after the server's code is the first under the session: the device has accepted that code."""
    place = next(i for i, one in enumerate(seen.seen) if one.body == seen.answer)
    following = next(one for one in seen.seen[place + 1 :] if one.up)
    assert following.protected
    assert following.message.opt.oscore.endswith(seen.answer.kid)  # by the key ID that the server gave


@pytest.mark.req("CM-16", "CM-B")
def test_step_16_all_that_follows_is_in_the_secure_connection(seen: Evidence) -> None:
    """Nothing but ACTIVATE is in the clear; both sides say that the session is that of the CM Device Key."""
    clear = {type(one.body) for one in seen.seen if not one.protected}
    assert clear == {m.CmActivateRequest, m.CmActivateResponse}
    assert len([one for one in seen.seen if one.protected]) > 10
    for name, peer in (("server", seen.device_id), ("node", SERVER)):
        sessions = {one["session"] for one in seen.traces[name] if one["peer"] == peer}
        assert "cm-server" in sessions
    raw = b"".join(one.message.payload for one in seen.seen if one.protected)
    assert b"memory_percent" not in raw


@pytest.mark.req("CM-17")
def test_the_server_tells_from_the_id_which_gateway_is_embedded(seen: Evidence) -> None:
    """Under that ID it knows the PN GW that is in the device, whose it is, and who set it up."""
    found = seen.states["cm"]
    assert (found["id"], found["device"], found["gateway"]) == (seen.device_id, DEVICE, GATEWAY)
    assert found["connected"] is True
    carried = {gateway for pne, gateway, _ in seen.readings if pne == DEVICE}
    assert carried == {GATEWAY, seen.device_id}


# What comes of it


@pytest.mark.req("CM-0", "CM-A", "CM-B")
def test_readings_go_on_from_one_mode_to_the_other(seen: Evidence) -> None:
    stored = [json.loads(body) for pne, _, body in seen.readings if pne == DEVICE]
    assert len(seen.acknowledged) > 10
    assert all(body in stored for body in seen.acknowledged)
    assert len(stored) - len(seen.acknowledged) <= 1  # the one that was under way when the device was ended


@pytest.mark.req("CM-18")
def test_by_itself_it_takes_a_key_that_its_gateway_does_not_know(seen: Evidence) -> None:
    """Soon after its first activation it activates again, with another key for the same ID."""
    hellos = [one.body for one in seen.seen if type(one.body) is m.CmActivateRequest]
    assert len(hellos) == 2
    again = hellos[1]
    hello = f.expand(f.mac(b"cpns1 cm hello", seen.key), f.enc("cpns1 cm hello", seen.device_id, SERVER), 32)
    said = f.enc("cpns1 cm code hello", again.suite, SERVER, seen.device_id, again.rand, again.kid, again.eph)
    assert again.cm_device_id == seen.device_id
    assert again.code != f.mac(hello, said)[:16]
    assert (seen.states["cm"]["generation"], seen.states["cm"]["known_to_gateway"]) == (1, False)
    assert not any(type(body) is cm.CmRekeyRequest for _, _, body in seen.log)
