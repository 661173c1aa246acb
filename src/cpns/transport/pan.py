"""CoAP over UDP, the PAN hop: one bound socket that takes and sends requests (RFC 7252)."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from secrets import SystemRandom
from typing import Any, Final

from cpns.coap import messaging
from cpns.coap.errors import CannotSend
from cpns.coap.events import RESET, DatagramEvent, Exchange, ExchangeFailed, RequestArrived, ResponseArrived
from cpns.coap.message import Message
from cpns.coap.tuning import Tuning
from cpns.shares.party import PAN_PREFIX, host_of
from cpns.shares.rate import RateLimit
from cpns.transport.address import at, bind_udp, host_in, resolve, source_to, split_address
from cpns.transport.coap import FORMS
from cpns.transport.datagrams import EITHER, Address, Datagrams, Heard, Ours
from cpns.transport.errors import Code
from cpns.transport.waiting import Asked, Owner, Repeated, Waiting
from cpns.wire.registry import MAX_PAN_BODY

MAX_DATAGRAM: Final = MAX_PAN_BODY + 512
"""A body of 8 KiB and its CoAP header; longer datagrams are dropped unread."""
ANY: Final = ("0.0.0.0", "::")  # noqa: S104  # compared, not bound
PAN_TUNING: Final = Tuning(ack_timeout=0.4, max_latency=5.0)
"""Timers for one hop of a few milliseconds (RFC 7252 4.8): given up after 12 to 18 s, forgotten after 19 s."""
_random: Final = SystemRandom()


class PanAddress:
    """Where a datagram came from, and the end of ours that it came to. Equal by both; it proves nothing."""

    __slots__ = ("_ours", "_socket", "address")

    def __init__(self, pan: "PanSocket", address: Address, ours: Ours) -> None:
        self._socket = pan
        self._ours = ours.address_alone
        self.address = address

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PanAddress)
            and self.address == other.address
            and self._ours == other._ours
            and self._socket is other._socket
        )

    def __hash__(self) -> int:
        return hash(self.address)

    def __repr__(self) -> str:
        return self.hostinfo

    @property
    def hostinfo(self) -> str:
        """Host and port."""
        return at(host_in(self.address), self.address[1])

    @property
    def source(self) -> tuple[str, int]:
        """The host that its messages count to, and its port."""
        return host_of(self.address[0], PAN_PREFIX), self.address[1]

    @property
    def hostinfo_local(self) -> str:
        """Host and port of our end."""
        return self._socket.hostinfo_of(self._ours)

    def open(self, message: Message, echoes: int = 0) -> Waiting:
        """Send a request, and again up to *echoes* times with an Echo that is asked for; its token is chosen here.

        Raises:
            ConnectionError: that can't be.
        """
        return self._socket.open((self.address, self._ours), message, echoes)

    def respond(self, request: RequestArrived, answer: Message) -> None:
        """Answer *request* that came from there. Raises ConnectionError where that can't be."""
        self._socket.respond(request, answer)


def _host(remote: Any) -> str:  # an address of the socket module, and our end
    return host_of(remote[0][0], PAN_PREFIX)


class PanSocket:
    """One bound UDP socket.

    Args:
        plain: the socket.
        owner: takes each request.
        limit: of each host.
        tells: whether it is at several addresses, and answers from the one that was asked; else the kernel chooses.
    """

    def __init__(self, plain: socket.socket, owner: Owner, limit: RateLimit, *, tells: bool) -> None:
        self._owner = owner
        self._limit = limit
        self._to_group: Heard = lambda data, source, ours: None
        self._loop = asyncio.get_running_loop()
        self._layer = messaging.MessageLayer(
            PAN_TUNING, FORMS, _random.randrange(0x10000), _host, messaging.MAX_REMEMBERED
        )
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = float("inf")
        self._closed = False
        self.asked = Asked()
        self._datagrams = Datagrams(plain, self._taken, MAX_DATAGRAM, tells=tells)
        self.host = host_in(self._datagrams.bound)
        self.hostinfo = at(self.host, self._datagrams.bound[1])

    def _taken(self, data: bytes, source: Address, ours: Ours) -> None:
        if ours.is_group:
            self._to_group(data, source, ours)
        else:
            self.datagram_received(data, source, ours)

    def datagram_received(self, data: bytes, source: Address, ours: Ours) -> None:
        """Bound size and rate, then take what it says."""
        if len(data) > MAX_DATAGRAM or not self._limit.allows(source[0]):
            return
        self._happened(self._layer.receive((source, ours.address_alone), data, self._loop.time()))

    def open(self, remote: tuple[Address, Ours], message: Message, echoes: int) -> Waiting:
        """Send a request, see `PanAddress.open`."""
        return self._ask(remote, message, Repeated(message, echoes) if echoes else Waiting())

    def _ask(self, remote: Any, message: Message, waiting: Waiting) -> Waiting:
        self._check_open()
        asked = message._replace(token=self.asked.next_token())
        try:
            exchange = self._layer.request(remote, asked, self._loop.time(), _random.random())
        except CannotSend as error:
            raise ConnectionError(error.reason) from error
        self._flush()
        return self.asked.add(waiting, exchange, self._withdraw)

    def respond(self, request: RequestArrived, answer: Message) -> None:
        """Answer *request*, see `PanAddress.respond`; a refusal that no session protects is not worth a repetition."""
        self._check_open()
        confirmable = answer.code < Code.BAD_REQUEST  # what a session protects is 2.04 outside
        try:
            self._layer.respond(request, answer, self._loop.time(), _random.random(), confirmable=confirmable)
        except CannotSend as error:
            raise ConnectionError(error.reason) from error
        self._flush()

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionError("closed")

    def _withdraw(self, exchange: Exchange) -> None:
        self._layer.close(exchange, self._loop.time())
        self._flush()

    def _happened(self, events: Sequence[DatagramEvent]) -> None:
        for event in events:
            if isinstance(event, RequestArrived):
                self._owner.arrived(PanAddress(self, *event.remote), event)  # type: ignore[misc]  # a pair of ours
            elif isinstance(event, ResponseArrived):
                again = self.asked.answered(event)
                if again is not None:
                    with contextlib.suppress(ConnectionError):  # the older exchange is open still
                        self._ask(event.exchange.remote, again[1], again[0])
            elif isinstance(event, ExchangeFailed) and event.reason != RESET:  # who is on the PAN can send that
                self.asked.failed(event)
        self._flush()

    def _flush(self) -> None:
        """Send what is to be sent, and look again when something is due."""
        sent: list[tuple[Any, bytes]] = self._layer.take()
        for (address, ours), data in sent:
            self.send(data, address, ours)
        due = self._layer.next_timeout()
        if due is None or self._closed or self._due_at <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due_at = due
        self._timer = self._loop.call_at(due, self._due)

    def _due(self) -> None:
        now = max(self._loop.time(), self._due_at)  # the loop's clock may be coarser than its timers
        self._timer, self._due_at = None, float("inf")
        self._happened(self._layer.handle_timeout(now))

    async def ways_to(self, host: str, port: int) -> list[PanAddress]:
        """Return where *host* may be asked at *port*, in the order of RFC 6724.

        Raises:
            OSError: it has no address that this socket can send to.
        """
        found = await resolve(host, port, self._datagrams.families)
        if not self._datagrams.tells:
            return [PanAddress(self, one, EITHER) for one in found]
        return [PanAddress(self, one, Ours(source_to(one), 0 if len(one) == 2 else one[3])) for one in found]

    def hostinfo_of(self, ours: Ours) -> str:
        """Return host and port of one of our ends."""
        port = self._datagrams.bound[1]
        return at(host_in((ours.address, port, 0, ours.interface)), port) if ours.address else self.hostinfo

    async def way_between(self, own: str, there: str) -> PanAddress | None:
        """Return the way from an end of ours to an address, each ``host:port``; None: it is none of this socket."""
        host, port = split_address(own)
        any_address = self._datagrams.tells and port == self._datagrams.bound[1]
        if own != self.hostinfo and not any_address:
            return None
        try:
            address = (await resolve(*split_address(there), self._datagrams.families))[0]
        except (OSError, ValueError):  # no address at all
            return None
        scope = 0 if len(address) == 2 else address[3]
        return PanAddress(self, address, Ours(host.partition("%")[0], scope) if any_address else EITHER)

    def join(self, group: str, interface: int, heard: Heard) -> None:
        """Hand what is sent to a multicast group on *interface* to *heard*. Raises OSError where that can't be."""
        self._to_group = heard
        self._datagrams.join(group, interface)

    def send(self, data: bytes, address: Address, ours: Ours = EITHER) -> None:
        """Send; after closing, nothing happens."""
        self._datagrams.send(data, address, ours)

    async def shutdown(self) -> None:
        """Close; nobody waits for an answer any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._datagrams.close()
        self.asked.fail("shutdown")


async def open_pan(owner: Owner, host: str, port: int, limit: RateLimit, *, roams: bool) -> PanSocket:
    """Bind (port 0: any).

    Args:
        owner: takes its requests.
        host: ours; at an any-address it answers from the address that was asked.
        port: likewise.
        limit: of each host.
        roams: whether it asks from whatever address of ours leads there at the moment, as who asks first does.

    Raises:
        OSError: the address is not ours, or the port is taken.
    """
    plain = await bind_udp(host, port)
    return PanSocket(plain, owner, limit, tells=not roams and plain.getsockname()[0] in ANY)
