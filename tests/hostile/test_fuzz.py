"""100,000 random and mutated messages at each entry, over real sockets: server (TCP), gateway and PNE (UDP).

In `make test` they are 20,000.

No unhandled exception, no error in the log, bounded memory, and the party does its work afterwards.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cpns.coap import datagram, frame, messaging
from cpns.coap.duplicates import ENTRY_BYTES, SHARE_BYTES
from cpns.domain.inventory import Kind
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.transport import budget, door, pan
from cpns.transport.endpoint import Endpoint
from cpns.transport.errors import Answer, Code
from cpns.wire import application, codec
from cpns.wire import cm_messages as cm
from cpns.wire import messages as m
from cpns.wire.registry import Mode
from tests.support.coap import waiting
from tests.support.device import device
from tests.support.fuzz import Health, Mutator, drained, framed, pour
from tests.support.lossy import Datagram, Fates, UdpProxy, honest
from tests.support.raw import CSM, ScriptedGateway, ScriptedPne, ask, entry_of
from tests.support.soak import SOAK
from tests.support.tap import scene, settled
from tests.support.world import World, address_of, push_of, until, world

COUNT, WARM_UP = (100_000, 20_000) if SOAK else (20_000, 10_000)


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A world whose message IDs are forgotten soon, so that mutants are no repetitions, and without rate limits."""
    monkeypatch.setattr(
        pan, "PAN_TUNING", replace(pan.PAN_TUNING, ack_timeout=0.1, max_latency=0.1, empty_ack_delay=0.05)
    )
    for name in ("FRAMES", "BYTES", "STRANGER_FRAMES", "STRANGER_BYTES"):
        monkeypatch.setattr(budget, name, (1e12, 1e12))
    for name in ("CONNECTIONS", "KNOWN_CONNECTIONS"):
        monkeypatch.setattr(door, name, (1e12, 1e12))
    async with world(tmp_path) as one:
        one.passed = deque(maxlen=100)  # type: ignore[assignment]  # memory is measured here
        yield one


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What was decoded, and what reached an endpoint."""
    counts: Counter[str] = Counter()

    decode, decode_frame = datagram.decode, frame.decode

    def counted_datagram(data: bytes) -> Any:
        counts["decoded"] += 1
        return decode(data)

    def counted_frame(data: bytes, at: int, end: int) -> Any:
        counts["frames"] += 1
        return decode_frame(data, at, end)

    begin = Endpoint._begin

    def count(self: Endpoint, turn: Any) -> float:
        counts["served"] += 1
        counts["sealed"] += turn.item.request.message.value(9) is not None
        return begin(self, turn)

    monkeypatch.setattr(datagram, "decode", counted_datagram)
    monkeypatch.setattr(frame, "decode", counted_frame)
    monkeypatch.setattr(Endpoint, "_begin", count)
    return counts


def unlimited(party: Endpoint) -> None:
    limit = party._pan._limit  # type: ignore[union-attr]
    limit._rate = limit._burst = 1e12


async def recorded(here: World) -> tuple[Any, Pne, list[bytes], list[bytes]]:
    """Return a scene with a PNE in it, and the datagrams that went up and down while all sorts of things were done."""
    on = await scene(here, answer_timeout=0.3)
    for suite in (1, 2, 3):
        (pne,) = await on.pnes([f"pne-{suite}"], suite=suite)
        await pne.send(pne.next_reading({"suite": suite}))
        await here.server.sending.send(pne.config.pne_id, "inbox", push_of("hello"))
        if suite < 3:
            await here.stop(pne)
    here.accepting.add("pne-4")
    invited = await here.start_pne("pne-4", on.pan.address, waits=True)
    await until(lambda: on.gateway.pans[0].reach.known(here.now()))
    (pn_id,) = on.gateway.members.pns
    await on.gateway.invite(pn_id, [invited.config.pne_id])
    await settled(invited)
    await invited.network.inventory()
    await here.stop(invited)
    tablet = await device(here, on.gateway, name="pne-5", server=(on.uplink.host, on.uplink.port))
    await until(lambda: tablet.can_go_direct)
    await tablet.change(Mode.BOTH)
    await until(lambda: tablet.keys is not None and tablet.keys.newest and tablet.keys.newest.generation == 1)
    await here.stop(tablet)
    unlimited(on.gateway.pans[0].endpoint)
    up = [one.data for one in on.pan.seen if one.up]
    down = [one.data for one in on.pan.seen if not one.up]
    assert len(up) > 20
    assert len(down) > 20
    on.uplink.keep = False
    return on, pne, up, down


async def works(here: World, gateway: Any, pne: Pne) -> None:
    """Show that who was there is there still, and that a new PNE gets in."""
    async with asyncio.timeout(40):
        await pne.send(pne.next_reading({"after": True}))
        await here.joined_pne("newcomer", gateway)


def idle(party: Endpoint) -> bool:
    return party._intake.idle and not waiting(party)


@pytest.mark.soak
async def test_gateway_pan(here: World, counted: Counter[str], caplog: pytest.LogCaptureFixture) -> None:
    on, pne, up, down = await recorded(here)
    health = Health(caplog)
    mutants = Mutator(1, up * 3 + down)
    target = here.pan(on.gateway)
    counted.clear()
    await pour(target, mutants.fresh, WARM_UP, lambda: counted["decoded"])
    health.start()
    await pour(target, mutants.fresh, COUNT, lambda: counted["decoded"])
    assert counted["decoded"] >= COUNT + WARM_UP
    assert counted["served"] > COUNT / 10
    assert counted["sealed"] > COUNT / 50
    await drained(lambda: idle(on.gateway.pans[0].endpoint) and idle(on.gateway._upward))
    assert len(on.gateway.pans[0].setup._queue) == len(on.gateway.pans[0].hop) == 0
    assert on.gateway.pans[0].setup._runs == {}
    await works(here, on.gateway, pne)
    health.check()
    assert {session.peer_id for session in here.server.sessions} <= {
        "gw-1",
        "pne-1",
        "pne-2",
        "pne-3",
        "pne-4",
        "pne-5",
        "newcomer",
    }


def acknowledges(datagram: Datagram) -> Fates:
    """Let a SETUP Request through and its acknowledgement back, and nothing else."""
    passes = datagram.up or datagram.data[1] == 0
    return [(0.0, datagram.data)] if passes else []


@pytest.mark.soak
async def test_pne_pan(here: World, counted: Counter[str], caplog: pytest.LogCaptureFixture) -> None:
    """One that has joined, and one that waits in the middle of a SETUP."""
    on, pne, up, down = await recorded(here)
    silence = UdpProxy(here.pan(on.gateway), acknowledges)
    here.closes(silence)
    waiting = await here.start_pne("pne-1", silence.address, timer=300.0)
    await until(lambda: waiting._join._setup is not None)
    state = waiting._join._setup
    health = Health(caplog)
    mutants = Mutator(2, down * 3 + up)
    for party in (pne, waiting):
        unlimited(party._endpoint)
        target = "127.0.0.1", address_of(party._endpoint)[1]
        counted.clear()
        await pour(target, mutants.fresh, WARM_UP, lambda: counted["decoded"])
        health.start()
        await pour(target, mutants.fresh, COUNT // 2, lambda: counted["decoded"])
        assert counted["decoded"] >= COUNT // 2
        assert counted["served"] > COUNT / 20
        health.check()
    assert waiting._join._setup is state  # no forgery ended or moved its run
    assert len(waiting.sessions) == 0
    assert here.inboxes["pne-3"] == ["hello"]
    silence.policy = honest
    await here.stop(waiting)
    await works(here, on.gateway, pne)
    health.check()


def as_datagram(message: Any) -> bytes:
    """Return a message from the uplink in the form of a datagram, which `framed` makes a frame of again."""
    head = bytes([0x40 | len(message.token), int(message.code), 0, 1]) + bytes(message.token)
    return head + bytes(message.opt.encode()) + (b"\xff" + bytes(message.payload) if message.payload else b"")


@pytest.mark.soak
async def test_server_uplink(here: World, counted: Counter[str], caplog: pytest.LogCaptureFixture) -> None:
    on, pne, _, _ = await recorded(here)
    health = Health(caplog)
    mutants = Mutator(3, [as_datagram(seen.message) for seen in on.uplink.seen])
    counted.clear()

    async def connection(frames: int) -> None:
        reader, writer = await asyncio.open_connection(*here.address)
        try:
            writer.write(CSM)
            for _ in range(frames):
                data = mutants()
                writer.write(framed(data) if mutants.random.random() < 0.97 else data)
            await writer.drain()
            writer.write_eof()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()

    async def pour_frames(count: int) -> None:
        goal = counted["frames"] + count
        while counted["frames"] < goal:
            await asyncio.gather(*(connection(40) for _ in range(8)))

    await pour_frames(WARM_UP)
    health.start()
    await pour_frames(COUNT)
    assert counted["frames"] >= COUNT + WARM_UP
    assert counted["served"] > COUNT / 10
    assert counted["sealed"] > COUNT / 50
    await drained(lambda: idle(here.server._endpoint))
    assert here.server.access.admission.under_way == 0
    await until(lambda: len(here.server._endpoint._uplinks.connections) == 1)
    await works(here, on.gateway, pne)
    health.check()


async def test_a_flood_is_remembered_up_to_a_bound(
    here: World, counted: Counter[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More fresh requests than the table of message IDs may hold: it holds no more, and nobody is muted."""
    monkeypatch.setattr(messaging, "MAX_REMEMBERED", 3000 * ENTRY_BYTES + SHARE_BYTES)
    await here.start_server()
    gateway = await here.start_gateway()
    unlimited(gateway.pans[0].endpoint)
    health = Health(caplog)
    socket: Any = gateway.pans[0].endpoint._pan
    remembered = socket._layer._duplicates
    longest = number = 0

    def request() -> bytes:
        nonlocal longest, number
        number += 1
        longest = max(longest, len(remembered))
        return b"\x50\x02" + number.to_bytes(2, "big") + b"\xb1x"

    await pour(here.pan(gateway), request, 9000, lambda: counted["decoded"])
    assert longest == 3000
    assert counted["served"] >= 9000
    remembered.forget(float("inf"))  # as if its time were over
    remembered.forget(float("inf"))
    await here.joined_pne("newcomer", gateway)
    assert len(remembered) < 100, "what is old was forgotten when the next message came"
    health.check()


# Mutants that are sealed: who has a session may lie inside it


async def sealed(asked: Callable[[bytes], Awaitable[Answer]], mutants: Mutator, count: int) -> Counter[int]:
    """Send *count* mutants as payloads inside a session; return the codes that came back."""
    codes: Counter[int] = Counter()
    for _ in range(0, count, 10):
        answers = await asyncio.gather(*(asked(mutants()) for _ in range(10)))
        codes.update(answer.code for answer in answers)
    return codes


REFUSALS = {Code.CHANGED, Code.BAD_REQUEST, Code.UNAUTHORIZED, Code.FORBIDDEN, Code.TOO_MANY_REQUESTS}


@pytest.mark.long
async def test_inside_a_gateway_s_session(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """SETUP Requests and AUTHENTICATE Responses from a registered PN GW, mutated before they are sealed."""
    await here.start_server()
    gateway = ScriptedGateway("evil", await here.key(Kind.GATEWAY, "evil"))
    here.closes(gateway)
    await gateway.connect(here.address)
    health = Health(caplog)
    pnes = [ScriptedPne(f"pne-{suite}", await here.key(Kind.PNE, f"pne-{suite}"), suite=suite) for suite in (1, 2, 3)]
    requests = [
        codec.encode(m.GatewaySetupRequest(bytes(8), False, tuple(entry_of(pne.begin()) for pne in some)))
        for some in (pnes[:1], pnes[1:2], pnes[:2], pnes)
    ]
    own = EntityId("cm-1")
    mediated: list[codec.Message] = [
        *(cm.CmAssignRequest(pnes[0].name, bytes(8)), cm.CmIdRequest(bytes(8), own, bytes(16))),
        *(cm.CmConfirmRequest(bytes(8), bytes(16)), cm.CmReleaseRequest(own)),
    ]
    requests += [codec.encode(one) for one in mediated]
    mutants = Mutator(4, requests)

    async def setup(payload: bytes) -> Answer:
        return await ask(gateway.to_server, payload, session=gateway.session)

    codes = await sealed(setup, mutants, 3000)
    assert set(codes) <= REFUSALS
    assert codes[Code.CHANGED] > 20
    assert codes[Code.BAD_REQUEST] > 500
    proofs = Mutator(5, [codec.encode(m.GatewayProofs(bytes(8), (m.ProofEntry(pnes[0].name, bytes(16)),)))])
    gateway.answer_with = lambda challenge: Answer(Code.CHANGED, proofs())
    for _ in range(100):
        answers = await asyncio.gather(*(gateway.setup(entry_of(pne.begin())) for pne in pnes))
        assert {answer.code for answer in answers} <= REFUSALS
    assert [session.peer_id for session in here.server.sessions] == ["evil"]
    assert here.server.access.admission.under_way == 0
    health.check()


async def test_inside_a_pne_s_session(here: World, caplog: pytest.LogCaptureFixture) -> None:
    """Readings, states and pushes, mutated before they are sealed: stored or refused, never a failure."""
    on = await scene(here, server={"readings_rate": 1e6})
    (pne,) = await on.pnes(["pne-1"])
    health = Health(caplog)
    corpus = [application.encode_reading(pne.next_reading({"t": [1, 2.5, None, {"x": "y"}], "ü": True}))]
    corpus.append(application.encode_text("hello"))
    corpus.append(codec.encode(cm.CmRekeyRequest(EntityId("cm-1"), 1, bytes(16))))
    corpus.append(codec.encode(cm.CmRotateNotify(EntityId("cm-1"))))
    corpus.append(codec.encode(cm.CmKeyRequest(EntityId("cm-1"), bytes(32))))
    mutants = Mutator(6, corpus)
    for path in ("readings", "status", "cpns", "ping"):
        codes = await sealed(partial(pne._way.exchange, path), mutants, 1000)
        assert set(codes) <= REFUSALS, path
        assert sum(codes.values()) == 1000
    kept = await here.store.readings(0, 10000)
    assert {reading.pne_id for reading in kept} == {"pne-1"}
    assert len({reading.reading_id for reading in kept}) == len(kept)
    session, link = here.server.sessions.with_peer(EntityId("pne-1")), here.server.gateways.link(EntityId("gw-1"))
    assert link is not None
    for path in ("inbox", "ping", "cpns"):

        async def push(payload: bytes, path: str = path) -> Answer:
            return await ask(link, payload, path=path, session=session)

        assert set(await sealed(push, mutants, 500)) <= REFUSALS, path
    await settled(pne)
    health.check()
