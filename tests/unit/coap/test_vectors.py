"""Known answers: the examples of RFC 7252 (appendix A), RFC 8323 (3.2, 5.7), and all of RFC 8613, appendix C.

The hexadecimal of RFC 8613 is that of its text, published in github.com/core-wg/oscore as ``rfc8613.txt``.
"""

from dataclasses import dataclass

import pytest

from cpns.coap import datagram, frame, oscore_option
from cpns.coap.connection import Connection
from cpns.coap.datagram import Datagram
from cpns.coap.events import Noted
from cpns.coap.message import Message
from cpns.coap.numbers import Type
from cpns.coap.oscore import Context, Limits
from cpns.coap.oscore_option import OscoreOption
from cpns.crypto import primitives
from cpns.crypto.aead import KEY_BYTES, NONCE_BYTES, Ccm
from cpns.crypto.oscore import oscore_keys, oscore_output
from cpns.crypto.secret import Secret
from tests.support.links import FORMS, connected, drained, opened

GET, CONTENT = 0x01, 0x45
URI_HOST, OSCORE, URI_PATH = 3, 9, 11
h = bytes.fromhex

TEMPERATURE = ((URI_PATH, b"temperature"),)
EXAMPLES = {
    "figure 16, request": (Datagram(Type.CON, 0x7D34, Message(GET, b"", TEMPERATURE)), 16),
    "figure 16, response": (Datagram(Type.ACK, 0x7D34, Message(CONTENT, b"", (), b"22.3 C")), 11),
    "figure 17, request": (Datagram(Type.CON, 0x7D35, Message(GET, b"\x20", TEMPERATURE)), 17),
    "figure 17, response": (Datagram(Type.ACK, 0x7D35, Message(CONTENT, b"\x20", (), b"22.3 C")), 12),
}
WRITTEN = {
    "figure 16, request": "40017d34bb74656d7065726174757265",
    "figure 16, response": "60457d34ff32322e332043",
    "figure 17, request": "41017d3520bb74656d7065726174757265",
    "figure 17, response": "61457d3520ff32322e332043",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_rfc_7252_a(name: str) -> None:
    example, size = EXAMPLES[name]
    written = datagram.encode(example.type, example.mid, example.message, example.message.token)
    assert written == h(WRITTEN[name])
    assert len(written) == size
    assert datagram.decode(written) == example


def test_rfc_7252_5_10_uri_path_of_several_segments() -> None:
    """RFC 7252, appendix B, as options: each segment is one, and a delta of 0 repeats the number."""
    options = ((3, b"example.net"), (11, b".well-known"), (11, b"core"))
    written = frame.encode(Message(GET, b"", options), b"")
    assert written == h("d010013b") + b"example.net" + h("8b") + b".well-known" + h("04") + b"core"


def test_rfc_8323_3_2() -> None:
    """2.03 with the token 7f, and nothing else."""
    message = Message(0x43, b"\x7f")
    assert frame.encode(message, b"\x7f") == h("01437f")
    assert frame.decode(h("01437f"), 0, 3) == message


def test_rfc_8323_ping_and_pong() -> None:
    here, there = connected()
    here.ping(b"\x42")
    assert here.take() == [h("01e242")]
    there.receive(h("01e242"))
    assert drained(there) == [Noted(0xE2, b"\x42")]
    assert there.take() == [h("01e342")]


def test_the_settings_are_those_of_rfc_8323_5_3() -> None:
    assert Connection(66_560, FORMS).take() == [h("40e1" + "23010400")]


@dataclass(frozen=True)
class Derived:
    """One end of C.1 to C.3."""

    sender_id: str
    recipient_id: str
    info: tuple[str, str, str]
    sender_key: str
    recipient_key: str
    common_iv: str
    sender_nonce: str
    recipient_nonce: str
    salt: str = ""
    id_context: str | None = None

    def turned(self) -> "Derived":
        """Return the other end."""
        return Derived(
            self.recipient_id,
            self.sender_id,
            (self.info[1], self.info[0], self.info[2]),
            self.recipient_key,
            self.sender_key,
            self.common_iv,
            self.recipient_nonce,
            self.sender_nonce,
            self.salt,
            self.id_context,
        )

    @property
    def context_id(self) -> bytes | None:
        return None if self.id_context is None else h(self.id_context)

    def context(self) -> Context:
        keys = oscore_keys(SECRET, h(self.salt), h(self.sender_id), h(self.recipient_id), self.context_id)
        return Context(keys, h(self.sender_id), h(self.recipient_id), Limits(), self.context_id)


SECRET = Secret(h("0102030405060708090a0b0c0d0e0f10"))
C1 = Derived(
    "",
    "01",
    ("8540f60a634b657910", "854101f60a634b657910", "8540f60a6249560d"),
    "f0910ed7295e6ad4b54fc793154302ff",
    "ffb14e093c94c9cac9471648b4f98710",
    "4622d4dd6d944168eefb54987c",
    "4622d4dd6d944168eefb54987c",
    "4722d4dd6d944169eefb54987c",
    salt="9e7ca92223786340",
)
C2 = Derived(
    "00",
    "01",
    ("854100f60a634b657910", "854101f60a634b657910", "8540f60a6249560d"),
    "321b26943253c7ffb6003b0b64d74041",
    "e57b5635815177cd679ab4bcec9d7dda",
    "be35ae297d2dace910c52e99f9",
    "bf35ae297d2dace910c52e99f9",
    "bf35ae297d2dace810c52e99f9",
)
C3 = Derived(
    "",
    "01",
    ("85404837cbf3210017a2d30a634b657910", "8541014837cbf3210017a2d30a634b657910", "85404837cbf3210017a2d30a6249560d"),
    "af2a1300a5e95788b356336eeecd2b92",
    "e39a0c7c77b43f03b4b39ab9a268699f",
    "2ca58fb85ff1b81c0b7181b85e",
    "2ca58fb85ff1b81c0b7181b85e",
    "2da58fb85ff1b81d0b7181b85e",
    salt="9e7ca92223786340",
    id_context="37cbf3210017a2d3",
)


def nonce_of(common_iv: bytes, kid: bytes, piv: bytes) -> bytes:
    """RFC 8613 5.2, step by step: the size of the ID, the ID, the Partial IV, each padded; exclusive or."""
    padded = bytes([len(kid)]) + kid.rjust(7, b"\0") + piv.rjust(5, b"\0")
    return bytes(a ^ b for a, b in zip(padded, common_iv, strict=True))


@pytest.mark.parametrize(
    "end",
    [C1, C1.turned(), C2, C2.turned(), C3, C3.turned()],
    ids=["C.1.1", "C.1.2", "C.2.1", "C.2.2", "C.3.1", "C.3.2"],
)
def test_rfc_8613_keys(end: Derived) -> None:
    sender, recipient = h(end.sender_id), h(end.recipient_id)
    prk = primitives.Keyed(primitives.extract(h(end.salt), SECRET.reveal()))
    names = ((sender, "Key", KEY_BYTES), (recipient, "Key", KEY_BYTES), (b"", "IV", NONCE_BYTES))
    for (owner, kind, size), info, output in zip(
        names, end.info, (end.sender_key, end.recipient_key, end.common_iv), strict=True
    ):
        assert primitives.enc(owner, end.context_id, 10, kind, size) == h(info)
        assert oscore_output(prk, owner, end.context_id, kind, size) == h(output)
    assert nonce_of(h(end.common_iv), sender, b"\0") == h(end.sender_nonce)
    assert nonce_of(h(end.common_iv), recipient, b"\0") == h(end.recipient_nonce)
    keys = oscore_keys(SECRET, h(end.salt), sender, recipient, end.context_id)
    assert keys.common_iv == h(end.common_iv)
    for key, ours in ((end.sender_key, keys.sender), (end.recipient_key, keys.recipient)):
        assert ours.seal(bytes(13), b"text", b"aad") == Ccm(h(key)).seal(bytes(13), b"text", b"aad")


@dataclass(frozen=True)
class Request:
    """One of C.4 to C.6."""

    end: Derived
    unprotected: str
    aad: str
    nonce: str
    option: str
    ciphertext: str
    protected: str


REQUESTS = {
    "C.4": Request(
        C1,
        "44015d1f00003974396c6f63616c686f737483747631",
        "8368456e63727970743040488501810a40411440",
        "4622d4dd6d944168eefb549868",
        "0914",
        "612f1092f1776f1c1668b3825e",
        "44025d1f00003974396c6f63616c686f7374620914ff612f1092f1776f1c1668b3825e",
    ),
    "C.5": Request(
        C2,
        "440171c30000b932396c6f63616c686f737483747631",
        "8368456e63727970743040498501810a4100411440",
        "bf35ae297d2dace910c52e99ed",
        "091400",
        "4ed339a5a379b0b8bc731fffb0",
        "440271c30000b932396c6f63616c686f737463091400ff4ed339a5a379b0b8bc731fffb0",
    ),
    "C.6": Request(
        C3,
        "44012f8eef9bbf7a396c6f63616c686f737483747631",
        "8368456e63727970743040488501810a40411440",
        "2ca58fb85ff1b81c0b7181b84a",
        "19140837cbf3210017a2d3",
        "72cd7273fd331ac45cffbe55c3",
        "44022f8eef9bbf7a396c6f63616c686f73746b19140837cbf3210017a2d3ff72cd7273fd331ac45cffbe55c3",
    ),
}


def at_number(context: Context, number: int) -> Context:
    """Return *context* as it is after it has sent *number* messages."""
    context.sent = number
    return context


@pytest.mark.parametrize("name", REQUESTS)
def test_rfc_8613_requests(name: str) -> None:
    vector = REQUESTS[name]
    plain = datagram.decode(h(vector.unprotected))
    outside = tuple(one for one in plain.message.options if one[0] == URI_HOST)
    inner = Message(plain.message.code, b"", tuple(one for one in plain.message.options if one[0] == URI_PATH))
    client, server = at_number(vector.end.context(), 20), vector.end.turned().context()
    sealed, request = client.seal_request(inner, outside, 0.0)
    assert request.aad == h(vector.aad)
    assert sealed.value(OSCORE) == h(vector.option)
    assert sealed.payload == h(vector.ciphertext)
    piv, kid, context = oscore_option.decode(h(vector.option))
    assert (piv, kid, context) == (b"\x14", h(vector.end.sender_id), vector.end.context_id)
    assert nonce_of(h(vector.end.common_iv), h(vector.end.sender_id), piv) == h(vector.nonce)
    opened_by_hand = Ccm(h(vector.end.sender_key)).unseal(h(vector.nonce), h(vector.ciphertext), h(vector.aad))
    assert opened_by_hand == h("01b3747631")
    assert datagram.encode(plain.type, plain.mid, sealed, plain.message.token) == h(vector.protected)
    inside, answers = opened(server, datagram.decode(h(vector.protected)).message, 0.0)
    assert inside == inner
    assert answers.aad == request.aad


@pytest.mark.parametrize(
    ("numbered", "option", "nonce", "protected"),
    [
        (False, "", REQUESTS["C.4"].nonce, "64445d1f0000397490ffdbaad1e9a7e7b2a813d3c31524378303cdafae119106"),
        (True, "0100", C1.recipient_nonce, "64445d1f00003974920100ff4d4c13669384b67354b2b6175ff4b8658c666a6cf88e"),
    ],
    ids=["C.7", "C.8"],
)
def test_rfc_8613_responses(numbered: bool, option: str, nonce: str, protected: str) -> None:
    plain = datagram.decode(h("64455d1f00003974ff48656c6c6f20576f726c6421"))
    inner = Message(CONTENT, b"", (), b"Hello World!")
    assert plain.message == inner._replace(token=h("00003974"))
    client, server = at_number(C1.context(), 20), C1.turned().context()
    sealed, asked = client.seal_request(Message(GET, b"", ((URI_PATH, b"tv1"),)), ((URI_HOST, b"localhost"),), 0.0)
    _, request = opened(server, sealed, 0.0)
    answer = server.seal_response(inner, request, 0.0, numbered=numbered)
    assert answer.value(OSCORE) == h(option)
    opened_by_hand = Ccm(h(C1.recipient_key)).unseal(h(nonce), answer.payload, h(REQUESTS["C.4"].aad))
    assert opened_by_hand == h("45ff48656c6c6f20576f726c6421")
    assert datagram.encode(plain.type, plain.mid, answer, plain.message.token) == h(protected)
    assert client.open_response(datagram.decode(h(protected)).message, asked, 0.0) == inner


def test_an_option_that_says_nothing_is_empty() -> None:
    assert oscore_option.encode(OscoreOption()) == b""
    assert oscore_option.decode(b"") == OscoreOption()
