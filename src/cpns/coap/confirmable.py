"""Confirmable messages of ours: each is repeated until its peer says something, NSTART to it at once (RFC 7252 4).

`TRANSITIONS` has the states of one message. Each datagram is handed to *send*, with its remote.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from enum import IntEnum, auto
from heapq import heappop, heappush
from typing import Final

from cpns.coap import datagram
from cpns.coap.errors import CannotSend
from cpns.coap.events import Exchange
from cpns.coap.message import Message
from cpns.coap.mids import MessageIds
from cpns.coap.numbers import Type
from cpns.coap.tuning import Tuning

MAX_IN_LINE: Final = 256
"""Messages to one peer that wait until those before them are through."""
MAX_ANSWERS: Final = 4 * 1024 * 1024
"""Bytes of answers that are sent again until they are acknowledged, or wait for that, as they are counted here."""
MAX_ANSWERS_EACH: Final = 512 * 1024
"""Those to one host: each of its ports is a peer, with a line of its own."""
ANSWER_BYTES: Final = 1280
"""What an answer takes besides its datagram: itself, its line, its timer, and the name of its peer."""


class State(IntEnum):
    """How far a message has come."""

    WAITING = auto()  # others to its peer are under way
    UNDER_WAY = auto()  # sent, and sent again
    ACKNOWLEDGED = auto()
    RESET = auto()
    GIVEN_UP = auto()
    WITHDRAWN = auto()


class Input(IntEnum):
    """The events of a message."""

    TURN = auto()  # fewer than NSTART are under way (RFC 7252 4.7)
    ACK = auto()  # 4.2
    RST = auto()  # 4.2
    NO_ACK = auto()  # after MAX_RETRANSMIT, 4.2
    WITHDRAW = auto()  # nobody waits for an answer any more, 4.2


TRANSITIONS: Final[Mapping[tuple[State, Input], State]] = {
    (State.WAITING, Input.TURN): State.UNDER_WAY,
    (State.WAITING, Input.NO_ACK): State.GIVEN_UP,  # to the one before it: the peer is not there
    (State.WAITING, Input.WITHDRAW): State.WITHDRAWN,
    (State.UNDER_WAY, Input.ACK): State.ACKNOWLEDGED,
    (State.UNDER_WAY, Input.RST): State.RESET,
    (State.UNDER_WAY, Input.NO_ACK): State.GIVEN_UP,
    (State.UNDER_WAY, Input.WITHDRAW): State.WITHDRAWN,
}
"""Whatever is not here changes nothing: it came too late."""


class Sending:
    """One confirmable message.

    Attributes:
        state: where it is in `TRANSITIONS`.
        mid: its message ID.
        data: what is sent, and sent again.
        sent: when it was sent first.
        due: when it is sent again.
        timeout: seconds until then, as of its last transmission.
        left: how often it is sent again.
        exchange: of a request; None: it is a separate response.
    """

    __slots__ = ("data", "due", "exchange", "left", "mid", "remote", "sent", "state", "timeout")

    def __init__(
        self,
        remote: Hashable,
        mid: int,
        data: bytes,
        timeout: float,
        left: int,
        exchange: Exchange | None = None,
    ) -> None:
        self.remote = remote
        self.mid = mid
        self.data = data
        self.state = State.WAITING
        self.sent = self.due = 0.0
        self.timeout = timeout
        self.left = left
        self.exchange = exchange

    def step(self, happened: Input) -> bool:
        """Go where *happened* leads; False: nowhere."""
        after = TRANSITIONS.get((self.state, happened))
        if after is not None:
            self.state = after
        return after is not None


class _Line:
    """The messages to one peer; the line is kept while one of them is under way."""

    __slots__ = ("under_way", "waiting")

    def __init__(self) -> None:
        self.under_way: list[Sending] = []
        self.waiting: list[Sending] = []  # an empty one takes a tenth of a deque


class Confirmables:
    """Those of one socket.

    Args:
        tuning: times and numbers.
        mids: gives message IDs.
        send: takes remote and datagram.
        group: whose share of the answers a remote counts to, such as its host.
    """

    def __init__(
        self,
        tuning: Tuning,
        mids: MessageIds,
        send: Callable[[tuple[Hashable, bytes]], None],
        group: Callable[[Hashable], Hashable],
    ) -> None:
        self._tuning = tuning
        self._mids = mids
        self._send = send
        self._group = group
        self._answers: Counter[Hashable] = Counter()
        """Bytes of answers, of each group that has any."""
        self._answers_of_all = 0
        self._lines: dict[Hashable, _Line] = {}
        self._under_way: dict[tuple[Hashable, int], Sending] = {}
        self._timers: list[tuple[float, int, Sending]] = []
        self._serial = 0
        """Of timers: of two at the same time, the older comes first."""

    def __len__(self) -> int:
        return sum(len(line.under_way) + len(line.waiting) for line in self._lines.values())

    def has_room(self, remote: Hashable) -> bool:
        """Whether one more answer to *remote* may be repeated until it is acknowledged."""
        return self._answers_of_all < MAX_ANSWERS and self._answers[self._group(remote)] < MAX_ANSWERS_EACH

    def post(
        self,
        remote: Hashable,
        message: Message,
        token: bytes,
        now: float,
        jitter: float,
        exchange: Exchange | None = None,
    ) -> Sending:
        """Send *message*, or let it wait for its turn.

        Args:
            remote: the peer.
            message: what is sent.
            token: its token.
            now: the time.
            jitter: drawn from 0 to 1, it spreads the first timeout (RFC 7252 4.2).
            exchange: of a request; None: it is an answer.

        Raises:
            CannotSend: ``too_many_wait`` for that peer, or as `MessageIds.next`.
        """
        line = self._lines.get(remote)
        if line is not None and len(line.waiting) >= MAX_IN_LINE:
            raise CannotSend("too_many_wait")
        mid = self._mids.next(remote, now)
        data = datagram.encode(Type.CON, mid, message, token)
        timeout = self._tuning.ack_timeout * (1 + jitter * (self._tuning.ack_random_factor - 1))
        sending = Sending(remote, mid, data, timeout, self._tuning.max_retransmit, exchange)
        self._count(sending, ANSWER_BYTES + len(data))
        if line is None:
            line = self._lines[remote] = _Line()
        if len(line.under_way) < self._tuning.nstart:
            self._transmit(line, sending, now)
        else:
            if not line.waiting:
                self._hurry(line, now)
            line.waiting.append(sending)
        return sending

    def settle(self, remote: Hashable, mid: int, said: Input, now: float) -> Sending | None:
        """Take the peer's word on the message *mid*; return that message, or None where none is under way."""
        sending = self._under_way.get((remote, mid))
        if sending is not None:
            self._end(sending, said, now)
        return sending

    def withdraw(self, sending: Sending, now: float) -> None:
        """Repeat it no more, whether it was sent or waits: it would hold up those behind it."""
        if sending.state is State.WAITING:
            self._lines[sending.remote].waiting.remove(sending)
        if sending.state is State.UNDER_WAY:
            self._end(sending, Input.WITHDRAW, now)
        elif sending.step(Input.WITHDRAW):
            self._over(sending)

    @property
    def next_timeout(self) -> float | None:
        """When `handle_timeout` has something to do."""
        timers = self._timers
        while timers and (timers[0][2].state is not State.UNDER_WAY or timers[0][0] != timers[0][2].due):
            heappop(timers)
        return timers[0][0] if timers else None

    def handle_timeout(self, now: float) -> list[Sending]:
        """Repeat what is due; return what is given up, those in line behind it included."""
        given_up: list[Sending] = []
        while (due := self.next_timeout) is not None and due <= now:
            sending = heappop(self._timers)[2]
            if sending.left and now <= sending.sent + self._tuning.max_transmit_span:  # RFC 7252 4.2
                self._repeat(sending, now)
                continue
            waiting = self._lines[sending.remote].waiting
            given_up.extend((sending, *waiting))
            for one in waiting:
                one.step(Input.NO_ACK)
                self._over(one)
            waiting.clear()
            self._end(sending, Input.NO_ACK, now)
        return given_up

    def _hurry(self, line: _Line, now: float) -> None:
        """Send again what was sent some time ago: there is something new to say, so the peer may have been heard.

        It may have begun anew, or another has its address. By the timers alone the new message would wait until the
        older one is due, which is longer than its sender has. It counts as one of the repetitions.
        """
        for sending in line.under_way:
            if sending.left and now >= sending.due - sending.timeout + self._tuning.ack_timeout:
                self._repeat(sending, now)

    def _repeat(self, sending: Sending, now: float) -> None:
        sending.left -= 1
        sending.timeout *= 2
        self._set_timer(sending, now)
        self._send((sending.remote, sending.data))

    def _transmit(self, line: _Line, sending: Sending, now: float) -> None:
        sending.step(Input.TURN)
        line.under_way.append(sending)
        self._under_way[sending.remote, sending.mid] = sending
        sending.sent = now
        self._set_timer(sending, now)
        self._send((sending.remote, sending.data))

    def _set_timer(self, sending: Sending, now: float) -> None:
        sending.due = now + sending.timeout
        self._serial += 1
        heappush(self._timers, (sending.due, self._serial, sending))

    def _end(self, sending: Sending, how: Input, now: float) -> None:
        sending.step(how)
        self._over(sending)
        del self._under_way[sending.remote, sending.mid]
        line = self._lines[sending.remote]
        line.under_way.remove(sending)
        while line.waiting and len(line.under_way) < self._tuning.nstart:
            self._transmit(line, line.waiting.pop(0), now)
        if not line.under_way:
            del self._lines[sending.remote]

    def _over(self, sending: Sending) -> None:
        """It is sent no more; its timer may be kept until it is due."""
        self._count(sending, -ANSWER_BYTES - len(sending.data))
        sending.data = b""

    def _count(self, sending: Sending, size: int) -> None:
        if sending.exchange is None:
            group = self._group(sending.remote)
            self._answers_of_all += size
            self._answers[group] += size
            if not self._answers[group]:
                del self._answers[group]
