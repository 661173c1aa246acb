"""A UDP proxy between PNEs and a PN GW, on real sockets: it watches, and loses, repeats, delays and damages datagrams.

PNE  <->  [one socket for all PNEs | one socket for each PNE]  <->  PN GW
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support.parties import free_port

Address = tuple[str, int]
Fates = Sequence[tuple[float, bytes]]
"""What becomes of a datagram: nothing, or what to send after how many seconds."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """One datagram as it came in; `up` is from PNE to PN GW."""

    pne: Address
    up: bool
    data: bytes


Policy = Callable[[Datagram], Fates]


def honest(datagram: Datagram) -> Fates:
    """Pass everything on."""
    return [(0.0, datagram.data)]


class UdpProxy:
    """See the module. `seen` has all datagrams as they came in, in their order."""

    def __init__(self, target: Address, policy: Policy = honest) -> None:
        self.target = target
        self.policy = policy
        self.seen: list[Datagram] = []
        self._front = _socket()
        self._backs: dict[Address, socket.socket] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._front, self._from_pne)

    @property
    def address(self) -> Address:
        """Where PNEs send to."""
        host, port = self._front.getsockname()
        return host, port

    def _from_pne(self) -> None:
        for data, pne in _read(self._front):
            if pne not in self._backs:
                back = self._backs[pne] = _socket()
                self._loop.add_reader(back, self._from_gateway, pne, back)
            self._take(Datagram(pne, True, data))

    def _from_gateway(self, pne: Address, back: socket.socket) -> None:
        for data, source in _read(back):
            if source == self.target:
                self._take(Datagram(pne, False, data))

    def _take(self, datagram: Datagram) -> None:
        self.seen.append(datagram)
        for delay, data in self.policy(datagram):
            if delay <= 0:
                self.send(datagram.pne, datagram.up, data)
            else:
                self._later(delay, datagram, data)

    def _later(self, delay: float, datagram: Datagram, data: bytes) -> None:
        def send() -> None:
            self._timers.discard(handle)
            self.send(datagram.pne, datagram.up, data)

        handle = self._loop.call_later(delay, send)
        self._timers.add(handle)

    def send(self, pne: Address, up: bool, data: bytes) -> None:
        """Send as if it came from the other side."""
        with contextlib.suppress(OSError):
            if up:
                self._backs[pne].sendto(data, self.target)
            else:
                self._front.sendto(data, pne)

    def rebind(self) -> None:
        """Forget which ports PNEs have at the PN GW, as a NAT does: what they send next comes from new ones."""
        for back in self._backs.values():
            self._loop.remove_reader(back)
            back.close()
        self._backs.clear()

    async def close(self) -> None:
        for handle in self._timers:
            handle.cancel()
        for one in [self._front, *self._backs.values()]:
            self._loop.remove_reader(one)
            one.close()


class Losses:
    """A policy: the same seed gives the same fates to the same sequence of datagrams."""

    def __init__(
        self,
        seed: int,
        *,
        drop: float = 0.0,
        repeat: float = 0.0,
        late: float = 0.0,
        flip: float = 0.0,
        longest: float = 0.3,
    ) -> None:
        self._random = random.Random(seed)
        self._drop, self._repeat, self._late, self._flip, self._longest = drop, repeat, late, flip, longest

    def __call__(self, datagram: Datagram) -> Fates:
        draw = self._random.random
        fates: list[tuple[float, bytes]] = []
        for _ in range(2 if draw() < self._repeat else 1):
            if draw() < self._drop:
                continue
            data = datagram.data
            if draw() < self._flip:
                data = flipped(data, self._random.randrange(8 * len(data)))
            fates.append((draw() * self._longest if draw() < self._late else 0.0, data))
        return fates


def flipped(data: bytes, bit: int) -> bytes:
    """Return *data* with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _socket() -> socket.socket:
    """Return a socket at a port that none before it had."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setblocking(False)
    one.bind(("127.0.0.1", free_port(socket.SOCK_DGRAM)))
    return one


def _read(one: socket.socket) -> list[tuple[bytes, Address]]:
    got = []
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while True:
            data, source = one.recvfrom(65536)
            got.append((data, source))
    return got
