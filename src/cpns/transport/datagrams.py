"""A UDP socket that knows at which address of ours it was asked, and answers from there (RFC 3542 6; Linux ip(7)).

A socket on an any-address would answer from the address that the kernel likes best, which may be another one than was
asked. The datagram transports of asyncio and uvloop don't tell, so this is a plain socket with a reader.
"""

import asyncio
import contextlib
import ipaddress
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

AT_ONCE: Final = 32
"""Datagrams that are read before the loop looks at other sockets."""
BUFFER: Final = 1024 * 1024
"""Bytes that the kernel may hold until they are read, where it allows so many: 2,700 small datagrams, as it counts.

All who send share them: without it a flood of 1 MB/s fills the room in 12 ms, and others' are lost with its own.
"""

Address = tuple[Any, ...]
"""As the socket module has it: host and port; of IPv6 flow and scope too. IPv4 is never in the form of IPv6."""

_IP_PKTINFO: Final = 26 if sys.platform == "darwin" else 8
_ROOM: Final = socket.CMSG_SPACE(20)
_MAPPED: Final = "::ffff:"


class Ours(NamedTuple):
    """Our end of a datagram.

    Attributes:
        address: the one that it was sent to, or is to be sent from; empty: the only one, or what the kernel chooses.
        interface: the index of the interface; 0: the only one, or what the kernel chooses.
    """

    address: str = ""
    interface: int = 0

    @property
    def is_group(self) -> bool:
        """Whether it was sent to a multicast group."""
        return self.address != "" and ipaddress.ip_address(self.address).is_multicast

    @property
    def address_alone(self) -> "Ours":
        """It without the interface, where the address is one without."""
        return self if self.address.startswith("fe80:") else Ours(self.address)


EITHER: Final = Ours()
"""What the kernel chooses."""

Heard = Callable[[bytes, Address, Ours], None]
"""Takes a datagram, its source, and our end."""


class Datagrams:
    """A bound UDP socket.

    Args:
        plain: the socket, bound; closed with this.
        heard: takes each datagram.
        longest: bytes of one; of a longer one so many and one more are taken.
        tells: whether the socket tells at which end of ours it took a datagram.
    """

    def __init__(self, plain: socket.socket, heard: Heard, longest: int, *, tells: bool) -> None:
        self._plain = plain
        self._heard = heard
        self._longest = longest
        self._v6 = plain.family == socket.AF_INET6
        plain.setblocking(False)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        if tells and self._v6:
            plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        elif tells:
            plain.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self.tells = tells
        self.bound: Address = plain.getsockname()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(plain, self._readable)

    @property
    def families(self) -> tuple[socket.AddressFamily, ...]:
        """The kinds of addresses that it sends to."""
        if not self._v6:
            return (socket.AF_INET,)
        return (socket.AF_INET6, socket.AF_INET) if self.bound[0] == "::" else (socket.AF_INET6,)

    def send(self, data: bytes, address: Address, ours: Ours = EITHER) -> None:
        """Send a datagram; one that can't be sent is lost, as any may be."""
        with contextlib.suppress(OSError):  # closed, no way there, or the kernel's own queue is full
            told = [] if ours == EITHER else [self._told(ours, v4=len(address) == 2)]
            to = (_MAPPED + address[0], address[1], 0, 0) if self._v6 and len(address) == 2 else address
            self._plain.sendmsg([data], told, 0, to)

    def join(self, group: str, interface: int) -> None:
        """Take what is sent to a multicast group on an interface too. Raises OSError where that can't be."""
        if ":" in group:
            request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", interface)
            self._plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        else:
            request = socket.inet_aton(group) + struct.pack("@4xi", interface)
            self._plain.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)

    def close(self) -> None:
        """Close. May be called again."""
        if self._plain.fileno() >= 0:
            self._loop.remove_reader(self._plain)
            self._plain.close()

    def _readable(self) -> None:
        for _ in range(AT_ONCE):
            try:
                data, told, _, source = self._plain.recvmsg(self._longest + 1, _ROOM if self.tells else 0)
            except OSError:  # no more, closed, or an ICMP error that concerns nobody whom we could name
                return
            if source[0].startswith(_MAPPED):
                source = (source[0].removeprefix(_MAPPED), source[1])
            self._heard(data, source, _ours(told))

    def _told(self, ours: Ours, *, v4: bool) -> tuple[int, int, bytes]:
        """Return what tells the kernel from where to send."""
        own = ours.address or ("0.0.0.0" if v4 else "::")  # noqa: S104  # the kernel chooses
        if self._v6:
            packed = socket.inet_pton(socket.AF_INET6, _MAPPED + own if v4 else own)
            return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, packed + struct.pack("@I", ours.interface)
        return socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("@i", ours.interface) + socket.inet_aton(own) + bytes(4)


def _ours(told: list[tuple[int, int, bytes]]) -> Ours:
    """Return our end of a datagram as the kernel told it."""
    for level, kind, data in told:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            to = socket.inet_ntop(socket.AF_INET6, data[:16])
            return Ours(to.removeprefix(_MAPPED), int.from_bytes(data[16:20], sys.byteorder))
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return Ours(socket.inet_ntoa(data[8:12]), int.from_bytes(data[:4], sys.byteorder))
    return EITHER
