"""OSCORE (RFC 8613) for our sessions, on the primitives of ``aiocoap.oscore``.

AES-CCM-16-64-128, HKDF-SHA-256, replay window 32, no ID Context. A context is derived with the first message of its
session and lives with the session, in memory.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import cbor2
from aiocoap import Message, error, oscore
from aiocoap.numbers.codes import CHANGED, POST
from aiocoap.numbers.codes import Code as CoapCode
from aiocoap.options import Options

from cpns.errors import AuthenticationFailed
from cpns.session.table import Session
from cpns.transport.errors import Answer

REPLAY_WINDOW: Final = 32
MESSAGE_LIMIT: Final = 2**20
"""Messages that one end sends under one session at most (section 2: "its message limit"); then a new one is due."""

_AEAD = oscore.algorithms["AES-CCM-16-64-128"]
_HASH = oscore.hashfunctions["sha256"]
_PIV_BYTES = 5
_KID_FLAG = 0b1000
_PAYLOAD = b"\xff"


@dataclass(slots=True)
class RequestId:
    """What ties a response to its request (RFC 8613 5.4): both go into the AAD of either.

    Attributes:
        answered: its nonce has served for a response, and must not serve for another.
        aad: of both.
    """

    kid: bytes
    piv: bytes
    answered: bool = False
    aad: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        external = cbor2.dumps([1, [_AEAD.value], self.kid, self.piv, b""])
        self.aad = cbor2.dumps(["Encrypt0", b"", external])


@dataclass(frozen=True, slots=True)
class Inner:
    """What a message protects (RFC 8613 5.3)."""

    code: CoapCode
    opt: Options
    payload: bytes


class _Context(oscore.SecurityContextUtils):  # type: ignore[misc]
    """Sender and recipient context of one session; never stored.

    The keys are derived by aiocoap; the messages are put together here, as `CanProtect` copies every message deeply and
    writes it in hexadecimal for a log that nobody keeps.
    """

    id_context = None
    alg_aead = _AEAD
    hashfun = _HASH

    def __init__(self, session: Session) -> None:
        self.sender_id = session.peer_kid
        self.recipient_id = session.own_kid
        self.derive_keys(session.keys.oscore_master_salt(), session.keys.oscore_master_secret().reveal())
        self.sender_sequence_number = 0
        self.window = oscore.ReplayWindow(REPLAY_WINDOW, lambda: None)
        self.window.initialize_empty()
        self._sender_iv = self._iv(self.sender_id)
        self._recipient_iv = self._iv(self.recipient_id)

    def __repr__(self) -> str:
        return "<OSCORE context>"

    def _iv(self, kid: bytes) -> int:
        """Return the nonce of Partial IV 0 (RFC 8613 5.2)."""
        padded = bytes([len(kid)]) + kid.rjust(_AEAD.iv_bytes - 1 - _PIV_BYTES, b"\0") + bytes(_PIV_BYTES)
        return int.from_bytes(padded, "big") ^ int.from_bytes(self.common_iv, "big")

    def next_piv(self) -> bytes:
        number = self.sender_sequence_number
        if number >= oscore.MAX_SEQNO:
            raise AuthenticationFailed("sequence_numbers_used_up")
        self.sender_sequence_number = number + 1
        return number.to_bytes((number.bit_length() + 7) // 8 or 1, "big")

    def encrypt(self, plaintext: bytes, request: RequestId, piv: bytes, *, own_iv: bool) -> bytes:
        sealed: bytes = _AEAD.encrypt(plaintext, request.aad, self.sender_key, self._nonce(piv, own_iv))
        return sealed

    def decrypt(self, sealed: bytes, request: RequestId, piv: bytes, *, own_iv: bool) -> bytes:
        opened: bytes = _AEAD.decrypt(sealed, request.aad, self.recipient_key, self._nonce(piv, own_iv))
        return opened

    def _nonce(self, piv: bytes, own_iv: bool) -> bytes:
        iv = self._sender_iv if own_iv else self._recipient_iv
        return (iv ^ int.from_bytes(piv, "big")).to_bytes(_AEAD.iv_bytes, "big")


def _context(session: Session) -> _Context:
    if session.protection is None:
        session.protection = _Context(session)
    return session.protection  # type: ignore[return-value]


def sent(session: Session) -> int:
    """Return how many messages this end has sent under *session* with a number of their own."""
    protection = session.protection
    return 0 if protection is None else int(protection.sender_sequence_number)  # type: ignore[attr-defined]


def key_id(option: bytes) -> bytes | None:
    """Return the kid in a request's OSCORE option, or None where there is none that we could have given."""
    if len(option) < 2 or option[0] & 0b11111000 != 0b00001000:  # k set; no kid context, no reserved bit
        return None
    start = 1 + (option[0] & 0b111)
    return option[start:] or None


@lru_cache(maxsize=64)
def _inner_options(path: str, content_format: int | None) -> bytes:
    message = Message(code=POST, uri_path=(path,))
    if content_format is not None:
        message.opt.content_format = content_format
    return bytes(message.opt.encode())


def protect_request(
    session: Session, path: str, payload: bytes, content_format: int | None
) -> tuple[Message, RequestId]:
    """Return ``POST /path`` to the session's peer as outer request, and what ties its response to it."""
    context = _context(session)
    piv = context.next_piv()
    request = RequestId(context.sender_id, piv)
    plaintext = bytes([POST]) + _inner_options(path, content_format) + (_PAYLOAD + payload if payload else b"")
    outer = Message(code=POST, payload=context.encrypt(plaintext, request, piv, own_iv=True), uri_host=session.peer_id)
    outer.opt.oscore = bytes([_KID_FLAG | len(piv)]) + piv + context.sender_id
    return outer, request


@lru_cache(maxsize=64)
def _answer_options(max_age: int) -> bytes:
    message = Message(code=CHANGED)
    message.opt.max_age = max_age
    return bytes(message.opt.encode())


def protect_response(session: Session, answer: Answer, request: RequestId) -> Message:
    """Return *answer* as outer response to *request*; one for each, as it uses the nonce of the request."""
    if request.answered:
        raise RuntimeError("a nonce is used once")
    request.answered = True
    options = b"" if answer.max_age is None else _answer_options(answer.max_age)
    plaintext = bytes([answer.code]) + options + (_PAYLOAD + answer.payload if answer.payload else b"")
    outer = Message(code=CHANGED, payload=_context(session).encrypt(plaintext, request, request.piv, own_iv=False))
    outer.opt.oscore = b""
    return outer


def unprotect_request(session: Session, outer: Message) -> tuple[Inner, RequestId]:
    """Return the inner request, and what its response needs.

    The order is that of RFC 8613 8.2: window, open, strike out.

    Raises:
        AuthenticationFailed: a replay, another key, or changed bytes.
    """
    context = _context(session)
    kid, piv = _parse(outer.opt.oscore)
    if kid != context.recipient_id or not piv:
        raise AuthenticationFailed("protection_invalid")
    number = int.from_bytes(piv, "big")
    if not context.window.is_valid(number):
        raise AuthenticationFailed("replay")
    request = RequestId(kid, piv)
    inner = _open(context, outer, request, piv, own_iv=False)
    context.window.strike_out(number)
    if not inner.code.is_request():
        raise AuthenticationFailed("inner_code_does_not_fit")
    return inner, request


def unprotect_response(session: Session, outer: Message, request: RequestId) -> Inner:
    """Return the inner response.

    Raises:
        AuthenticationFailed: as for `unprotect_request`; also the response of another request.
    """
    context = _context(session)
    kid, piv = _parse(outer.opt.oscore)
    if kid not in (None, context.recipient_id):
        raise AuthenticationFailed("protection_invalid")
    inner = _open(context, outer, request, piv or request.piv, own_iv=not piv)
    if not inner.code.is_response():
        raise AuthenticationFailed("inner_code_does_not_fit")
    return inner


def _parse(option: bytes) -> tuple[bytes | None, bytes]:
    """Return kid and Partial IV of an OSCORE option (RFC 8613 6.1); no kid context, no reserved bit."""
    if not option:
        return None, b""
    size = option[0] & 0b111
    if option[0] & 0b11110000 or size > _PIV_BYTES or len(option) < 1 + size:
        raise AuthenticationFailed("protection_invalid")
    rest = option[1 + size :]
    if option[0] & _KID_FLAG:
        return rest, option[1 : 1 + size]
    if rest:
        raise AuthenticationFailed("protection_invalid")
    return None, option[1 : 1 + size]


def _open(context: _Context, outer: Message, request: RequestId, piv: bytes, *, own_iv: bool) -> Inner:
    options = Options()
    try:
        plaintext = context.decrypt(outer.payload, request, piv, own_iv=own_iv)
        code = CoapCode(plaintext[0])
        payload = options.decode(plaintext[1:])
    except (oscore.ProtectionInvalid, error.Error, ValueError, IndexError) as cause:
        raise AuthenticationFailed("protection_invalid") from cause
    if not isinstance(code, CoapCode):  # one that is not registered is a number
        raise AuthenticationFailed("inner_code_does_not_fit")
    return Inner(code, options, payload)
