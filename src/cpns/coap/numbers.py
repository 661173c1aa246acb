"""The registries of CoAP, as far as they are used: codes, options and the form of their values (RFC 7252 12)."""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final, NamedTuple


class Type(IntEnum):
    """Message types over UDP (RFC 7252 3)."""

    CON = 0
    NON = 1
    ACK = 2
    RST = 3


class Code(IntEnum):
    """Codes that the engine itself looks at or says; any other of the classes below passes as a number."""

    EMPTY = 0x00
    POST = 0x02
    CHANGED = 0x44  # 2.04
    BAD_OPTION = 0x82  # 4.02
    CSM = 0xE1  # 7.01, RFC 8323 5.3
    PING = 0xE2
    PONG = 0xE3
    RELEASE = 0xE4
    ABORT = 0xE5


class Kind(IntEnum):
    """The kinds of messages, by their codes (RFC 7252 12.1, RFC 8323 5.1)."""

    EMPTY = 0
    REQUEST = 1
    RESPONSE = 2
    SIGNAL = 3
    RESERVED = 4


_KINDS_OF_CLASSES: Final = (
    Kind.REQUEST,
    Kind.RESERVED,
    Kind.RESPONSE,
    Kind.RESPONSE,
    Kind.RESPONSE,
    Kind.RESPONSE,
    Kind.RESERVED,
    Kind.SIGNAL,
)
KINDS: Final = (Kind.EMPTY, *(_KINDS_OF_CLASSES[code >> 5] for code in range(1, 256)))
"""The kind of each code. Signals are reserved over UDP."""


class Option(IntEnum):
    """Option numbers (RFC 7252 12.2, 8613, 9175, 7959); odd ones are critical (RFC 7252 5.4.6)."""

    IF_MATCH = 1
    URI_HOST = 3
    ETAG = 4
    IF_NONE_MATCH = 5
    URI_PORT = 7
    LOCATION_PATH = 8
    OSCORE = 9
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    ACCEPT = 17
    LOCATION_QUERY = 20
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60
    ECHO = 252


class Form(NamedTuple):
    """The form of an option's value (RFC 7252 5.10)."""

    least: int
    most: int
    repeatable: bool = False
    text: bool = False


FORMS: Final[Mapping[int, Form]] = {
    Option.IF_MATCH: Form(0, 8, repeatable=True),
    Option.URI_HOST: Form(1, 255, text=True),
    Option.ETAG: Form(1, 8, repeatable=True),
    Option.IF_NONE_MATCH: Form(0, 0),
    Option.URI_PORT: Form(0, 2),
    Option.LOCATION_PATH: Form(0, 255, repeatable=True, text=True),
    Option.OSCORE: Form(0, 255),
    Option.URI_PATH: Form(0, 255, repeatable=True, text=True),
    Option.CONTENT_FORMAT: Form(0, 2),
    Option.MAX_AGE: Form(0, 4),
    Option.URI_QUERY: Form(0, 255, repeatable=True, text=True),
    Option.ACCEPT: Form(0, 2),
    Option.LOCATION_QUERY: Form(0, 255, repeatable=True, text=True),
    Option.PROXY_URI: Form(1, 1034, text=True),
    Option.PROXY_SCHEME: Form(1, 255, text=True),
    Option.SIZE1: Form(0, 4),
    Option.ECHO: Form(1, 40),
}
"""The options whose form is known."""


def supported(numbers: Iterable[int]) -> Mapping[int, Form]:
    """Return the forms of the options that whoever takes messages understands."""
    return {int(number): FORMS[number] for number in numbers}
