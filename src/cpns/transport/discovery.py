"""Discovery of PN GWs on the PAN, by mDNS and by CoAP multicast (RFC 7252 8) at once (FN-8).

It finds, and proves nothing; the handshake does.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cpns.coap import datagram
from cpns.coap.message import Message, unsupported
from cpns.coap.numbers import Code, Type
from cpns.errors import WireError
from cpns.ids import EntityId
from cpns.shares.rate import RateLimit
from cpns.transport import mdns, multicast
from cpns.transport.address import Interface, any_address, bind_udp, host_in, interfaces, looks
from cpns.transport.coap import FORMS, path_of, request_of
from cpns.transport.datagrams import Address, Datagrams, Ours
from cpns.transport.pan import MAX_DATAGRAM, PanSocket
from cpns.wire import codec
from cpns.wire.pn_messages import EntityDiscoveryRequest, EntityDiscoveryResponse
from cpns.wire.registry import CPNS_PATH, MAX_PAN_BODY, Mode

RATE: Final = (4.0, 64.0)
"""Questions of one host a second, and at once, that a PN GW answers: an answer must not be worth a forged question."""
REPEAT_SECONDS: Final = 0.7

Answerer = Callable[[EntityDiscoveryRequest], EntityDiscoveryResponse]
Suits = Callable[[EntityId, bool], bool]
"""Whether a PN GW, and whether it calls its PAN secure, is what is looked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """A PN GW that says it is there.

    Attributes:
        secure: whether it calls that PAN a Secure PAN.
    """

    gateway_id: EntityId
    host: str
    port: int
    secure: bool


def _new_mid() -> int:
    return int.from_bytes(os.urandom(2), "big")


class Answering:
    """Answers questions to the group on the interfaces that a PAN is on; these may come, go and change.

    The answer comes from the socket of the PAN, by the interface that the question came by.

    Args:
        pan: its socket.
        answer: makes the answer.
        limit: of all questions on this PAN.
    """

    def __init__(self, pan: PanSocket, answer: Answerer, limit: RateLimit) -> None:
        self._pan = pan
        self._answer = answer
        self._limit = limit
        self._ears: dict[tuple[int, int], Datagrams] = {}
        self._update(interfaces())
        self._follows = asyncio.get_running_loop().create_task(self._follow())

    def close(self) -> None:
        """Answer no more."""
        self._follows.cancel()
        for one in self._ears.values():
            one.close()

    async def _follow(self) -> None:
        async for found in looks():
            self._update(found)

    def _update(self, found: tuple[Interface, ...]) -> None:
        here = [one for one in (own.at(self._pan.host) for own in found) if one is not None]
        wanted = {(one.index, version): one for one in here for version in multicast.versions(one)}
        for gone in self._ears.keys() - wanted.keys():
            self._ears.pop(gone).close()
        for (index, version), one in wanted.items():
            if (index, version) in self._ears:
                continue
            try:
                self._ears[index, version] = multicast.join(one, version, self.heard, MAX_DATAGRAM)
            except OSError:
                with contextlib.suppress(OSError):  # the PAN has that very port: the PAN takes it
                    self._pan.join(multicast.GROUPS[version], index, self.heard)

    def heard(self, data: bytes, source: Address, ours: Ours) -> None:
        """Answer what is an Entity Discovery Request; be silent on all else."""
        if len(data) > MAX_PAN_BODY or not self._limit.allows(source[0]):
            return
        try:
            type_, _, message = datagram.decode(data)
            if (
                type_ is not Type.NON
                or unsupported(message.options, FORMS) is not None
                or path_of(message) != CPNS_PATH
            ):
                return
            request = codec.decode(message.payload, EntityDiscoveryRequest, limit=MAX_PAN_BODY)
        except WireError:
            return
        response = Message(Code.CHANGED, payload=codec.encode(self._answer(request)))
        self._pan.send(datagram.encode(Type.NON, _new_mid(), response, message.token), source, Ours("", ours.interface))


async def search(seconds: float, own_id: EntityId, suits: Suits, heard: Callable[[Found], None]) -> None:
    """Ask who is on the PAN for *seconds*, by mDNS and by multicast; tell *heard* of each that answers, and suits.

    Args:
        seconds: how long.
        own_id: the PNE that asks.
        suits: judges ID and Secure PAN of a PN GW.
        heard: may be told of one more than once.
    """

    def told(gateway_id: EntityId, host: str, port: int, secure: bool) -> None:
        if suits(gateway_id, secure):
            heard(Found(gateway_id, host, port, secure))

    def answered(found: EntityDiscoveryResponse, host: str, port: int) -> None:
        if found.mode in (Mode.PN_GW, Mode.BOTH):
            told(found.entity_id, host, port, found.pan_secure)

    question = EntityDiscoveryRequest(own_id, Mode.PNE)
    searches = [asyncio.create_task(mdns.browse(told)), asyncio.create_task(ask(question, answered))]
    try:
        await asyncio.sleep(seconds)
    finally:
        for task in searches:
            task.cancel()
        await asyncio.gather(*searches, return_exceptions=True)


async def ask(request: EntityDiscoveryRequest, answered: Callable[[EntityDiscoveryResponse, str, int], None]) -> None:
    """Ask the group on all interfaces, again and again until cancelled; tell of each answer, its host and port."""
    message, _ = request_of(None, CPNS_PATH, codec.encode(request))
    token = os.urandom(4)

    def heard(data: bytes, source: Address, ours: Ours) -> None:
        try:
            answer = datagram.decode(data).message
            if answer.token != token or unsupported(answer.options, FORMS) is not None:
                return
            found = codec.decode(answer.payload, EntityDiscoveryResponse, limit=MAX_PAN_BODY)
        except WireError:
            return
        answered(found, host_in(source), int(source[1]))

    asks = Datagrams(await bind_udp(any_address(), 0), heard, MAX_DATAGRAM, tells=False)
    try:
        while True:
            data = datagram.encode(Type.NON, _new_mid(), message, token)
            for one in interfaces():
                for version in multicast.versions(one):
                    multicast.send(asks, data, one, version)
            await asyncio.sleep(REPEAT_SECONDS)
    finally:
        asks.close()
