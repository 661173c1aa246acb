"""The events that the engine tells its caller of."""

from collections.abc import Hashable
from typing import Final, NamedTuple

from cpns.coap.message import Message


class Exchange:
    """A request of ours that waits for answers: as many as come, until it is closed.

    One answer is no reason to close it: on an open network the first may be forged. Equal to itself alone.

    Attributes:
        remote: where it went; None in a stream, which leads to one peer.
        token: it is in the request and in each of its answers.
    """

    __slots__ = ("remote", "token")

    def __init__(self, remote: Hashable, token: bytes) -> None:
        self.remote = remote
        self.token = token


class RequestArrived(NamedTuple):
    """A request of a peer. It is what answers are given to, once or more.

    Attributes:
        remote: where it came from; None in a stream.
        mid: its message ID; -1 in a stream.
        confirmable: whether the peer repeats it until we say something.
        digest: of all its bytes; a repetition has the same.
    """

    message: Message
    remote: Hashable = None
    mid: int = -1
    confirmable: bool = False
    digest: int = 0


class ResponseArrived(NamedTuple):
    """An answer to a request of ours; it proves nothing by itself."""

    exchange: Exchange
    message: Message


RESET: Final = "reset"
"""The reason of an `ExchangeFailed` that whoever sees a message ID, or guesses it, can forge."""


class ExchangeFailed(NamedTuple):
    """No way was found for a request of ours; an answer may come yet, so it stays open until it is closed.

    Attributes:
        reason: ``reset`` by the peer, ``unacknowledged`` however often it was sent, or one of a `CannotSend`.
    """

    exchange: Exchange
    reason: str


class Noted(NamedTuple):
    """A frame that needs nothing more: a signal, an empty message, an answer that nobody waits for, a refused request.

    It is told of as it cost work, and its peer has a budget.
    """

    code: int
    token: bytes


class Released(NamedTuple):
    """The peer wants the connection to end: it takes no more requests, but our last answers (RFC 8323 5.5)."""


class Ended(NamedTuple):
    """Nothing more comes, and nothing may be sent.

    Attributes:
        reason: a short stable word.
    """

    reason: str


DatagramEvent = RequestArrived | ResponseArrived | ExchangeFailed
StreamEvent = RequestArrived | ResponseArrived | Noted | Released | Ended
