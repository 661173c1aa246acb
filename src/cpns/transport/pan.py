"""CoAP over UDP, the PAN hop: one bound socket that takes and sends requests (RFC 7252).

aiocoap's own sockets either share a port with whoever binds it too (SO_REUSEPORT) or can't send first; this is the
adapter of a plain socket to its message layer.
"""

import socket
from collections.abc import Callable
from typing import Any, Final

from aiocoap import Message, interfaces
from aiocoap.transports.generic_udp import GenericMessageInterface

from cpns.shares.party import PAN_PREFIX, host_of
from cpns.shares.rate import RateLimit
from cpns.transport.address import at, bind_udp, host_in, resolve, source_to, split_address
from cpns.transport.datagrams import EITHER, Address, Datagrams, Heard, Ours
from cpns.transport.stack import PAN_TUNING, BoundedMessages, Tokens
from cpns.wire.registry import MAX_PAN_BODY

MAX_DATAGRAM: Final = MAX_PAN_BODY + 512
"""A body of 8 KiB and its CoAP header; longer datagrams are dropped unread."""
ANY: Final = ("0.0.0.0", "::")  # noqa: S104  # compared, not bound


class PanAddress(interfaces.EndpointAddress):  # type: ignore[misc]
    """Where a datagram came from, and the end of ours that it came to. Equal by both; it proves nothing."""

    __slots__ = ("_ours", "_socket", "address")

    is_multicast = False
    is_multicast_locally = False
    scheme = "coap"

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

    @property
    def uri_base(self) -> str:
        """As a URI."""
        return "coap://" + self.hostinfo

    @property
    def uri_base_local(self) -> str:
        """Our side as a URI."""
        return "coap://" + self.hostinfo_local

    @property
    def blockwise_key(self) -> tuple[Any, ...]:
        """Unused: nothing is cut into blocks here."""
        return self.address

    def send(self, data: bytes) -> None:
        """Send a datagram there, from our end."""
        self._socket.send(data, self.address, self._ours)


class PanSocket:
    """One bound UDP socket.

    Args:
        plain: the socket.
        received: takes each message.
        limit: of each host.
        tells: whether it is at several addresses, and answers from the one that was asked; else the kernel chooses.
    """

    def __init__(
        self, plain: socket.socket, received: Callable[[Message], None], limit: RateLimit, *, tells: bool
    ) -> None:
        self._received = received
        self._limit = limit
        self._to_group: Heard = lambda data, source, ours: None
        self._datagrams = Datagrams(plain, self._taken, MAX_DATAGRAM, tells=tells)
        self.host = host_in(self._datagrams.bound)
        self.hostinfo = at(self.host, self._datagrams.bound[1])

    def _taken(self, data: bytes, source: Address, ours: Ours) -> None:
        if ours.is_group:
            self._to_group(data, source, ours)
        else:
            self.datagram_received(data, source, ours)

    def datagram_received(self, data: bytes, source: Address, ours: Ours) -> None:
        """Bound size and rate, then decode; what does not decode is dropped."""
        if len(data) > MAX_DATAGRAM or not self._limit.allows(source[0]):
            return
        try:
            message = Message.decode(data, remote=PanAddress(self, source, ours))
        except Exception:  # options decode in many ways; a bad datagram is no event
            return
        message.transport_tuning = PAN_TUNING
        self._received(message)

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
        """Close."""
        self._datagrams.close()


class _Interface(GenericMessageInterface):  # type: ignore[misc]
    _pool: PanSocket

    def received(self, message: Message) -> None:
        if self._mman is not None:
            self._mman.dispatch_message(message)

    async def recognize_remote(self, remote: Any) -> bool:
        return isinstance(remote, PanAddress)


async def open_pan(tokens: Tokens, host: str, port: int, limit: RateLimit, *, roams: bool) -> PanSocket:
    """Bind (port 0: any) and wire *tokens* to the socket.

    Args:
        tokens: take its messages.
        host: ours; at an any-address it answers from the address that was asked.
        port: likewise.
        limit: of each host.
        roams: whether it asks from whatever address of ours leads there at the moment, as who asks first does.

    Raises:
        OSError: the address is not ours, or the port is taken.
    """
    messages = BoundedMessages(tokens)
    interface = _Interface(messages, tokens.log, tokens.loop)
    plain = await bind_udp(host, port)
    tells = not roams and plain.getsockname()[0] in ANY
    interface._pool = PanSocket(plain, interface.received, limit, tells=tells)
    messages.message_interface = interface
    tokens.token_interface = messages
    return interface._pool
