"""A fault of the peer is a `FormatError`; a message that we can't send is a `CannotSend`."""

from cpns.errors import CpnsError, WireError


class FormatError(WireError):
    """Bytes that are no CoAP message (RFC 7252 3, RFC 8323 3.2); nothing was changed by them."""


class CannotSend(CpnsError):
    """A message of ours is not sent; nothing was changed by it.

    Attributes:
        reason: a short stable word.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SessionOver(CannotSend):
    """It would go in a session that has reached its message or age limit: a new one is due."""
