"""The server under measurement: ``python -m bench.server_process FOLDER GATEWAYS PNES [PROFILE]``.

Provisions, listens, prints one line of JSON (port, keys in hex), and serves until its standard input ends. With
PROFILE, SIGUSR1 starts cProfile, and SIGUSR2 stops it and writes the file.
"""

import asyncio
import cProfile
import json
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
    """cProfile over the loop's thread, in CPU time, between two signals. What the disk's thread does is not in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._profile = cProfile.Profile(time.thread_time)

    def start(self) -> None:
        self._profile.enable()

    def stop(self) -> None:
        self._profile.disable()
        partial = self._path.with_suffix(".part")
        self._profile.dump_stats(partial)
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
