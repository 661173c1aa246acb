"""Every error of cpns, and the result codes that the wire knows (PROTOCOL section 8).

Two families, as a peer's fault and a user's fault end differently:

* `Refused` is what a peer did: it carries a `Result` for the wire and a `reason` for the audit log. Before a session
  stands, the wire is told no more than `uniform` says.
* `UserError` is what a human or a program on this machine did: it carries a stable `code` and a sentence that says
  what to do.
"""

from enum import IntEnum


class Result(IntEnum):
    """Label 17: how a procedure, or one entry of it, ended."""

    SUCCESS = 0
    PARTLY = 1
    BAD_REQUEST = 10
    UNKNOWN_MESSAGE = 11
    MISSING_FIELD = 12
    NOT_AUTHENTICATED = 20
    AUTHENTICATION_FAILED = 21
    NOT_ALLOWED = 22
    KEY_EXPIRED = 23
    PAN_MISMATCH = 25
    SUITE_REFUSED = 26
    UNKNOWN_PN = 30
    UNKNOWN_SG = 32
    UNKNOWN_SERVICE = 33
    ALREADY_MEMBER = 40
    NOT_A_MEMBER = 41
    EXISTS = 42
    IN_PROGRESS = 43
    REFUSED_BY_USER = 50
    NO_ANSWER = 51
    OUT_OF_REACH = 52
    MODE_NOT_SUPPORTED = 53
    PENDING_APPROVAL = 54
    POLICY = 60
    TOO_MANY = 61
    SERVER_ERROR = 70

    @classmethod
    def told(cls, number: int, otherwise: "Result") -> "Result":
        """Return the result that a peer gave; *otherwise* for a number that no version known here has."""
        try:
            return cls(number)
        except ValueError:
            return otherwise


_SAID_WITHOUT_SESSION = frozenset({Result.SUCCESS, Result.AUTHENTICATION_FAILED, Result.NO_ANSWER, Result.TOO_MANY})


TOLD_TO_THE_PROVEN = (Result.PENDING_APPROVAL, Result.POLICY)
"""What a PNE that has proven itself is told besides, by a MAC that looks like random bytes to all others."""


def uniform(result: Result) -> Result:
    """What an unauthenticated peer is told instead of *result*: 21, 51 or 61, nothing finer (PROTOCOL section 8)."""
    return result if result in _SAID_WITHOUT_SESSION else Result.AUTHENTICATION_FAILED


class CpnsError(Exception):
    """Root of all errors that cpns raises on purpose."""


class Refused(CpnsError):
    """A peer's message is refused.

    Attributes:
        result: what may be said in the wire's vocabulary.
        reason: a short stable word for the audit log and ``cpns device show``; never key material.
    """

    def __init__(self, result: Result, reason: str) -> None:
        super().__init__(f"{result.name.lower()}: {reason}")
        self.result = result
        self.reason = reason


class WireError(Refused):
    """Bytes that are no message: refused before any crypto."""

    def __init__(self, reason: str, result: Result = Result.BAD_REQUEST) -> None:
        super().__init__(result, reason)


class AuthenticationFailed(Refused):
    """A proof does not verify. The one error for every cause; only `reason` knows which."""

    def __init__(self, reason: str) -> None:
        super().__init__(Result.AUTHENTICATION_FAILED, reason)


class NoAnswer(Refused):
    """The peer did not answer in time, or the way to it is gone."""

    def __init__(self, reason: str = "no_answer") -> None:
        super().__init__(Result.NO_ANSWER, reason)


class Later(Refused):
    """It is more than the share of its party: the same is taken in so many *seconds*."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(Result.TOO_MANY, reason)
        self.seconds = seconds


class UserError(CpnsError):
    """Something the user can mend: a stable *code* for programs, a *sentence* that says what to do."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class BadInput(UserError):
    """A value, file or row that cpns can't take."""


class NotFound(UserError):
    """What was named does not exist."""


class Gone(UserError):
    """It was there, and was dropped since."""


class Conflict(UserError):
    """It exists already, or its state does not allow this."""


class Unavailable(UserError):
    """The other side is away: the reason says which hop."""


class StoreFails(Unavailable):
    """The store is away, or its disk is full. The store itself says so in the log: who meets this adds no line.

    Attributes:
        away: whether nothing at all can be had of it; else it can be read, and takes nothing new.
    """

    def __init__(self, sentence: str, *, away: bool) -> None:
        super().__init__("store_unavailable", sentence)
        self.away = away
