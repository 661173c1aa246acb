"""The OSCORE option (RFC 8613 6.1): Partial IV, kid, kid context."""

from typing import Final, NamedTuple

from cpns.coap.errors import FormatError

MAX_PIV: Final = 5
_RESERVED: Final = 0b11100000
_KID_CONTEXT: Final = 0b00010000
_KID: Final = 0b00001000
_PIV_LENGTH: Final = 0b00000111


class OscoreOption(NamedTuple):
    """The parts of the option; a part that is not there is empty (`piv`) or None."""

    piv: bytes = b""
    kid: bytes | None = None
    kid_context: bytes | None = None


NOTHING: Final = OscoreOption()
"""An answer that needs nothing beyond its request."""


def decode(value: bytes) -> OscoreOption:
    """Return what *value* says.

    Raises:
        FormatError: it breaks RFC 8613 6.1, or has a longer Partial IV than needed (5).
    """
    if not value:
        return NOTHING
    flags = value[0]
    size = flags & _PIV_LENGTH
    if flags & _RESERVED or not flags or size > MAX_PIV or 1 + size > len(value):
        raise FormatError("oscore_option_invalid")
    at = 1 + size
    piv = value[1:at]
    if size > 1 and not piv[0]:
        raise FormatError("oscore_option_invalid")
    context = None
    if flags & _KID_CONTEXT:
        stop = at + 1 + value[at] if at < len(value) else len(value) + 1
        if stop > len(value):
            raise FormatError("oscore_option_invalid")
        context = value[at + 1 : stop]
        at = stop
    if flags & _KID:
        return OscoreOption(piv, value[at:], context)
    if at < len(value):
        raise FormatError("oscore_option_invalid")
    return OscoreOption(piv, None, context)


def encode(option: OscoreOption) -> bytes:
    """Return *option* as bytes; empty where it says nothing."""
    piv, kid, context = option
    flags = len(piv) | (0 if kid is None else _KID) | (0 if context is None else _KID_CONTEXT)
    if not flags:
        return b""
    written = b"" if context is None else bytes((len(context),)) + context
    return bytes((flags,)) + piv + written + (kid or b"")
