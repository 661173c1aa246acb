"""One server of several processes, over one PostgreSQL and NATS; here they are worlds in one event loop."""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpns.service.processes import compare
from cpns.service.system import StoreClock, random_bytes
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault
from cpns.transport.cluster import connect
from tests.support.nats import Nats
from tests.support.stores import databases
from tests.support.world import SERVER, World


@contextlib.asynccontextmanager
async def processes(
    folder: Path, count: int, *, alone: Sequence[int] = (), off: Sequence[float] = ()
) -> AsyncIterator[tuple[Nats, list[World]]]:
    """Give a NATS server, and so many running processes; all that is provisioned at one is known to all.

    Args:
        folder: for their files.
        count: of the processes.
        alone: the numbers of those that are started without NATS.
        off: seconds that the clocks of their machines are ahead.
    """
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
            one.clock = StoreClock(Wrong(off[number] if off else 0.0))
            store = ServerStore.open(place)
            await compare(one.clock, store)
            await store.close()
            await (one.start_server() if number in alone else start(one, nats))
        yield nats, worlds
    finally:
        for one in reversed(worlds):
            await one.close()
        nats.stop()


async def start(one: World, nats: Nats) -> None:
    """Start one process; after a stop again."""
    cluster = await connect(nats.url, SERVER, FileVault(one.kek, random_bytes), random_bytes, one.clock)
    one.cluster = cluster
    await one.start_server()
    one.closes_with(one.server, cluster.close)


@dataclass
class Wrong:
    """The clock of a machine that is *off* by so many seconds."""

    off: float

    def now(self) -> float:
        return time.time() + self.off

    def monotonic(self) -> float:
        return time.monotonic()
