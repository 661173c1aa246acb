"""One connection over TCP or TLS (RFC 8323): settings, signals, requests and answers, and how it ends.

    receive(bytes), then next_event() until it gives None
    request(message) -> Exchange; close(exchange)
    respond(request, answer), once or more
    ping(token), release(), abort(reason)
    take() -> what is to be sent, after each of these, and at the start

Each frame is one event, so the caller decides how many frames are worked on, whatever is in the bytes. The others stay
unread here. If the caller does not read on either, the peer feels it.

`TRANSITIONS` says what a frame does, by the state of the connection and the kind of the frame.
"""

from collections.abc import Mapping
from enum import IntEnum, auto
from typing import Final

from cpns.coap import frame
from cpns.coap.errors import CannotSend, FormatError
from cpns.coap.events import Ended, Exchange, Noted, Released, RequestArrived, ResponseArrived, StreamEvent
from cpns.coap.message import Message, Options, bad_option, uint, unsupported
from cpns.coap.numbers import KINDS, Code, Form, Kind

BASE_MESSAGE_SIZE: Final = 1152
"""The longest message that a peer takes which has said nothing of it (RFC 8323 5.3.1)."""
MAX_MESSAGE_SIZE: Final = 2
"""Its option in the settings."""
BAD_CSM_OPTION: Final = 2
"""The option of an abort that names the setting which was not understood (RFC 8323 5.6)."""


class State(IntEnum):
    """How far a connection is."""

    NEW = auto()  # the peer's settings have not come (RFC 8323 5.3)
    OPEN = auto()
    RELEASED = auto()  # by either side (5.5): what was asked is answered, nothing more is asked
    ENDED = auto()


class Action(IntEnum):
    """The effects of a frame."""

    TAKE_SETTINGS = auto()
    PONG = auto()
    NOTE = auto()
    TAKE_REQUEST = auto()
    TAKE_RESPONSE = auto()
    RELEASE = auto()
    END = auto()


_ALWAYS: Final[Mapping[int, Action]] = {
    Code.CSM: Action.TAKE_SETTINGS,  # 5.3: again at any time
    Code.PING: Action.PONG,  # 5.4
    Code.PONG: Action.NOTE,
    Code.RELEASE: Action.RELEASE,  # 5.5
    Code.ABORT: Action.END,  # 5.6
    Kind.EMPTY: Action.NOTE,  # 3.4: says that the peer is alive
    Kind.REQUEST: Action.TAKE_REQUEST,
    Kind.RESPONSE: Action.TAKE_RESPONSE,
}
TRANSITIONS: Final[Mapping[State, Mapping[int, Action]]] = {
    State.NEW: {Code.CSM: Action.TAKE_SETTINGS, Code.ABORT: Action.END},
    State.OPEN: _ALWAYS,
    State.RELEASED: _ALWAYS,
    State.ENDED: {},
}
"""By the code of a signal, or else the kind. Whatever is not here breaks the protocol, and ends the connection."""


class Connection:
    """One end of a connection. Nothing is sent on it but what `take` gives.

    Args:
        max_message_size: bytes of a frame that this end takes, all of it; a longer one ends the connection.
        forms: the options that requests and answers may have if they are critical, see `numbers.supported`.
        peer_takes: bytes of a frame that the peer is known to take before it says so itself.
    """

    def __init__(self, max_message_size: int, forms: Mapping[int, Form], peer_takes: int = BASE_MESSAGE_SIZE) -> None:
        self._most = max_message_size
        self._forms = forms
        self.peer_takes = peer_takes
        self._out: list[bytes] = []
        self._open: dict[bytes, Exchange] = {}
        self._data = b""
        self._at = 0
        """Where in `_data` that begins which was not asked for."""
        self._spool = bytearray()
        """The beginning of a frame whose rest has not come."""
        self._missing = 0
        """Bytes until it is known how long that frame is, or it is whole."""
        self._enter(State.NEW)
        self._out.append(frame.encode(Message(Code.CSM, b"", ((MAX_MESSAGE_SIZE, uint(max_message_size)),)), b""))

    @property
    def state(self) -> State:
        """How far it is."""
        return self._state

    @property
    def held(self) -> int:
        """Bytes that came and are kept: those of one call of `receive` are, until all of them are read."""
        return len(self._data) + len(self._spool)

    def _enter(self, state: State) -> None:
        self._state = state
        self._actions = TRANSITIONS[state]

    # what came

    def receive(self, data: bytes) -> None:
        """Take bytes, as they came; *data* is kept, not copied, until its frames are asked for."""
        if self._state is State.ENDED:
            return
        self._data = data if self._at == len(self._data) else self._data[self._at :] + data
        self._at = 0

    def next_event(self) -> StreamEvent | None:
        """Return what the next frame does; None: it is not here yet, or the connection has ended."""
        try:
            if self._missing:
                message = self._spooled()
                return None if message is None else self._act(message)
            data, at = self._data, self._at
            end = len(data)
            if at == end:
                self._empty()
                return None
            stop = at + self._needed(data, at, end)
            if stop > end:
                self._spool += memoryview(data)[at:]
                self._missing = stop - end
                self._empty()
                return None
            self._at = stop
            return self._act(frame.decode(data, at, stop))
        except (FormatError, CannotSend) as error:  # a peer that takes not even what it has to be told is left too
            return self._end(error.reason)

    def _spooled(self) -> Message | None:
        """Add to the frame that came in part, and look at no byte of it before it may be whole; return it then."""
        spool, data, at = self._spool, self._data, self._at
        while self._missing:
            left = len(data) - at
            if left < self._missing:
                spool += memoryview(data)[at:] if at else data
                self._missing -= left
                self._empty()
                return None
            self._at = at + self._missing
            spool += memoryview(data)[at : self._at]
            at = self._at
            self._missing = self._needed(spool, 0, len(spool)) - len(spool)
        self._spool = bytearray()
        return frame.decode(spool, 0, len(spool))

    def _needed(self, data: bytes | bytearray, at: int, end: int) -> int:
        size = frame.needs(data, at, end)
        if size > self._most:
            raise FormatError("message_too_long")  # RFC 8323 5.3.1; before any of it is kept
        return size

    def _empty(self) -> None:
        """All of `_data` is read; it need not be kept."""
        self._data, self._at = b"", 0

    def _act(self, message: Message) -> StreamEvent:
        code, token, options, _ = message
        kind = KINDS[code]
        action = self._actions.get(code if kind is Kind.SIGNAL else kind)
        if action is Action.TAKE_REQUEST:
            number = unsupported(options, self._forms) if options else None
            if number is None:
                return RequestArrived(message)
            self._put(bad_option(token, number), token)
        elif action is Action.TAKE_RESPONSE:
            exchange = self._open.get(token)
            if exchange is not None and unsupported(options, self._forms) is None:
                return ResponseArrived(exchange, message)
        elif action is None:
            return self._end("settings_missing" if self._state is State.NEW else "unknown_signal")
        elif kind is Kind.SIGNAL:
            return self._act_on_signal(action, message)
        return Noted(code, token)

    def _act_on_signal(self, action: Action, message: Message) -> StreamEvent:
        for number, value in message.options:
            if number & 1:  # RFC 8323 5.2, 5.3; all that are known are elective
                named = ((BAD_CSM_OPTION, uint(number)),) if action is Action.TAKE_SETTINGS else ()
                return self._end("unknown_critical_option", named)
            if action is Action.TAKE_SETTINGS and number == MAX_MESSAGE_SIZE and len(value) <= 4:
                self.peer_takes = int.from_bytes(value, "big")
        if action is Action.TAKE_SETTINGS and self._state is State.NEW:
            self._enter(State.OPEN)
        elif action is Action.PONG:
            self._put(Message(Code.PONG), message.token)
        elif action is Action.RELEASE:
            self._enter(State.RELEASED)
            return Released()
        elif action is Action.END:
            self._close()
            return Ended("aborted_by_peer")
        return Noted(message.code, message.token)

    def _end(self, reason: str, options: Options = ()) -> Ended:
        self._out.append(frame.encode(Message(Code.ABORT, b"", options, reason.encode()), b""))
        self._close()
        return Ended(reason)

    def _close(self) -> None:
        self._enter(State.ENDED)
        self._empty()
        self._spool, self._missing = bytearray(), 0

    # what we say

    def request(self, message: Message) -> Exchange:
        """Send a request; its token must be in no other open one.

        Raises:
            CannotSend: ``token_in_use``, ``released`` or ``ended`` is the connection, ``too_long_for_peer``.
        """
        if message.token in self._open:
            raise CannotSend("token_in_use")
        if self._state is State.RELEASED:
            raise CannotSend("released")
        self._put(message, message.token)
        exchange = self._open[message.token] = Exchange(None, message.token)
        return exchange

    def close(self, exchange: Exchange) -> None:
        """Take no more answers to a request. It may be closed already."""
        if self._open.get(exchange.token) is exchange:
            del self._open[exchange.token]

    def respond(self, request: RequestArrived, answer: Message) -> None:
        """Answer *request*, with its token. Raises CannotSend: ``ended`` or ``too_long_for_peer``."""
        self._put(answer, request.message.token)

    def ping(self, token: bytes) -> None:
        """Ask for a pong with *token* (RFC 8323 5.4). Raises CannotSend: ``ended``."""
        self._put(Message(Code.PING), token)

    def release(self) -> None:
        """Say that nothing more is asked; the peer answers what it was asked, and closes (RFC 8323 5.5).

        Raises:
            CannotSend: ``ended``, or ``settings_missing``: those of the peer.
        """
        if self._state is State.NEW:
            raise CannotSend("settings_missing")
        self._put(Message(Code.RELEASE), b"")
        self._enter(State.RELEASED)

    def abort(self, reason: str) -> None:
        """End it, and say why; it may have ended already."""
        if self._state is not State.ENDED:
            self._end(reason)

    def take(self) -> list[bytes]:
        """Return what is to be sent now, in order."""
        taken, self._out = self._out, []
        return taken

    def _put(self, message: Message, token: bytes) -> None:
        if self._state is State.ENDED:
            raise CannotSend("ended")
        data = frame.encode(message, token)
        if len(data) > self.peer_takes:
            raise CannotSend("too_long_for_peer")  # RFC 8323 5.3.1
        self._out.append(data)
