"""CoAP over TCP, TLS optional, the uplink between PN GW and server (RFC 8323): both ends take and send requests."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

from aiocoap import Message, interfaces
from aiocoap.transports.tcp import TcpConnection, _TCPPooling

from cpns.shares.party import UPLINK_PREFIX, host_of
from cpns.shares.rate import RateLimit
from cpns.transport.door import Door, IsKnown, Peer, Place
from cpns.transport.stack import Tokens
from cpns.wire.registry import MAX_BODY

MAX_FRAME: Final = MAX_BODY + 1024
"""A body of 64 KiB, OSCORE's share and the options."""
MAX_UNREAD: Final = 1024 * 1024
"""Bytes that a peer may leave unread before it is cut off."""
ADDRESS_SECONDS: Final = 1.5
"""How long one address of a server's name may take for a connection, where another one is left."""
UNPROVEN_SECONDS: Final = 20.0
"""How long a connection may stay whose peer has not proven itself."""


class Connection(TcpConnection, Peer):  # type: ignore[misc]
    """One TCP connection; it is also the remote of its messages. Equal to itself alone.

    Args:
        limit: of the messages of its host; None: it is the one that we chose.
        place: that it has at our door.
    """

    _my_max_message_size = MAX_FRAME

    def __init__(
        self, pool: "_Pool", tokens: Tokens, limit: RateLimit | None = None, place: Place | None = None
    ) -> None:
        super().__init__(pool, tokens.log, tokens.loop, is_server=place is not None)
        self._limit = limit
        self._place = place
        self.source = ("", 0)
        self.proven = place is None
        self._heard_at = self.loop.time()
        self._expiry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Say our settings (CSM), if the peer is still there."""
        self._transport = transport
        self._ctx.connections.add(self)
        try:
            address, port = transport.get_extra_info("peername")[:2]
            self.source = (host_of(address, UPLINK_PREFIX), port)
            transport.set_write_buffer_limits(high=MAX_UNREAD)
            super().connection_made(transport)
        except (TypeError, OSError):
            transport.abort()
        if self._place is not None:
            self._expiry = self.loop.call_later(UNPROVEN_SECONDS, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait; neither timer nor place must be kept for what is closed."""
        if self._expiry is not None:
            self._expiry.cancel()
        if self._place is not None:
            self._place.leave()
        super().connection_lost(exc)

    def keep(self) -> None:
        """The peer has proven itself: the connection may stay, and gives way to no other."""
        self.proven = True
        if self._place is not None:
            self._place.prove()

    def _expire(self) -> None:
        if not self.proven:
            self.close()

    def data_received(self, data: bytes) -> None:
        """Take bytes; whatever can't be a message ends the connection."""
        if self.closed or (self._limit is not None and not self._limit.allows(self.source[0])):
            self.close()
            return
        self._heard_at = self.loop.time()
        try:
            super().data_received(data)
        except Exception:  # options decode in many ways, and none may reach the event loop
            self.close()

    def pause_writing(self) -> None:
        """The peer does not read: memory is not spent on it."""
        self.close()

    def _send_message(self, msg: Message) -> None:
        if self.closed:
            raise ConnectionError("closed")
        super()._send_message(msg)

    def abort(self, errormessage: str | None = None, bad_csm_option: int | None = None) -> None:
        """Close without a word: the peer broke the framing."""
        self.close()

    @property
    def silence(self) -> float:
        """Seconds since anything came."""
        seconds: float = self.loop.time() - self._heard_at
        return seconds

    @property
    def closed(self) -> bool:
        """Whether it is closed or closing."""
        return self._transport is None or self._transport.is_closing()

    def close(self) -> None:
        """Close at once; what is unsent is dropped."""
        if self._transport is not None:
            self._transport.abort()


class _Pool(_TCPPooling, interfaces.TokenInterface):  # type: ignore[misc]
    """The connections of one endpoint, as aiocoap's token layer wants them."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokenmanager: Tokens | None = tokens
        self.log = tokens.log
        self.connections: set[Connection] = set()
        self.door: Door | None = None

    def send_message(self, message: Message, messageerror_monitor: Callable[[], None]) -> None:
        """Send; none of our messages says No-Response (RFC 7967), which aiocoap would look for in each."""
        message.remote._send_message(message)

    def _evict_from_pool(self, connection: Connection) -> None:
        self.connections.discard(connection)

    async def fill_or_recognize_remote(self, message: Message) -> bool:
        return message.remote in self.connections

    async def shutdown(self) -> None:
        self._tokenmanager = None
        if self.door is not None:
            await self.door.close()
        for connection in list(self.connections):
            connection.close()
        self.connections.clear()
        await asyncio.sleep(0)


async def listen(
    tokens: Tokens,
    host: str,
    port: int,
    tls: ssl.SSLContext | None,
    limit: RateLimit,
    is_known: IsKnown,
    *,
    reuse_port: bool,
) -> tuple[str, int]:
    """Accept PN GWs at *host*:*port* (0: any); return the address bound.

    With *reuse_port* other processes of ours may listen there too, and the kernel spreads connections over them.

    Raises:
        OSError: the address is not ours, or the port is taken.
    """
    pool = _Pool(tokens)
    pool.door = Door(is_known, tls, lambda place: Connection(pool, tokens, limit, place))
    address = await pool.door.open(host, port, reuse_port=reuse_port)
    tokens.token_interface = pool
    return address


async def _reach(host: str, port: int) -> socket.socket:
    """Return a TCP socket that is connected to the first address of *host* that takes it; the last one may take long.

    Raises:
        OSError: why the last one did not.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failed = OSError(errno.EADDRNOTAVAIL, "no address")
    for left, (family, kind, protocol, _, address) in zip(reversed(range(len(found))), found, strict=True):
        plain = None
        try:
            plain = socket.socket(family, kind, protocol)
            plain.setblocking(False)
            async with asyncio.timeout(ADDRESS_SECONDS if left else None):
                await loop.sock_connect(plain, address)
        except BaseException as error:
            if plain is not None:
                plain.close()
            if not isinstance(error, OSError):
                raise
            failed = error
        else:
            return plain
    raise failed


async def is_reachable(host: str, port: int, seconds: float) -> bool:
    """Whether somebody takes TCP connections at *host*:*port*; who it is, a handshake shows."""
    try:
        async with asyncio.timeout(seconds):
            (await _reach(host, port)).close()
    except OSError:
        return False
    return True


async def connect(tokens: Tokens, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
    """Connect to the server; an older connection of these *tokens* serves on.

    Raises:
        OSError: it can't be reached, or (TLS) its certificate does not fit.
    """
    pool = tokens.token_interface
    if not isinstance(pool, _Pool):
        pool = tokens.token_interface = _Pool(tokens)
    plain = await _reach(host, port)
    try:
        _, connection = await tokens.loop.create_connection(
            lambda: Connection(pool, tokens), sock=plain, ssl=tls, server_hostname=host if tls is not None else None
        )
    except BaseException:
        plain.close()
        raise
    return connection
