"""One server of several processes, over one PostgreSQL and NATS; here they are worlds in one event loop."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from cpns.service.system import random_bytes
from cpns.store.vault import FileVault
from cpns.transport.siblings import connect
from tests.support.nats import Nats
from tests.support.stores import databases
from tests.support.world import SERVER, World


@contextlib.asynccontextmanager
async def processes(folder: Path, count: int) -> AsyncIterator[tuple[Nats, list[World]]]:
    """Give a NATS server, and so many running processes; all that is provisioned at one is known to all."""
    nats = Nats()
    worlds: list[World] = []
    try:
        place = databases().emptied()
        for number in range(count):
            own = folder / str(number)
            own.mkdir()
            one = World(own, place)
            if worlds:
                one.share(worlds[0])
            worlds.append(one)
            await start(one, nats)
        yield nats, worlds
    finally:
        for one in reversed(worlds):
            await one.close()
        nats.stop()


async def start(one: World, nats: Nats) -> None:
    """Start one process; after a stop again."""
    siblings = await connect(nats.url, SERVER, FileVault(one.kek, random_bytes), random_bytes)
    one.siblings = siblings
    await one.start_server()
    one.closes_with(one.server, siblings.close)
