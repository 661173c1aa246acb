"""OSCORE (RFC 8613) for our sessions, on the primitives of ``aiocoap.oscore``.

AES-CCM-16-64-128, HKDF-SHA-256, replay window 32, no ID Context. A context is derived with the first message of its
session and lives with the session, in memory.
"""

from typing import Any, Final

from aiocoap import Message, error, oscore
from aiocoap.numbers.codes import Code as CoapCode

from cpns.errors import AuthenticationFailed
from cpns.session.table import Session

REPLAY_WINDOW: Final = 32
MESSAGE_LIMIT: Final = 2**20
"""Messages that one end sends under one session at most (section 2: "its message limit"); then a new one is due."""

_AEAD = oscore.algorithms["AES-CCM-16-64-128"]
_HASH = oscore.hashfunctions["sha256"]


class _Context(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """Sender and recipient context of one session; never stored."""

    id_context = None
    echo_recovery = None  # else aiocoap answers a replay with 5.00 instead of refusing it
    authenticated_claims: tuple[str, ...] = ()

    def __init__(self, session: Session) -> None:
        self.alg_aead = _AEAD
        self.hashfun = _HASH
        self.sender_id = session.peer_kid
        self.recipient_id = session.own_kid
        self.derive_keys(session.keys.oscore_master_salt(), session.keys.oscore_master_secret().reveal())
        self.sender_sequence_number = 0
        self.recipient_replay_window = oscore.ReplayWindow(REPLAY_WINDOW, lambda: None)
        self.recipient_replay_window.initialize_empty()

    def __repr__(self) -> str:
        return "<OSCORE context>"

    def post_seqnoincrease(self) -> None:
        """Nothing is kept: the context dies with the process, and so does its key."""


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


def protect_request(session: Session, message: Message) -> tuple[Message, Any]:
    """Return the outer request, and what ties its response to it."""
    outer, request_id = _context(session).protect(message)
    return outer, request_id


def protect_response(session: Session, message: Message, request_id: Any) -> Message:
    """Return the outer response to the request of *request_id*."""
    outer, _ = _context(session).protect(message, request_id)
    return outer


def unprotect_request(session: Session, outer: Message) -> tuple[Message, Any]:
    """Return the inner request, and what its response needs.

    The order is that of RFC 8613 8.2: window, open, strike out.

    Raises:
        AuthenticationFailed: a replay, another key, or changed bytes.
    """
    return _unprotect(session, outer, None)


def unprotect_response(session: Session, outer: Message, request_id: Any) -> Message:
    """Return the inner response.

    Raises:
        AuthenticationFailed: as for `unprotect_request`; also the response of another request.
    """
    inner, _ = _unprotect(session, outer, request_id)
    return inner


def _unprotect(session: Session, outer: Message, request_id: Any) -> tuple[Message, Any]:
    try:
        inner, request_id = _context(session).unprotect(outer, request_id)
    except oscore.ReplayError as cause:
        raise AuthenticationFailed("replay") from cause
    except (oscore.ProtectionInvalid, oscore.NotAProtectedMessage, error.Error, ValueError, IndexError) as cause:
        raise AuthenticationFailed("protection_invalid") from cause
    if not isinstance(inner.code, CoapCode) or inner.code.is_request() != outer.code.is_request():
        raise AuthenticationFailed("inner_code_does_not_fit")
    return inner, request_id
