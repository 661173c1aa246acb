"""What the three ``run`` commands share: the event loop, signals, the log, the trace."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from cpns.cli.streams import Lines
from cpns.errors import BadInput, UserError
from cpns.shares.noted import Line, Noted

if TYPE_CHECKING:
    from cpns.transport.watch import Passed


class Signals(asyncio.Event):
    """Is set when the process is asked to end; what is in *hangups* is called at SIGHUP."""

    def __init__(self) -> None:
        super().__init__()
        self.hangups: list[Callable[[], None]] = []


Role = Callable[[Signals], Awaitable[int]]
"""Runs until the event is set, closes what it opened, and returns the exit code."""

_log = logging.getLogger("cpns")

MAX_TEXT: Final = 400
"""Characters of a line of the log; the rest is cut off."""


def run(role: Role) -> int:
    """Run *role* on uvloop until it ends, or SIGTERM or SIGINT asks it to; return its exit code.

    SIGHUP ends nothing: it is what `logrotate` and `systemctl reload` send.

    A second signal ends the process at once.
    """
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(with_signals(role))


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not on this platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def with_signals(role: Role) -> int:
    """See `run`."""
    stop = Signals()

    def hung_up() -> None:
        for take in stop.hangups:
            take()
        _log.info("SIGHUP: %s", "files are opened anew" if stop.hangups else "there is no --trace to open anew")

    def caught(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, caught, number)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    return await role(stop)


class _Said(NamedTuple):
    """A record of the log as one line, for `Noted`: it has no control characters, and is cut."""

    logger: str
    level: int
    text: str


class NotedHandler(logging.Handler):
    """Hands on to *target* what `Noted` lets through.

    A record that names nobody (see `by`) is its logger's own, so that those of libraries are bounded too. Of an
    exception it says no more than kind and place, as its text may hold anything.
    """

    def __init__(self, target: logging.Handler, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._target = target
        self._monotonic = monotonic
        self._noted = Noted(self._write, monotonic)
        self._looked_at = monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        text = record.getMessage()
        if record.exc_info:
            text += f" {place_of(record.exc_info[1])}"
        shown = "".join(one if one.isprintable() else repr(one)[1:-1] for one in text[:MAX_TEXT])
        said = _Said(record.name, record.levelno, shown if len(text) <= MAX_TEXT else f"{shown}...")
        wording = getattr(record, "state", "") or (record.name, record.msg)
        topic = (wording, getattr(record, "about", ""))
        self._noted.note(getattr(record, "party", record.name), topic, said, proven=getattr(record, "proven", True))
        if self._monotonic() - self._looked_at >= 1.0:
            self._looked_at = self._monotonic()
            self._noted.due()

    def close(self) -> None:
        """Tell what was counted."""
        self._noted.rest()
        super().close()

    def _write(self, line: Line[_Said]) -> None:
        text = line.what.text
        if line.times > 1:
            text += f" ({line.times} times in {line.seconds:.0f} s)"
        if line.lost:
            text += f" (and {line.lost} lines more of who caused it, not written)"
        self._target.handle(logging.LogRecord(line.what.logger, line.what.level, "", 0, "%s", (text,), None))


def place_of(error: BaseException | None) -> str:
    """Return kind and innermost place of an unexpected error, for a report of it."""
    trace = None if error is None else error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    return f"{type(error).__name__}{where}"


def say(line: str) -> None:
    """Print the one line of a role that serves; where nobody reads, it goes on without."""
    Lines(sys.stdout).say(line)


class _ToStderr(logging.Handler):
    """Writes lines to stderr, and never waits until somebody reads them."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = Lines(sys.stderr, self._not_read)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        with contextlib.suppress(BrokenPipeError, UserError):  # there is no other place to say so
            self._lines.say(self.format(record))

    def _not_read(self, lines: int) -> str:
        told = "%d lines of the log are lost: nobody read them in time"
        return self.format(logging.LogRecord("cpns", logging.WARNING, "", 0, told, (lines,), None))


def log_to_stderr() -> None:
    """Write what cpns has to say, and warnings of others, to stderr."""
    handler = _ToStderr()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[NotedHandler(handler)], force=True)
    logging.getLogger("cpns").setLevel(logging.INFO)


class Trace:
    """Appends a JSON line to *path* for each message sent; also a `cpns.transport.endpoint.Watch`.

    Raises:
        BadInput: ``file_not_written``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = _appended(path)
        except OSError as error:
            raise BadInput("file_not_written", f"{path} can't be written: {error.strerror}.") from error
        self._closed = weakref.finalize(self, os.close, self._file)

    def reopen(self) -> None:
        """Go on at the path, where another file may lie by now, or none."""
        try:
            file = _appended(self._path)
        except OSError as error:
            _log.warning("%s can't be written (%s): the trace goes on where it was", self._path, error.strerror)
            return
        self._closed()
        self._file = file
        self._closed = weakref.finalize(self, os.close, file)

    def __call__(self, passed: "Passed") -> None:
        """Append a line for *passed*."""
        line = {
            "at": round(time.time(), 6),
            "sender": passed.sender,
            "peer": passed.peer,
            "what": passed.what,
            "session": passed.session,
        }
        try:
            os.write(self._file, json.dumps(line).encode() + b"\n")  # at once: several processes may append
        except OSError as error:  # not the business of who sent the message
            _log.warning("%s can't be written (%s): lines of the trace are lost", self._path, error.strerror)


def _appended(path: Path) -> int:
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe that nobody reads holds us up
    return os.open(path, how, 0o666)


def trace_to(path: Path | None, signals: Signals) -> Trace | None:
    """Return the trace to *path*, None for none; SIGHUP opens it anew."""
    if path is None:
        return None
    trace = Trace(path)
    signals.hangups.append(trace.reopen)
    return trace
