"""CoAP over TCP, TLS optional, the uplink between PN GW and server (RFC 8323): both ends take and send requests."""

import asyncio
import errno
import socket
import ssl
from typing import Final

from cpns.coap.connection import Connection as Engine
from cpns.coap.errors import CannotSend
from cpns.coap.events import Ended, Exchange, Released, RequestArrived, ResponseArrived
from cpns.coap.message import Message
from cpns.shares.party import UPLINK_PREFIX, host_of
from cpns.transport import budget
from cpns.transport.budget import BLOCK, FIRST_BLOCK, Budget
from cpns.transport.coap import FORMS
from cpns.transport.door import Door, IsKnown, Peer, Place
from cpns.transport.uplink_states import (
    TRANSITIONS,
    Closed,
    Connected,
    Event,
    Exceeded,
    Heeded,
    Leaving,
    Made,
    Opened,
    Paused,
    Resumed,
    SaidLast,
    State,
    Strained,
    over_since,
)
from cpns.transport.waiting import Asked, Owner, Waiting

MAX_FRAME: Final = 65 * 1024
"""The longest sealed message, its tag and the options; every version takes so much."""
MAX_UNREAD: Final = 1024 * 1024
"""Bytes that a peer may leave unread before it is cut off."""
ADDRESS_SECONDS: Final = 1.5
"""How long one address of a server's name may take for a connection, where another one is left."""
UNPROVEN_SECONDS: Final = 20.0
"""How long a connection may stay whose peer has not proven itself."""
LEAVING_SECONDS: Final = 2.0
"""How long a peer may take to read our last word."""


class Connection(Peer):
    """One TCP connection; it is also the remote of its messages. Equal to itself alone.

    Args:
        uplinks: those of its endpoint.
        place: that it has at our door; None: it is the one that we chose.
    """

    def __init__(self, uplinks: "Uplinks", place: Place | None = None) -> None:
        self._uplinks = uplinks
        self._loop = asyncio.get_running_loop()
        self._engine = Engine(MAX_FRAME, FORMS, MAX_FRAME)  # all take so much; so nobody waits for settings
        self._state: State = Made()
        self._place = place
        self.asked = Asked()
        self.source = ("", 0)
        self.proven = place is None
        self._heard_at = self._loop.time()
        self._expiry: asyncio.TimerHandle | None = None
        self._frames = self._uncounted = 0
        self._block = FIRST_BLOCK

    def _happens(self, event: Event) -> None:
        self._state = TRANSITIONS.after(self._state, event) or self._state

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Say our settings (CSM), if the peer is still there."""
        self._happens(Opened(transport))
        self._uplinks.connections.add(self)
        try:
            address, port = transport.get_extra_info("peername")[:2]
            self.source = (host_of(address, UPLINK_PREFIX), port)
            transport.set_write_buffer_limits(high=MAX_UNREAD)
            self._flush()
        except (TypeError, OSError):
            transport.abort()
        if self._place is not None:
            self._expiry = self._loop.call_later(UNPROVEN_SECONDS, self._expire)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait; neither timer nor place must be kept for what is closed."""
        if self._expiry is not None:
            self._expiry.cancel()
        if isinstance(self._state, Paused):
            self._state.resumes.cancel()
            self._state.share.step_out(self.source[0])
        elif isinstance(self._state, Leaving):
            self._state.ends.cancel()
        self._happens(Closed())
        if self._place is not None:
            self._place.leave()
        self._uplinks.connections.discard(self)
        self.asked.fail("closed" if exc is None else str(exc))
        self._uplinks.owner.lost(self)

    def keep(self) -> None:
        """The peer has proven itself: the connection may stay, and gives way to no other."""
        self.proven = True
        if self._place is not None:
            self._place.prove()

    def _expire(self) -> None:
        if not self.proven:
            self.close()

    def data_received(self, data: bytes) -> None:
        """Take bytes, as far as the budget goes; whatever can't be a message ends the connection."""
        self._heard_at = self._loop.time()
        self._engine.receive(data)
        self._uncounted += len(data)
        if not isinstance(self._state, Paused):
            self._work()
            if isinstance(self._state, Strained):
                self._happens(Heeded())

    def _work(self) -> None:
        while not self.closed:
            if self._uncounted or self._frames <= 0:
                share = self._uplinks.budgets[self.proven]
                wait = self._wait(share)
                if wait:
                    self._pause(share, wait)
                    break
            event = self._engine.next_event()
            if event is None:
                break
            self._frames -= 1
            if isinstance(event, RequestArrived):
                self._uplinks.owner.arrived(self, event)
            elif isinstance(event, ResponseArrived):
                self.asked.answered(event)
            elif isinstance(event, Ended | Released):
                self._leave()
        self._flush()

    def _leave(self) -> None:
        """Close behind our last word: answers that are made, and what was wrong (RFC 8323 5.5, 5.6)."""
        if isinstance(self._state, Connected):
            self._flush()
            self._state.transport.close()
            self._happens(SaidLast(self._loop.call_later(LEAVING_SECONDS, self.close)))

    def _wait(self, share: Budget) -> float:
        """Return 0 where the next frame is in the budget, else the seconds until it is."""
        if self._place is None:
            return 0.0
        if self._uncounted:
            wait = share.wait_for_bytes(self.source[0], self._uncounted)
            if wait:
                return wait
            self._uncounted = 0
        if self._frames <= 0:
            wait = share.wait_for_frames(self.source[0], self._block)
            if wait:
                return wait
            self._frames, self._block = self._block, BLOCK
        return 0.0

    def _pause(self, share: Budget, seconds: float) -> None:
        """Read no more for a time, which the peer feels; one that goes on, or sent too much at once, is ended."""
        now, host = self._loop.time(), self.source[0]
        since = over_since(self._state, now)
        has_room = share.has_room(host, self._engine.held)
        if not isinstance(self._state, Connected) or now - since > budget.PATIENCE or not has_room:
            self.close()
            return
        self._state.transport.pause_reading()
        resumes = self._loop.call_later(share.line_up(host, seconds), self._resume)
        self._happens(Exceeded(since, share, resumes))

    def _resume(self) -> None:
        if isinstance(self._state, Paused):
            self._state.share.step_out(self.source[0])
            transport = self._state.transport
            self._happens(Resumed(self._loop.time()))
            if not self.closed:
                transport.resume_reading()
                self._work()

    def open(self, message: Message, echoes: int = 0) -> Waiting:
        """Send a request; its token is chosen here. Raises ConnectionError where that can't be.

        The connection itself shows the peer's address, so nobody has to ask for an Echo here.
        """
        self._check_open()
        try:
            exchange = self._engine.request(message._replace(token=self.asked.next_token()))
        except CannotSend as error:
            raise ConnectionError(error.reason) from error
        self._flush()
        return self.asked.add(Waiting(), exchange, self._withdraw)

    def respond(self, request: RequestArrived, answer: Message) -> None:
        """Answer *request* that came by it, if it is still open. Raises ConnectionError where that can't be."""
        try:
            self._engine.respond(request, answer)
        except CannotSend as error:
            raise ConnectionError(error.reason) from error
        self._flush()

    def _withdraw(self, exchange: Exchange) -> None:
        self._engine.close(exchange)

    def _check_open(self) -> None:
        if self.closed:
            raise ConnectionError("closed")

    def _flush(self) -> None:
        data = self._engine.take()
        if data and isinstance(self._state, Connected) and not self._state.transport.is_closing():
            self._state.transport.write(b"".join(data))

    def pause_writing(self) -> None:
        """The peer does not read: memory is not spent on it."""
        self.close()

    @property
    def silence(self) -> float:
        """Seconds since anything came."""
        return self._loop.time() - self._heard_at

    @property
    def closed(self) -> bool:
        """Whether it is closed or closing."""
        return not isinstance(self._state, Connected) or self._state.transport.is_closing()

    def close(self) -> None:
        """Close at once; what is unsent is dropped."""
        if isinstance(self._state, Connected):
            self._state.transport.abort()


class Uplinks:
    """The connections of one endpoint.

    Args:
        owner: takes their requests, and is told of each that is gone.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.connections: set[Connection] = set()
        self.budgets = (  # by whether the peer has proven itself
            Budget(budget.STRANGER_FRAMES, budget.STRANGER_BYTES, budget.STRANGER_HELD),
            Budget(budget.FRAMES, budget.BYTES, budget.HELD),
        )
        self._door: Door | None = None

    async def listen(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        is_known: IsKnown,
        *,
        reuse_port: bool,
    ) -> tuple[str, int]:
        """Accept PN GWs at *host*:*port* (0: any); return the address bound.

        With *reuse_port* other processes of ours may listen there too, and the kernel spreads connections over them.

        Raises:
            OSError: the address is not ours, or the port is taken.
        """
        self._door = Door(is_known, tls, lambda place: Connection(self, place))
        return await self._door.open(host, port, reuse_port=reuse_port)

    async def connect(self, host: str, port: int, tls: ssl.SSLContext | None) -> Connection:
        """Connect to the server; an older connection of ours serves on.

        Raises:
            OSError: it can't be reached, or (TLS) its certificate does not fit.
        """
        plain = await _reach(host, port)
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), sock=plain, ssl=tls, server_hostname=host if tls is not None else None
            )
        except BaseException:
            plain.close()
            raise
        return connection

    async def close(self) -> None:
        """Accept no more, and close all."""
        if self._door is not None:
            await self._door.close()
        for connection in list(self.connections):
            connection.asked.fail("shutdown")
            connection.close()
        self.connections.clear()
        await asyncio.sleep(0)


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
