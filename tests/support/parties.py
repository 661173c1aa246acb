"""Server, gateway and PNEs as separate processes of the `cpns` command, started, killed and started again."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from typer.testing import CliRunner

from cpns.cli.main import app
from tests.support.forked import Forked

T = TypeVar("T")

PATIENCE = 60.0


def _ports() -> Iterator[int]:
    """Return ports below the range from which the kernel serves whoever binds port 0, over and over.

    The processes of one test run begin far from each other, and two runs anywhere.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    begin = zlib.crc32(run.encode()) + 2000 * worker
    return (10_000 + (begin + number) % 20_000 for number in itertools.count())


_PORTS = _ports()


def free_port(kind: socket.SocketKind) -> int:
    """Return a port that nobody has: the test's own, to bind now or later, and again, or to leave dead."""
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, kind) as one:
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError("they never end")


def until(found: Callable[[], T | None], what: str | Callable[[], str], patience: float = PATIENCE) -> T:
    """Return what *found* returns as soon as it is not None or False; fail when that takes too long."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {patience:.0f} s in vain: {what if isinstance(what, str) else what()}")


class Process:
    """One process, its output kept, its standard input open.

    Args:
        output: where it writes all it says, instead of being kept.
        fresh: it is started anew, also where it could be forked (`tests.support.forked`).
        namespace: as of `Forked`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: dict[str, str],
        output: int = subprocess.PIPE,
        *,
        fresh: bool = False,
        namespace: str = "",
    ) -> None:
        self.arguments = arguments
        given: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": output, "stderr": output}
        given["env"] = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **environment}
        self.process: subprocess.Popen[bytes] | Forked
        if fresh or arguments[1] != "-m":
            self.process = subprocess.Popen(arguments, **given)
        else:
            self.process = Forked(arguments, **given, namespace=namespace)
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.out), (self.process.stderr, self.err))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        for line in stream:
            lines.append(line.decode(errors="replace").rstrip("\n"))

    def write(self, line: str) -> None:
        """Give it a line; a process that is gone takes none."""
        try:
            assert self.process.stdin is not None
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass

    def wait_line(self, containing: str) -> str:
        """Return the first line of its output with *containing*; fail once it is gone without."""

        def found() -> str | None:
            gone = self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers)
            line = next((line for line in self.out + self.err if containing in line), None)
            assert line is not None or not gone, f"it ended: {said()}"
            return line

        def said() -> str:
            return f"{containing!r} from {self.arguments!r}; it said {self.out[-5:]} {self.err[-8:]}"

        return until(found, said)

    def output(self, code: int = 0) -> str:
        """Let it run to its end, which is to be *code*; return its standard output."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        assert self.process.wait(PATIENCE) == code, (self.arguments, self.out, self.err)
        self.end()
        return "\n".join(self.out)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass
        return code


class Parties:
    """The parties of one test, in one folder.

    Args:
        folder: of all their files.
        prefix: what stands before the arguments of `cpns`, such as an oracle that watches.
        fresh: as of `Process`.
    """

    def __init__(self, folder: Path, prefix: Sequence[str] = ("-m", "cpns"), *, fresh: bool = False) -> None:
        self.folder = folder
        self._fresh = fresh
        self._prefix = prefix
        self._environment: dict[str, str] = {}
        self.all: list[Process] = []
        self.server_port = free_port(socket.SOCK_STREAM)
        self.pan_port = free_port(socket.SOCK_DGRAM)

    def start(self, *arguments: str) -> Process:
        """Start ``cpns ARGUMENTS``."""
        process = Process([sys.executable, *self._prefix, *arguments], self._environment, fresh=self._fresh)
        self.all.append(process)
        return process

    def call(self, *arguments: str, code: int = 0) -> str:
        """Run ``cpns ARGUMENTS`` to its end and return its standard output."""
        process = Process([sys.executable, "-m", "cpns", *arguments], self._environment, fresh=self._fresh)
        self.all.append(process)
        return process.output(code)

    def prepare(self, *arguments: str) -> None:
        """Run ``cpns ARGUMENTS`` in this process, which takes a tenth of the time; not for what a test is about."""
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)

    def path(self, name: str) -> str:
        """Return a path in the folder."""
        return str(self.folder / name)

    def provision(self, *devices: str) -> None:
        """Make the server's folder, the gateway `gw-1`, and *devices*."""
        self.prepare("server", "init", "--data", self.path("server"), "--id", "server.example")
        self.prepare("gateway", "add", "gw-1", "--data", self.path("server"), "--out", self.path("gw-1.key"))
        for name in devices:
            self.prepare("device", "add", name, "--data", self.path("server"), "--out", self.path(f"{name}.key"))

    def server(self) -> Process:
        """Start the server and wait until it listens."""
        one = self.start("server", "run", "--data", self.path("server"), "--listen", f"127.0.0.1:{self.server_port}")
        one.wait_line("listening at")
        return one

    def gateway(self, *more: str) -> Process:
        """Start the gateway and wait until its PAN is bound."""
        one = self.start(
            *("gateway", "run", "--key", self.path("gw-1.key"), "--server", f"127.0.0.1:{self.server_port}"),
            *("--pan", f"127.0.0.1:{self.pan_port}", "--data", self.path("gateway"), "--no-announce", *more),
        )
        one.wait_line("gw-1 at")
        return one

    def pne(self, name: str, *more: str) -> Process:
        """Start a PNE that sends the lines given to it."""
        return self.start(
            *("pne", "run", "--key", self.path(f"{name}.key"), "--gateway", f"127.0.0.1:{self.pan_port}"),
            *("--source", "-", "--output", "json", "--timer", "3", "--request-timeout", "1.5", *more),
        )

    def readings(self) -> list[dict[str, Any]]:
        """Return all that the server has stored."""
        import sqlite3

        with sqlite3.connect(f"file:{self.path('server')}/server.db?mode=ro", uri=True) as connection:
            rows = connection.execute("SELECT pne_id, verified, body FROM readings ORDER BY number").fetchall()
        connection.close()
        return [{"device": pne, "verified": verified, "body": json.loads(body)} for pne, verified, body in rows]

    def close(self) -> None:
        """End everything."""
        for process in self.all:
            process.end(signal.SIGKILL)


def acknowledged(process: Process) -> list[Any]:
    """Return the bodies that a PNE says the server acknowledged."""
    events = (json.loads(line) for line in list(process.out) if line.startswith("{"))
    return [event["body"] for event in events if event["event"] == "acknowledged"]
