"""The whole grammar, place by place, against a reader that follows the text of the RFCs and is as slow as it likes."""

import itertools
from collections.abc import Iterator

import pytest
from aiocoap import Message as Theirs
from aiocoap.transports import tcp

from cpns.coap import datagram, frame, oscore_option
from cpns.coap.connection import Connection
from cpns.coap.errors import FormatError
from cpns.coap.events import Ended, Noted, Released, StreamEvent
from cpns.coap.message import Message, Options, read_options
from cpns.coap.numbers import Code, Type
from cpns.coap.oscore_option import OscoreOption
from tests.support.links import FORMS, POST, drained
from tests.unit.coap.test_codec import raw, theirs_of

EDGES = (0, 1, 12, 13, 14, 255, 268, 269, 270, 1034)
"""Of deltas and lengths: both sides of each class of RFC 7252 3.1."""


def read_slowly(rest: bytes) -> tuple[Options, bytes] | None:
    """Return the options and the payload in *rest* by RFC 7252 3.1; None: a format error, or more than 32 options."""
    options: list[tuple[int, bytes]] = []
    number = 0
    while rest:
        if rest[0] == 0xFF:
            return (tuple(options), rest[1:]) if rest[1:] and len(options) <= 32 else None
        nibbles, rest = (rest[0] >> 4, rest[0] & 15), rest[1:]
        sizes = []
        for nibble in nibbles:  # delta, then length, each with its extension
            more = {13: 1, 14: 2}.get(nibble, 0)
            if nibble == 15 or len(rest) < more:
                return None
            sizes.append(nibble if not more else int.from_bytes(rest[:more], "big") + (13 if more == 1 else 269))
            rest = rest[more:]
        number += sizes[0]
        if number > 0xFFFF or len(rest) < sizes[1]:
            return None
        options.append((number, rest[: sizes[1]]))
        rest = rest[sizes[1] :]
    return (tuple(options), b"") if len(options) <= 32 else None


def read_quickly(rest: bytes | memoryview) -> tuple[Options, bytes] | None:
    try:
        if isinstance(rest, bytes):
            options, at = read_options(rest, 0, len(rest))
            return options, rest[at:]
        held, at = read_options(rest, 0, len(rest))
        return tuple((number, bytes(value)) for number, value in held), bytes(rest[at:])
    except FormatError:
        return None


def rests() -> Iterator[bytes]:
    """Give each head of an option with each kind of extension, value and end; alone, in front of and behind another."""
    tails = (b"", b"\x00", b"\xff", b"\x00\x00", b"\x00\xff", b"\xff\xff", b"\x01\x02\x03", b"\xfe\xf2" + b"v" * 20)
    ends = (b"", b"\xff", b"\xffp", b"\x10", b"\xff\xff")
    for head, tail, end in itertools.product(range(256), tails, ends):
        for before in (b"", b"\xb4cpns"):
            yield before + bytes((head,)) + tail + end
    nibbles = (0, 1, 12, 13, 14, 15)
    for first, second in itertools.product(range(256), (one << 4 | other for one in nibbles for other in nibbles)):
        yield bytes((first, second))
        yield bytes((first, 0, second)) + b"v" * 14 + b"\xffp"
    for count in range(30, 36):
        yield bytes(count)
        yield bytes(count) + b"\xffp"
        yield bytes(count) + b"\xff"
    for delta, length in itertools.product(EDGES, repeat=2):
        for cut in (0, 1, 5):
            written = datagram.encode(0, 1, Message(POST, b"", ((delta, b"v" * length), (delta, b"w"))), b"")[4:]
            yield written[: len(written) - cut]


def test_options_read_as_the_text_of_the_rfc_reads_them() -> None:
    count = refused = 0
    for rest in rests():
        expected = read_slowly(rest)
        assert read_quickly(rest) == expected, rest.hex()
        assert read_quickly(memoryview(rest)) == expected, rest.hex()
        count, refused = count + 1, refused + (expected is None)
    assert count > 30_000
    assert 0.2 < refused / count < 0.95


def test_every_head_of_a_datagram() -> None:
    """Version, type, token length, code (RFC 7252 3, 4.1)."""
    for first, code, size in itertools.product(range(256), (0, 1, 2, 0x20, 0x44, 0xC0, 0xE1, 0xFF), range(18)):
        data = bytes((first, code, 0x12, 0x34)) + bytes(range(1, 1 + size))
        token = first & 15
        rest = read_slowly(data[4 + token :])
        good = first >> 6 == 1 and token <= min(8, size) and rest is not None and (code or not size + token)
        try:
            read = datagram.decode(data)
        except FormatError:
            assert not good, data.hex()
            continue
        assert good, data.hex()
        assert rest is not None
        assert read == (Type(first >> 4 & 3), 0x1234, Message(code, data[4 : 4 + token], *rest))


def test_every_head_of_a_frame() -> None:
    """Length, its extension, token length (RFC 8323 3.2)."""
    for first in range(256):
        length, token = first >> 4, first & 15
        more = {13: 1, 14: 2, 15: 4}.get(length, 0)
        for extension in (bytes(more), b"\x01" * more, b"\xff" * more):
            data = bytes((first,)) + extension
            value = length if not more else int.from_bytes(extension, "big") + {1: 13, 2: 269, 4: 65805}[more]
            for end in range(len(data) + 1):
                if end and token > 8:
                    with pytest.raises(FormatError, match="token_invalid"):
                        frame.needs(data, 0, end)
                elif end <= more:  # its length can't be told yet
                    assert end < frame.needs(data, 0, end) <= 1 + more + (0 if more else 1)
                else:
                    assert frame.needs(data, 0, end) == 1 + more + 1 + token + value


@pytest.mark.parametrize("size", range(9))
def test_each_class_of_options_and_tokens_is_that_of_aiocoap(size: int) -> None:
    """Both ways: the same bytes, and each reads what the other wrote."""
    token = bytes(range(1, 1 + size))
    for delta, length in itertools.product((*EDGES[1:], 65_000), (*EDGES, 65_000)):
        for options in (((delta, b"v" * length),), ((1, b"a"), (1 + min(delta, 65_534), b"v" * length))):
            message = Message(0x45, token, options, b"payload")
            written = datagram.encode(Type.NON, 7, message, token)
            assert written == theirs_of(message, Type.NON, 7).encode()
            assert datagram.decode(written).message == message
            framed = frame.encode(message, token)
            assert framed == tcp._serialize(theirs_of(message))
            assert frame.decode(framed, 0, len(framed)) == message
            theirs = Theirs.decode(datagram.encode(Type.NON, 7, Message(0x45, token, ((2048, b"v" * length),)), token))
            assert (theirs.token, raw(theirs.opt)) == (token, ((2048, b"v" * length),))


def read_option_slowly(value: bytes) -> OscoreOption | None:
    """Return what an OSCORE option says, by RFC 8613 6.1; None: it is malformed."""
    if not value:
        return OscoreOption()
    flags, rest = value[0], value[1:]
    size, has_context, has_kid = flags & 7, bool(flags & 16), bool(flags & 8)
    if flags & 0xE0 or flags == 0 or size > 5 or len(rest) < size:
        return None
    piv, rest = rest[:size], rest[size:]
    if len(piv) > 1 and piv[0] == 0:  # longer than its number needs, 5
        return None
    context = None
    if has_context:
        if not rest or len(rest) < 1 + rest[0]:
            return None
        context, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
    if rest and not has_kid:
        return None
    return OscoreOption(piv, rest if has_kid else None, context)


def test_every_form_of_the_oscore_option() -> None:
    taken = 0
    for flags, size in itertools.product(range(256), range(20)):
        for fill in (b"\x00", b"\x01", b"\x02", b"\x05", b"\xff", b"\x01\x00", b"\x00\x01"):
            value = (bytes((flags,)) + (fill * 20)[:size])[: size + 1]
            expected = read_option_slowly(value)
            try:
                read = oscore_option.decode(value)
            except FormatError:
                assert expected is None, value.hex()
                continue
            assert read == expected, value.hex()
            assert oscore_option.encode(read) == value
            taken += 1
    assert taken > 500
    assert oscore_option.decode(b"") == read_option_slowly(b"")


@pytest.mark.parametrize("code", [Code.CSM, Code.PING, Code.PONG, Code.RELEASE, Code.ABORT])
def test_every_option_of_every_signal(code: Code) -> None:
    """RFC 8323 5.2: odd ones are critical, and none of them is known; the even ones are left alone."""
    does: dict[int, StreamEvent] = {
        Code.RELEASE: Released(),
        Code.ABORT: Ended("aborted_by_peer"),
    }
    for number, size, second in itertools.product(range(20), range(6), (None, 2, 7)):
        options = [(number, b"\x01" * size)] + ([] if second is None else [(max(second, number), b"")])
        connection = Connection(1000, FORMS)
        connection.take()
        connection.receive(
            frame.encode(Message(Code.CSM), b"") + frame.encode(Message(code, b"t", tuple(options)), b"t")
        )
        events = drained(connection)[1:]
        critical = [one for one, _ in options if one & 1]
        if critical:
            assert events == [Ended("unknown_critical_option")]
            abort = connection.take()[-1]
            named = ((2, bytes((critical[0],))),) if code is Code.CSM else ()
            assert frame.decode(abort, 0, len(abort)) == Message(Code.ABORT, b"", named, b"unknown_critical_option")
        else:
            assert events == [does.get(code, Noted(code, b"t"))]
            assert len(connection.take()) == (code is Code.PING)
