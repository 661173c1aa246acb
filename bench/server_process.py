"""The server under measurement, in a process of its own: ``python -m bench.server_process FOLDER GATEWAYS PNES [PROFILE]``.

Provisions, listens, prints one line of JSON (port, keys in hex), and serves until its standard input ends. With PROFILE,
SIGUSR1 starts cProfile in both threads, and SIGUSR2 stops it and writes the file.
"""

import asyncio
import cProfile
import json
import pstats
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from cpns.crypto.secret import Secret
from cpns.domain.credential import fingerprint
from cpns.domain.inventory import Kind, NewEntity
from cpns.ids import EntityId
from cpns.server.app import Server
from cpns.server.config import ServerConfig
from cpns.service.keyring import EUKEY_PURPOSE
from cpns.service.system import SystemClock, random_bytes
from cpns.store.database import Database
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault

SERVER = EntityId("server.example")
CLOCK = SystemClock()


def names(kind: str, count: int) -> list[EntityId]:
    return [EntityId(f"{kind}-{number:05}") for number in range(count)]


def _entities(vault: FileVault, kind: Kind, ids: list[EntityId], keys: dict[str, str]) -> Iterator[NewEntity]:
    for entity in ids:
        eukey = Secret(random_bytes(32))
        keys[entity] = eukey.reveal().hex()
        sealed = vault.seal(EUKEY_PURPOSE, entity, eukey)
        yield NewEntity(entity, kind, None, "", sealed, fingerprint(eukey), CLOCK.now())


class Profiler:
    """cProfile over the loop's thread and the store's, between two signals."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop, self._store = cProfile.Profile(time.thread_time), cProfile.Profile(time.thread_time)
        self._on = False
        settle = Database._settle

        def profiled(database: Database, group: list[object]) -> None:
            if not self._on:
                return settle(database, group)  # type: ignore[arg-type]
            self._store.enable()
            try:
                settle(database, group)  # type: ignore[arg-type]
            finally:
                self._store.disable()

        Database._settle = profiled  # type: ignore[method-assign,assignment]

    def start(self) -> None:
        self._loop, self._store = cProfile.Profile(time.thread_time), cProfile.Profile(time.thread_time)
        self._on = True
        self._loop.enable()

    def stop(self) -> None:
        self._loop.disable()
        self._on = False
        stats = pstats.Stats(self._loop)
        self._store.create_stats()
        if self._store.stats:  # type: ignore[attr-defined]
            stats.add(self._store)
        partial = self._path.with_suffix(".part")
        stats.dump_stats(partial)
        partial.rename(self._path)


async def serve(folder: Path, gateways: int, pnes: int, profile: Path | None) -> None:
    loop = asyncio.get_running_loop()
    if profile is not None:
        profiler = Profiler(profile)
        loop.add_signal_handler(signal.SIGUSR1, profiler.start)
        loop.add_signal_handler(signal.SIGUSR2, profiler.stop)
    vault = FileVault(Secret(random_bytes(32)), random_bytes)
    store = ServerStore.open(folder / "server.db")
    keys: dict[str, str] = {}
    await store.add_entities(list(_entities(vault, Kind.GATEWAY, names("gw", gateways), keys)))
    await store.add_entities(list(_entities(vault, Kind.PNE, names("pne", pnes), keys)))
    config = ServerConfig(SERVER, folder, port=0, lowest_suite=1, answer_timeout=30.0)
    server = Server(config, store, vault, CLOCK, random_bytes)
    _, port = await server.start()
    print(json.dumps({"port": port, "keys": keys}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    await server.close()
    await store.close()


if __name__ == "__main__":
    folder, gateways, pnes, *rest = sys.argv[1:]
    uvloop.run(serve(Path(folder), int(gateways), int(pnes), Path(rest[0]) if rest else None))
