"""The server under measurement: ``python -m bench.server_process FOLDER GATEWAYS PNES [--profile FILE] ...``.

Provisions, listens, prints one line of JSON (port, keys in hex), and serves until its standard input ends. What is
started on a folder once more is another process of the same server, and provisions nobody. With a profile, SIGUSR1
starts cProfile, and SIGUSR2 stops it and writes the file.
"""

import argparse
import asyncio
import cProfile
import json
import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.credential import fingerprint
from cpns.domain.inventory import Kind, NewEntity
from cpns.ids import EntityId
from cpns.server.app import Server
from cpns.server.config import ServerConfig
from cpns.service.keyring import EUKEY_PURPOSE
from cpns.service.system import StoreClock, SystemClock, random_bytes, settle_collector
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault, create_kek_file, open_vault

if TYPE_CHECKING:
    from cpns.transport.cluster import NatsCluster

SERVER = EntityId("server.example")
CLOCK = StoreClock(SystemClock())
PART = 20_000
"""Rows that are provisioned in one transaction."""


def names(kind: str, count: int) -> list[EntityId]:
    return [EntityId(f"{kind}-{number:05}") for number in range(count)]


class Provisioning:
    """Puts entities into a store.

    Attributes:
        keys: entity to EUKey, in hex.
    """

    def __init__(self, store: ServerStore, vault: FileVault) -> None:
        self.keys: dict[str, str] = {}
        self._store, self._vault = store, vault

    def _real(self, entity: EntityId, kind: Kind) -> NewEntity:
        eukey = Secret(random_bytes(32))
        self.keys[entity] = eukey.reveal().hex()
        sealed = self._vault.seal(EUKEY_PURPOSE, entity, eukey)
        return NewEntity(entity, kind, None, "", sealed, fingerprint(eukey), CLOCK.now())

    def _pnes(self, count: int, registered: int) -> Iterator[NewEntity]:
        # Those with a key lie scattered among the rest, as those do that come in practice; nobody opens what the rest
        # have in place of one, so it need not be sealed.
        size = len(self._vault.seal(EUKEY_PURPOSE, SERVER, Secret(random_bytes(32))))
        every = registered // count
        for number, entity in enumerate(names("pne", registered)):
            if number % every == 0 and number < every * count:
                yield self._real(entity, Kind.PNE)
            else:
                yield NewEntity(entity, Kind.PNE, None, "", random_bytes(size), random_bytes(8), CLOCK.now())

    async def add(self, gateways: int, pnes: int, registered: int) -> None:
        """Add *gateways*, and *registered* PNEs of which *pnes* get a key."""
        await self._store.add_entities([self._real(entity, Kind.GATEWAY) for entity in names("gw", gateways)], OPERATOR)
        rest = self._pnes(pnes, registered)
        while part := list(islice(rest, PART)):
            await self._store.add_entities(part, OPERATOR)


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


async def serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    if arguments.profile is not None:
        profiler = Profiler(arguments.profile)
        loop.add_signal_handler(signal.SIGUSR1, profiler.start)
        loop.add_signal_handler(signal.SIGUSR2, profiler.stop)
    kek: Path = arguments.folder / "kek"
    first = not kek.exists()
    if first:
        create_kek_file(kek, random_bytes)
    vault = open_vault(kek, random_bytes)
    store = ServerStore.open(arguments.store or arguments.folder / "server.db")
    provisioning = Provisioning(store, vault)
    if first:
        await provisioning.add(arguments.gateways, arguments.pnes, max(arguments.registered, arguments.pnes))
    bus = None if arguments.nats is None else await _bus(arguments.nats, vault)
    config = ServerConfig(
        SERVER, arguments.folder, port=0, lowest_suite=1, answer_timeout=30.0, readings_rate=1e9, readings_volume=1e15
    )
    server = Server(config, store, vault, CLOCK, random_bytes, bus=bus)
    _, port = await server.start()
    settle_collector()
    print(json.dumps({"port": port, "keys": provisioning.keys}), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    await server.close()
    if bus is not None:
        await bus.close()
    await store.close()


async def _bus(url: str, vault: FileVault) -> "NatsCluster":
    from cpns.transport.cluster import connect  # a server that is alone does without, here as there

    return await connect(url, SERVER, vault, random_bytes, CLOCK)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.server_process", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("gateways", type=int)
    parser.add_argument("pnes", type=int, help="that get a key")
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--registered", type=int, default=0, help="PNEs in all; not fewer than those with a key")
    parser.add_argument("--store", help="URL; else a file in the folder")
    parser.add_argument("--nats", help="URL, over which the processes of the server reach each other")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
