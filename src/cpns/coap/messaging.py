"""The message layer over UDP (RFC 7252 4, 5.2, 5.3): acknowledgements, duplicates, which answer is whose.

    receive(remote, datagram, now) -> what happened
    request(remote, message, now, jitter) -> Exchange; close(exchange, now)
    respond(request, answer, now, jitter), once or more
    next_timeout() -> when; handle_timeout(now) -> what happened
    take() -> what is to be sent, after each of these

A remote is any value that can be hashed. Kind and type of a datagram tell what it is for (RFC 7252 4.3):

                 CON                 NON         ACK                        RST
    request      taken               taken       ignored                    ignored
    response     taken, or reset     taken       taken, of the request      ignored
                                                 with its message ID
    empty        a ping: reset       ignored     ends what is repeated      ends what is repeated
    other        reset               ignored     ignored                    ignored
"""

from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import Final

from cpns.coap import datagram
from cpns.coap.confirmable import Confirmables, Input, Sending
from cpns.coap.duplicates import Duplicates, Key
from cpns.coap.errors import CannotSend, FormatError
from cpns.coap.events import RESET, DatagramEvent, Exchange, ExchangeFailed, RequestArrived, ResponseArrived
from cpns.coap.message import Message, bad_option, unsupported
from cpns.coap.mids import MessageIds
from cpns.coap.numbers import KINDS, Form, Kind, Type
from cpns.coap.tuning import Tuning

MAX_REMEMBERED: Final = 8 * 1024 * 1024
"""Bytes of what is remembered of messages that came, as `Duplicates` counts them: 32,000 without an answer."""


class MessageLayer:
    """The messages of one socket.

    Args:
        tuning: times and numbers.
        forms: the options that requests and answers may have if they are critical, see `numbers.supported`.
        first_mid: drawn at random.
        group: whose share of what is remembered, and of what is repeated, a remote counts to, such as its host.
        remembered: bytes of it.
    """

    def __init__(
        self,
        tuning: Tuning,
        forms: Mapping[int, Form],
        first_mid: int,
        group: Callable[[Hashable], Hashable],
        remembered: int = MAX_REMEMBERED,
    ) -> None:
        self._tuning = tuning
        self._forms = forms
        self._mids = MessageIds(first_mid, tuning.exchange_lifetime)
        self._duplicates = Duplicates(tuning.exchange_lifetime, remembered, group)
        self._out: list[tuple[Hashable, bytes]] = []
        self._send = self._out.append
        self._confirmables = Confirmables(tuning, self._mids, self._send, group)
        self._open: dict[tuple[Hashable, bytes], tuple[Exchange, Sending | None]] = {}
        self._unacknowledged: dict[Key, int] = {}
        """Message IDs of requests that nothing was said to yet."""
        self._acks: deque[tuple[float, Key]] = deque()
        """When each of them is acknowledged without an answer; those that have one by then are passed over."""

    # what came

    def receive(self, remote: Hashable, data: bytes, now: float) -> list[DatagramEvent]:
        """Take a datagram; return what it does."""
        try:
            type_, mid, message = datagram.decode(data)
        except FormatError:
            head = datagram.head(data)
            if head is not None and head.type is Type.CON:
                self._send((remote, datagram.empty(Type.RST, head.mid)))  # RFC 7252 4.2
            return []
        kind = KINDS[message.code]
        if kind is Kind.REQUEST:
            if type_ is Type.CON or type_ is Type.NON:
                return self._receive_request(RequestArrived(message, remote, mid, type_ is Type.CON, hash(data)), now)
        elif kind is Kind.RESPONSE:
            if type_ is not Type.RST:
                return self._receive_response(remote, type_, mid, message, hash(data), now)
        elif type_ is Type.CON:
            self._send((remote, datagram.empty(Type.RST, mid)))  # a ping, RFC 7252 4.3; or a reserved code, 4.2
        elif kind is Kind.EMPTY and type_ is not Type.NON:
            return self._receive_empty(remote, type_, mid, now)
        return []

    def _receive_request(self, request: RequestArrived, now: float) -> list[DatagramEvent]:
        key = (request.remote, request.digest)
        seen = self._duplicates.find(key, now)
        if seen is not None:
            if request.confirmable and seen[1] is not None:
                self._send((request.remote, seen[1]))
            return []
        if request.confirmable:
            self._unacknowledged[key] = request.mid
            self._acks.append((now + self._tuning.empty_ack_delay, key))
        number = unsupported(request.message.options, self._forms)
        if number is not None:
            if request.confirmable:
                self.respond(request, bad_option(request.message.token, number), now, 0)
            return []  # RFC 7252 5.4.1: a non-confirmable one is rejected, in silence
        return [request]

    def _receive_response(
        self, remote: Hashable, type_: Type, mid: int, message: Message, digest: int, now: float
    ) -> list[DatagramEvent]:
        found = self._open.get((remote, message.token))
        if found is None or unsupported(message.options, self._forms) is not None:
            if type_ is Type.CON:
                self._send((remote, datagram.empty(Type.RST, mid)))  # RFC 7252 4.2, 5.3.2
            return []
        exchange, sending = found
        if type_ is Type.ACK:
            if sending is None or sending.mid != mid:  # RFC 7252 5.3.2: both have to fit
                return []
            self._confirmables.settle(remote, mid, Input.ACK, now)
            return [ResponseArrived(exchange, message)]
        key = (remote, digest)
        seen = self._duplicates.find(key, now)
        if type_ is Type.CON:
            said = datagram.empty(Type.ACK, mid)
            self._send((remote, said))
            self._duplicates.answered(key, said)
        return [ResponseArrived(exchange, message)] if seen is None else []

    def _receive_empty(self, remote: Hashable, type_: Type, mid: int, now: float) -> list[DatagramEvent]:
        said = Input.ACK if type_ is Type.ACK else Input.RST
        sending = self._confirmables.settle(remote, mid, said, now)
        return self._failed(sending, RESET) if sending is not None and said is Input.RST else []

    def _failed(self, sending: Sending, reason: str) -> list[DatagramEvent]:
        return [] if sending.exchange is None else [ExchangeFailed(sending.exchange, reason)]

    # what we say

    def request(
        self, remote: Hashable, message: Message, now: float, jitter: float, *, confirmable: bool = True
    ) -> Exchange:
        """Send a request; its token must be in no other open one to *remote*, and hard to guess (RFC 7252 5.3.1).

        Args:
            remote: the peer.
            message: the request.
            now: the time.
            jitter: drawn from 0 to 1.
            confirmable: whether it is repeated until the peer says something.

        Raises:
            CannotSend: ``token_in_use``, ``too_many_wait`` or ``message_ids_used_up``.
        """
        key = (remote, message.token)
        if key in self._open:
            raise CannotSend("token_in_use")
        exchange = Exchange(remote, message.token)
        sending = None
        if confirmable:
            sending = self._confirmables.post(remote, message, message.token, now, jitter, exchange)
        else:
            mid = self._mids.next(remote, now)
            self._send((remote, datagram.encode(Type.NON, mid, message, message.token)))
        self._open[key] = (exchange, sending)
        return exchange

    def close(self, exchange: Exchange, now: float) -> None:
        """Take no more answers to a request, and repeat it no more. It may be closed already."""
        key = (exchange.remote, exchange.token)
        found, sending = self._open.get(key, (None, None))
        if found is exchange:
            del self._open[key]
            if sending is not None:
                self._confirmables.withdraw(sending, now)

    def respond(
        self, request: RequestArrived, answer: Message, now: float, jitter: float, *, confirmable: bool = True
    ) -> None:
        """Answer *request*, with its token: with the acknowledgement where that is not said yet (RFC 7252 5.2.1).

        Args:
            request: what is answered.
            answer: the answer.
            now: the time.
            jitter: drawn from 0 to 1.
            confirmable: whether it is repeated until the peer says something, if it goes by itself (5.2.2); it is
                not where that peer's group, or all peers together, have as much as may be repeated.

        Raises:
            CannotSend: as `request`.
        """
        message, remote, _, _, digest = request
        mid = self._unacknowledged.pop((remote, digest), None)
        if mid is not None:
            said = datagram.encode(Type.ACK, mid, answer, message.token)
            self._duplicates.answered((remote, digest), said)
            self._send((remote, said))
        elif request.confirmable and confirmable and self._confirmables.has_room(remote):
            self._confirmables.post(remote, answer, message.token, now, jitter)  # 5.2.2
        else:
            mid = self._mids.next(remote, now)
            self._send((remote, datagram.encode(Type.NON, mid, answer, message.token)))  # 5.2.3

    def take(self) -> list[tuple[Hashable, bytes]]:
        """Return what is to be sent now: remotes and datagrams."""
        taken = self._out.copy()
        self._out.clear()
        return taken

    # time

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` has something to do; None: never, as it is."""
        while self._acks and self._acks[0][1] not in self._unacknowledged:
            self._acks.popleft()
        ack = self._acks[0][0] if self._acks else None
        times = (ack, self._confirmables.next_timeout, self._duplicates.next_timeout)
        return min([time for time in times if time is not None], default=None)

    def handle_timeout(self, now: float) -> list[DatagramEvent]:
        """Do what is due; return what happened by that."""
        while self._acks and self._acks[0][0] <= now:
            _, key = self._acks.popleft()
            mid = self._unacknowledged.pop(key, None)
            if mid is not None:
                said = datagram.empty(Type.ACK, mid)
                self._duplicates.answered(key, said)
                self._send((key[0], said))
        self._duplicates.forget(now)
        given_up = self._confirmables.handle_timeout(now)
        return [event for sending in given_up for event in self._failed(sending, "unacknowledged")]
