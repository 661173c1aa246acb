"""Discovery of the gateway on the PAN by mDNS: it finds, and proves nothing."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cpns.coap import datagram
from cpns.coap.message import Message
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.pne.config import Where
from cpns.pne.inbox import Inbox
from cpns.service.system import random_bytes
from cpns.transport import discovery, mdns, multicast
from cpns.wire import codec
from cpns.wire.pn_messages import EntityDiscoveryRequest, EntityDiscoveryResponse
from cpns.wire.registry import Mode
from tests.support.world import CLOCK, until, world

pytestmark = pytest.mark.real_time  # of mDNS, which asks the machine for it

ME = EntityId("pne-1")


async def first(seconds: float, wanted: str | None, secure: bool) -> discovery.Found | None:
    """Return the first PN GW that a search tells of; None: none."""
    heard: list[discovery.Found] = []
    suits: discovery.Suits = lambda name, is_secure: name == (wanted or name) and is_secure == secure  # noqa: E731
    search = asyncio.create_task(discovery.search(seconds, ME, suits, heard.append))
    try:
        return await until(lambda: heard or search.done(), seconds + 5) and (heard[0] if heard else None)
    finally:
        search.cancel()
        await asyncio.gather(search, return_exceptions=True)


async def test_a_pne_finds_its_gateway_and_the_right_kind_of_pan(tmp_path: Path) -> None:
    announcement = mdns.Announcement(EntityId("gw.home:1"), [("127.0.0.1:5999", False), ("127.0.0.1:6000", True)])
    try:
        found = await first(5, "gw.home:1", False)
        assert found == discovery.Found(EntityId("gw.home:1"), "127.0.0.1", 5999, False)
        found = await first(5, "gw.home:1", True)
        assert found == discovery.Found(EntityId("gw.home:1"), "127.0.0.1", 6000, True)
        assert await first(0.5, "another", False) is None
    finally:
        await announcement.close()


async def test_a_found_gateway_serves(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_server()
        await w.start_gateway("gw-mdns", announce=True)
        config = await w.pne_config("pne-1", ("", 0))
        config = dataclasses.replace(config, where=Where(gateway_id=EntityId("gw-mdns")))
        pne = Pne(config, CLOCK, random_bytes, Inbox(lambda text: text))
        w.closes(pne)
        await pne.start()
        w.run(pne)
        assert await asyncio.wait_for(pne.wait_established(), 40) == "gw-mdns"


async def test_an_answer_with_a_critical_option_that_is_not_understood_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7252 5.4.1, for what anybody may answer to a multicast."""
    heard: list[str] = []
    told = EntityDiscoveryResponse(EntityId("gw-1"), Mode.PN_GW, False, ())
    loop = asyncio.get_running_loop()

    class Answerer(asyncio.DatagramProtocol):
        transport: asyncio.DatagramTransport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport  # type: ignore[assignment]

        def datagram_received(self, data: bytes, source: Any) -> None:
            token = datagram.decode(data).message.token
            for name, options in (("forged", ((23, b"\x06"),)), ("gw-1", ())):
                body = codec.encode(dataclasses.replace(told, entity_id=EntityId(name)))
                self.transport.sendto(datagram.encode(1, 7, Message(0x44, b"", options, body), token), source)

    transport, _ = await loop.create_datagram_endpoint(Answerer, local_addr=("127.0.0.1", 0))
    address = transport.get_extra_info("sockname")
    monkeypatch.setattr(multicast, "send", lambda through, data, *_: through.send(data, address))
    search = asyncio.create_task(
        discovery.ask(EntityDiscoveryRequest(ME, Mode.PNE), lambda found, host, port: heard.append(found.entity_id))
    )
    try:
        await until(lambda: "gw-1" in heard)
        assert set(heard) == {"gw-1"}
    finally:
        search.cancel()
        await asyncio.gather(search, return_exceptions=True)
        transport.close()
