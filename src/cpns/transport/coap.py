"""Requests and answers of ours as CoAP messages, and what of a message names it."""

from functools import lru_cache
from typing import Final

from cpns.coap.errors import CannotSend, SessionOver
from cpns.coap.message import Message, Options, uint, unsupported
from cpns.coap.numbers import Code, Option, supported
from cpns.coap.oscore import RequestId
from cpns.session.table import Session
from cpns.shares.costs import message_type
from cpns.transport import oscore
from cpns.transport.errors import UNIFORM_REFUSAL, Answer
from cpns.wire.declare import TITLES
from cpns.wire.registry import CONTENT_FORMAT, CPNS_PATH, MAX_BODY

FORMS: Final = supported((Option.URI_HOST, Option.URI_PORT, Option.OSCORE, Option.URI_PATH))
"""The critical options that a message for us may have."""
_URI_PATH: Final = int(Option.URI_PATH)
_POST: Final = int(Code.POST)


@lru_cache(maxsize=64)
def _posting(path: str) -> Options:
    options: Options = ((_URI_PATH, path.encode()),)
    return (*options, (Option.CONTENT_FORMAT, uint(CONTENT_FORMAT))) if path == CPNS_PATH else options


def _answering(answer: Answer) -> Options:
    options: Options = () if answer.max_age is None else ((Option.MAX_AGE, uint(answer.max_age)),)
    return options if answer.echo is None else (*options, (Option.ECHO, answer.echo))


def request_of(session: Session | None, path: str, payload: bytes) -> tuple[Message, RequestId | None]:
    """Return ``POST /path``, protected where there is a session, and what ties its answer to it.

    Raises:
        CannotSend: a new session is due, or *payload* is longer than a body (``too_long``).
    """
    if len(payload) > MAX_BODY:
        raise CannotSend("too_long")
    message = Message(Code.POST, b"", _posting(path), payload)
    return (message, None) if session is None else oscore.protect_request(session, message)


def response_of(answer: Answer, session: Session | None = None, request_id: RequestId | None = None) -> Message:
    """Return *answer*, protected where there is a session, to the request of *request_id*.

    Where that session is over by now, the peer is told so and no more: it sets up anew, and asks again.

    Raises:
        CannotSend: *answer* is longer than a sealed message.
    """
    message = Message(answer.code, b"", _answering(answer), answer.payload)
    if session is None or request_id is None:
        return message
    try:
        return oscore.protect_response(session, message, request_id)
    except SessionOver:
        return response_of(UNIFORM_REFUSAL)


def sealed_for(destination: str, code: int, option: bytes | None, payload: bytes) -> Message:
    """Return a sealed message on its way to *destination*."""
    options: Options = ((Option.URI_HOST, destination.encode()),)
    return Message(code, b"", options if option is None else (*options, (Option.OSCORE, option)), payload)


def sealed_answer(code: int, option: bytes | None, payload: bytes) -> Message:
    """Return a sealed answer on its way back."""
    return Message(code, b"", () if option is None else ((Option.OSCORE, option),), payload)


def refusal_of(request: Message) -> Answer | None:
    """Return the answer to a request with a critical option that we don't understand (RFC 7252 5.4.1), or None."""
    number = unsupported(request.options, FORMS)
    return None if number is None else Answer(Code.BAD_OPTION, b"option %d" % number)


def path_of(request: Message) -> str:
    """Return the path that *request* posts to; empty where it does something else, or to a longer path."""
    if request.code != _POST:
        return ""
    path = b""
    for number, value in request.options:
        if number == _URI_PATH:
            if path:
                return ""
            path = value
    return path.decode()


def name_of(path: str, payload: bytes) -> str:
    """Return the name of the CPNS message in *payload*; the path where it is none."""
    if path.split(" ")[0] != CPNS_PATH:
        return f"/{path}"
    return TITLES.get(message_type(payload), f"/{path}")
