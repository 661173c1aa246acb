"""The door of a server: it accepts TCP connections, gives each a place, and begins TLS where there is TLS.

It accepts by itself: a listener of asyncio says nothing of a connection that ends before its TLS handshake does, and
makes one before it could be refused.
"""

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cpns.shares.party import UPLINK_PREFIX, host_of
from cpns.shares.rate import RateLimit
from cpns.shares.room import NoPlace, Room, Slot

MAX_CONNECTIONS: Final = (4096, 512)
"""Connections in all, and how many of these only hosts may have that proved themselves before."""
CONNECTIONS: Final = (100.0, 1000.0)
"""Connections a second, and at once, that one host may begin."""
KNOWN_CONNECTIONS: Final = (1000.0, 4096.0)
"""Likewise, of a host that proved itself before."""
MAX_HANDSHAKES: Final = (256, 32)
"""TLS handshakes under way, likewise: each takes some 300 kB until it ends."""
HANDSHAKE_SECONDS: Final = 5.0
OTHER_FILES: Final = 512
"""Files and sockets that the process may need besides connections."""
BACKLOG: Final = 1024
AT_ONCE: Final = 16
"""Connections that are accepted before the loop looks at other sockets."""
ACCEPT_PAUSE: Final = 0.1
"""Seconds until the next look where there are too many files."""

IsKnown = Callable[[str], bool]
"""Tells whether somebody proved itself from a host before."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one connection among all."""

    _room: Room
    _slot: Slot

    def prove(self) -> None:
        """The peer has proven itself: its connection gives way to no other."""
        self._room.prove(self._slot)

    def leave(self) -> None:
        """The connection is gone."""
        self._room.leave(self._slot, proved=False)


class Peer(asyncio.Protocol):
    """The protocol of one connection."""

    def close(self) -> None:
        """Close it at once, if it is made."""


class Door:
    """Accepts connections until it is closed.

    Args:
        is_known: of a host.
        tls: below CoAP.
        peer: makes the protocol of a connection, given its place.
    """

    def __init__(self, is_known: IsKnown, tls: ssl.SSLContext | None, peer: Callable[[Place], Peer]) -> None:
        self._is_known = is_known
        self._tls = tls
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        total, kept = MAX_CONNECTIONS
        total = min(total, max(2 * kept, _files(total + OTHER_FILES) - OTHER_FILES))
        self._connections = Room(total, kept, time.monotonic, longest_wait=0)
        self._handshakes = Room(*MAX_HANDSHAKES, time.monotonic, longest_wait=0)
        self._pace = RateLimit(*CONNECTIONS, time.monotonic)
        self._known_pace = RateLimit(*KNOWN_CONNECTIONS, time.monotonic)
        self._listeners: list[socket.socket] = []
        self._connecting: dict[asyncio.Task[None], socket.socket] = {}

    async def open(self, host: str, port: int, *, reuse_port: bool) -> tuple[str, int]:
        """Listen at each address of *host*, `::` with IPv4; return the first. Raises OSError where one can't be had."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, address in dict.fromkeys((one[0], one[4]) for one in found):
                listener = socket.create_server(
                    (str(address[0]), int(address[1])),
                    family=family,
                    backlog=BACKLOG,
                    reuse_port=reuse_port,
                    dualstack_ipv6=address[0] == "::",
                )
                self._listeners.append(listener)
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # of what it accepts; uvloop does so too
                listener.setblocking(False)
        except OSError:
            await self.close()
            raise
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)
        bound = self._listeners[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def close(self) -> None:
        """Accept no more, and end what is not connected yet."""
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        connecting = dict(self._connecting)
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        for one in connecting.values():
            one.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                accepted, address = listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._loop.remove_reader(listener)
                    self._loop.call_later(ACCEPT_PAUSE, self._listen_on, listener)
                return  # or there is none, or it is gone
            try:
                self._let_in(accepted, host_of(address[0], UPLINK_PREFIX))
            except NoPlace:
                accepted.close()

    def _listen_on(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            self._loop.add_reader(listener, self._accept, listener)

    def _let_in(self, accepted: socket.socket, host: str) -> None:
        def give_way() -> None:
            peer.close()
            with contextlib.suppress(OSError):
                accepted.shutdown(socket.SHUT_RDWR)  # where TLS has not begun, or is under way

        known = self._is_known(host)
        if not (self._known_pace if known else self._pace).allows(host):
            raise NoPlace("too_many_connections")
        accepted.setblocking(False)
        slot = self._connections.enter(host, give_way, known=known)
        place = Place(self._connections, slot)
        peer = self._peer(place)
        task = self._loop.create_task(self._connect(accepted, host, peer, place))
        self._connecting[task] = accepted
        task.add_done_callback(lambda task: self._connecting.pop(task))

    async def _connect(self, accepted: socket.socket, host: str, peer: Peer, place: Place) -> None:
        """Make the connection, TLS included; a place is kept for one that is made."""
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: peer, accepted)
                return
            known = self._is_known(host)
            slot = self._handshakes.enter(host, lambda: accepted.shutdown(socket.SHUT_RDWR), known=known)
            try:
                await self._loop.connect_accepted_socket(
                    lambda: peer, accepted, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_SECONDS
                )
            finally:
                self._handshakes.leave(slot, proved=False)
        except NoPlace:
            accepted.close()
            place.leave()
        except OSError:
            place.leave()


def _files(wanted: int) -> int:
    """Return how many files the process may have open, up to *wanted* if it is allowed to have so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft
