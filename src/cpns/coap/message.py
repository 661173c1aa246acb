"""A message without its framing: code, token, options, payload; and options as bytes (RFC 7252 3.1, 5.4).

A datagram, a frame in a stream and the inside of a sealed message have these three in common.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeVar

from cpns.coap.errors import FormatError
from cpns.coap.numbers import FORMS, Code, Form

MAX_OPTIONS: Final = 32
"""Options of one message: a message of ours has 4."""
MAX_NUMBER: Final = 0xFFFF
"""Of an option (RFC 7252 12.2)."""
_LOOKS: Final = range(MAX_OPTIONS + 1)
MAX_TOKEN: Final = 8
"""Bytes of a token (RFC 7252 3); those of RFC 8974 are refused."""
PAYLOAD_MARKER: Final = 0xFF
MARKER: Final = bytes((PAYLOAD_MARKER,))

B = TypeVar("B", bytes, memoryview)
Options = tuple[tuple[int, bytes], ...]
"""Numbers and values, in the order of the numbers."""


class Message(NamedTuple):
    """A message, whatever carries it. The values of options are as they came until somebody asks."""

    code: int
    token: bytes = b""
    options: Options = ()
    payload: bytes = b""

    def value(self, number: int) -> bytes | None:
        """Return the first value of that option; None: it is not there, or has not its form (RFC 7252 5.4.3)."""
        for found, value in self.options:
            if found == number:
                form = FORMS.get(number)
                return value if form is None or form.least <= len(value) <= form.most else None
        return None

    def uint(self, number: int) -> int | None:
        """Return that option as a number (RFC 7252 3.2), or None as `value` does."""
        value = self.value(number)
        return None if value is None else int.from_bytes(value, "big")

    def text(self, number: int) -> str | None:
        """Return that option as a text, or None as `value` does, or where it is not UTF-8."""
        value = self.value(number)
        try:
            return None if value is None else value.decode()
        except UnicodeDecodeError:
            return None

    def texts(self, number: int) -> tuple[str, ...]:
        """Return all values of that option as texts.

        Raises:
            FormatError: one is not UTF-8.
        """
        try:
            return tuple([value.decode() for found, value in self.options if found == number])
        except UnicodeDecodeError as error:
            raise FormatError("option_not_utf8") from error


def unsupported(options: Options, forms: Mapping[int, Form]) -> int | None:
    """Return the first critical option that is not in *forms*, or stands there against its form; None: there is none.

    Such a message must not be acted on (RFC 7252 5.4.1); an option too many or of another length counts as not
    understood (5.4.3, 5.4.5). Elective options are not looked at.
    """
    previous = -1
    for number, value in options:
        if number & 1:
            form = forms.get(number)
            if form is None:
                return number
            least, most, repeatable, text = form
            if not least <= len(value) <= most or (number == previous and not repeatable):
                return number
            if text and not value.isascii() and not _is_utf8(value):
                return number
        previous = number
    return None


def _is_utf8(value: bytes) -> bool:
    try:
        return value.decode() is not None
    except UnicodeDecodeError:
        return False


def bad_option(token: bytes, number: int) -> Message:
    """Return the answer to a request with a critical option that is not understood (RFC 7252 5.4.1, 5.5.2)."""
    return Message(Code.BAD_OPTION, token, (), b"option %d" % number)


def read_options(data: B, at: int, end: int) -> tuple[tuple[tuple[int, B], ...], int]:
    """Return the options in ``data[at:end]``, and where the payload begins: *end* where there is none.

    One pass, which ends at `MAX_OPTIONS`; nothing but the values is copied.

    Raises:
        FormatError: they break RFC 7252 3.1, are more than `MAX_OPTIONS`, or a payload is announced that is not there.
    """
    options: list[tuple[int, B]] = []
    number = 0
    for _ in _LOOKS:
        if at == end:
            break
        first = data[at]
        at += 1
        if first == PAYLOAD_MARKER:
            if at == end:
                raise FormatError("payload_absent")
            break
        delta, length = first >> 4, first & 0x0F
        if delta > 12:
            delta, at = _extended(data, delta, at, end)
        if length > 12:
            length, at = _extended(data, length, at, end)
        number += delta
        stop = at + length
        if stop > end or number > MAX_NUMBER:
            raise FormatError("option_out_of_bounds")
        options.append((number, data[at:stop]))
        at = stop
    else:
        raise FormatError("too_many_options")
    return tuple(options), at


def _extended(data: bytes | memoryview, nibble: int, at: int, end: int) -> tuple[int, int]:
    """Return a delta or length of more than four bits, and where it ends (RFC 7252 3.1)."""
    if nibble == 13 and at < end:
        return data[at] + 13, at + 1
    if nibble == 14 and at + 1 < end:
        return (data[at] << 8 | data[at + 1]) + 269, at + 2
    raise FormatError("option_head_invalid")


def write_options(options: Iterable[tuple[int, bytes]], previous: int = 0) -> bytes:
    """Return *options* as bytes, behind an option of the number *previous*.

    Raises:
        ValueError: they are not in the order of their numbers, or one is too long.
    """
    parts = []
    for number, value in options:
        parts.append(write_option(number, value, previous))
        previous = number
    return b"".join(parts)


def write_option(number: int, value: bytes, previous: int = 0) -> bytes:
    """Return one option as bytes, behind an option of the number *previous*. Raises ValueError as `write_options`."""
    delta, length = number - previous, len(value)
    if 0 <= delta < 13 and length < 13:
        return bytes((delta << 4 | length,)) + value
    delta, more = _nibble(delta)
    length, longer = _nibble(length)
    return bytes((delta << 4 | length,)) + more + longer + value


def _nibble(number: int) -> tuple[int, bytes]:
    if 0 <= number < 13:
        return number, b""
    if 13 <= number < 269:
        return 13, bytes((number - 13,))
    if 269 <= number <= 0xFFFF + 269:
        return 14, (number - 269).to_bytes(2, "big")
    raise ValueError("options stand in the order of their numbers, and hold 65,804 bytes at most")


def uint(number: int) -> bytes:
    """Return *number* as the value of an option, in the fewest bytes (RFC 7252 3.2)."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
