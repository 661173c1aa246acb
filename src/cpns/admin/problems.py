"""Errors as HTTP answers, and back: the one table (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from cpns.errors import BadInput, Conflict, Gone, NotFound, Unavailable, UserError

MEDIA_TYPE: Final = "application/problem+json"

STATUS: Final[Mapping[type[UserError], HTTPStatus]] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Gone: HTTPStatus.GONE,
    Conflict: HTTPStatus.CONFLICT,
    BadInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}


def problem(status: int, code: str, sentence: str) -> dict[str, object]:
    """Return the body that tells of an error."""
    title = HTTPStatus(status).phrase
    return {"type": f"urn:cpns:error:{code}", "title": title, "status": status, "code": code, "detail": sentence}


def to_status(error: UserError) -> HTTPStatus:
    """Return the status of *error*."""
    for family, status in STATUS.items():
        if isinstance(error, family):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def to_error(status: int, body: object) -> UserError:
    """Return the error that a body made by `problem` tells of."""
    family = next((error for error, known in STATUS.items() if known == status), UserError)
    fields = body if isinstance(body, dict) else {}
    code, sentence = fields.get("code"), fields.get("detail")
    return family(str(code or "server_failed"), str(sentence or f"The server answered with status {status}."))
