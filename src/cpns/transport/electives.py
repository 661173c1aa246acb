"""In a session a peer that knows no electives refuses a message with some, and hears the same without them."""

from collections.abc import Callable
from typing import TypeVar

from cpns.session.table import Session
from cpns.transport.errors import REFUSED_AS_BAD, Answer
from cpns.wire import codec

T = TypeVar("T")


class TooNew(Exception):  # it is no error: the message goes again
    """The peer refused a message with electives: it may be of a version that knows none."""


def as_known(session: Session, body: bytes, accept: Callable[[Answer], T]) -> tuple[bytes, Callable[[Answer], T]]:
    """Return *body* without electives where the peer takes none, and *accept*.

    That raises `TooNew` over a refusal which electives of *body* may have caused: the session has none from then on.
    The answer is protected, so nobody but the peer can bring that about.
    """
    if session.plain:
        return codec.without_electives(body), accept

    def takes(answer: Answer) -> T:
        if answer == REFUSED_AS_BAD and codec.has_electives(body):
            session.plain = True
            raise TooNew
        return accept(answer)

    return body, takes
