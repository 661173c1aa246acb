"""Discovery of the gateway on the PAN by mDNS: it finds, and proves nothing."""

import asyncio
import dataclasses
from pathlib import Path

from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.pne.config import Where
from cpns.pne.inbox import Inbox
from cpns.service.system import random_bytes
from cpns.transport import discovery, mdns
from tests.support.world import CLOCK, until, world

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
