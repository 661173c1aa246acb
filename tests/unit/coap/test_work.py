"""What hostile messages cost, counted and not timed: lines of the engine that run, and bytes that it copies.

`python -m bench.coap` prints the microseconds of the same messages.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, SupportsIndex

import pytest

import cpns.coap
from bench import coap as bench
from cpns.coap import datagram, frame
from cpns.coap.connection import Connection
from cpns.coap.errors import FormatError
from cpns.coap.events import RequestArrived, StreamEvent
from cpns.coap.message import MAX_OPTIONS, Message
from tests.support.links import FORMS

ROOM = str(Path(cpns.coap.__file__).parent)
LENGTHS = (64, 1024, 8192, 65_000)
AN_OPTION = 16
"""Lines for an option, its extensions included."""
A_FRAME = 64
"""Lines for a frame and its event, without options."""
A_PIECE = 20
"""Lines for bytes that make no frame whole."""


def lines_of(work: Callable[..., Any], *arguments: Any) -> int:
    """Return how many lines of the engine run in *work*."""
    count = 0

    def local(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def called(frame: FrameType, event: str, argument: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(ROOM) else None

    before = sys.gettrace()
    sys.settrace(called)
    try:
        work(*arguments)
    finally:
        sys.settrace(before)
    return count


class Counted(bytes):
    """Bytes that know how many of them were looked at, and how many copied."""

    looked = copied = 0

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        found: Any = super().__getitem__(key)
        if isinstance(found, int):
            self.looked += 1
        else:
            self.copied += len(found)
        return found


def decoded(data: bytes) -> None:
    try:
        datagram.decode(data)
    except FormatError:
        pass


@pytest.mark.parametrize("kind", bench.DATAGRAMS)
def test_a_datagram_costs_what_its_options_do_and_no_byte_is_copied_twice(kind: str) -> None:
    for size in LENGTHS:
        data = Counted(b"\x48\x02\x12\x3412345678" + bench.DATAGRAMS[kind](size))
        assert lines_of(decoded, data) <= 24 + AN_OPTION * (MAX_OPTIONS + 1)
        data = Counted(data)
        decoded(data)
        assert data.looked <= 8 + 5 * (MAX_OPTIONS + 1)
        assert data.copied <= len(data)


def drained(data: bytes, piece: int, found: list[StreamEvent]) -> None:
    """Put into *found* what a connection makes of *data*, in pieces."""
    connection = Connection(bench.MOST, FORMS)
    connection.receive(bench.CSM)
    connection.next_event()
    for at in range(0, len(data), piece):
        connection.receive(data[at : at + piece])
        while (event := connection.next_event()) is not None:
            found.append(event)
    connection.take()


@pytest.mark.parametrize("kind", [*bench.FRAMES, *bench.STREAMS])
@pytest.mark.parametrize("piece", [65_536, 1400, 16])
def test_a_stream_costs_what_its_frames_and_pieces_do(kind: str, piece: int) -> None:
    """Whatever the frames say: they are what is counted, so a flood of them has a bound (transport/budget.py)."""
    for size in LENGTHS if kind in bench.STREAMS else LENGTHS[:-1]:
        data = {**bench.FRAMES, **bench.STREAMS}[kind](size)
        events: list[StreamEvent] = []
        lines = lines_of(drained, data, piece, events)
        pieces = len(data) // piece + 1
        options = 0 if kind in bench.FRAMES else MAX_OPTIONS + 1
        assert lines <= A_FRAME * (len(events) + 2) + A_PIECE * pieces + AN_OPTION * options


@pytest.mark.parametrize("kind", [*bench.FRAMES, *bench.STREAMS])
def test_of_a_stream_no_byte_is_copied_twice(kind: str) -> None:
    """What is whole where it came is cut out once; nothing is copied to be looked at."""
    for size in LENGTHS:
        data = Counted({**bench.FRAMES, **bench.STREAMS}[kind](size))
        connection = Connection(bench.MOST, FORMS)
        connection.receive(bench.CSM)
        connection.next_event()
        connection.receive(data)
        while connection.next_event() is not None:
            pass
        assert data.copied <= len(data)


def test_what_came_in_parts_is_collected_once_and_cut_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame is decoded where it was collected, however many pieces it came in: they are not cut."""
    data = frame.encode(Message(2, b"token", ((11, b"v" * 200),) * 20, bytes(40_000)), b"token")
    copies: list[int] = []

    class Spool(bytearray):
        def __iadd__(self, more: Any) -> "Spool":  # type: ignore[misc]
            copies.append(len(more))
            super().__iadd__(more)
            return self

    monkeypatch.setattr("cpns.coap.connection.bytearray", Spool, raising=False)
    for piece in (1400, 16, 1):
        copies.clear()
        pieces = [Counted(data[at : at + piece]) for at in range(0, len(data), piece)]
        connection = Connection(bench.MOST, FORMS)
        connection.receive(bench.CSM)
        connection.next_event()
        found = []
        for one in pieces:
            connection.receive(one)
            found.append(connection.next_event())
        assert found[:-1] == [None] * (len(pieces) - 1)
        assert isinstance(found[-1], RequestArrived)
        assert found[-1].message.payload == bytes(40_000)
        assert sum(copies) == len(data)
        assert sum(one.copied for one in pieces) <= 2  # its length, to be read
