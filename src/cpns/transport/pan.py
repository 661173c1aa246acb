"""CoAP over UDP, the PAN hop: one bound socket that takes and sends requests (RFC 7252).

aiocoap's own sockets either share a port with whoever binds it too (SO_REUSEPORT) or can't send first; this is the
adapter of a plain socket to its message layer.
"""

import asyncio
import ipaddress
import socket
from typing import Any, Final

from aiocoap import Message, interfaces
from aiocoap.transports.generic_udp import GenericMessageInterface
from aiocoap.util import hostportjoin

from cpns.shares.party import PAN_PREFIX, host_of
from cpns.shares.rate import RateLimit
from cpns.transport.address import try_udp
from cpns.transport.stack import PAN_TUNING, BoundedMessages, Tokens
from cpns.wire.registry import MAX_PAN_BODY

MAX_DATAGRAM: Final = MAX_PAN_BODY + 512
"""A body of 8 KiB and its CoAP header; longer datagrams are dropped unread."""


class PanAddress(interfaces.EndpointAddress):  # type: ignore[misc]
    """Where a datagram came from, and the socket it came to. Equal by address; it proves nothing."""

    __slots__ = ("_socket", "address")

    is_multicast = False
    is_multicast_locally = False
    scheme = "coap"

    def __init__(self, pan: "PanSocket", address: tuple[Any, ...]) -> None:
        self._socket = pan
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PanAddress) and self.address == other.address and self._socket is other._socket

    def __hash__(self) -> int:
        return hash(self.address)

    def __repr__(self) -> str:
        return self.hostinfo

    @property
    def hostinfo(self) -> str:
        """Host and port."""
        return str(hostportjoin(*self.address[:2]))

    @property
    def source(self) -> tuple[str, int]:
        """The host that its messages count to, and its port."""
        return host_of(self.address[0], PAN_PREFIX), self.address[1]

    @property
    def hostinfo_local(self) -> str:
        """Host and port of our socket."""
        return self._socket.hostinfo

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
        """Send a datagram there."""
        self._socket.send(data, self.address)


class PanSocket(asyncio.DatagramProtocol):
    """One bound UDP socket."""

    def __init__(self, interface: "_Interface", limit: RateLimit) -> None:
        self._interface = interface
        self._limit = limit
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def hostinfo(self) -> str:
        """Host and port that the socket is bound to."""
        if self._transport is None:
            return ""
        return str(hostportjoin(*self._transport.get_extra_info("sockname")[:2]))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Bound size and rate, then decode; what does not decode is dropped."""
        if len(data) > MAX_DATAGRAM or not self._limit.allows(addr[0]):
            return
        try:
            message = Message.decode(data, remote=PanAddress(self, addr))
        except Exception:  # options decode in many ways; a bad datagram is no event
            return
        message.transport_tuning = PAN_TUNING
        self._interface.received(message)

    def interfaces(self) -> list[str]:
        """Return the IPv4 addresses of the interfaces that it takes datagrams on."""
        if self._transport is None:
            return []
        host = ipaddress.ip_address(self._transport.get_extra_info("sockname")[0])
        return own_addresses() if host.is_unspecified else [str(host)] if host.version == 4 else []

    def join(self, group: str, interface: str) -> None:
        """Take what is sent to a multicast group on *interface* too. Raises OSError where that can't be."""
        if self._transport is not None:
            join_group(self._transport.get_extra_info("socket"), group, interface)

    def error_received(self, exc: Exception) -> None:
        """An unconnected socket can't tell whom an ICMP error concerns; the timers of the exchange do."""

    def send(self, data: bytes, address: tuple[Any, ...]) -> None:
        """Send; after closing, nothing happens."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, address)

    async def shutdown(self) -> None:
        """Close."""
        if self._transport is not None:
            self._transport.close()


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[IPv6]:port``; port 0 where it names none that there can be."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() and int(port) < 65536 else 0


def own_addresses() -> list[str]:
    """Return the IPv4 addresses of this machine, as far as its name tells."""
    found = {item[4][0] for item in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    return sorted({"127.0.0.1", *map(str, found)})


def join_group(plain: socket.socket, group: str, interface: str) -> None:
    """Let a UDP socket take what is sent to an IPv4 multicast group on *interface*."""
    request = socket.inet_aton(group) + socket.inet_aton(interface)
    plain.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)


class _Interface(GenericMessageInterface):  # type: ignore[misc]
    _pool: PanSocket

    def received(self, message: Message) -> None:
        if self._mman is not None:
            self._mman.dispatch_message(message)

    async def recognize_remote(self, remote: Any) -> bool:
        return isinstance(remote, PanAddress)


async def open_pan(tokens: Tokens, host: str, port: int, limit: RateLimit) -> PanSocket:
    """Bind (port 0: any) and wire *tokens* to the socket.

    Raises:
        OSError: the address is not ours, or the port is taken.
    """
    messages = BoundedMessages(tokens)
    interface = _Interface(messages, tokens.log, tokens.loop)
    await try_udp(host, port)
    _, opened = await tokens.loop.create_datagram_endpoint(lambda: PanSocket(interface, limit), local_addr=(host, port))
    interface._pool = opened
    messages.message_interface = interface
    tokens.token_interface = messages
    return opened
