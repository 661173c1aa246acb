"""A connection (RFC 8323): every split of its bytes, every way to break it, every frame in every state."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.coap import frame
from cpns.coap.connection import TRANSITIONS, Action, Connection, State
from cpns.coap.errors import CannotSend
from cpns.coap.events import Ended, Exchange, Noted, Released, RequestArrived, ResponseArrived, StreamEvent
from cpns.coap.message import Message, uint
from cpns.coap.numbers import Code, Kind
from tests.support.links import CHANGED, FORMS, POST, carry, connected, drained

CSM = frame.encode(Message(Code.CSM), b"")
ASKED = Message(POST, b"t", ((11, b"cpns"),), b"body")


def fed(*frames: bytes, most: int = 66_560) -> tuple[Connection, list[StreamEvent]]:
    """Return a connection that got the settings and *frames*, and what these did."""
    connection = Connection(most, FORMS)
    connection.take()
    connection.receive(CSM)
    drained(connection)
    connection.receive(b"".join(frames))
    return connection, drained(connection)


def framed(code: int, options: tuple[tuple[int, bytes], ...] = (), payload: bytes = b"", token: bytes = b"") -> bytes:
    return frame.encode(Message(code, b"", options, payload), token)


def test_a_request_and_its_answers() -> None:
    here, there = connected()
    exchange = here.request(ASKED)
    carry(here, there)
    (request,) = drained(there)
    assert request == RequestArrived(ASKED)
    for body in (b"held", b"answer"):
        there.respond(request, Message(CHANGED, payload=body))
    carry(there, here)
    assert drained(here) == [
        ResponseArrived(exchange, Message(CHANGED, b"t", (), body)) for body in (b"held", b"answer")
    ]
    here.close(exchange)
    there.respond(request, Message(CHANGED))
    carry(there, here)
    assert drained(here) == [Noted(CHANGED, b"t")]


def everything() -> tuple[bytes, list[StreamEvent]]:
    """Return one frame of each kind and each length, and what they do."""
    messages = [
        Message(Code.EMPTY),
        Message(Code.PING, b"\x42"),
        Message(Code.PONG, b"\x42"),
        Message(Code.CSM, b"", ((2, uint(70_000)), (4, b""))),
        ASKED,
        Message(POST, b"12345678", ((11, b"readings"),), bytes(13)),
        Message(POST, b"", ((3, b"server"), (9, b"\x09\x14kid")), bytes(300)),
        Message(CHANGED, b"nobody"),
        Message(POST, b"last", ((11, b"x"),), bytes(20)),
    ]
    events: list[StreamEvent] = [
        RequestArrived(one) if one.code == POST else Noted(one.code, one.token) for one in messages
    ]
    return b"".join(frame.encode(one, one.token) for one in messages), events


def test_every_split_in_two() -> None:
    data, events = everything()
    for at in range(len(data) + 1):
        connection, first = fed(data[:at])
        connection.receive(data[at:])
        assert first + drained(connection) == events


@given(st.lists(st.integers(1, 60), max_size=30))
def test_every_split(sizes: list[int]) -> None:
    data, events = everything()
    connection, found = fed()
    at = 0
    for size in [*sizes, len(data)]:
        connection.receive(data[at : at + size])
        found.extend(drained(connection))
        at += size
    assert found == events


def test_byte_by_byte() -> None:
    data, events = everything()
    connection, found = fed()
    for byte in data:
        connection.receive(bytes((byte,)))
        found.extend(drained(connection))
    assert found == events


def test_frames_are_worked_on_as_they_are_asked_for() -> None:
    """The rest waits; so the reader decides how much one look costs."""
    connection, _ = fed()
    connection.receive(framed(Code.PING) * 10)
    assert [connection.next_event() for _ in range(3)] == [Noted(Code.PING, b"")] * 3
    assert len(connection.take()) == 3
    connection.receive(framed(Code.PING, token=b"2") * 2)
    assert drained(connection) == [Noted(Code.PING, b"")] * 7 + [Noted(Code.PING, b"2")] * 2


def test_every_change_of_a_byte_is_a_frame_or_the_end() -> None:
    data, _ = everything()
    for at in [*range(120), *range(len(data) - 30, len(data))]:
        for byte in range(256):
            connection, events = fed(data[:at] + bytes((byte,)) + data[at + 1 :])
            assert [isinstance(one, Ended) for one in events].count(True) == (connection.state is State.ENDED)
            assert not any(isinstance(one, Ended) for one in events[:-1])
            assert len(connection._spool) <= 66_560


@given(st.binary(max_size=400))
@settings(max_examples=500)
def test_whatever_comes(data: bytes) -> None:
    connection, events = fed(data)
    drained(connection)
    assert connection.state is State.ENDED or not any(isinstance(one, Ended) for one in events)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("09", "token_invalid"),
        ("0d", "token_invalid"),  # RFC 8974
        ("0e", "token_invalid"),
        ("0f", "token_invalid"),
        ("f0ffffffff", "message_too_long"),  # 4 GiB: said before any of it comes
        ("f0000003ff", "message_too_long"),
        ("1002ff", "payload_absent"),
        ("2002f000", "option_head_invalid"),
        ("d01402" + "00" * 33, "too_many_options"),
        ("00e0", "unknown_signal"),
        ("00ff", "unknown_signal"),
        ("0020", "unknown_signal"),  # 1.00 is reserved
        ("00c0", "unknown_signal"),
        ("10e110", "unknown_critical_option"),
        ("10e210", "unknown_critical_option"),
        ("10e310", "unknown_critical_option"),
        ("10e410", "unknown_critical_option"),
        ("00e5", "aborted_by_peer"),
    ],
)
def test_what_ends_a_connection(data: str, reason: str) -> None:
    connection, events = fed(bytes.fromhex(data))
    assert events == [Ended(reason)]
    assert connection.state is State.ENDED
    said = connection.take()
    if reason != "aborted_by_peer":
        assert frame.decode(said[-1], 0, len(said[-1])).payload == reason.encode()
        assert frame.decode(said[-1], 0, len(said[-1])).code == Code.ABORT
    connection.receive(framed(Code.PING))
    assert drained(connection) == []
    assert connection._data == b""
    with pytest.raises(CannotSend, match="ended"):
        connection.request(ASKED)


def test_a_setting_that_is_not_understood_is_named() -> None:
    """RFC 8323 5.6, Bad-CSM-Option."""
    connection, _ = fed(framed(Code.CSM, ((2, b"\x10\x00"), (7, b""))))
    (said,) = connection.take()
    assert frame.decode(said, 0, len(said)).options == ((2, b"\x07"),)


@pytest.mark.parametrize("code", [Code.PING, Code.EMPTY, POST, CHANGED, Code.RELEASE, Code.PONG])
def test_the_settings_come_first(code: int) -> None:
    connection = Connection(1000, FORMS)
    connection.take()
    connection.receive(framed(code))
    assert drained(connection) == [Ended("settings_missing")]


def test_how_long_a_message_may_be() -> None:
    """RFC 8323 5.3.1: all of it counts; who says nothing takes 1,152 bytes; the last word counts."""
    connection, events = fed(bytes(2) * 0, most=300)
    assert events == []
    connection.request(Message(POST, b"1", (), bytes(1152 - 6)))
    with pytest.raises(CannotSend, match="too_long_for_peer"):
        connection.request(Message(POST, b"2", (), bytes(1153 - 6)))
    connection.request(Message(POST, b"2"))
    assert [len(one) for one in connection.take()] == [1152, 3]
    for said, takes in ((uint(40), 40), (uint(5000), 5000), (b"", 0), (b"12345", 0)):
        connection.receive(framed(Code.CSM, ((2, said),)))
        drained(connection)
        assert connection.peer_takes == takes  # of five bytes is none of its lengths: ignored
    fits = framed(POST, payload=bytes(300 - 5))
    assert len(fits) == 300
    for data, ended in ((fits, False), (framed(POST, payload=bytes(301 - 5)), True)):
        _, events = fed(data, most=300)
        assert isinstance(events[0], Ended) == ended


@pytest.mark.parametrize("said", [framed(Code.PING, token=b"12345678"), framed(POST, ((23, b"\x06"),))])
def test_a_peer_that_takes_less_than_it_has_to_be_told_is_left(said: bytes) -> None:
    """A pong and a 4.02 are due, and longer than what it says that it takes."""
    connection, events = fed(framed(Code.CSM, ((2, b"\x02"),)), said)
    assert events == [Noted(Code.CSM, b""), Ended("too_long_for_peer")]
    (abort,) = connection.take()
    assert frame.decode(abort, 0, len(abort)).code == Code.ABORT


def test_a_peer_that_is_known_to_take_more_is_sent_more_before_it_says_so() -> None:
    connection = Connection(1000, FORMS, peer_takes=5000)
    connection.request(Message(POST, b"1", (), bytes(4000)))
    connection.receive(framed(Code.CSM, ((2, uint(1152)),)))
    drained(connection)
    with pytest.raises(CannotSend, match="too_long_for_peer"):
        connection.request(Message(POST, b"2", (), bytes(4000)))


def test_a_body_of_64_kib_is_one_frame() -> None:
    here, there = connected(66_560)
    exchange = here.request(Message(POST, b"t", ((3, b"server"), (9, b"\x09\x14kid")), bytes(65_536)))
    data = b"".join(here.take())
    for at in range(0, len(data), 1400):
        assert drained(there) == []
        there.receive(data[at : at + 1400])
    (request,) = drained(there)
    assert isinstance(request, RequestArrived)
    assert len(request.message.payload) == 65_536
    there.respond(request, Message(CHANGED, b"", ((9, b""),), bytes(65_544)))
    carry(there, here)
    (answer,) = drained(here)
    assert isinstance(answer, ResponseArrived)
    assert answer.exchange is exchange


def test_what_came_in_part_is_held_once_and_within_its_bound() -> None:
    connection, _ = fed(most=5000)
    data = framed(POST, payload=bytes(4000))
    for byte in data[:-1]:
        connection.receive(bytes((byte,)))
        assert connection.next_event() is None
        assert len(connection._data) == 0
    assert len(connection._spool) == len(data) - 1
    connection.receive(data[-1:])
    assert len(drained(connection)) == 1
    assert len(connection._spool) == 0


def test_a_request_with_a_critical_option_that_is_not_understood_is_answered() -> None:
    connection, events = fed(framed(POST, ((23, b"\x06"),), token=b"tok"))
    assert events == [Noted(POST, b"tok")]
    assert connection.take() == [framed(0x82, (), b"option 23", b"tok")]


def test_an_answer_with_one_is_ignored() -> None:
    connection, _ = fed()
    connection.request(ASKED)
    connection.receive(framed(CHANGED, ((23, b"\x06"),), token=b"t") + framed(CHANGED, token=b"t"))
    first, second = drained(connection)
    assert first == Noted(CHANGED, b"t")
    assert isinstance(second, ResponseArrived)


def test_release() -> None:
    """RFC 8323 5.5: what was asked is answered; nothing more is asked."""
    here, there = connected()
    exchange = here.request(ASKED)
    carry(here, there)
    (request,) = drained(there)
    assert isinstance(request, RequestArrived)
    there.release()
    carry(there, here)
    assert drained(here) == [Released()]
    with pytest.raises(CannotSend, match="released"):
        here.request(ASKED._replace(token=b"2"))
    there.respond(request, Message(CHANGED))
    carry(there, here)
    assert drained(here) == [ResponseArrived(exchange, Message(CHANGED, b"t"))]
    here.abort("enough")
    here.abort("again")
    carry(here, there)
    assert drained(there) == [Ended("aborted_by_peer")]
    with pytest.raises(CannotSend, match="settings_missing"):
        Connection(1, FORMS).release()


def test_tokens() -> None:
    here, _ = connected()
    exchange = here.request(ASKED)
    with pytest.raises(CannotSend, match="token_in_use"):
        here.request(ASKED)
    here.close(Exchange(None, b"t"))
    with pytest.raises(CannotSend, match="token_in_use"):
        here.request(ASKED)
    here.close(exchange)
    here.close(exchange)
    here.request(ASKED)


def test_every_code_in_every_state() -> None:
    """What is not in the table ends the connection; and nothing comes out of one that has ended."""
    for state in State:
        for code in range(256):
            connection, _ = fed()
            connection._enter(state)
            connection.receive(framed(code))
            events = drained(connection)
            if state is State.ENDED:
                assert events == []
                continue
            kind = [Kind.EMPTY, *[Kind.REQUEST] * 31][code] if code < 32 else None
            if kind is None:
                kind = Kind.RESPONSE if 0x40 <= code < 0xC0 else Kind.SIGNAL if code >= 0xE0 else Kind.RESERVED
            action = TRANSITIONS[state].get(code if kind is Kind.SIGNAL else kind)
            ends = action in (None, Action.END)
            assert [isinstance(one, Ended) for one in events] == [ends]
            assert (connection.state is State.ENDED) == ends
