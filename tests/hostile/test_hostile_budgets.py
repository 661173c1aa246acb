"""What a connection may make a server work on, before anything of it is parsed: frames and bytes, by host."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns.transport import budget, uplink
from tests.support.world import World, until, world

CSM = b"\x00\xe1"
PING, PONG = b"\x00\xe2", b"\x00\xe3"


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(budget, "STRANGER_FRAMES", (500.0, 1000.0))
    monkeypatch.setattr(budget, "STRANGER_BYTES", (100_000.0, 300_000.0))
    monkeypatch.setattr(budget, "PATIENCE", 1.0)
    async with world(tmp_path) as one:
        yield one


class Flood:
    """A stranger who sends the same bytes as fast as they are taken, until the connection ends."""

    def __init__(self, address: tuple[str, int], data: bytes) -> None:
        self.address = address
        self.data = data
        self.sent = 0
        self.got = b""
        self.seconds = 0.0

    async def run(self) -> None:
        reader, writer = await asyncio.open_connection(*self.address)
        began = time.monotonic()
        listens = asyncio.create_task(self._listen(reader))
        try:
            writer.write(CSM)
            while True:
                writer.write(self.data)
                await writer.drain()
                self.sent += len(self.data)
                await asyncio.sleep(0)
        except OSError:
            pass
        finally:
            self.seconds = time.monotonic() - began
            writer.close()
            await asyncio.gather(listens, return_exceptions=True)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            self.got += data


@pytest.mark.parametrize(
    "frame", [PING, b"\x00\x00", b"\x00\x44", b"\x00\x02"], ids=["ping", "empty", "answer", "request"]
)
async def test_a_flood_of_frames_is_ended(here: World, frame: bytes) -> None:
    """Whatever they say; and a device of another connection goes on meanwhile."""
    server = await here.start_server()
    pne = await here.joined_pne("pne-1", await here.start_gateway())
    flood = Flood(here.address, frame * 8192)
    async with asyncio.timeout(60):
        running = asyncio.create_task(flood.run())
        while not running.done():
            await pne.send(pne.next_reading({"goes": "on"}))
        await running
    assert len(server._endpoint._uplinks.connections) == 1  # the gateway's


async def test_a_flood_of_pings_is_read_as_fast_as_its_share_and_then_ended(here: World) -> None:
    """Over it the socket is not read: what the stranger has got rid of is what the kernels hold."""
    await here.start_server()
    flood = Flood(here.address, PING * 8192)
    await asyncio.wait_for(flood.run(), 60)
    pongs = flood.got.count(PONG)
    assert 500 <= pongs <= 1000 + 500 * (flood.seconds + 1)
    assert flood.seconds >= 1.0  # PATIENCE


async def test_bytes_count_too(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long frames that nobody asked for, each an answer to nothing: few, but heavy; each read of them goes over it."""
    monkeypatch.setattr(uplink, "UNPROVEN_SECONDS", 1000.0)
    await here.start_server()
    body = bytes(60_000)
    flood = Flood(here.address, b"\xe0" + (len(body) + 1 - 269).to_bytes(2, "big") + b"\x44\xff" + body)
    await asyncio.wait_for(flood.run(), 60)
    assert flood.seconds >= 1.0


async def test_who_keeps_within_its_share_stays(here: World) -> None:
    await here.start_server()
    reader, writer = await asyncio.open_connection(*here.address)
    writer.write(CSM)
    for _ in range(20):
        writer.write(PING * 5)
        await asyncio.sleep(0.05)
    got = b""
    async with asyncio.timeout(40):
        while got.count(PONG) < 100:
            got += await reader.read(1000)
    writer.close()


async def test_connections_of_one_host_that_wait_wake_no_more_often_than_one(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They line up: so many that each look once in a few milliseconds would leave no time for anybody else."""
    looks = 0
    looked = budget.Budget.wait_for_frames

    def counted(self: budget.Budget, host: str, count: int) -> float:
        nonlocal looks
        looks += 1
        return looked(self, host, count)

    monkeypatch.setattr(budget.Budget, "wait_for_frames", counted)
    monkeypatch.setattr(budget, "PATIENCE", 60.0)
    server = await here.start_server()
    opened = [await asyncio.open_connection(*here.address) for _ in range(100)]
    for _, writer in opened:
        writer.write(CSM + PING * 4096)

    pongs = 0

    async def count(reader: asyncio.StreamReader) -> None:
        nonlocal pongs
        while data := await reader.read(65536):
            pongs += data.count(PONG)

    counting = [asyncio.create_task(count(reader)) for reader, _ in opened]
    await until(lambda: pongs > 1500)
    assert looks <= 2 * len(opened) + 4 * pongs / budget.BLOCK
    assert len(server._endpoint._uplinks.connections) == len(opened)
    for one in list(server._endpoint._uplinks.connections):
        one.close()
    await asyncio.gather(*counting, return_exceptions=True)
    for _, writer in opened:
        writer.close()
    await until(lambda: not server._endpoint._uplinks.connections)
    assert not server._endpoint._uplinks.budgets[False]._waiting, "who is gone waits no more"


async def test_connections_of_one_host_that_wait_hold_little(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came at once is in memory until it is worked on: of so many connections, the long ones end."""
    monkeypatch.setattr(budget, "PATIENCE", 60.0)
    monkeypatch.setattr(budget, "STRANGER_HELD", 200_000)
    server = await here.start_server()
    opened = [await asyncio.open_connection(*here.address) for _ in range(60)]
    await until(lambda: len(server._endpoint._uplinks.connections) == len(opened))
    for _, writer in opened[:50]:
        writer.write(CSM + PING * 16_000)
    for _, writer in opened[50:]:
        writer.write(CSM + PING * 100)
    await until(lambda: len(server._endpoint._uplinks.connections) < 20)
    held = [one._engine.held for one in server._endpoint._uplinks.connections]
    assert sum(held) < 200_000 * 4  # 1/1 + 1/2 + ... + 1/20
    short = {writer.get_extra_info("sockname")[1] for _, writer in opened[50:]}
    assert short <= {one.source[1] for one in server._endpoint._uplinks.connections}
    for _, writer in opened:
        writer.close()


async def test_who_goes_over_now_and_then_stays(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two bursts it was within its share, whether it said anything there or not."""
    monkeypatch.setattr(budget, "RESPITE", 0.1)
    await here.start_server()
    reader, writer = await asyncio.open_connection(*here.address)
    writer.write(CSM)
    await reader.readexactly(6)  # its settings
    for _ in range(2):
        writer.write(PING * 1100)
        async with asyncio.timeout(40):
            assert await reader.readexactly(2 * 1100) == PONG * 1100
        await asyncio.sleep(1.5)  # longer than PATIENCE
    writer.close()
