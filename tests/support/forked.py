"""Processes of ``python -m cpns`` that are forked from one which has imported all of it (`tests.support.mother`).

They are processes as all others, but those begin with a second of imports.
"""

import asyncio
import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.support import virtual_time

MOTHER = Path(__file__).with_name("mother.py")


class Mother:
    """The process that forks, for one Python and one source; it ends with this one."""

    def __init__(self, python: str, source: str | None) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        more = {} if source is None else {"PYTHONPATH": source}
        self._process = subprocess.Popen(
            [python, "-P", str(MOTHER), str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **more},
        )
        theirs.close()
        atexit.register(self._end)

    def fork(self, command: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """Return the number of a new process."""
        with self._lock:
            socket.send_fds(self._control, [json.dumps(command).encode()], descriptors)
            return int(self._control.recv(16))

    def _end(self) -> None:
        self._control.close()
        self._process.wait()


mother = functools.cache(Mother)


class Forked:
    """``python -m cpns``, with what tests use of `subprocess.Popen`.

    Args:
        arguments: the Python, ``-m``, a module, and what it is given.
        env: its environment.
        stdin, stdout, stderr: files, descriptors, `subprocess.PIPE` or `subprocess.DEVNULL`.
        text: whether what is written to its standard input is text.
        namespace: the network namespace that it is in; empty: that of the tests.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: int | IO[Any],
        stdout: int | IO[Any],
        stderr: int | IO[Any],
        text: bool = False,
        namespace: str = "",
    ) -> None:
        virtual_time.run_along()
        python, _, module, *self.args = arguments
        self.stdin: IO[Any] | None = None
        self.stdout: IO[Any] | None = None
        self.stderr: IO[Any] | None = None
        self.returncode: int | None = None
        self._ended, status = os.pipe()
        theirs: list[int] = []
        opened = [status]
        for name, given in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if given == subprocess.PIPE:
                read, write = os.pipe()
                ours, other, mode = (write, read, "w") if name == "stdin" else (read, write, "r")
                setattr(self, name, open(ours, mode if text else f"{mode}b"))
                opened.append(other)
            elif given == subprocess.DEVNULL:
                other = os.open(os.devnull, os.O_RDWR)
                opened.append(other)
            else:
                other = given if isinstance(given, int) else given.fileno()
            theirs.append(other)
        command = {
            **{"module": module, "arguments": self.args, "environment": dict(env), "folder": os.getcwd()},
            "namespace": namespace,
        }
        self.pid = mother(python, env.get("PYTHONPATH")).fork(command, [*theirs, status])
        for one in opened:
            os.close(one)

    def poll(self) -> int | None:
        """Return its exit status, once it has ended."""
        return self._status(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit status when it has ended; raise `subprocess.TimeoutExpired` where that takes longer."""
        status = self._status(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _status(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            status = select.poll()
            status.register(self._ended)
            if status.poll(None if timeout is None else 1000 * timeout):
                self.returncode = int(os.read(self._ended, 16))
                os.close(self._ended)
        return self.returncode


class Awaited:
    """A `Forked` for an event loop, with what the demo uses of `asyncio.subprocess.Process`."""

    def __init__(self, process: Forked, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader) -> None:
        self._process = process
        self.stdout, self.stderr = stdout, stderr
        self.terminate = functools.partial(process.send_signal, signal.SIGTERM)
        self.kill = process.kill

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    async def wait(self) -> int:
        while (status := self._process.poll()) is None:
            await asyncio.sleep(0.01)
        return status


async def awaited(*arguments: str, **options: Any) -> Awaited:
    """Start a process; takes the place of `asyncio.create_subprocess_exec`."""
    process, loop = Forked(arguments, **options), asyncio.get_running_loop()
    readers = []
    for pipe in (process.stdout, process.stderr):
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda reader=reader: asyncio.StreamReaderProtocol(reader), pipe)  # type: ignore[misc]
        readers.append(reader)
    return Awaited(process, *readers)
