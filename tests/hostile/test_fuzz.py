"""100,000 random and mutated messages at each entry, over real sockets: server (TCP), gateway and PNE (UDP).

No unhandled exception, no error in the log, bounded memory, and the party does its work afterwards.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.transports import tcp
from tests.support.fuzz import Health, Mutator, drained, framed, pour
from tests.support.lossy import Datagram, Fates, UdpProxy, honest
from tests.support.raw import CSM
from tests.support.tap import scene
from tests.support.world import World, address_of, until, world

from cpns.pne.app import Pne
from cpns.transport import endpoint as endpoint_module
from cpns.transport import pan, stack
from cpns.transport.endpoint import Endpoint
from cpns.wire import application

COUNT = 100_000
WARM_UP = 5_000


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A world whose message IDs are forgotten soon, so that mutants are no repetitions, and without rate limits."""
    monkeypatch.setattr(stack.PanTuning, "ACK_TIMEOUT", 0.1)
    monkeypatch.setattr(stack.PanTuning, "MAX_LATENCY", 0.1)
    monkeypatch.setattr(endpoint_module, "UPLINK_RATE", (1e12, 1e12))
    async with world(tmp_path) as one:
        one.passed = deque(maxlen=100)  # type: ignore[assignment]  # memory is measured here
        yield one


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What was decoded, and what reached an endpoint."""
    counts: Counter[str] = Counter()

    class Counting:
        @staticmethod
        def decode(data: bytes, remote: Any) -> Any:
            counts["decoded"] += 1
            return Message.decode(data, remote=remote)

    frame = tcp._decode_message

    def decode_frame(data: bytes) -> Any:
        counts["frames"] += 1
        return frame(data)

    serve = Endpoint._serve

    async def count(self: Endpoint, tokens: Any, request: Any) -> None:
        counts["served"] += 1
        counts["sealed"] += request.opt.oscore is not None
        await serve(self, tokens, request)

    monkeypatch.setattr(pan, "Message", Counting)
    monkeypatch.setattr(tcp, "_decode_message", decode_frame)
    monkeypatch.setattr(Endpoint, "_serve", count)
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
        await here.server.send(pne.config.pne_id, "inbox", application.encode_text("hello"))
        if suite < 3:
            await here.stop(pne)
    unlimited(on.gateway.pans[0].endpoint)
    up = [one.data for one in on.pan.seen if one.up]
    down = [one.data for one in on.pan.seen if not one.up]
    assert len(up) > 20
    assert len(down) > 20
    on.uplink.keep = False
    return on, pne, up, down


async def works(here: World, gateway: Any, pne: Pne) -> None:
    """Show that who was there is there still, and that a new PNE gets in."""
    async with asyncio.timeout(20):
        await pne.send(pne.next_reading({"after": True}))
        await here.joined_pne("newcomer", gateway)


def idle(party: Endpoint) -> bool:
    return not party._tasks and not party._tokens._exchanges


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
    assert on.gateway.pans[0].setup._count.total() == on.gateway.pans[0].hop._runs == 0
    await works(here, on.gateway, pne)
    health.check()
    assert {session.peer_id for session in here.server.sessions} <= {"gw-1", "pne-1", "pne-2", "pne-3", "newcomer"}


def acknowledges(datagram: Datagram) -> Fates:
    """Let a SETUP Request through and its acknowledgement back, and nothing else."""
    passes = datagram.up or Message.decode(datagram.data).code == 0
    return [(0.0, datagram.data)] if passes else []


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
    assert here.server._runs == 0
    await until(lambda: len(here.server._endpoint._tokens.token_interface.connections) == 1)
    await works(here, on.gateway, pne)
    health.check()
