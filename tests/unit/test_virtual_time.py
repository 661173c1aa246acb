"""The clock of tests whose parties are all in one process: a wait takes no time, and no timer overtakes a message."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cpns.store.worker import Worker
from tests.support.virtual_time import VirtualLoop

HOUR = 3600.0


def run(test: Callable[[], Awaitable[Any]]) -> Any:
    """Return what *test* returns on such a loop."""

    async def main() -> Any:
        return await test()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


def test_a_wait_takes_no_time() -> None:
    async def waits() -> list[float]:
        clocks = (asyncio.get_running_loop().time, time.monotonic, time.time)
        before = [clock() for clock in clocks]
        await asyncio.sleep(HOUR)
        return [clock() - then for clock, then in zip(clocks, before, strict=True)]

    began, before = time.perf_counter(), time.monotonic()
    for passed in run(waits):
        assert passed == pytest.approx(HOUR, abs=60)
    assert time.perf_counter() - began < HOUR / 10
    assert abs(time.monotonic() - before - (time.perf_counter() - began)) < 60


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_what_was_sent_arrives_before_any_timer(kind: socket.SocketKind) -> None:
    async def echoes() -> None:
        loop = asyncio.get_running_loop()
        one, other = _connected(kind)
        with one, other:
            for number in range(500):
                await loop.sock_sendall(one, b"%d" % number)
                async with asyncio.timeout(10):
                    await loop.sock_sendall(other, await loop.sock_recv(other, 100))
                    assert await loop.sock_recv(one, 100) == b"%d" % number

    run(echoes)


def _connected(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    one = socket.socket(socket.AF_INET, kind)
    if kind is socket.SOCK_STREAM:
        with socket.create_server(("127.0.0.1", 0)) as server:
            one.connect(server.getsockname())
            other, _ = server.accept()
    else:
        other = socket.socket(socket.AF_INET, kind)
        for end in (one, other):
            end.bind(("127.0.0.1", 0))
        one.connect(other.getsockname())
        other.connect(one.getsockname())
    for end in (one, other):
        end.setblocking(False)
    return one, other


async def thread() -> None:
    await asyncio.to_thread(time.sleep, 0.2)


async def store() -> None:
    worker = Worker("store")
    await worker.run(time.sleep, 0.2)
    worker.close()


async def process() -> None:
    await (await asyncio.create_subprocess_exec("sleep", "0.2")).wait()


@pytest.mark.parametrize("works", [thread, store, process])
def test_while_others_work_the_clock_runs_as_all_do(works: Callable[[], Awaitable[None]]) -> None:
    async def waits() -> float:
        began = time.monotonic()
        hour, other = asyncio.ensure_future(asyncio.sleep(HOUR)), asyncio.ensure_future(works())
        done, _ = await asyncio.wait([hour, other], return_when=asyncio.FIRST_COMPLETED)
        assert done == {other}
        hour.cancel()
        return time.monotonic() - began

    assert run(waits) >= 0.19
