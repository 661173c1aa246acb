"""OSCORE (RFC 8613): against ``aiocoap.oscore`` both ways, its window against a plain set, and what it refuses."""

from typing import Any

import pytest
from aiocoap import Message as TheirMessage
from aiocoap import oscore as theirs
from aiocoap.message import Direction
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.coap import datagram, oscore_option
from cpns.coap.errors import CannotSend, FormatError
from cpns.coap.message import Message
from cpns.coap.numbers import Option
from cpns.coap.oscore import REPLAY_WINDOW, Context, Limits, RequestId, _aad
from cpns.coap.oscore_option import OscoreOption
from cpns.coap.window import ReplayWindow
from cpns.crypto.aead import MAX_PLAINTEXT, Ccm
from cpns.crypto.oscore import oscore_keys
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from tests.support.links import opened

SECRET, SALT = bytes(range(32)), bytes(range(16))
GET, POST, CHANGED, CONTENT = 0x01, 0x02, 0x44, 0x45
ASKED = Message(POST, b"", ((11, b"readings"), (12, b"\xfe\x24")), b"21.5")
SAID = Message(CHANGED, b"", ((14, b"\x3c"),), b"taken")
OUTSIDE = ((3, b"server-1"),)


def context(sender: bytes = b"pne", recipient: bytes = b"server", limits: Limits | None = None) -> Context:
    return Context(oscore_keys(Secret(SECRET), SALT, sender, recipient), sender, recipient, limits or Limits())


def pair() -> tuple[Context, Context]:
    return context(), context(b"server", b"pne")


class Theirs(theirs.CanProtect, theirs.CanUnprotect, theirs.SecurityContextUtils):  # type: ignore[misc]
    """aiocoap's OSCORE, in memory."""

    id_context = None
    echo_recovery = None

    def __init__(self, sender: bytes, recipient: bytes) -> None:
        self.alg_aead = theirs.algorithms["AES-CCM-16-64-128"]
        self.hashfun = theirs.hashfunctions["sha256"]
        self.sender_id, self.recipient_id = sender, recipient
        self.derive_keys(SALT, SECRET)
        self.sender_sequence_number = 0
        self.recipient_replay_window = theirs.ReplayWindow(32, lambda: None)
        self.recipient_replay_window.initialize_empty()

    def post_seqnoincrease(self) -> None:
        pass


def to_theirs(message: Message) -> TheirMessage:
    """Return *message* as aiocoap receives it."""
    received = TheirMessage.decode(datagram.encode(0, 1, message, b"t"))
    received.direction = Direction.INCOMING
    return received


def from_theirs(message: TheirMessage) -> Message:
    message.mid, message.mtype, message.token = 1, 0, b"t"
    return datagram.decode(message.encode()).message


IDS = st.tuples(st.binary(max_size=7), st.binary(max_size=7)).filter(lambda two: two[0] != two[1])
BODIES = st.one_of(st.binary(max_size=40), st.integers(0, 3000).map(bytes))
NUMBERS = st.one_of(st.integers(0, 300), st.integers(0, 2**40 - 2))


@given(IDS, NUMBERS, BODIES, BODIES, st.text(max_size=20), st.booleans())
def test_ours_open_at_theirs_and_theirs_at_ours(
    ids: tuple[bytes, bytes], number: int, body: bytes, answer: bytes, path: str, numbered: bool
) -> None:
    mine, yours = ids
    here, there = context(mine, yours), Theirs(yours, mine)
    here.sent = number
    inner = Message(POST, b"", ((11, path.encode()),), body)
    sealed, asked = here.seal_request(inner, OUTSIDE, 0.0)
    inside, request_id = there.unprotect(to_theirs(sealed))
    assert (inside.code, inside.opt.uri_path, inside.payload) == (POST, (path,), body)
    said, _ = there.protect(TheirMessage(code=CHANGED, payload=answer), request_id)
    assert here.open_response(from_theirs(said), asked, 0.0) == Message(CHANGED, b"", (), answer)

    there.sender_sequence_number = number
    outer, their_id = there.protect(TheirMessage(code=POST, uri_path=(path,), payload=body))
    got, request = opened(here, from_theirs(outer), 0.0)
    assert got == inner
    sealed_answer = here.seal_response(Message(CONTENT, b"", (), answer), request, 0.0, numbered=numbered)
    received, _ = there.unprotect(to_theirs(sealed_answer), their_id)
    assert (received.code, received.payload) == (CONTENT, answer)


@given(st.lists(st.integers(0, 150), max_size=200))
def test_the_window_is_a_set_with_an_end(numbers: list[int]) -> None:
    window, seen = ReplayWindow(REPLAY_WINDOW), set[int]()
    for number in numbers:
        fresh = number not in seen and number > max(seen, default=-1) - REPLAY_WINDOW
        assert window.is_fresh(number) == fresh
        if fresh:
            window.strike_out(number)
            seen.add(number)


def test_the_window_over_the_whole_range() -> None:
    window = ReplayWindow(32)
    for number in (0, 2**40 - 1, 2**40 - 32):
        assert window.is_fresh(number)
        window.strike_out(number)
        assert not window.is_fresh(number)
    assert not window.is_fresh(2**40 - 33)


def test_a_replay_is_refused_and_a_late_one_in_the_window_is_not() -> None:
    here, there = pair()
    sealed = [here.seal_request(ASKED, OUTSIDE, 0.0)[0] for _ in range(40)]
    for number in (0, 5, 3, 39, 8):
        assert opened(there, sealed[number], 0.0)[0] == ASKED
    for number in (0, 5, 3, 39, 8, 7):
        with pytest.raises(AuthenticationFailed, match="replay"):
            opened(there, sealed[number], 0.0)


def test_what_does_not_open_strikes_nothing_out() -> None:
    here, there = pair()
    sealed, _ = here.seal_request(ASKED, OUTSIDE, 0.0)
    for at in range(len(sealed.payload)):
        changed = bytearray(sealed.payload)
        changed[at] ^= 1
        with pytest.raises(AuthenticationFailed, match="protection_invalid"):
            opened(there, sealed._replace(payload=bytes(changed)), 0.0)
    assert opened(there, sealed, 0.0)[0] == ASKED


def test_answers_are_bound_to_their_request() -> None:
    here, there = pair()
    first, one = here.seal_request(ASKED, OUTSIDE, 0.0)
    second, two = here.seal_request(ASKED, OUTSIDE, 0.0)
    requests = [opened(there, sealed, 0.0)[1] for sealed in (first, second)]
    for numbered in (False, True):
        answer = there.seal_response(SAID, requests[0], 0.0, numbered=numbered)
        assert here.open_response(answer, one, 0.0) == SAID
        with pytest.raises(AuthenticationFailed, match="protection_invalid"):
            here.open_response(answer, two, 0.0)


def test_no_nonce_serves_twice() -> None:
    """The first answer has the nonce of the request; the others, and our requests, have numbers of their own."""
    here, there = pair()
    nonces: list[tuple[str, bytes]] = []

    class Watched(Ccm):
        def seal(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
            nonces.append((repr(id(self)), nonce))
            return super().seal(nonce, plaintext, aad)

    def watched(one: Context, sender: bytes, recipient: bytes) -> None:
        keys: Any = oscore_keys(Secret(SECRET), SALT, sender, recipient)
        object.__setattr__(keys, "sender", Watched(b"k" * 16))
        one._keys = keys

    watched(there, b"server", b"pne")
    for _ in range(5):
        _, request = opened(there, here.seal_request(ASKED, OUTSIDE, 0.0)[0], 0.0)
        for _ in range(3):
            there.seal_response(SAID, request, 0.0)
        there.seal_request(ASKED, OUTSIDE, 0.0)
    assert len(nonces) == len(set(nonces)) == 20


def test_the_limits_of_a_session() -> None:
    here, there = context(limits=Limits(3, 100.0)), context(b"server", b"pne", Limits(2, 100.0))
    sealed = [here.seal_request(ASKED, OUTSIDE, 99.9)[0] for _ in range(3)]
    with pytest.raises(CannotSend, match="session_used_up"):
        here.seal_request(ASKED, OUTSIDE, 99.9)
    assert here.sent == 3
    requests = [opened(there, one, 99.9)[1] for one in sealed]
    for request in requests:
        there.seal_response(SAID, request, 99.9)  # the number of the request counts at its sender
    there.seal_response(SAID, requests[0], 99.9)
    there.seal_request(ASKED, OUTSIDE, 99.9)
    with pytest.raises(CannotSend, match="session_used_up"):
        there.seal_response(SAID, requests[0], 99.9)
    with pytest.raises(CannotSend, match="session_too_old"):
        there.seal_request(ASKED, OUTSIDE, 100.0)
    with pytest.raises(CannotSend, match="session_too_old"):
        there.seal_response(SAID, RequestId(9, b""), 100.0)
    for open_late in (
        lambda: opened(there, sealed[0], 100.0),
        lambda: here.open_response(SAID, requests[0], 100.0),
    ):
        with pytest.raises(AuthenticationFailed, match="session_too_old"):
            open_late()


def test_the_numbers_end_where_rfc_8613_7_2_1_ends_them() -> None:
    here = context()
    here.sent = 2**40 - 1
    sealed, _ = here.seal_request(ASKED, OUTSIDE, 0.0)
    assert sealed.value(Option.OSCORE) == b"\x0d" + b"\xff" * 5 + b"pne"
    with pytest.raises(CannotSend, match="session_used_up"):
        here.seal_request(ASKED, OUTSIDE, 0.0)


def test_what_a_sealed_message_holds_at_most() -> None:
    here, there = pair()
    longest = MAX_PLAINTEXT - 2
    sealed, _ = here.seal_request(Message(POST, b"", (), bytes(longest)), OUTSIDE, 0.0)
    assert len(opened(there, sealed, 0.0)[0].payload) == longest
    with pytest.raises(CannotSend, match="too_long_to_seal"):
        here.seal_request(Message(POST, b"", (), bytes(longest + 1)), OUTSIDE, 0.0)
    assert here.sent == 1
    for size in (0, 7, 8, 65_543, 65_544, 66_560):
        with pytest.raises(AuthenticationFailed, match="protection_invalid"):
            opened(there, Message(POST, b"", ((9, b"\x09\x07pne"),), bytes(size)), 0.0)
    with pytest.raises(ValueError, match="65535"):
        Ccm(bytes(16)).seal(bytes(13), bytes(65_536), b"")


def sealed_with(option: bytes | None) -> Message:
    sealed, _ = context().seal_request(ASKED, (), 0.0)
    return sealed._replace(options=() if option is None else ((9, option),))


@pytest.mark.parametrize(
    "option",
    [
        None,
        b"",
        b"\x00",
        b"\x01\x00",  # no kid
        b"\x08pne",  # no Partial IV
        b"\x09\x00other",
        b"\x0a\x00\x00pne",  # longer than it needs
        b"\x0e\x00\x00\x00\x00\x00\x00pne",  # 6 and 7 are reserved
        b"\x0f\x00\x00\x00\x00\x00\x00\x00pne",
        b"\x29\x00pne",  # reserved bits
        b"\x49\x00pne",
        b"\x89\x00pne",
        b"\x19\x00\x02idpne",  # a kid context, and we have none
        b"\x19\x00\x09id",
        b"\x19\x00",
        b"\x0d\x00",
        b"\x09" * 256,
    ],
)
def test_options_that_are_not_taken(option: bytes | None) -> None:
    with pytest.raises(AuthenticationFailed, match="protection_invalid"):
        opened(context(b"server", b"pne"), sealed_with(option), 0.0)


def test_options_of_answers_that_are_not_taken() -> None:
    here, there = pair()
    sealed, asked = here.seal_request(ASKED, OUTSIDE, 0.0)
    _, request = opened(there, sealed, 0.0)
    answer = there.seal_response(SAID, request, 0.0)
    for option in (b"\x08other", b"\x10\x00", b"\x00", b"\x01\x00"):
        with pytest.raises(AuthenticationFailed, match="protection_invalid"):
            here.open_response(answer._replace(options=((9, option),)), asked, 0.0)
    assert here.open_response(answer._replace(options=((9, b"\x08server"),)), asked, 0.0) == SAID


@pytest.mark.parametrize("inner", [Message(CHANGED), Message(0), Message(0xE1), Message(0x20)])
def test_an_answer_is_no_request(inner: Message) -> None:
    here, there = pair()
    with pytest.raises(AuthenticationFailed, match="inner_code_does_not_fit"):
        opened(there, here.seal_request(inner, OUTSIDE, 0.0)[0], 0.0)
    _, request = opened(there, here.seal_request(ASKED, OUTSIDE, 0.0)[0], 0.0)
    asked = RequestId(request.number, request.aad)
    if inner.code != CHANGED:
        with pytest.raises(AuthenticationFailed, match="inner_code_does_not_fit"):
            here.open_response(there.seal_response(inner, request, 0.0), asked, 0.0)


def test_an_inside_that_is_no_message_is_refused() -> None:
    here, there = pair()
    for plaintext in (b"", b"\x02\xff", b"\x02\x0f", b"\x02" + bytes(33)):
        nonce = (here._sender_iv ^ here.sent).to_bytes(13, "big")
        piv = bytes((here.sent,))
        sealed = here._keys.sender.seal(nonce, plaintext, _aad(b"pne", piv))
        here.sent += 1
        with pytest.raises(AuthenticationFailed):
            opened(there, Message(POST, b"", ((9, b"\x09" + piv + b"pne"),), sealed), 0.0)


@given(st.binary(max_size=24))
@settings(max_examples=1000)
def test_an_option_reads_as_it_is_written(data: bytes) -> None:
    try:
        option = oscore_option.decode(data)
    except FormatError:
        return
    assert oscore_option.encode(option) == data


@given(st.binary(max_size=7) | st.none(), st.binary(max_size=20) | st.none(), NUMBERS | st.none())
def test_an_option_is_written_as_it_reads(kid: bytes | None, id_context: bytes | None, number: int | None) -> None:
    piv = b"" if number is None else number.to_bytes((number.bit_length() + 7) // 8 or 1, "big")
    option = OscoreOption(piv, kid, id_context)
    assert oscore_option.decode(oscore_option.encode(option)) == option


def test_ids_that_can_not_be() -> None:
    for sender, recipient in ((b"8 bytes!", b""), (b"", b"8 bytes!"), (b"same", b"same")):
        with pytest.raises(ValueError, match="IDs"):
            context(sender, recipient)


def test_nothing_shows_a_key() -> None:
    here = context()
    assert repr(here) == "<OSCORE context>"
    assert "object at" not in repr(here._keys.sender)
