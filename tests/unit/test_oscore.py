"""Our OSCORE messages against aiocoap's own, both directions, and the keys of RFC 8613 C.1."""

from typing import Any

import pytest
from aiocoap import Message, oscore
from aiocoap.message import Direction
from aiocoap.numbers.codes import CHANGED, POST

from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from cpns.ids import EntityId
from cpns.session.table import Session
from cpns.transport import oscore as ours
from cpns.transport.errors import Answer

SECRET = bytes.fromhex("0102030405060708090a0b0c0d0e0f10")
SALT = bytes.fromhex("9e7ca92223786340")


class Keys:
    th2 = bytes(32)

    def oscore_master_secret(self) -> Secret:
        return Secret(SECRET)

    def oscore_master_salt(self) -> bytes:
        return SALT


def session(own_kid: bytes, peer_kid: bytes) -> Session:
    keys: Any = Keys()
    return Session(Profile.PNE_SERVER, EntityId("me"), EntityId("you"), own_kid, peer_kid, keys, 0.0)


class Theirs(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """aiocoap's whole OSCORE, in memory."""

    id_context = None
    echo_recovery = None

    def __init__(self, sender: bytes, recipient: bytes) -> None:
        self.alg_aead = oscore.algorithms["AES-CCM-16-64-128"]
        self.hashfun = oscore.hashfunctions["sha256"]
        self.sender_id, self.recipient_id = sender, recipient
        self.derive_keys(SALT, SECRET)
        self.sender_sequence_number = 0
        self.recipient_replay_window = oscore.ReplayWindow(32, lambda: None)
        self.recipient_replay_window.initialize_empty()

    def post_seqnoincrease(self) -> None:
        pass


def over_the_wire(message: Message) -> Message:
    """Return *message* as its receiver has it."""
    message.mid, message.mtype, message.token = 1, 0, b"t"
    received = Message.decode(message.encode())
    received.direction = Direction.INCOMING
    return received


def test_keys_of_rfc_8613_c_1() -> None:
    context = ours._context(session(own_kid=b"\x01", peer_kid=b""))
    assert context.sender_key.hex() == "f0910ed7295e6ad4b54fc793154302ff"
    assert context.recipient_key.hex() == "ffb14e093c94c9cac9471648b4f98710"
    assert context.common_iv.hex() == "4622d4dd6d944168eefb54987c"


@pytest.mark.parametrize(("mine", "yours"), [(b"\x01", b"\x02"), (b"abcdefg", b"x"), (b"s", b"\x00\x00\x01")])
@pytest.mark.parametrize("size", [0, 1, 27, 300])
def test_our_requests_open_at_theirs_and_their_responses_at_ours(mine: bytes, yours: bytes, size: int) -> None:
    here, there = session(mine, yours), Theirs(mine, yours)
    for number in range(300):
        outer, request = ours.protect_request(here, "readings", b"p" * size, 60 if number % 2 else None)
        assert outer.opt.uri_host == "you"
        inner, request_id = there.unprotect(over_the_wire(outer))
        assert (inner.code, inner.opt.uri_path, inner.payload) == (POST, ("readings",), b"p" * size)
        answer = there.protect(Message(code=CHANGED, payload=b"a" * size), request_id)[0]
        assert ours.unprotect_response(here, over_the_wire(answer), request).payload == b"a" * size


@pytest.mark.parametrize(("mine", "yours"), [(b"\x01", b"\x02"), (b"abcdefg", b"x"), (b"s", b"\x00\x00\x01")])
@pytest.mark.parametrize("size", [0, 1, 27, 300])
def test_their_requests_open_at_ours_and_our_responses_at_theirs(mine: bytes, yours: bytes, size: int) -> None:
    here, there = session(mine, yours), Theirs(mine, yours)
    for _ in range(300):
        outer, request_id = there.protect(Message(code=POST, uri_path=("inbox",), payload=b"p" * size))
        inner, request = ours.unprotect_request(here, over_the_wire(outer))
        assert (inner.code, inner.opt.uri_path, inner.payload) == (POST, ("inbox",), b"p" * size)
        answer = ours.protect_response(here, Answer(CHANGED, b"a" * size), request)
        assert there.unprotect(over_the_wire(answer), request_id)[0].payload == b"a" * size


def test_a_replay_is_refused_and_the_window_moves_only_for_what_opens() -> None:
    here, there = session(b"\x01", b"\x02"), Theirs(b"\x01", b"\x02")
    outers = [there.protect(Message(code=POST, uri_path=("x",)))[0] for _ in range(40)]
    forged = over_the_wire(outers[39])
    forged.payload = forged.payload[:-1] + bytes([forged.payload[-1] ^ 1])
    with pytest.raises(AuthenticationFailed, match="protection_invalid"):
        ours.unprotect_request(here, forged)
    ours.unprotect_request(here, over_the_wire(outers[0]))
    with pytest.raises(AuthenticationFailed, match="replay"):
        ours.unprotect_request(here, over_the_wire(outers[0]))
    ours.unprotect_request(here, over_the_wire(outers[39]))
    with pytest.raises(AuthenticationFailed, match="replay"):  # older than the window
        ours.unprotect_request(here, over_the_wire(outers[1]))
    ours.unprotect_request(here, over_the_wire(outers[20]))


def test_one_request_has_one_response_as_both_use_its_nonce() -> None:
    here, there = session(b"\x01", b"\x02"), Theirs(b"\x01", b"\x02")
    _, request = ours.unprotect_request(here, over_the_wire(there.protect(Message(code=POST, uri_path=("x",)))[0]))
    ours.protect_response(here, Answer(CHANGED, b"one"), request)
    with pytest.raises(Exception, match="a nonce is used once"):
        ours.protect_response(here, Answer(CHANGED, b"two"), request)


def test_the_response_of_another_request_is_refused() -> None:
    here, there = session(b"\x01", b"\x02"), Theirs(b"\x01", b"\x02")
    first, first_id = ours.protect_request(here, "x", b"", None)
    _, second_id = ours.protect_request(here, "x", b"", None)
    _, request_id = there.unprotect(over_the_wire(first))
    answer = over_the_wire(there.protect(Message(code=CHANGED, payload=b"1"), request_id)[0])
    with pytest.raises(AuthenticationFailed):
        ours.unprotect_response(here, answer, second_id)
    assert ours.unprotect_response(here, answer, first_id).payload == b"1"


@pytest.mark.parametrize(
    "option", ["", "09", "0900", "19000102", "0f00", "0800", "8900 02", "0900 03", "07000000000000 02"]
)
def test_odd_options_are_refused(option: str) -> None:
    here, there = session(b"\x01", b"\x02"), Theirs(b"\x01", b"\x02")
    outer = over_the_wire(there.protect(Message(code=POST, uri_path=("x",)))[0])
    outer.opt.oscore = bytes.fromhex(option)
    with pytest.raises(AuthenticationFailed):
        ours.unprotect_request(here, outer)
