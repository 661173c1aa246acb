"""What passes on the sockets: a tap on the uplink, and datagrams and frames decoded, opened with a session's keys.

The tap is a TCP proxy on real sockets; the PAN has one in `tests.support.lossy`. Both only watch unless told otherwise.
"""

import asyncio
import dataclasses
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiocoap import Message
from aiocoap.transports.tcp import _decode_message, _extract_message_size

from cpns.errors import WireError
from cpns.gateway.app import Gateway
from cpns.pne.app import Pne
from cpns.session.table import Session
from cpns.transport import oscore
from cpns.wire import codec
from tests.support.coap import kid_of, ours, theirs, waiting
from tests.support.lossy import Address, UdpProxy
from tests.support.parties import free_port
from tests.support.world import World, address_of, until

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Seen:
    """One CoAP message on a socket.

    Attributes:
        up: from PNE to PN GW, or from PN GW to server.
        message: the CoAP message, outer where it is protected.
        body: the CPNS message in it, as far as it is one (inner where it was opened).
        inner: the CoAP message that was opened.
    """

    up: bool
    message: Any
    body: Any = None
    inner: Any = None

    @property
    def protected(self) -> bool:
        return self.message.opt.oscore is not None


def body_of(payload: bytes) -> Any:
    """Return the CPNS message in *payload*, or None."""
    try:
        kind, _ = codec.parse(payload)
        return codec.decode(payload, *codec.shapes_of(kind))
    except WireError:
        return None


class TcpTap:
    """A TCP proxy that watches one server; `seen` has its CoAP messages in their order, `raw` all bytes."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.seen: list[Seen] = []
        self.raw: list[bytes] = []
        self.keep = True
        self._forgotten: set[asyncio.StreamWriter] = set()
        self.host, self.port = "127.0.0.1", free_port(socket.SOCK_STREAM)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> Address:
        """Listen, after `close` at the same port again."""
        self._server = await asyncio.start_server(self._connected, self.host, self.port, reuse_address=True)
        return self.host, self.port

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
        self._writers += [writer, back]
        for one, other, up in ((reader, back, True), (there, writer, False)):
            task = asyncio.create_task(self._pump(one, other, up))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up: bool) -> None:
        spool = b""
        try:
            while data := await reader.read(65536):
                spool += data
                if self.keep:
                    self.raw.append(data)
                while (parts := _extract_message_size(spool)) is not None and sum(parts) <= len(spool):
                    frame, spool = spool[: sum(parts)], spool[sum(parts) :]
                    message = _decode_message(frame)
                    if self.keep and not message.code.is_signalling():
                        self.seen.append(Seen(up, message, body_of(message.payload)))
                if writer not in self._forgotten:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        finally:
            if writer not in self._forgotten:
                writer.close()

    def forget(self) -> None:
        """Carry nothing of today's connections any more, nor their end, as a NAT that forgot them; new ones are."""
        self._forgotten.update(self._writers)

    async def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def opened(seen: Iterable[Seen], session: Session, *, own_is_up: bool = False) -> list[Seen]:
    """Return those of *seen* that *session* protected, opened with its keys.

    Args:
        seen: what passed.
        session: either end's.
        own_is_up: whether that end sends the messages that go up.
    """
    own = dataclasses.replace(session, protection=None)
    peer = dataclasses.replace(session, protection=None, own_kid=session.peer_kid, peer_kid=session.own_kid)
    asked: dict[tuple[bool, bytes], Any] = {}
    result = []
    for one in seen:
        option = one.message.opt.oscore
        if option is None:
            continue
        receiver = peer if one.up == own_is_up else own
        if one.message.code.is_request():
            if kid_of(option) != receiver.own_kid:
                continue
            inner, identity = oscore.opened(receiver, ours(one.message))
            asked[(one.up, one.message.token)] = identity
        elif (not one.up, one.message.token) in asked:
            asked_for = asked.pop((not one.up, one.message.token))
            inner = oscore.unprotect_response(receiver, ours(one.message), asked_for)
        else:
            continue
        result.append(Seen(one.up, one.message, body_of(inner.payload), theirs(inner)))
    return result


def bodies(seen: Iterable[Seen], shape: type[M]) -> list[M]:
    """Return the CPNS messages of one type."""
    return [one.body for one in seen if type(one.body) is shape]


def one_body(seen: Iterable[Seen], shape: type[M]) -> M:
    """Return the CPNS message of one type, of which there must be one."""
    found = bodies(seen, shape)
    assert len(found) == 1, [type(one.body).__name__ for one in seen]
    return found[0]


class Scene:
    """A server and a gateway in a world, with both of the gateway's legs tapped."""

    def __init__(self, world: World, gateway: Gateway, uplink: TcpTap, pan: UdpProxy) -> None:
        self.world = world
        self.gateway = gateway
        self.uplink = uplink
        self.pan = pan

    @property
    def link(self) -> Session:
        """The server's end of the gw-server session."""
        session = self.world.server.sessions.with_peer(self.gateway.config.gateway_id)
        assert session is not None
        return session

    def on_pan(self, *pnes: Pne) -> list[Seen]:
        """Return what passed between these PNEs (all: none given) and the gateway, repetitions left out."""
        ports = {address_of(pne._endpoint)[1] for pne in pnes}
        got: list[Seen] = []
        known: set[tuple[Address, bool, bytes]] = set()
        for datagram in self.pan.seen:
            key = (datagram.pne, datagram.up, datagram.data)
            if (not ports or datagram.pne[1] in ports) and key not in known:
                known.add(key)
                message = Message.decode(datagram.data)
                got.append(Seen(datagram.up, message, body_of(message.payload)))
        return got

    def on_uplink(self) -> list[Seen]:
        """Return what passed under the present gw-server session, opened."""
        return opened(self.uplink.seen, self.link)

    def raw(self) -> bytes:
        """Return all bytes that the gateway received or sent."""
        return b"".join([*self.uplink.raw, *(datagram.data for datagram in self.pan.seen)])

    async def pnes(self, names: Sequence[str], **options: Any) -> list[Pne]:
        """Return PNEs that joined through the tapped PAN, all at once."""
        made = [await self.world.make_pne(name, self.pan.address, **options) for name in names]
        for pne in made:
            self.world.run(pne)
        async with asyncio.timeout(40):
            for pne in made:
                await settled(pne)
        return made


async def settled(pne: Pne) -> None:
    """Wait until *pne* has joined, has said so, has asked for its groups, and waits for no answer."""
    await pne.wait_established()
    end = pne._way.session
    await until(lambda: end is not None and oscore.sent(end) >= 2 and not waiting(pne._endpoint))


def frames_of(stream: bytes) -> list[Any]:
    """Return the CoAP messages in what came over TCP."""
    found = []
    while (parts := _extract_message_size(stream)) is not None and sum(parts) <= len(stream):
        found.append(_decode_message(stream[: sum(parts)]))
        stream = stream[sum(parts) :]
    return found


async def scene(world: World, *, server: dict[str, Any] | None = None, **gateway: Any) -> Scene:
    """Start server and gateway in *world*, with taps on both legs; all are closed with the world."""
    await world.start_server(**(server or {}))
    tap = TcpTap(world.address)
    host, port = await tap.start()
    world.closes(tap)
    started = await world.start_gateway(server_host=host, server_port=port, **gateway)
    proxy = UdpProxy(world.pan(started))
    world.closes(proxy)
    return Scene(world, started, tap, proxy)
