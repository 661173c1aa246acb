"""OSCORE (RFC 8613) for our sessions: replay window 32, no ID Context.

A context is derived with the first message of its session and lives with the session, in memory.
"""

from time import monotonic
from typing import Final

from cpns.coap import oscore_option
from cpns.coap.errors import FormatError
from cpns.coap.message import Message
from cpns.coap.numbers import Option
from cpns.coap.oscore import Context, Limits, RequestId, said_by
from cpns.coap.oscore_option import OscoreOption
from cpns.crypto.oscore import oscore_keys
from cpns.errors import AuthenticationFailed
from cpns.session.table import Session

MESSAGE_LIMIT: Final = 2**20
"""Messages that one end sends under one session at most (section 2: "its message limit"); then a new one is due."""
LIMITS: Final = Limits(2 * MESSAGE_LIMIT)
"""More messages are not sent, however long the new one takes; its age limit is in the session."""


def _context(session: Session) -> Context:
    if session.protection is None:
        keys = oscore_keys(
            session.keys.oscore_master_secret(), session.keys.oscore_master_salt(), session.peer_kid, session.own_kid
        )
        session.protection = Context(keys, session.peer_kid, session.own_kid, LIMITS._replace(until=session.until))
    return session.protection  # type: ignore[return-value]


def sent(session: Session) -> int:
    """Return how many messages this end has sent under *session* with a number of their own."""
    return 0 if session.protection is None else _context(session).sent


def key_id(option: bytes) -> bytes | None:
    """Return the kid in a request's OSCORE option, or None where there is none that we could have given."""
    try:
        said = oscore_option.decode(option)
    except FormatError:
        return None
    return said.kid or None if said.kid_context is None else None


def protect_request(session: Session, inner: Message) -> tuple[Message, RequestId]:
    """Return *inner* as sealed request to the session's peer, and what ties its answers to it.

    Raises:
        CannotSend: a new session is due, or it is longer than a sealed message.
    """
    outside = ((Option.URI_HOST, session.peer_id.encode()),)
    return _context(session).seal_request(inner, outside, monotonic())


def protect_response(session: Session, inner: Message, request: RequestId) -> Message:
    """Return *inner* as sealed answer to *request*. Raises as `protect_request`."""
    return _context(session).seal_response(inner, request, monotonic())


def unprotect_request(session: Session, said: OscoreOption, sealed: bytes) -> tuple[Message, RequestId]:
    """Return the request in *sealed*, whose option is *said*, and what its answers need.

    Raises:
        AuthenticationFailed: a replay, another key, or changed bytes.
    """
    return _context(session).open_request(said, sealed, monotonic())


def unprotect_response(session: Session, outer: Message, request: RequestId) -> Message:
    """Return the answer in *outer*.

    Raises:
        AuthenticationFailed: as for `unprotect_request`; also the answer to another request.
    """
    return _context(session).open_response(outer, request, monotonic())


def opened(session: Session, outer: Message) -> tuple[Message, RequestId]:
    """Return the request in *outer*, as `unprotect_request`."""
    said = said_by(outer)
    if said is None:
        raise AuthenticationFailed("protection_invalid")
    return unprotect_request(session, said, outer.payload)
