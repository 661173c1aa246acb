"""A message in a stream of bytes (RFC 8323 3.2): how long it is, what it says."""

from typing import Final

from cpns.coap.errors import FormatError
from cpns.coap.message import MARKER, MAX_TOKEN, Message, read_options, write_options

_EXTENDED: Final = ((0, 0),) * 13 + ((1, 13), (2, 269), (4, 65805))
"""By the length's nibble: bytes that follow, and what they count from."""


def needs(data: bytes | bytearray, at: int, end: int) -> int:
    """Return how many bytes the frame that begins at ``data[at]`` has, or, while that can't be told, how many tell it.

    So ``data[at:end]`` holds the frame as soon as it holds that many.

    Raises:
        FormatError: the token is too long.
    """
    if at == end:
        return 1
    first = data[at]
    token = first & 0x0F
    if token > MAX_TOKEN:
        raise FormatError("token_invalid")
    length = first >> 4
    if length < 13:
        return 2 + token + length
    more, base = _EXTENDED[length]
    start = at + 1
    if start + more > end:
        return 1 + more
    return 2 + more + token + base + int.from_bytes(data[start : start + more], "big")


def decode(data: bytes | bytearray, at: int, end: int) -> Message:
    """Return the message in ``data[at:end]``, which is one whole frame, as `needs` measured it.

    Raises:
        FormatError: it is none.
    """
    first = data[at]
    at += 1 + _EXTENDED[first >> 4][0]
    code = data[at]
    start = at + 1
    at = start + (first & 0x0F)
    if isinstance(data, bytes):
        options, payload = read_options(data, at, end)
        return Message(code, data[start:at], options, data[payload:end])
    view = memoryview(data)  # so that each byte is copied out of it once
    held, payload = read_options(view, at, end)
    options = tuple([(number, bytes(value)) for number, value in held])
    return Message(code, bytes(view[start:at]), options, bytes(view[payload:end]))


def encode(message: Message, token: bytes) -> bytes:
    """Return *message* with *token* as a frame. Raises ValueError where there is no such message."""
    code, _, options, payload = message
    if len(token) > MAX_TOKEN:
        raise ValueError("a token holds 8 bytes at most")
    written = write_options(options) if options else b""
    length = len(written) + len(payload) + (1 if payload else 0)
    tail = (token, written, MARKER, payload) if payload else (token, written)
    if length < 13:
        return b"".join((bytes((length << 4 | len(token), code)), *tail))
    if length < 269:
        return b"".join((bytes((13 << 4 | len(token), length - 13, code)), *tail))
    if length < 65805:
        extended = length - 269
        return b"".join((bytes((14 << 4 | len(token), extended >> 8, extended & 0xFF, code)), *tail))
    return b"".join((bytes((15 << 4 | len(token),)), (length - 65805).to_bytes(4, "big"), bytes((code,)), *tail))
