"""What a peer is: a server that we start, a way to have it authenticate, and what that costs."""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench import wire
from bench.cpu import cpu_ns
from bench.load import SETTLE
from bench.peers.relay import Relay

IN_FLIGHT = 32
"""Clients at once, as many as there are PN GWs when cpns is measured at batch 1."""

PATIENCE = 20.0
"""Seconds until a server that was started listens."""


class Absent(Exception):
    """A peer can't be measured here; the text says what to install."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one device that was authenticated, or of one protected exchange.

    Attributes:
        server_cpu_us: user and system time of the server, microseconds.
        bytes: payload of UDP or TCP, both ways.
        round_trips: as the client waits for them; TCP's own handshake is none.
    """

    server_cpu_us: float
    bytes: float
    round_trips: float


Measure = Callable[[int], Awaitable[Cost]]
"""Do it so many times, a multiple of `IN_FLIGHT`; return the mean of one."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare with.

    Attributes:
        name: for tables.
        forward_secret: a key that is stolen later does not open what was recorded.
        start: starts the server with its files in a folder of its own, and stops it in the end; raises `Absent`.
    """

    name: str
    forward_secret: bool
    start: Callable[[Path], AbstractAsyncContextManager[Measure]]


def need(package: str, *programs: str) -> None:
    """Raise `Absent` unless all *programs*, of that Debian package, are there."""
    missing = [program for program in programs if shutil.which(program, path=_path()) is None]
    if missing:
        raise Absent(f"{', '.join(missing)} not found; on Debian: apt install {package}")


def environment(**more: str) -> dict[str, str]:
    """Return an environment that has nothing of the caller's: no settings of his, no locale."""
    return {"PATH": _path(), "LC_ALL": "C", **more}


def _path() -> str:
    """Return the caller's path, and where Debian puts servers."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def free_port(kind: socket.SocketKind) -> int:
    """Return a port of 127.0.0.1 that nobody has right now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def serving(
    folder: Path, port: int, *command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[int]:
    """Run *command*, which listens at *port*; yield its process ID once it does. It ends with us, however we end.

    Raises:
        RuntimeError: it ended by itself, or did not come to listen; the text is what it printed.
    """
    log = folder / "server.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", *command),
            stdin=asyncio.subprocess.PIPE,  # some end when their standard input does
            stdout=out,
            stderr=out,
            cwd=cwd or folder,
            env=environment() if env is None else env,
        )
    try:
        async with asyncio.timeout(PATIENCE):
            while process.returncode is None and not _listens(process.pid, port):
                await asyncio.sleep(0.02)
        if process.returncode is not None:
            raise RuntimeError(f"{command[0]} ended: {log.read_text(errors='replace')}")
        yield process.pid
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _listens(pid: int, port: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(each.laddr and each.laddr.port == port for each in psutil.Process(pid).net_connections())
    return False


async def run(*command: str, env: Mapping[str, str], cwd: Path, stdin: bytes | None = None) -> str:
    """Return what *command* printed.

    Raises:
        RuntimeError: it failed; the text is the end of what it printed.
    """
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", *command),
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env=env,
    )
    printed, _ = await process.communicate(stdin)
    text = printed.decode(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {text[-500:]}")
    return text


Round = list[Coroutine[Any, Any, None]]
"""Clients at once; those of the next round start when all have ended, for starting a program disturbs the server."""


async def charged(pid: int, relay: Relay, count: int, rounds: Iterable[Round]) -> Cost:
    """Run *rounds* against the server *pid*, through *relay*; return the cost of each of *count*."""

    async def client(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            relay.gate.leave()

    with relay.wire.record() as passed:
        before = cpu_ns(pid)
        for clients in rounds:
            relay.gate.level = len(clients)
            async with asyncio.TaskGroup() as group:
                for work in clients:
                    group.create_task(client(work))
        await asyncio.sleep(SETTLE)
        spent = cpu_ns(pid) - before
        links = list(passed.values())
    return Cost(spent / 1000 / count, sum(map(wire.total, links)) / count, sum(map(wire.round_trips, links)) / count)
