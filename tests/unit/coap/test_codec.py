"""Messages as datagrams and frames: against aiocoap's codec both ways, and against every way to break them."""

from functools import partial
from typing import Any

import pytest
from aiocoap import Message as Theirs
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.optiontypes import OpaqueOption
from aiocoap.transports import tcp
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.coap import datagram, frame
from cpns.coap.datagram import Datagram
from cpns.coap.errors import FormatError
from cpns.coap.message import MAX_OPTIONS, Message, Options, read_options, uint, unsupported, write_options
from cpns.coap.numbers import FORMS, KINDS, Kind, Option, Type, supported

LENGTHS = st.one_of(st.integers(0, 14), st.integers(250, 300), st.just(12), st.just(268), st.just(269))
"""Of option values: all three classes of RFC 7252 3.1, and their edges."""
DELTAS = st.one_of(st.integers(0, 14), st.integers(260, 280), st.integers(0, 60_000))


@st.composite
def option_lists(draw: st.DrawFn) -> Options:
    number, options = 0, []
    for _ in range(draw(st.integers(0, 6))):
        number += draw(DELTAS)
        if number > 0xFFFF:
            break
        size = draw(LENGTHS)
        options.append((number, draw(st.binary(min_size=1, max_size=3)).ljust(size, b"v")[:size]))
    return tuple(options)


CODES = st.integers(0x01, 0xBF).filter(lambda code: KINDS[code] in (Kind.REQUEST, Kind.RESPONSE))
PAYLOADS = st.one_of(st.binary(max_size=20), st.integers(0, 1500).map(lambda size: b"p" * size))
MESSAGES = st.builds(Message, CODES, st.binary(max_size=8), option_lists(), PAYLOADS)
DATAGRAMS = st.builds(Datagram, st.sampled_from(Type), st.integers(0, 0xFFFF), MESSAGES)


def theirs_of(message: Message, type_: int | None = None, mid: int | None = None) -> Theirs:
    """Return *message* as aiocoap has it; the values of options as they are, whatever their number."""
    made = Theirs(code=message.code, payload=message.payload, _token=message.token, _mtype=type_, _mid=mid)
    for number, value in message.options:
        made.opt.add_option(OpaqueOption(OptionNumber(number), value))
    return made


def raw(options: object) -> Options:
    """Return the options of aiocoap, as bytes."""
    return tuple((int(one.number), one.encode()) for one in options.option_list())  # type: ignore[attr-defined]


def canonical(options: Options) -> Options:
    """Return *options* as whoever interprets their values writes them anew: numbers without leading zeros."""
    as_numbers = {6, 7, 12, 13, 14, 16, 17, 23, 27, 28, 60, 258}
    return tuple((n, v.lstrip(b"\0") if n in as_numbers else v) for n, v in options)


@given(DATAGRAMS)
def test_a_datagram_of_ours_is_theirs(one: Datagram) -> None:
    written = datagram.encode(one.type, one.mid, one.message, one.message.token)
    assert written == theirs_of(one.message, one.type, one.mid).encode()
    assert datagram.decode(written) == one
    try:
        read = Theirs.decode(written)
    except ValueError:  # they interpret options as they decode: one is not UTF-8
        return
    assert (read.mtype, read.mid, read.code, read.token) == (one.type, one.mid, one.message.code, one.message.token)
    assert (canonical(raw(read.opt)), read.payload) == (canonical(one.message.options), one.message.payload)


@given(MESSAGES)
def test_a_frame_of_ours_is_theirs(message: Message) -> None:
    written = frame.encode(message, message.token)
    assert written == tcp._serialize(theirs_of(message))
    assert sum(tcp._extract_message_size(written)) == frame.needs(written, 0, len(written)) == len(written)
    assert frame.decode(written, 0, len(written)) == message
    assert frame.decode(bytearray(b"x" + written + b"y"), 1, 1 + len(written)) == message


@pytest.mark.parametrize("size", [0, 11, 12, 13, 14, 267, 268, 269, 270, 65_803, 65_804, 65_805, 65_806, 70_000])
def test_every_class_of_lengths_of_a_frame(size: int) -> None:
    """The marker counts too; so the length of the rest is one more than that of the payload."""
    message = Message(2, b"t", (), bytes(size))
    written = frame.encode(message, b"t")
    assert written == tcp._serialize(theirs_of(message))
    assert frame.needs(written, 0, len(written)) == len(written)
    assert frame.decode(written, 0, len(written)) == message


@given(st.binary(max_size=60))
@settings(max_examples=1000)
def test_what_we_read_they_read_too(data: bytes) -> None:
    data = bytes((0x40 | data[0] & 0x3F,)) + data[1:] if data else data
    try:
        ours = datagram.decode(data)
    except FormatError:
        return
    try:
        read = Theirs.decode(data)
    except ValueError:
        return
    assert (read.mtype, read.mid, read.code, read.token) == (
        ours.type,
        ours.mid,
        ours.message.code,
        ours.message.token,
    )
    assert (canonical(raw(read.opt)), read.payload) == (canonical(ours.message.options), ours.message.payload)


FULL = Datagram(
    Type.CON,
    0x1234,
    Message(2, b"12345678", ((3, b"server-of-ours"), (9, b"\x09\x14kid"), (11, b"cpns"), (300, b"x" * 300)), b"body"),
)


def whole() -> bytes:
    return datagram.encode(FULL.type, FULL.mid, FULL.message, FULL.message.token)


def places(data: bytes) -> list[int]:
    """Return the places of *data*; of the 300 bytes that are all alike, in the last option, the first ten."""
    start = data.index(b"x" * 300)
    return [at for at in range(len(data)) if not start + 10 <= at < start + 300]


def test_every_prefix_and_every_change_of_a_byte_of_a_datagram() -> None:
    data = whole()
    for size in range(len(data)):
        try:
            assert datagram.decode(data[:size]).message.payload in (b"", b"b", b"bo", b"bod")
        except FormatError:
            continue
    for at in places(data):
        for byte in range(256):
            changed = data[:at] + bytes((byte,)) + data[at + 1 :]
            try:
                read = datagram.decode(changed)
            except FormatError:
                continue
            assert len(read.message.options) <= MAX_OPTIONS
            again = datagram.encode(read.type, read.mid, read.message, read.message.token)
            assert datagram.decode(again) == read  # not all bytes: a length may be written in a longer form


def test_every_prefix_and_every_change_of_a_byte_of_a_frame() -> None:
    data = frame.encode(FULL.message, FULL.message.token)
    for size in range(len(data)):
        assert frame.needs(data, 0, size) > size
    for at in places(data):
        for byte in range(256):
            changed = data[:at] + bytes((byte,)) + data[at + 1 :]
            try:
                size = frame.needs(changed, 0, len(changed))
                if size <= len(changed):
                    frame.decode(changed, 0, size)
            except FormatError:
                continue


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "header_incomplete"),
        ("400100", "header_incomplete"),
        ("00011234", "unknown_version"),
        ("80011234", "unknown_version"),
        ("c0011234", "unknown_version"),
        ("40001234ff", "empty_message_is_not_empty"),
        ("4100123401", "empty_message_is_not_empty"),
        ("49011234010203040506070809", "token_invalid"),
        ("4d01123400" + "01" * 14, "token_invalid"),  # RFC 8974: 13 to 268 bytes
        ("4e0112340000" + "01" * 270, "token_invalid"),  # RFC 8974: from 269 bytes on
        ("4f011234", "token_invalid"),
        ("4401123401", "token_invalid"),  # shorter than it says
        ("40011234ff", "payload_absent"),
        ("4001123402ff", "option_out_of_bounds"),
        ("40011234f0", "option_head_invalid"),
        ("400112340f", "option_head_invalid"),
        ("40011234d0", "option_head_invalid"),
        ("40011234e001", "option_head_invalid"),
        ("400112340d", "option_head_invalid"),
        ("40011234e0ffff", "option_out_of_bounds"),  # number 65,804
        ("40011234" + "00" * 33, "too_many_options"),
        ("40011234" + "00" * 65_000, "too_many_options"),
    ],
)
def test_what_is_no_message(data: str, reason: str) -> None:
    with pytest.raises(FormatError) as refused:
        datagram.decode(bytes.fromhex(data))
    assert refused.value.reason == reason


def test_thirty_two_options_are_taken_and_the_work_ends_there() -> None:
    """However long the rest is, no more than so many are looked at: the rest may be anything."""
    assert len(datagram.decode(bytes.fromhex("40011234" + "00" * 32)).message.options) == 32

    class Counting(bytes):
        looks = 0

        def __getitem__(self, key: Any) -> Any:
            Counting.looks += 1
            return super().__getitem__(key)

    with pytest.raises(FormatError, match="too_many_options"):
        read_options(Counting(65_000), 0, 65_000)
    assert Counting.looks <= 2 * (MAX_OPTIONS + 1)


def test_the_head_of_what_is_no_message_is_read_where_it_can_be() -> None:
    assert datagram.head(bytes.fromhex("40011234ff")) == (Type.CON, 0x1234)
    assert datagram.head(bytes.fromhex("51011234ff")) == (Type.NON, 0x1234)
    assert datagram.head(bytes.fromhex("c0011234")) is None
    assert datagram.head(b"\x40") is None


def test_an_empty_message_is_four_bytes() -> None:
    for type_ in Type:
        assert datagram.decode(datagram.empty(type_, 0xABCD)) == Datagram(type_, 0xABCD, Message(0))


def test_a_message_of_ours_that_can_not_be_is_refused() -> None:
    for encode in (partial(datagram.encode, 0, 1), frame.encode):
        with pytest.raises(ValueError, match="token"):
            encode(Message(2), b"123456789")
        with pytest.raises(ValueError, match="order"):
            encode(Message(2, b"", ((11, b""), (3, b""))), b"")
        with pytest.raises(ValueError, match="65,804"):
            encode(Message(2, b"", ((3, bytes(65_805)),)), b"")


# options


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ((), None),
        (((3, b"host"), (9, b""), (11, b"a"), (11, b"b")), None),
        (((2, b"x"), (4, b"12345678"), (2000, b"")), None),  # elective ones are not looked at, 5.4.1
        (((1, b""),), 1),
        (((3, b""),), 3),  # RFC 7252 5.10: 1 to 255 bytes; 5.4.3
        (((3, b"h" * 256),), 3),
        (((3, b"\xff"),), 3),
        (((3, b"a"), (3, b"b")), 3),  # 5.4.5
        (((9, b"x" * 256),), 9),
        (((11, b"\xc3\x28"),), 11),
        (((11, "ü".encode()),), None),
        (((5, b""), (11, b"a")), 5),
        (((35, b"coap://x"),), 35),
        (((2049, b""),), 2049),
    ],
)
def test_critical_options_that_are_not_understood(options: Options, first: int | None) -> None:
    assert unsupported(options, supported((Option.URI_HOST, Option.OSCORE, Option.URI_PATH))) == first


def test_values_are_interpreted_when_they_are_asked_for() -> None:
    message = Message(2, b"", ((3, b"host"), (9, b"\xff"), (11, b"a"), (11, b"b"), (12, b"\xfe\x24"), (14, b"12345")))
    assert message.text(Option.URI_HOST) == "host"
    assert message.texts(Option.URI_PATH) == ("a", "b")
    assert message.uint(Option.CONTENT_FORMAT) == 65_060
    assert message.value(Option.OSCORE) == b"\xff"
    assert message.text(Option.OSCORE) is None
    assert message.uint(Option.MAX_AGE) is None  # 5 bytes are none of its lengths, and it is elective: 5.4.3
    assert message.value(Option.ECHO) is None
    with pytest.raises(FormatError, match="option_not_utf8"):
        Message(2, b"", ((11, b"\xff"),)).texts(Option.URI_PATH)


def test_critical_is_odd_in_the_registry() -> None:
    """RFC 7252 5.4.6; so each critical option that has a form here is odd, and the names agree with aiocoap's."""
    for option in Option:
        assert OptionNumber(option).is_critical() == bool(option & 1)
        assert OptionNumber(option).name == option.name
        assert option in FORMS


@given(st.integers(0, 2**40))
def test_numbers_in_the_fewest_bytes(number: int) -> None:
    written = uint(number)
    assert int.from_bytes(written, "big") == number
    assert not written.startswith(b"\0")


@given(option_lists())
def test_options_read_as_written(options: Options) -> None:
    written = write_options(options)
    assert read_options(written, 0, len(written)) == (options, len(written))
    assert read_options(written + b"\xffp", 0, len(written) + 2) == (options, len(written) + 1)
