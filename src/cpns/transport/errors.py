"""Errors as CoAP answers: the one table (PROTOCOL section 8)."""

import math
from enum import IntEnum
from typing import NamedTuple, TypeVar

from cpns.errors import (
    AuthenticationFailed,
    Later,
    NoAnswer,
    Refused,
    Result,
    StoreFails,
    Unavailable,
    WireError,
    uniform,
)
from cpns.wire import codec
from cpns.wire.messages import ErrorBody
from cpns.wire.registry import MAX_BODY

M = TypeVar("M")


class Code(IntEnum):
    """The CoAP response codes in use (RFC 7252 12.1.2, RFC 8516)."""

    CHANGED = 0x44  # 2.04
    BAD_REQUEST = 0x80  # 4.00
    UNAUTHORIZED = 0x81  # 4.01
    FORBIDDEN = 0x83  # 4.03
    TOO_MANY_REQUESTS = 0x9D  # 4.29
    INTERNAL_SERVER_ERROR = 0xA0  # 5.00
    SERVICE_UNAVAILABLE = 0xA3  # 5.03
    GATEWAY_TIMEOUT = 0xA4  # 5.04

    def __str__(self) -> str:
        return f"{self >> 5}.{self & 0x1F:02}"


class Answer(NamedTuple):
    """What goes back: a code and a body.

    Attributes:
        max_age: seconds after which it makes sense to ask again (RFC 7252 5.9.3.4).
        echo: is to come with the same request again, to show that its address is its own (RFC 9175 2).
    """

    code: int
    payload: bytes = b""
    max_age: int | None = None
    echo: bytes | None = None

    @property
    def ok(self) -> bool:
        """Whether the code is a success, 2.xx."""
        return self.code >> 5 == 2


class Hinted(NoAnswer):
    """A protected request got nothing but an unprotected error: a hint, as nobody vouches for it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"unprotected_answer_{answer.code >> 5}.{answer.code & 31:02}")
        self.answer = answer


def read(answer: Answer, *shapes: type[M], limit: int = MAX_BODY) -> M:
    """Return the message in *answer*.

    Raises:
        Refused: the peer answered with an error; its result is the peer's.
        WireError: it is none of *shapes*.
    """
    if not answer.ok:
        result = codec.decode(answer.payload, ErrorBody, limit=limit).result
        known = Result.told(result, Result.AUTHENTICATION_FAILED)
        if answer == STORE_FAILS:
            raise Refused(known, STORE_FAILS_REASON)
        raise Refused(known, f"peer_answered_{known.name.lower()}")
    return codec.decode(answer.payload, *shapes, limit=limit)


UNIFORM_REFUSAL = Answer(Code.UNAUTHORIZED, codec.encode(ErrorBody(Result.AUTHENTICATION_FAILED)))
"""What anyone gets whose message a session or proof should have protected."""


REFUSED_AS_BAD = Answer(Code.BAD_REQUEST, codec.encode(ErrorBody(Result.BAD_REQUEST)))
"""What a peer says in a session to a message with a label that it does not know."""


HELD = Answer(Code.SERVICE_UNAVAILABLE, codec.encode(ErrorBody(Result.IN_PROGRESS)))
"""What a PN GW says of a message that it keeps until its uplink is back; the protected answer comes after it."""


LONGEST_WAIT = 3600
"""Seconds that a party is asked to wait at most."""
BUSY = Answer(Code.SERVICE_UNAVAILABLE, codec.encode(ErrorBody(Result.TOO_MANY)), max_age=1)
"""What a party is told that has more under way than its share."""


STORE_FAILS_REASON = "store_of_the_server_fails"
STORE_FAILS = Answer(Code.SERVICE_UNAVAILABLE, codec.encode(ErrorBody(Result.NO_ANSWER)), max_age=5)
"""What everybody is told while the store is away, or full: to wait."""


def to_answer(error: Exception, *, protected: bool) -> Answer:
    """Return the answer to a request that ended in *error*; an unprotected one learns no cause."""
    if isinstance(error, WireError):
        code = Code.TOO_MANY_REQUESTS if error.result is Result.TOO_MANY else Code.BAD_REQUEST
    elif isinstance(error, AuthenticationFailed):
        return UNIFORM_REFUSAL
    elif isinstance(error, Later):
        return Answer(Code.SERVICE_UNAVAILABLE, BUSY.payload, min(max(1, math.ceil(error.seconds)), LONGEST_WAIT))
    elif isinstance(error, NoAnswer):
        code = Code.GATEWAY_TIMEOUT
    elif isinstance(error, Refused):
        if error.result is Result.OUT_OF_REACH:
            return Answer(Code.SERVICE_UNAVAILABLE, codec.encode(ErrorBody(Result.NO_ANSWER)))
        if error.result is Result.TOO_MANY:
            code = Code.TOO_MANY_REQUESTS
        elif not protected:
            return UNIFORM_REFUSAL
        else:
            code = Code.FORBIDDEN
    elif isinstance(error, StoreFails):
        return STORE_FAILS
    elif isinstance(error, Unavailable):
        return Answer(Code.SERVICE_UNAVAILABLE, codec.encode(ErrorBody(Result.NO_ANSWER)))
    else:
        result = Result.SERVER_ERROR if protected else Result.AUTHENTICATION_FAILED
        return Answer(Code.INTERNAL_SERVER_ERROR, codec.encode(ErrorBody(result)))
    return Answer(code, codec.encode(ErrorBody(error.result if protected else uniform(error.result))))
