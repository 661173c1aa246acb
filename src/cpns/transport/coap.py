"""Requests and answers of ours as CoAP messages, and what of a message names it."""

from typing import Any, Final

from aiocoap import Message
from aiocoap.numbers.codes import POST

from cpns.session.table import Session
from cpns.shares.costs import message_type
from cpns.transport import oscore
from cpns.transport.errors import Answer
from cpns.transport.stack import PAN_TUNING
from cpns.wire.registry import CONTENT_FORMAT, CPNS_PATH, MessageType

_KNOWN_TYPES: Final = {int(one): one.title for one in MessageType}


def request_of(session: Session | None, path: str, payload: bytes) -> tuple[Message, Any]:
    """Return ``POST /path``, protected where there is a session, and what ties its answer to it."""
    content_format = CONTENT_FORMAT if path == CPNS_PATH else None
    if session is not None:
        outer, request_id = oscore.protect_request(session, path, payload, content_format)
        outer.transport_tuning = PAN_TUNING
        return outer, request_id
    message = Message(code=POST, uri_path=(path,), payload=payload, transport_tuning=PAN_TUNING)
    if content_format is not None:
        message.opt.content_format = content_format
    return message, None


def response_of(answer: Answer, session: Session | None = None, request_id: Any = None) -> Message:
    """Return *answer*, protected where there is a session, to the request of *request_id*."""
    if session is not None:
        return oscore.protect_response(session, answer, request_id)
    message = Message(code=answer.code, payload=answer.payload)
    if answer.max_age is not None:
        message.opt.max_age = answer.max_age
    return message


def path_of(request: Message | oscore.Inner) -> str:
    """Return the path that *request* posts to; empty where it does something else, or to a longer path."""
    path = request.opt.uri_path  # put together anew at each look
    return path[0] if len(path) == 1 and request.code == POST else ""


def name_of(path: str, payload: bytes) -> str:
    """Return the name of the CPNS message in *payload*; the path where it is none."""
    if path.split(" ")[0] != CPNS_PATH:
        return f"/{path}"
    return _KNOWN_TYPES.get(message_type(payload), f"/{path}")
