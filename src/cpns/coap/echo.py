"""The Echo option (RFC 9175 2) as a cookie: who asks again with it has its address.

The asked makes it of a key that it changes, and keeps nothing; the option names the key, as two are good at a time.
"""

from typing import Final, NamedTuple

from cpns.coap.numbers import Option

TAG_BYTES: Final = 8


class Cookie(NamedTuple):
    """A cookie: the number of its key, and what that key makes of who asks."""

    key: int
    tag: bytes


def option(cookie: Cookie) -> tuple[int, bytes]:
    """Return *cookie* as an option of a message."""
    return Option.ECHO, bytes((cookie.key,)) + cookie.tag


def read(value: bytes | None) -> Cookie | None:
    """Return the cookie in the value of an Echo option; None: it is none of ours, and as good as none."""
    if value is None or len(value) != 1 + TAG_BYTES:
        return None
    return Cookie(value[0], value[1:])
