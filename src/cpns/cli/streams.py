"""The standard streams as a shell gives them: closed, full, or read by nobody.

A command that has nowhere to print does nothing; one whose output fails says so, as of any other file.
"""

import asyncio
import contextlib
import io
import os
import select
import stat
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Final

from cpns.errors import Unavailable, UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


KEPT: Final = 256
"""Lines that are not to be lost, and that wait until somebody reads the ones before them."""
AT_ONCE: Final = select.PIPE_BUF
"""Bytes that a pipe which has room takes without waiting."""
LAST_SECONDS: Final = 2.0
"""What a reader has, when the process ends, to take what waits."""

Failed = Callable[[BrokenPipeError | UserError], None]


class _Output(io.FileIO):
    """Standard output, whose errors are told from those of other files. A closed pipe stays `BrokenPipeError`."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _failed(error) from error


def _failed(error: OSError) -> Unavailable:
    return Unavailable("output_failed", f"Standard output can't be written: {error.strerror}.")


def not_read(lines: int) -> str:
    """Return the line that says how many were lost."""
    return f"{lines} lines are lost: nobody read them in time"


class Lines:
    """Lines to a stream that others may not read: whoever writes one does not wait for them.

    Args:
        stream: standard output or standard error.
        told: makes the line that says how many were lost.
        failed: is told of an error that came too late for `say` and `keep` to raise it.

    Attributes:
        lost: how many lines were lost since it was said last.
    """

    def __init__(
        self, stream: IO[str], told: Callable[[int], str] = not_read, failed: Failed = lambda error: None
    ) -> None:
        self._stream = stream
        self._told = told
        self._failed = failed
        self._port = _port_of(stream)
        self._waiting: deque[bytes] = deque()
        self._watched = False
        self._over: BrokenPipeError | UserError | None = None
        self._empty = asyncio.Event()
        self.lost = 0

    def say(self, line: str) -> None:
        """Write *line*; where nobody reads it is lost, and counted.

        Raises:
            BrokenPipeError: nobody can read any more.
            Unavailable: ``output_failed``.
        """
        if not self._write(line):
            self.lost += 1

    def keep(self, line: str) -> bool:
        """Write *line* as soon as somebody reads; return False where too many wait. Raises as `say`."""
        if self._write(line):
            return True
        if len(self._waiting) >= KEPT:
            return False
        self._wait(_line(line))
        return True

    async def end(self) -> int:
        """Give who reads a moment to take what waits; return how many lines are left."""
        if self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._empty.wait()
        left = len(self._waiting)
        self._waiting.clear()
        self._unwatch()
        if self._port is not None:
            self._port.close()
        return left

    def _write(self, line: str) -> bool:
        if self._port is None:
            print(line, file=self._stream, flush=True)
            return True
        if self._waiting and not self._watched:
            self._again()
        if self._over is not None:
            raise self._over
        if self._waiting or not self._port.has_room():
            return False
        lost, self.lost = self.lost, 0
        data = _line(self._told(lost)) + _line(line) if lost else _line(line)
        rest = self._put(data)
        if rest:
            self._wait(rest)
        return True

    def _put(self, data: bytes) -> bytes:
        """Write what there is room for; return the rest."""
        try:
            while data and self._port is not None and self._port.has_room():
                data = data[self._port.write(data[:AT_ONCE]) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _failed(error) from error
        return data

    def _wait(self, data: bytes) -> None:
        self._waiting.append(data)
        self._empty.clear()
        if not self._watched and self._port is not None:
            with contextlib.suppress(RuntimeError):  # no loop: the next line looks whether there is room
                asyncio.get_running_loop().add_writer(self._port.descriptor, self._again)
                self._watched = True

    def _again(self) -> None:
        try:
            while self._waiting:
                rest = self._put(self._waiting[0])
                if rest:
                    self._waiting[0] = rest
                    return
                self._waiting.popleft()
        except (BrokenPipeError, UserError) as error:
            self._over = error
            self._failed(error)
        self._empty.set()
        self._unwatch()

    def _unwatch(self) -> None:
        if self._watched and self._port is not None:
            asyncio.get_running_loop().remove_writer(self._port.descriptor)
            self._watched = False


def _line(line: str) -> bytes:
    return line.encode(errors="backslashreplace") + b"\n"


class _Port:
    """The file below a stream. Where it can, it has its own descriptor of a pipe or a terminal, which waits for nobody:
    the one that we were given may be another process's, too. A terminal that we may not open has a thread, which waits.
    """

    def __init__(self, given: int) -> None:
        self._given = self.descriptor = given
        self._own: weakref.finalize[..., object] | None = None
        self._copies: threading.Thread | None = None
        if stat.S_ISFIFO(os.fstat(given).st_mode) or os.isatty(given):
            try:
                self.descriptor = os.open(f"/dev/fd/{given}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:  # another user's, or nobody reads it; a pipe that has room takes what we write at once
                if os.isatty(given):
                    self.descriptor = self._copied_to(given)
        if self.descriptor != given:
            self._own = weakref.finalize(self, os.close, self.descriptor)
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLOUT)

    def _copied_to(self, given: int) -> int:
        """Return a pipe from which a thread copies."""
        source, descriptor = os.pipe()
        os.set_blocking(descriptor, False)
        self._copies = threading.Thread(target=_copy, args=(source, given), daemon=True)
        self._copies.start()
        return descriptor

    def close(self) -> None:
        """Let go of our own descriptor; what comes after that goes to the one that we were given."""
        if self._own is not None and self._own.alive:
            self._poll.unregister(self.descriptor)
            self._own()
            if self._copies is not None:
                self._copies.join(LAST_SECONDS)
            self.descriptor = self._given
            self._poll.register(self.descriptor, select.POLLOUT)

    def has_room(self) -> bool:
        return bool(self._poll.poll(0))

    def write(self, data: bytes) -> int:
        return os.write(self.descriptor, data)


def _copy(source: int, to: int) -> None:
    with open(source, "rb", buffering=0) as pipe, contextlib.suppress(OSError):  # who writes hears of it as we close
        while data := pipe.read(AT_ONCE):
            while data:
                data = data[os.write(to, data) :]


def _port_of(stream: IO[str]) -> _Port | None:
    try:
        return _Port(stream.fileno())
    except io.UnsupportedOperation:  # no file below it
        return None


def prepare() -> None:
    """Make the streams usable; what is no character goes out as ``\\udcff``, so that any name can be printed.

    Raises:
        Unavailable: ``output_closed``: standard output is closed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the next file would be a standard stream
        pass
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
    if sys.stdout is None:
        raise Unavailable("output_closed", "Standard output is closed: give a file, or /dev/null.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _told(sys.stdout)


def _told(stdout: io.TextIOWrapper) -> io.TextIOWrapper:
    try:
        raw = _Output(stdout.fileno(), "w", closefd=False)
    except io.UnsupportedOperation:  # no file below it
        return stdout
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stdout.encoding,
        errors="backslashreplace",
        line_buffering=stdout.line_buffering or stdout.write_through,
    )


def finish() -> None:
    """Write what is left, and drop what can't be written, or Python complains at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, Unavailable):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
