"""OSCORE (RFC 8613): one end of a session seals and opens.

AES-CCM-16-64-128, and one context for the life of a session, in memory: no number is used twice, as none outlives it.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from cpns.coap import oscore_option
from cpns.coap.errors import CannotSend, FormatError, SessionOver
from cpns.coap.message import MARKER, Message, Options, read_options, write_options
from cpns.coap.numbers import KINDS, Code, Kind, Option
from cpns.coap.oscore_option import MAX_PIV, OscoreOption
from cpns.coap.window import ReplayWindow
from cpns.crypto.aead import MAX_PLAINTEXT, NONCE_BYTES
from cpns.crypto.oscore import OscoreKeys
from cpns.errors import AuthenticationFailed

REPLAY_WINDOW: Final = 32
MAX_ID: Final = NONCE_BYTES - 6
"""Bytes of an ID (RFC 8613 3.3)."""
MAX_NUMBER: Final = 2 ** (8 * MAX_PIV) - 1
"""The highest sender sequence number (RFC 8613 7.2.1)."""
_OSCORE: Final = int(Option.OSCORE)
_NOTHING_SAID: Final = ((_OSCORE, b""),)


class RequestId:
    """The tie between a request and its answers (RFC 8613 5.4): it goes into the AAD of each.

    Attributes:
        answered: whether the nonce of the request has served for an answer; it serves for one.
    """

    __slots__ = ("aad", "answered", "number")

    def __init__(self, number: int, aad: bytes) -> None:
        self.number = number
        self.aad = aad
        self.answered = False


class Limits(NamedTuple):
    """How much one end sends under one session, and until when.

    Attributes:
        messages: with a number of their own.
        until: the time at which the session ends.
    """

    messages: int = MAX_NUMBER + 1
    until: float = float("inf")


def said_by(message: Message) -> OscoreOption | None:
    """Return what the OSCORE option of *message* says; None: it has none that there can be."""
    for number, value in message.options:
        if number == _OSCORE:
            try:
                return oscore_option.decode(value)
            except FormatError:
                return None
    return None


_STRINGS: Final = tuple(bytes((0x40 | size,)) for size in range(24))
"""How CBOR begins a byte string of that length."""
_AADS: Final = tuple(b"\x83\x68Encrypt0\x40" + string + b"\x85\x01\x81\x0a" for string in _STRINGS)
"""How an AAD begins whose inner array has that length."""


def _aad(kid: bytes, piv: bytes) -> bytes:
    """Return the AAD of a request (RFC 8613 5.4): both of its arrays are short, so each length is one byte."""
    kid_size, piv_size = len(kid), len(piv)
    return b"".join(
        (_AADS[7 + kid_size + piv_size], _STRINGS[kid_size], kid, _STRINGS[piv_size], piv, b"\x40"),
    )


class Context:
    """The security context of one end (RFC 8613 3): sender and recipient.

    Args:
        keys: derived for these IDs.
        sender_id: what this end sends names it.
        recipient_id: what comes must name it.
        limits: of the session.
        id_context: it is sent with every request, where it is not None.
    """

    __slots__ = (
        "_id_context",
        "_keys",
        "_most",
        "_recipient_iv",
        "_sender_iv",
        "_until",
        "_window",
        "recipient_id",
        "sender_id",
        "sent",
    )

    def __init__(
        self,
        keys: OscoreKeys,
        sender_id: bytes,
        recipient_id: bytes,
        limits: Limits,
        id_context: bytes | None = None,
    ) -> None:
        if max(len(sender_id), len(recipient_id)) > MAX_ID or sender_id == recipient_id:
            raise ValueError(f"the two IDs are different, and of {MAX_ID} bytes at most")
        self.sender_id = sender_id
        self.recipient_id = recipient_id
        self.sent = 0
        """Messages with a number of their own; so the next has this number."""
        self._keys = keys
        self._most, self._until = limits
        self._id_context = id_context
        self._window = ReplayWindow(REPLAY_WINDOW)
        self._sender_iv = _first_nonce(keys.common_iv, sender_id)
        self._recipient_iv = _first_nonce(keys.common_iv, recipient_id)

    def __repr__(self) -> str:
        return "<OSCORE context>"

    def seal_request(self, inner: Message, outer: Options, now: float) -> tuple[Message, RequestId]:
        """Return *inner* sealed, as POST with the options *outer* and that of OSCORE, and what its answers need.

        Raises:
            CannotSend: ``too_long_to_seal``. `SessionOver`: ``session_used_up`` or ``session_too_old``.
        """
        plaintext = _plaintext(inner)
        number = self._next_number(now)
        piv = _shortest(number)
        request = RequestId(number, _aad(self.sender_id, piv))
        sealed = self._keys.sender.seal(_nonce(self._sender_iv, number), plaintext, request.aad)
        option = oscore_option.encode(OscoreOption(piv, self.sender_id, self._id_context))
        below = [one for one in outer if one[0] < _OSCORE]
        return Message(Code.POST, b"", (*below, (_OSCORE, option), *outer[len(below) :]), sealed), request

    def open_request(self, said: OscoreOption, sealed: bytes, now: float) -> tuple[Message, RequestId]:
        """Return the request in *sealed*, and what its answers need; in the order of RFC 8613 8.2.

        Args:
            said: the option of the message, by which this context was found.
            sealed: its payload.
            now: the time.

        Raises:
            AuthenticationFailed: a replay, another key, changed bytes, or the session has ended.
        """
        self._check_still_open(now)
        piv, kid, context = said
        if kid != self.recipient_id or not piv or context not in (None, self._id_context):
            raise AuthenticationFailed("protection_invalid")
        number = int.from_bytes(piv, "big")
        if not self._window.is_fresh(number):
            raise AuthenticationFailed("replay")
        request = RequestId(number, _aad(kid, piv))
        opened = self._keys.recipient.unseal(_nonce(self._recipient_iv, number), sealed, request.aad)
        self._window.strike_out(number)
        return _inner(opened, Kind.REQUEST), request

    def seal_response(self, inner: Message, request: RequestId, now: float, *, numbered: bool = False) -> Message:
        """Return *inner* sealed, as 2.04 with the option of OSCORE, to *request* of the peer (RFC 8613 8.3).

        The first answer takes the nonce of the request. Each one after it has a number of its own, and so has the first
        where it is *numbered*.

        Raises:
            CannotSend: as `seal_request`.
        """
        plaintext = _plaintext(inner)
        if request.answered or numbered:
            number = self._next_number(now)
            options = ((_OSCORE, oscore_option.encode(OscoreOption(_shortest(number)))),)
            nonce = _nonce(self._sender_iv, number)
        else:
            self._check_age(now)
            request.answered = True
            options = _NOTHING_SAID
            nonce = _nonce(self._recipient_iv, request.number)
        return Message(Code.CHANGED, b"", options, self._keys.sender.seal(nonce, plaintext, request.aad))

    def open_response(self, outer: Message, request: RequestId, now: float) -> Message:
        """Return the answer to *request* of ours in *outer* (RFC 8613 8.4).

        Raises:
            AuthenticationFailed: as `open_request`; also the answer to another request.
        """
        self._check_still_open(now)
        option = said_by(outer)
        if option is None:
            raise AuthenticationFailed("protection_invalid")
        piv, kid, context = option
        if kid not in (None, self.recipient_id) or context is not None:
            raise AuthenticationFailed("protection_invalid")
        if piv:
            nonce = _nonce(self._recipient_iv, int.from_bytes(piv, "big"))
        else:
            nonce = _nonce(self._sender_iv, request.number)
        return _inner(self._keys.recipient.unseal(nonce, outer.payload, request.aad), Kind.RESPONSE)

    def _check_still_open(self, now: float) -> None:
        if now >= self._until:
            raise AuthenticationFailed("session_too_old")

    def _next_number(self, now: float) -> int:
        self._check_age(now)
        if self.sent >= self._most:
            raise SessionOver("session_used_up")
        number = self.sent
        self.sent += 1
        return number

    def _check_age(self, now: float) -> None:
        if now >= self._until:
            raise SessionOver("session_too_old")


def _first_nonce(common_iv: bytes, kid: bytes) -> int:
    """Return the nonce of Partial IV 0 (RFC 8613 5.2)."""
    padded = bytes((len(kid),)) + kid.rjust(MAX_ID, b"\0") + bytes(MAX_PIV)
    return int.from_bytes(padded, "big") ^ int.from_bytes(common_iv, "big")


def _nonce(first: int, number: int) -> bytes:
    return (first ^ number).to_bytes(NONCE_BYTES, "big")


def _shortest(number: int) -> bytes:
    """Return *number* as Partial IV (RFC 8613 5): zero is one byte."""
    return number.to_bytes((number.bit_length() + 7) // 8 or 1, "big")


def _plaintext(inner: Message) -> bytes:
    """Return what is sealed (RFC 8613 5.3): no token, and the code in front."""
    code, _, options, payload = inner
    written = _written(options) if options else b""
    if len(written) + len(payload) > MAX_PLAINTEXT - 2:
        raise CannotSend("too_long_to_seal")
    return b"".join((bytes((code,)), written, MARKER, payload) if payload else (bytes((code,)), written))


_written = lru_cache(maxsize=64)(write_options)
"""A session says the same options over and over."""


def _inner(plaintext: bytes, kind: Kind) -> Message:
    if not plaintext or KINDS[plaintext[0]] is not kind:
        raise AuthenticationFailed("inner_code_does_not_fit")
    try:
        options, payload = read_options(plaintext, 1, len(plaintext))
    except FormatError as error:
        raise AuthenticationFailed("protection_invalid") from error
    return Message(plaintext[0], b"", options, plaintext[payload:])
