"""Floods of one host without a key, in short: what they make a server or a gateway work on, by count.

``make floods`` measures what others notice of them. Here each is sent as fast as it is taken; what is counted does not
hang on how fast the machine is.
"""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cpns.coap import frame
from cpns.coap.messaging import MessageLayer
from cpns.pne.app import Pne
from cpns.transport import budget, door, endpoint, pan
from cpns.transport.datagrams import AT_ONCE, Datagrams
from cpns.transport.uplink import Connection
from tests.support.siege.flooder import CONNECTION, DATAGRAM_HEAD, DATAGRAMS, STREAMS, Flood, OnPan, OnUplink
from tests.support.world import World, world

SOURCE = "127.9.0.1"
FRAMES, BYTES, CONNECTIONS = (200.0, 400.0), (100_000.0, 200_000.0), (10.0, 30.0)
ONE_READ = 256 * 1024
"""What a transport reads at most before it is told to read no more."""
READINGS = 5
HONEST_FRAMES = 200
"""More than an honest gateway with one device brings meanwhile."""


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(budget, "STRANGER_FRAMES", FRAMES)
    monkeypatch.setattr(budget, "STRANGER_BYTES", BYTES)
    monkeypatch.setattr(budget, "PATIENCE", 0.5)
    monkeypatch.setattr(door, "CONNECTIONS", CONNECTIONS)
    async with world(tmp_path) as one:
        yield one


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What is worked on: frames of all, and bytes, connections and datagrams of `SOURCE`."""
    counts: Counter[str] = Counter()
    decode, received, made = frame.decode, Connection.data_received, Connection.connection_made
    heard, taken = pan.PanSocket.datagram_received, MessageLayer.receive

    def counted_frame(*of: Any) -> Any:
        counts["frames"] += 1
        return decode(*of)

    def counted_bytes(self: Connection, data: bytes) -> None:
        counts["bytes"] += len(data) if self.source[0] == SOURCE else 0
        received(self, data)

    def counted_connection(self: Connection, transport: Any) -> None:
        made(self, transport)
        counts["connections"] += self.source[0] == SOURCE

    def counted_datagram(self: pan.PanSocket, data: bytes, source: Any, ours: Any) -> None:
        counts["heard"] += source[0] == SOURCE
        heard(self, data, source, ours)

    def counted_taken(self: MessageLayer, remote: Any, data: bytes, now: float) -> Any:
        counts["taken"] += remote[0][0] == SOURCE
        return taken(self, remote, data, now)

    monkeypatch.setattr(frame, "decode", counted_frame)
    monkeypatch.setattr(Connection, "data_received", counted_bytes)
    monkeypatch.setattr(Connection, "connection_made", counted_connection)
    monkeypatch.setattr(pan.PanSocket, "datagram_received", counted_datagram)
    monkeypatch.setattr(MessageLayer, "receive", counted_taken)
    return counts


async def flooded(sender: OnUplink | OnPan, size: int, pne: Pne, enough: Callable[[], bool]) -> float:
    """Flood by *size* bytes at each turn of the loop; return the seconds that it took.

    It ends when it is *enough*, and an honest device has sent its readings meanwhile.
    """

    async def sends() -> None:
        for number in range(READINGS):
            await pne.send(pne.next_reading({"n": number}))

    begun = time.monotonic()
    with contextlib.closing(sender):
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            sending = group.create_task(sends())
            while not sending.done() or not enough():
                sender.burst(size)
                await asyncio.sleep(0)
    return time.monotonic() - begun


@pytest.mark.parametrize("what", STREAMS)
async def test_a_flood_on_an_uplink_is_worked_on_up_to_its_share(here: World, work: Counter[str], what: str) -> None:
    """Its connections end, or are not read; an established device goes on, and a new one comes in afterwards."""
    await here.start_server()
    gateway = await here.start_gateway()
    pne = await here.joined_pne("pne-1", gateway)
    sender = OnUplink(Flood(what, here.address, 0.0, SOURCE, tcp=True))
    many = not STREAMS[what].unit or STREAMS[what].connections > 1
    size = 32_768 if STREAMS[what].unit else 10 * CONNECTION
    work.clear()
    took = await flooded(sender, size, pne, lambda: sender.begun >= 200 if many else sender.ended > 0)
    assert work["frames"] <= FRAMES[1] + FRAMES[0] * took + HONEST_FRAMES
    assert work["bytes"] <= BYTES[1] + BYTES[0] * took + ONE_READ * work["connections"]
    assert work["connections"] <= CONNECTIONS[1] + CONNECTIONS[0] * took
    await here.joined_pne("pne-2", gateway)


@pytest.mark.parametrize("what", DATAGRAMS)
async def test_a_flood_on_a_pan_is_worked_on_up_to_its_share(here: World, work: Counter[str], what: str) -> None:
    await here.start_server()
    gateway = await here.start_gateway()
    pne = await here.joined_pne("pne-1", gateway)
    sender = OnPan(Flood(what, here.pan(gateway), 0.0, SOURCE))
    rate, burst = endpoint.PAN_RATE
    work.clear()
    took = await flooded(sender, DATAGRAM_HEAD * AT_ONCE // 2, pne, lambda: work["heard"] > 2 * burst)
    assert work["taken"] <= burst + rate * took
    await here.joined_pne("pne-2", gateway)


async def test_the_kernel_holds_more_for_a_pan_than_it_does_by_itself() -> None:
    """While the loop does something else, that is all that an honest device's datagram has against a flood."""
    held = []
    for ours in (False, True):
        with contextlib.closing(socket.socket(type=socket.SOCK_DGRAM)) as plain:
            plain.bind(("127.0.0.1", 0))
            if ours:
                Datagrams(plain, lambda *of: None, 100, tells=False)
                asyncio.get_running_loop().remove_reader(plain)
            with contextlib.closing(OnPan(Flood("empty datagrams", plain.getsockname(), 0.0, SOURCE))) as sender:
                sender.burst(DATAGRAM_HEAD * 4000)
            plain.setblocking(False)
            held.append(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    plain.recv(100)
                    held[-1] += 1
    assert held[1] >= 1.9 * held[0] > AT_ONCE
