"""Nobody fills a disk with what it makes others write down."""

import asyncio
import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpns.cli.run import NotedHandler
from cpns.domain.inventory import Kind
from cpns.wire import application
from tests.support.raw import ScriptedPne, ask
from tests.support.world import SERVER, until, world

SAYS = 2000


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log as `cpns ... run` writes it."""
    written = io.StringIO()
    handler = NotedHandler(logging.StreamHandler(written))
    logger = logging.getLogger("cpns")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(before)
    handler.close()


async def test_a_device_that_says_another_long_status_each_time(tmp_path: Path, log: io.StringIO) -> None:
    """1,024 characters, some hundred times a second: 2 MB in a few seconds, 36 GB a day."""
    async with world(tmp_path) as here:
        await here.start_server()
        gateway = await here.start_gateway()
        pne = ScriptedPne("pne-1", await here.provision(Kind.PNE, "pne-1"))
        here.closes(pne)
        await pne.join(here.pan(gateway))
        to_server, link = pne.sessions.with_peer(SERVER), await pne.link(here.pan(gateway))

        async def says(number: int) -> None:
            status = application.encode_text(f"{number:06}" + "\n" * 1018)
            assert (await ask(link, status, path=application.STATUS_PATH, session=to_server)).ok

        for start in range(0, SAYS, 20):
            await asyncio.gather(*(says(start + number) for number in range(20)))
        await here.joined_pne("pne-2", gateway)
        await until(lambda: "PNE pne-2 says it is 'connected'" in log.getvalue())
        lines = log.getvalue().splitlines()
        assert 60 <= len([line for line in lines if line.startswith("PNE pne-1 says")]) <= 70
        assert len(log.getvalue()) < 250_000
