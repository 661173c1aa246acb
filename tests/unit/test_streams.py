"""Standard output and error that others do not read: nobody waits for them, and what is lost is counted."""

import asyncio
import contextlib
import errno
import logging
import os
import pty
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.cli.events import ANSWER, Events
from cpns.cli.options import Output
from cpns.cli.run import Trace, log_to_stderr
from cpns.cli.streams import KEPT, Lines
from cpns.errors import BadInput, NoAnswer, Unavailable
from cpns.ids import EntityId
from cpns.transport.watch import Passed

LINE = "x" * 900


def _pipe() -> tuple[int, int]:
    return os.pipe()


def _terminal() -> tuple[int, int]:
    ours, theirs = pty.openpty()
    return ours, theirs


def _sockets() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


STREAMS = {"pipe": _pipe, "terminal": _terminal, "socket": _sockets}


@contextlib.contextmanager
def stalled(make: Callable[[], tuple[int, int]] = _pipe) -> Iterator[tuple[int, IO[str]]]:
    """Give the end to read from, which nobody does, and the stream of the other end."""
    ours, theirs = make()
    os.set_blocking(ours, False)
    with open(theirs, "w") as stream:
        yield ours, stream
    os.close(ours)


def read(descriptor: int) -> str:
    """Return what is there by now."""
    got = b""
    with contextlib.suppress(BlockingIOError):
        while more := os.read(descriptor, 65536):
            got += more
    return got.decode().replace("\r\n", "\n")


def told(lost: int) -> str:
    return f"{lost} lost"


async def loses_its_reader(lines: Lines, ours: int, failed: list[BaseException]) -> None:
    """Let nobody read until no line is taken, then close the other end, *ours*; wait until that is in *failed*."""
    while lines.keep(LINE):
        pass
    os.close(ours)
    async with asyncio.timeout(40):
        while not failed:
            await asyncio.sleep(0.001)


def fill(events: Events) -> int:
    """Let a device receive texts until it takes no more; return how many it took."""
    with contextlib.suppress(NoAnswer):
        for number in range(10_000):
            assert events.received(f"{number} {LINE}") == ANSWER
    return number


@pytest.mark.parametrize("kind", STREAMS)
def test_nobody_waits_for_who_does_not_read(kind: str) -> None:
    """What is lost is counted, and said as soon as there is room; whole lines are lost, and none in part."""
    with stalled(STREAMS[kind]) as (reader, stream):
        lines = Lines(stream, told)
        for number in range(2000):  # 1.8 MB: more than any of them holds
            lines.say(f"{number} {LINE}")
        got = read(reader)
        lines.say("again")
        *came, again = (got + read(reader)).splitlines()
        number = written = 0
        for line in came:  # a terminal has room again now and then, though nobody reads
            if line.endswith(" lost"):
                number += int(line.split()[0])
            else:
                assert line == f"{number} {LINE}"
                number, written = number + 1, written + 1
        assert (number, again) == (2000, "again")
        assert 0 < written < 2000
        assert os.get_blocking(stream.fileno())  # it may be another's, too


@pytest.mark.parametrize("kind", STREAMS)
async def test_what_is_not_to_be_lost_waits_until_somebody_reads(kind: str) -> None:
    with stalled(STREAMS[kind]) as (reader, stream):
        lines = Lines(stream, told)
        kept = [number for number in range(2000) if lines.keep(f"{number} {LINE}")]
        assert kept[:KEPT] == list(range(KEPT))  # then it is full, and says so, unless there is room again
        assert KEPT < len(kept) < 2000
        lines.say("this is lost")
        got = ""
        async with asyncio.timeout(40):
            while len(got.splitlines()) < len(kept) or not got.endswith("\n"):
                await asyncio.sleep(0.001)
                got += read(reader)
        assert got.splitlines() == [f"{number} {LINE}" for number in kept]
        assert await lines.end() == 0
        lines.say("again")
        assert read(reader).splitlines() == ["1 lost", "again"]


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each terminal be another user's."""
    opened = os.open

    def refused(path: str, flags: int, *mode: int) -> int:
        if path.startswith("/dev/fd/"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *mode)

    monkeypatch.setattr(os, "open", refused)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "said"])
async def test_nobody_waits_for_another_users_terminal(keeps: bool) -> None:
    """It can't be opened anew: writing to the one that was given would stop all, so a thread does."""
    with stalled(_terminal) as (reader, stream):
        lines, taken = Lines(stream, told), []
        for number in range(2000):
            if keeps and lines.keep(f"{number} {LINE}"):
                taken.append(number)
            elif not keeps:
                before = lines.lost
                lines.say(f"{number} {LINE}")
                taken += [] if lines.lost > before else [number]
        assert 0 < len(taken) < 2000
        got = ""
        async with asyncio.timeout(40):
            while got.count(LINE) < len(taken) or not got.endswith("\n"):
                await asyncio.sleep(0.001)
                got += read(reader)
        assert [line for line in got.splitlines() if not line.endswith(" lost")] == [f"{n} {LINE}" for n in taken]
        lines.keep("the end")
        assert await lines.end() == 0
        assert read(reader).splitlines()[-1] == "the end"
        assert os.get_blocking(stream.fileno())


@pytest.mark.usefixtures("others")
async def test_another_users_terminal_that_is_gone_is_told() -> None:
    ours, theirs = pty.openpty()
    failed: list[BaseException] = []
    with open(theirs, "w") as stream:
        lines = Lines(stream, told, failed.append)
        await loses_its_reader(lines, ours, failed)
        assert 0 < await lines.end() <= KEPT


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9000), st.booleans()), max_size=60))
def test_lines_come_whole_in_order_and_once(steps: list[tuple[bool, int, bool]]) -> None:
    """Whatever is written, of any length, and whenever somebody reads."""

    async def run() -> None:
        with stalled() as (reader, stream):
            lines = Lines(stream, told)
            taken, got, lost = [], "", 0
            for number, (keep, length, reads) in enumerate(steps):
                line = f"{number} {'y' * length}"
                if keep and lines.keep(line):
                    taken.append(line)
                elif not keep:
                    before = lines.lost
                    lines.say(line)
                    if lines.lost > before:
                        lost += 1
                    else:
                        taken.append(line)
                if reads:
                    got += read(reader)
                    await asyncio.sleep(0)
            while (left := len(got)) >= 0:
                got += read(reader)
                await asyncio.sleep(0.001)
                if len(got) == left and await lines.end() == 0:
                    break
            lines.say("end")
            got += read(reader)
            said = [line for line in got.splitlines() if not line.endswith(" lost")]
            assert said == [*taken, "end"]
            assert sum(int(line.split()[0]) for line in got.splitlines() if line.endswith(" lost")) == lost

    asyncio.run(run())


async def test_an_error_that_comes_late_is_told() -> None:
    failed: list[BaseException] = []
    ours, theirs = os.pipe()
    with open(theirs, "w") as stream:
        lines = Lines(stream, told, failed.append)
        await loses_its_reader(lines, ours, failed)
        assert isinstance(failed[0], BrokenPipeError)
        for write in (lines.keep, lines.say):  # and each after that is no more taken than the first
            with pytest.raises(BrokenPipeError):
                write(LINE)


async def test_a_text_that_waits_is_received_and_one_with_no_place_is_not() -> None:
    with stalled() as (reader, stream), mock.patch.object(sys, "stdout", stream):
        events = Events(EntityId("pne-1"), Output.TABLE)
        received = fill(events)
        events.tell("established", "established")
        got = read(reader)
        async with asyncio.timeout(40):
            while got.count("\n") < received:
                await asyncio.sleep(0.001)
                got += read(reader)
        assert got.splitlines() == [f"received {number} {LINE}" for number in range(received)]
        assert events.received("one more") == ANSWER
        assert read(reader).splitlines() == ["1 lines are lost: nobody read them in time", "received one more"]
        await events.end()


async def test_texts_that_nobody_took_are_told_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.cli.streams.LAST_SECONDS", 0.01)
    with stalled() as (_, stream), mock.patch.object(sys, "stdout", stream):
        events = Events(EntityId("pne-1"), Output.TABLE)
        fill(events)
        with pytest.raises(Unavailable, match=f"{KEPT} lines are lost") as caught:
            await events.end()
    assert caught.value.code == "output_not_read"


def test_the_log_waits_for_nobody() -> None:
    logger = logging.getLogger("cpns.test")
    root, level = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        with stalled() as (reader, stream), mock.patch.object(sys, "stderr", stream):
            log_to_stderr()
            for number in range(3000):
                logger.warning("%s", LINE, extra={"party": f"party {number}"})
            first = read(reader).splitlines()
            assert 0 < len(first) < 3000
            logger.warning("again", extra={"party": "another"})
            lost, again = read(reader).splitlines()
            assert f"WARNING {3000 - len(first)} lines of the log are lost" in lost
            assert again.endswith("again")
    finally:
        logging.basicConfig(level=level, handlers=root, force=True)


def test_a_trace_to_a_pipe_waits_for_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "trace"
    os.mkfifo(path)
    with pytest.raises(BadInput, match="can't be written"):
        Trace(path)  # nobody has it open
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    trace = Trace(path)
    for _ in range(2000):
        trace(Passed(EntityId("pne-1"), "gw-1", "x" * 100, "-"))
    assert "lines of the trace are lost" in caplog.text
    os.close(reader)
