"""A message as a datagram (RFC 7252 3)."""

from typing import Final, NamedTuple

from cpns.coap.errors import FormatError
from cpns.coap.message import MARKER, MAX_TOKEN, Message, read_options, write_options
from cpns.coap.numbers import Type

HEADER: Final = 4
"""Bytes before the token."""
_VERSION: Final = 0x40
_TYPES: Final = tuple(Type)


class Datagram(NamedTuple):
    """Type, message ID and what they carry."""

    type: Type
    mid: int
    message: Message


class Head(NamedTuple):
    """The head of a datagram whose rest breaks the format."""

    type: Type
    mid: int


def head(data: bytes) -> Head | None:
    """Return type and message ID; None: too short, or of another version, which is ignored in silence (RFC 7252 3)."""
    if len(data) < HEADER or data[0] & 0xC0 != _VERSION:
        return None
    return Head(_TYPES[data[0] >> 4 & 3], data[2] << 8 | data[3])


def decode(data: bytes) -> Datagram:
    """Return the message in *data*.

    Raises:
        FormatError: it is none. A confirmable one is rejected then, see `head` (RFC 7252 4.2).
    """
    size = len(data)
    if size < HEADER:
        raise FormatError("header_incomplete")
    first = data[0]
    if first & 0xC0 != _VERSION:
        raise FormatError("unknown_version")
    code = data[1]
    mid = data[2] << 8 | data[3]
    if code == 0:
        if size > HEADER or first & 0x0F:
            raise FormatError("empty_message_is_not_empty")  # RFC 7252 4.1
        return Datagram(_TYPES[first >> 4 & 3], mid, _EMPTY)
    at = HEADER + (first & 0x0F)
    if first & 0x0F > MAX_TOKEN or at > size:
        raise FormatError("token_invalid")
    options, payload = read_options(data, at, size)
    return Datagram(_TYPES[first >> 4 & 3], mid, Message(code, data[HEADER:at], options, data[payload:]))


_EMPTY: Final = Message(0)


def encode(type_: int, mid: int, message: Message, token: bytes) -> bytes:
    """Return *message* with *token* as a datagram. Raises ValueError where there is no such message."""
    code, _, options, payload = message
    if len(token) > MAX_TOKEN:
        raise ValueError("a token holds 8 bytes at most")
    first = bytes((_VERSION | type_ << 4 | len(token), code, mid >> 8, mid & 0xFF))
    written = write_options(options) if options else b""
    return b"".join((first, token, written, MARKER, payload) if payload else (first, token, written))


def empty(type_: int, mid: int) -> bytes:
    """Return an empty message: an acknowledgement, a reset, a ping (RFC 7252 4.1)."""
    return bytes((_VERSION | type_ << 4, 0, mid >> 8, mid & 0xFF))
