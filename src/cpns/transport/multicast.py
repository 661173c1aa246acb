"""Entity Discovery by CoAP multicast (RFC 7252 8): a PNE asks all, and each PN GW answers from its PAN.

It finds, and proves nothing; the handshake does. IPv4, on the group "All CoAP Nodes".
"""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiocoap import NON, Message
from aiocoap.numbers.codes import CHANGED, POST

from cpns.shares.rate import RateLimit
from cpns.transport.pan import join_group
from cpns.wire import codec
from cpns.wire.pn_messages import EntityDiscoveryRequest, EntityDiscoveryResponse
from cpns.wire.registry import CPNS_PATH, MAX_PAN_BODY

GROUP: Final = "224.0.1.187"
PORT: Final = 5683
RATE: Final = (4.0, 64.0)
"""Questions of one host a second, and at once, that a PN GW answers: an answer must not be worth a forged question."""

Answerer = Callable[[EntityDiscoveryRequest], EntityDiscoveryResponse]
Send = Callable[[bytes, tuple[Any, ...]], None]
Heard = Callable[[EntityDiscoveryResponse, str, int], None]
"""Takes an answer, and the host and port that it came from."""


class Responder(asyncio.DatagramProtocol):
    """Takes questions to the group, and answers them with *send*, which is the PAN socket that the PNE is to use.

    *limit* is that of all questions on this PAN.
    """

    def __init__(self, answer: Answerer, send: Send, limit: RateLimit) -> None:
        self._answer = answer
        self._send = send
        self._limit = limit

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Answer what is an Entity Discovery Request; be silent on all else."""
        if len(data) > MAX_PAN_BODY or not self._limit.allows(addr[0]):
            return
        try:
            message = Message.decode(data)
            if message.mtype is not NON or message.code != POST or message.opt.uri_path != (CPNS_PATH,):
                return
            request = codec.decode(message.payload, EntityDiscoveryRequest, limit=MAX_PAN_BODY)
        except Exception:  # options decode in many ways; a bad datagram is no event
            return
        response = Message(code=CHANGED, payload=codec.encode(self._answer(request)))
        response.mtype, response.mid, response.token = NON, int.from_bytes(os.urandom(2), "big"), message.token
        self._send(response.encode(), addr)


async def listen(interface: str, answer: Answerer, send: Send, limit: RateLimit) -> asyncio.BaseTransport:
    """Answer questions to the group that come in on *interface*. Raises OSError where it can't be joined."""
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        plain.setblocking(False)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # every PN GW of a machine is asked
        plain.bind((GROUP, PORT))
        join_group(plain, GROUP, interface)
    except OSError:
        plain.close()
        raise
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Responder(answer, send, limit), sock=plain)
    return transport


class _Asker(asyncio.DatagramProtocol):
    def __init__(self, token: bytes, heard: Heard) -> None:
        self._token = token
        self._heard = heard

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        try:
            message = Message.decode(data)
            if message.token != self._token:
                return
            found = codec.decode(message.payload, EntityDiscoveryResponse, limit=MAX_PAN_BODY)
        except Exception:  # as above
            return
        self._heard(found, str(addr[0]), int(addr[1]))

    def error_received(self, exc: Exception) -> None:
        """Nobody there is no event."""


REPEAT_SECONDS: Final = 0.7


async def ask(request: EntityDiscoveryRequest, interfaces: Sequence[str], heard: Heard) -> None:
    """Ask the group on *interfaces*, again and again until cancelled; tell *heard* of each answer, its host and port.

    Returns at once where the machine has no multicast.
    """
    loop = asyncio.get_running_loop()
    message = Message(code=POST, uri_path=(CPNS_PATH,), payload=codec.encode(request))
    message.mtype, message.token = NON, os.urandom(4)
    transports = []
    try:
        asker = _Asker(message.token, heard)
        for interface in interfaces:
            plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            plain.setblocking(False)
            try:
                plain.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
                transports.append((await loop.create_datagram_endpoint(lambda: asker, sock=plain))[0])
            except OSError:
                plain.close()
        while transports:
            message.mid = int.from_bytes(os.urandom(2), "big")
            for transport in transports:
                transport.sendto(message.encode(), (GROUP, PORT))
            await asyncio.sleep(REPEAT_SECONDS)
    finally:
        for transport in transports:
            transport.close()
