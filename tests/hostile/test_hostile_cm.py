"""Activation of a CM Device (S2 steps 12 to 16) under attack, over real sockets: replays, a man in the middle, thieves.

Steps 1 to 11, what they leave and who may say what are in ``test_hostile_cm_keys``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiocoap.numbers.codes import POST
from aiocoap.transports.tcp import _decode_message, _extract_message_size, _serialize

from cpns.crypto.secret import Secret
from cpns.domain.cm import CmKey
from cpns.errors import NoAnswer
from cpns.gateway.app import Gateway
from cpns.gateway.claim import CmClaim
from cpns.ids import EntityId
from cpns.node.app import Node
from cpns.node.cm import Keys
from cpns.pne.app import Pne
from cpns.protocol.cm_activate import device as cm_activate
from cpns.service.sessions import session_of
from cpns.service.system import random_bytes
from cpns.session.table import Session
from cpns.store.vault import FileVault
from cpns.transport.endpoint import Link
from cpns.transport.errors import UNIFORM_REFUSAL, Answer
from cpns.transport.relay import Sealed
from cpns.wire import application, codec, registry
from cpns.wire import messages as m
from cpns.wire.registry import Mode, Suite
from tests.support.device import device
from tests.support.hostile_gateway import HostileGateway, altered, flip
from tests.support.raw import Scripted, ask
from tests.support.tap import TcpTap, body_of
from tests.support.world import CLOCK, SERVER, World, until, world

TABLET = EntityId("tablet")


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("cpns.gateway.uplink.BACKOFF", (0.05, 0.1))
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


class Direct(Scripted):
    """Whoever has a CM Device ID and some key: activates with the real procedure, and says what the test wants."""

    def __init__(self, here: World, key: CmKey, suite: int = Suite.X25519) -> None:
        super().__init__(key.cm_device_id)
        self.here = here
        self.key = key
        self.suite = suite
        self.to_server: Link
        self.session: Session
        self._state: Any = None
        here.closes(self)

    def hello(self, **changes: Any) -> m.CmActivateRequest:
        """Return an ACTIVATE Request that is right, but for *changes*."""
        self._state, request = cm_activate.begin(
            own_id=self.key.cm_device_id,
            server_id=SERVER,
            key=self.key.key,
            suite=self.suite,
            rand=random_bytes(registry.RAND_BYTES),
            kid=random_bytes(1),
            eph_seed=random_bytes(96),
        )
        return replace(request, **changes)

    async def knock(self, request: m.CmActivateRequest) -> Answer:
        """Send *request* over a new connection of our own."""
        self.to_server = await self.endpoint.connect(*self.here.address)
        return await ask(self.to_server, request)

    def finish(self, answer: Answer) -> None:
        """Run step 15."""
        response = body_of(answer.payload)
        assert isinstance(response, m.CmActivateResponse), answer
        self.session = session_of(cm_activate.finish(self._state, response), 0.0)
        self.sessions.add(self.session)

    async def activate(self) -> None:
        """Activate, and say the first thing in the session."""
        self.finish(await self.knock(self.hello()))
        assert (await self.say(b"", path=application.PING_PATH)).ok

    async def say(self, message: Any, path: str = registry.CPNS_PATH) -> Answer:
        return await ask(self.to_server, message, path=path, session=self.session)

    async def is_refused(self) -> None:
        """Show that the server takes no proof of ours, says no more than it says to all, and lets nothing begin."""
        assert await self.knock(self.hello()) == UNIFORM_REFUSAL
        assert self.here.server.expected._waiting == {}


class Meddler(TcpTap):
    """A man in the middle: what `change` makes of a CPNS message on its way up, or down, goes on in its place."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self.change: Callable[[bool, Any], Any] = unchanged
        self.heard: list[Any] = []
        self.frames: list[Any] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        spool = b""
        try:
            while data := await reader.read(65536):
                spool += data
                while (parts := _extract_message_size(spool)) is not None and sum(parts) <= len(spool):
                    frame, spool = spool[: sum(parts)], spool[sum(parts) :]
                    writer.write(await self._passes(frame, up))
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def _passes(self, frame: bytes, up: bool) -> bytes:
        message = _decode_message(frame)
        body = None if message.code.is_signalling() else body_of(message.payload)
        if up and message.opt.oscore is not None:
            self.frames.append(message)
        if body is None:
            return frame
        self.heard.append(body)
        await self.goes_on.wait()
        changed = self.change(up, body)
        if changed is body:
            return frame
        message.payload = codec.encode(changed)
        return bytes(_serialize(message))

    def all(self, shape: type[Any]) -> list[Any]:
        """Return the messages of one type that came here, in order."""
        return [body for body in self.heard if type(body) is shape]


def unchanged(up: bool, body: Any) -> Any:
    return body


async def assigned(here: World, name: str = "alice") -> tuple[HostileGateway, Pne, CmKey]:
    """Return a gateway that may go bad, a PNE behind it, and the CM Device ID and key that it got through it."""
    found = [one for one in here.gateways if isinstance(one, HostileGateway)]
    evil = found[0] if found else await here.start_gateway("evil", kind=HostileGateway, answer_timeout=1.0)
    pne = await here.joined_pne(name, evil)
    return evil, pne, await pne.cm.assign()


async def meddler(here: World) -> Meddler:
    """Return a man in the middle, in front of the server."""
    one = Meddler(here.address)
    await one.start()
    here.closes(one)
    return one


async def embedded(here: World, key: CmKey, server: Meddler, suite: int = Suite.X25519) -> Gateway:
    """Return the PN GW of a CM Device, on its way to the server."""
    where: dict[str, Any] = {"server_host": server.host, "server_port": server.port, "answer_timeout": 1.0}
    config = replace(await here.gateway_config("evil"), gateway_id=key.cm_device_id, suite=suite, **where)
    vault = FileVault(Secret(random_bytes(32)), random_bytes)
    keys = Keys(None, vault)
    await keys.begin(key)
    gateway = Gateway(config, CmClaim(config, keys, random_bytes), None, vault, CLOCK, random_bytes)
    here.closes(gateway)
    await gateway.start()
    return gateway


async def goes_direct(here: World, monkeypatch: pytest.MonkeyPatch) -> tuple[Node, CmKey, Meddler]:
    """Return a CM Device with a key that no gateway knows, on its own connection, and who is in between."""
    monkeypatch.setattr("cpns.node.keying.PAUSES", (0.05, 0.1))
    evil = await here.start_gateway("evil", kind=HostileGateway, answer_timeout=1.0)
    between = await meddler(here)
    tablet = await device(here, evil, server=(between.host, between.port))
    assert tablet.keys is not None
    keys = tablet.keys
    await until(lambda: keys.newest)
    await tablet.change(Mode.BOTH)
    await until(lambda: keys.newest and keys.newest.generation == 1 and len(keys._keys) == 1)
    key = keys.newest
    assert key is not None
    await until(
        lambda: here.server.pnes.is_connected_here(key.cm_device_id) and here.server.pnes.is_connected_here(TABLET)
    )
    return tablet, key, between


async def carried_directly(here: World, tablet: Node, key: CmKey) -> None:
    """Show that a reading arrives, over the device's own connection."""
    before = len(await here.store.readings(0, 1000, TABLET))
    await tablet.send({"n": before})
    found = await here.store.readings(0, 1000, TABLET)
    assert [(one.gateway_id, one.verified) for one in found[before:]] == [(key.cm_device_id, "e2e")]


async def begun(here: World, key: CmKey) -> int:
    """Return how many sessions of a CM Device ever stood."""
    return len(await here.audit(key.cm_device_id, "cm_activated"))


# Step 12 and 14 replayed


async def opens_nothing(here: World, thief: Direct, between: Meddler) -> None:
    """Show that what was recorded opens nothing under a replay's session; it is waited for in vain, and forgotten."""
    pending = here.server.expected._waiting
    (session,) = here.server.expected.all()
    recorded = [Sealed(int(POST), one.opt.oscore, one.payload) for one in between.frames if one.code.is_request()]
    assert recorded
    tries = [replace(one, oscore=(o := one.oscore or b"0")[: 1 + (o[0] & 7)] + session.own_kid) for one in recorded]
    for sealed in [*recorded, *tries, Sealed(int(POST), bytes([9, 0]) + session.own_kid, random_bytes(40))]:
        answer = await thief.to_server.carry(SERVER, sealed)
        assert (answer.code, answer.payload) == (UNIFORM_REFUSAL.code, UNIFORM_REFUSAL.payload)
    assert here.server.sessions.with_peer(thief.key.cm_device_id) is not session
    assert here.server.expected.all() == [session]
    here.server.expected.sweep(0.0)  # as if it had waited for as long as it may
    assert (pending, here.server.sessions.of_kid(session.own_kid)) == ({}, None)


@pytest.mark.req("CM-12", "CM-13", "CM-16")
@pytest.mark.parametrize("forgets", [False, True], ids=["the server knows the code", "it has forgotten the code"])
async def test_step_12_replayed_later(here: World, monkeypatch: pytest.MonkeyPatch, forgets: bool) -> None:
    """An answered code is refused in that process; nothing hangs on that memory, which has its limit."""
    if forgets:
        monkeypatch.setattr("cpns.server.changing.devices.REMEMBERED_CODES", 0)
    tablet, key, between = await goes_direct(here, monkeypatch)
    session, times = here.server.sessions.with_peer(key.cm_device_id), await begun(here, key)
    link = here.server.gateways.link(key.cm_device_id)
    old, recent = between.all(m.CmActivateRequest)
    thief = Direct(here, key)
    assert await thief.knock(old) == UNIFORM_REFUSAL  # made with the key that the gateway knew
    assert (await here.refusal(key.cm_device_id)).reason == "wrong_code"
    answer = await thief.knock(recent)
    if forgets:
        assert isinstance(body_of(answer.payload), m.CmActivateResponse)
        await opens_nothing(here, thief, between)
    else:
        assert answer == UNIFORM_REFUSAL
        assert (await here.audit(key.cm_device_id))[0].reason == "replayed_code"
    assert here.server.sessions.with_peer(key.cm_device_id) is session
    assert here.server.gateways.link(key.cm_device_id) == link
    assert await begun(here, key) == times
    await carried_directly(here, tablet, key)


@pytest.mark.req("CM-12", "CM-16")
async def test_step_12_sent_by_another_first(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds the device up and is first with its code gets an answer, and no session; the device gets in."""
    tablet, key, between = await goes_direct(here, monkeypatch)
    times, count = await begun(here, key), len(between.all(m.CmActivateRequest))
    between.goes_on.clear()
    assert tablet.gateway is not None
    tablet.gateway.uplink.renew()
    await until(lambda: len(between.all(m.CmActivateRequest)) > count)
    thief = Direct(here, key)
    assert (await thief.knock(between.all(m.CmActivateRequest)[-1])).ok
    between.goes_on.set()
    await until(lambda: here.server.pnes.is_connected_here(key.cm_device_id))
    await carried_directly(here, tablet, key)
    assert (await here.audit(key.cm_device_id))[0].reason == "replayed_code"  # the device's own, that came second
    await opens_nothing(here, thief, between)
    assert await begun(here, key) == times + 1


@pytest.mark.req("CM-12", "CM-16")
async def test_step_12_sent_again_while_step_14_is_under_way(here: World) -> None:
    """Nor is there anything to be had between the server's answer and the first message in the session."""
    _, _, key = await assigned(here)
    honest, thief = Direct(here, key), Direct(here, key)
    request = honest.hello()
    answer = await honest.knock(request)
    assert await thief.knock(request) == UNIFORM_REFUSAL
    assert len(here.server.expected._waiting) == 1
    honest.finish(answer)
    assert here.server.sessions.with_peer(key.cm_device_id) is None
    assert (await honest.say(b"", application.PING_PATH)).ok
    assert (await begun(here, key), here.server.expected._waiting) == (1, {})


@pytest.mark.req("CM-12", "CM-16")
async def test_step_12_replayed_after_a_restart(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new process knows no code of the old one: one answer, no recorded message opens, and the device gets in."""
    tablet, key, between = await goes_direct(here, monkeypatch)
    times, recent = await begun(here, key), between.all(m.CmActivateRequest)[-1]
    between.goes_on.clear()
    await here.stop(here.server)
    await here.start_server()
    thief = Direct(here, key)
    assert (await thief.knock(recent)).ok
    assert here.server.sessions.with_peer(key.cm_device_id) is None
    again = Direct(here, key)
    assert await again.knock(recent) == UNIFORM_REFUSAL
    await opens_nothing(here, thief, between)
    assert await begun(here, key) == times
    between.goes_on.set()
    await until(
        lambda: here.server.pnes.is_connected_here(key.cm_device_id) and here.server.pnes.is_connected_here(TABLET)
    )
    await carried_directly(here, tablet, key)
    assert await begun(here, key) == times + 1


# A man in the middle

OTHER_EPH = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
UNKNOWN = EntityId("cm-" + "a" * 24)
TOLD_21 = "peer_answered_authentication_failed"


@dataclass(frozen=True)
class Case:
    """What is changed on the way, by what was heard so far.

    Attributes:
        refused: why the device goes no further.
        audit: what the server writes down; None: it has answered, and waits for a first message.
    """

    name: str
    shape: type[Any]
    change: Callable[[list[Any], Any], Any]
    refused: str
    audit: str | None = None
    suite: int = Suite.X25519


def asked(name: str, audit: str = "wrong_code", own: int = Suite.X25519, refused: str = TOLD_21, **fields: Any) -> Case:
    return Case(name, m.CmActivateRequest, lambda _, body: altered(body, **fields), refused, audit, own)


def told(name: str, refused: str = "wrong_hash", own: int = Suite.X25519, **fields: Any) -> Case:
    return Case(name, m.CmActivateResponse, lambda _, body: altered(body, **fields), refused, None, own)


def reflected(name: str, refused: str, *fields: str) -> Case:
    """Give the device in the answer what it said itself."""

    def change(heard: list[Any], body: Any) -> Any:
        hello = next(one for one in reversed(heard) if type(one) is m.CmActivateRequest)
        return altered(body, **{one: getattr(hello, one) for one in fields})

    return Case(name, m.CmActivateResponse, change, refused)


MLKEM: dict[str, Any] = {"own": Suite.X25519_MLKEM768}
CASES = [
    asked("suite raised", suite=3),
    asked("suite lowered", "suite_too_low", suite=1, eph=None),
    asked("ML-KEM down to X25519", suite=2, eph=lambda eph: eph[:32], **MLKEM),
    asked("an ID that is none", "unknown", cm_device_id=UNKNOWN),
    asked("rand_I", rand=flip),
    asked("kid_I", kid=flip),
    asked("eph_I", eph=OTHER_EPH),
    asked("eph_I zero", eph=bytes(32)),
    asked("eph_I left out", eph=None),
    asked("ML-KEM key", eph=flip, **MLKEM),
    asked("code_I", code=flip),
    asked("code_I left out", "not_a_gateway", refused="refused_with_21", code=None),  # taken for a PN GW with an EUKey
    told("another server", "response_names_another_server", server_id=EntityId("other.example")),
    told("rand_R", rand=flip),
    told("kid_R", kid=flip),
    told("eph_R", eph=OTHER_EPH),
    told("eph_R zero", "bad_ephemeral_key", eph=bytes(32)),
    told("eph_R left out", "ephemeral_key_does_not_fit_suite", eph=None),
    told("ML-KEM ciphertext", eph=flip, **MLKEM),
    told("code_R", code=flip),
    told("code_R left out", "missing_label_14", code=None),
    told("success said to be failure", "refused_with_21", result=21),
    reflected("kid_I as kid_R", "kids_are_equal", "kid"),
    reflected("code_I as code_R", "wrong_hash", "code"),
    reflected("all but kid_I reflected", "wrong_hash", "rand", "eph", "code"),
]


async def gets_in(here: World, key: CmKey, gateway: Gateway) -> None:
    """Show that both ends now have the same session, and began it once."""
    standing = await gateway.uplink.wait(40)
    session = here.server.sessions.with_peer(key.cm_device_id)
    assert session is not None
    assert (session.profile.value, session.keys.th2) == ("cm-server", standing.session.keys.th2)


@pytest.mark.req("CM-12", "CM-13", "CM-14", "CM-15", "CM-16", "CM-A", "CM-B")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_whatever_is_changed_on_the_way_nobody_has_a_session(here: World, case: Case) -> None:
    _, _, key = await assigned(here)
    between = await meddler(here)
    changed: list[Any] = []

    def change(up: bool, body: Any) -> Any:
        if type(body) is not case.shape:
            return body
        changed.append(case.change(between.heard, body))
        assert changed[-1] != body
        return changed[-1]

    between.change = change
    gateway = await embedded(here, key, between, case.suite)
    await until(lambda: gateway.uplink.last_refusal and len(changed) > 1)  # it is tried again, and in vain again
    assert gateway.uplink.last_refusal == case.refused
    assert (gateway.uplink.standing, len(gateway.uplink._sessions)) == (None, 0)
    assert here.server.sessions.with_peer(key.cm_device_id) is None
    claimed = getattr(changed[0], "cm_device_id", key.cm_device_id)
    assert {row.reason for row in await here.audit(claimed)} == ({case.audit} if case.audit else set())
    (device,) = await here.store.cm_devices()
    assert (device.cm_device_id, device.activated_at, await begun(here, key)) == (key.cm_device_id, None, 0)
    between.change = unchanged
    await gets_in(here, key, gateway)
    assert await begun(here, key) == 1


@pytest.mark.req("CM-14", "CM-15")
async def test_step_14_of_an_earlier_connection_is_no_answer(here: World) -> None:
    """code_R answers one rand and one ephemeral key: a recorded answer proves nobody."""
    _, _, key = await assigned(here)
    between = await meddler(here)
    gateway = await embedded(here, key, between)
    await gets_in(here, key, gateway)
    (recorded,) = between.all(m.CmActivateResponse)
    between.change = lambda up, body: recorded if type(body) is m.CmActivateResponse else body
    gateway.uplink.renew()
    await until(lambda: gateway.uplink.last_refusal)
    assert (gateway.uplink.last_refusal, gateway.uplink.standing) == ("wrong_hash", None)
    assert (here.server.sessions.with_peer(key.cm_device_id), await begun(here, key)) == (None, 1)
    between.change = unchanged
    await gets_in(here, key, gateway)


# Bounds


@pytest.mark.req("CM-16")
async def test_hundreds_of_activations_of_one_device(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection waits for one first message, memory for codes has a limit, and so has what a flood writes down."""
    monkeypatch.setattr("cpns.server.changing.devices.REMEMBERED_CODES", 50)
    await here.stop(here.server)
    await here.start_server(half_open=2.0)
    _, _, key = await assigned(here)
    flood, sessions = Direct(here, key), here.server.sessions
    before = set(sessions._by_kid)
    for changes in [{}, {"code": bytes(16)}]:
        for _ in range(100):
            assert (await flood.knock(flood.hello(**changes))).ok == (not changes)
    await until(lambda: here.server.expected._waiting == {} and set(sessions._by_kid) == before)
    assert len(here.server.changing.devices._codes) == 50
    assert sessions._reserved == set()
    assert sessions.with_peer(key.cm_device_id) is None
    assert await begun(here, key) == 0
    (row,) = await here.audit(key.cm_device_id)  # it is counted, and no flood of rows
    assert row.times == 100
    await Direct(here, key).activate()


@pytest.mark.req("CM-16")
async def test_a_second_activation_on_a_connection_ends_it(here: World) -> None:
    _, _, key = await assigned(here)
    one = Direct(here, key)
    assert (await one.knock(one.hello())).ok
    with pytest.raises(NoAnswer, match="connection_gone"):
        await ask(one.to_server, one.hello())
    await until(lambda: here.server.expected._waiting == {})
    await Direct(here, key).activate()


@pytest.mark.req("CM-16")
async def test_connections_that_are_gone_before_their_answer_leave_nothing(here: World) -> None:
    """What was made for them is waited for in vain, and not for long."""
    await here.stop(here.server)
    await here.start_server(half_open=0.5)
    _, _, key = await assigned(here)
    before = set(here.server.sessions._by_kid)
    flood = Direct(here, key)
    for _ in range(60):
        link = await flood.endpoint.connect(*here.address)
        asking = asyncio.ensure_future(ask(link, flood.hello()))
        await asyncio.sleep(0)
        link.close()
        await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: here.server.expected._waiting == {} and set(here.server.sessions._by_kid) == before)
    await Direct(here, key).activate()
