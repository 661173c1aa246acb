"""Which handler takes a message: a table for each leg. What is not in it is refused, and no handler asks what it got.

A table has a row for each message that may come by its leg (`cpns.wire.declare`), no more and no less. So what may come
where is said once, beside the message, and a handler that is missing is found when the process starts.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from cpns.errors import AuthenticationFailed, Result, WireError
from cpns.shares.costs import message_type
from cpns.transport.errors import Answer, Code
from cpns.wire import codec
from cpns.wire.declare import MESSAGES, Leg, Message, Party, taken_by

C = TypeVar("C")
M = TypeVar("M", bound=Message)

Said = Message | Answer | None
"""What a handler returns: a message, which is a success; an answer as it stands; None drops it without a word."""
Row = tuple[type[Message], Callable[[C, Any], Awaitable[Said]]]

TAKEN: Final = Answer(Code.CHANGED)
"""The answer to a "Notify"."""


def on(shape: type[M], handler: Callable[[C, M], Awaitable[Said]]) -> Row[C]:
    """Return the row of *shape*: *handler* is given who asks, and the message."""
    return shape, handler


class Table(Generic[C]):
    """The handlers of one leg.

    Args:
        leg: by which the messages come.
        rows: one for each of them.

    Raises:
        TypeError: a row is missing, or one too many.
    """

    def __init__(self, leg: Leg, *rows: Row[C]) -> None:
        self.leg = leg
        self.handlers = dict(rows)
        declared = {one for one in MESSAGES if leg in one.LEGS}
        if declared ^ self.handlers.keys() or len(self.handlers) != len(rows):
            wrong = sorted(one.__name__ for one in declared ^ self.handlers.keys())
            raise TypeError(f"{leg.name}: declared and not taken, or the reverse: {wrong}")
        self._prepare()

    def _prepare(self) -> None:
        self._shapes = _by_type(self.leg.receiver, tuple(self.handlers))

    def beside(self, other: "Table[C]") -> "Table[C]":
        """Return the table of both legs, where one message may come by either; the rows of this one go first."""
        both: Table[C] = Table.__new__(Table)
        both.leg, both.handlers = other.leg, {**other.handlers, **self.handlers}
        both._prepare()
        return both

    async def take(self, asker: C, body: bytes) -> Answer | None:
        """Give the message in *body* to its handler; return what is answered.

        Raises:
            WireError: it is none, or has no place here.
            AuthenticationFailed: it has one, but in a session.
            Refused: as its handler does.
        """
        message: Message = codec.decode(body, *self._shapes.get(message_type(body), ()), limit=self.leg.limit)
        handler = self.handlers.get(type(message))
        if handler is None:
            if self.leg.session is None:
                raise AuthenticationFailed("no_session_protects_it")
            raise WireError("unexpected_message", Result.UNKNOWN_MESSAGE)
        said = await handler(asker, message)
        return Answer(Code.CHANGED, codec.encode(said)) if isinstance(said, Message) else said


@lru_cache(maxsize=64)
def _by_type(receiver: Party, first: tuple[type[Message], ...]) -> Mapping[int, tuple[type[Message], ...]]:
    """Return the messages that may come to *receiver*, by type, those of *first* first; made once for all parties."""
    found: dict[int, tuple[type[Message], ...]] = {}
    for one in (*first, *(other for other in taken_by(receiver) if other not in first)):
        found[one.TYPE] = (*found.get(one.TYPE, ()), one)
    return found
