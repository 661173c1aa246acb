"""M1s with source addresses that are not the sender's: nobody there hears what is said to them.

By a raw socket over loopback, which takes CAP_NET_RAW; or straight into the socket of a PN GW in this process, where
what it sends to those addresses is kept and not sent.
"""

import asyncio
import contextlib
import functools
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from cpns.gateway.app import Gateway
from cpns.transport.datagrams import EITHER
from cpns.wire import codec
from tests.support.siege.attackers import Maker, datagram
from tests.support.siege.attackers import setup as setup_of
from tests.support.world import address_of

FIRST: Final = ipaddress.IPv4Address("127.64.0.1")
PORT: Final = 40001


def source(number: int) -> str:
    """Return a host for each number up to four million; none of them is anybody's."""
    return str(FIRST + number)


@functools.cache
def allowed() -> bool:
    """Whether this process may have a raw socket."""
    with contextlib.suppress(OSError):
        _raw().close()
        return True
    return False


def _raw() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    one.setblocking(False)
    return one


def packet(host: str, target: tuple[str, int], data: bytes) -> bytes:
    """Return an IPv4 packet with *data* in a UDP datagram from *host* (RFC 791, 768); the kernel adds its checksum."""
    udp = struct.pack("!HHHH", PORT, target[1], 8 + len(data), 0) + data
    addresses = socket.inet_aton(host) + socket.inet_aton(target[0])
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses + udp


class Forger:
    """Sends M1s to one PN GW, each from a host of its own.

    Args:
        raw: by a raw socket; else straight into the socket of *gateway*.
    """

    def __init__(self, gateway: Gateway, *, raw: bool = False, what: Maker = setup_of) -> None:
        self.sent = 0
        self.said: dict[str, list[bytes]] = {}
        """What the PN GW sent to each of those hosts, without a raw socket."""
        self._what = what
        self._target = address_of(gateway.pans[0].endpoint)
        self._raw = _raw() if raw else None
        self._pan: Any = cast(Any, gateway.pans[0].endpoint)._pan
        self._passes_on: Callable[..., None] = self._pan.send
        if not raw:
            self._pan.send = self._keep

    def send(self, entity: str = "", host: str = "") -> bytes:
        """Send an M1 of that ID, a new one by default; return its datagram."""
        self.sent += 1
        host = host or source(self.sent)
        data = datagram(self.sent, codec.encode(self._what(self.sent, entity or f"forged-{self.sent}")))
        if self._raw is None:
            self._pan.datagram_received(data, (host, PORT), EITHER)
        else:
            with contextlib.suppress(BlockingIOError):
                self._raw.sendto(packet(host, self._target, data), (self._target[0], 0))
        return data

    async def flood(self, rate: float) -> None:
        """Send so many a second at the most, until cancelled: less where the machine is slow, as all is one process."""
        while True:
            for _ in range(max(1, int(rate / 50))):
                self.send()
            await asyncio.sleep(1 / 50)

    def answers(self, host: str) -> list[bytes]:
        """Return what *host* was told; an acknowledgement that comes before it is none."""
        return [data for data in self.said.get(host, []) if data[1]]

    def _keep(self, data: bytes, address: Any, *ours: Any) -> None:
        if address[1] == PORT:
            self.said.setdefault(address[0], []).append(data)
        else:
            self._passes_on(data, address, *ours)

    def close(self) -> None:
        """Let the socket send again."""
        if self._raw is not None:
            self._raw.close()


@contextlib.contextmanager
def forging(gateway: Gateway, **how: Any) -> Iterator[Forger]:
    """Give a `Forger`, closed in the end."""
    one = Forger(gateway, **how)
    try:
        yield one
    finally:
        one.close()
