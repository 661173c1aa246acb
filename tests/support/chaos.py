"""Three processes of one server, PostgreSQL and NATS under load, and kill -9 of each in turn at random moments.

Run by itself it goes on for five minutes and prints what it took to recover: ``python -m tests.support.chaos 300``.
The devices and gateways are in this process, the others are processes of their own.
"""

import asyncio
import contextlib
import json
import random
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg

from cpns.admin.folder import Folder
from cpns.crypto.secret import Secret
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.service.provisioning import NoSessions, Provisioning
from cpns.service.system import random_bytes
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault
from tests.support.nats import Nats
from tests.support.oracle import watching
from tests.support.parties import Process, free_port
from tests.support.postgres import Postgres
from tests.support.stores import started
from tests.support.world import CLOCK, SERVER, World, until

PROCESSES = 3
GATEWAYS = 6
PNES = 4
PAUSE = 0.05
"""Seconds between the readings of a PNE."""
RECOVERY_SECONDS = 200.0


@dataclass
class Told:
    """What came of it.

    Attributes:
        acknowledged: by PNE, the numbers of its readings that were.
        recoveries: what was killed, and the seconds until every PNE had a reading acknowledged that is newer.
        stored: each reading, and how often the store has it.
        pairs: hashes of keys and nonces, of all parties.
    """

    acknowledged: dict[EntityId, list[int]] = field(default_factory=dict)
    recoveries: list[tuple[str, float]] = field(default_factory=list)
    stored: Counter[tuple[str, int]] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)


Victim = tuple[Callable[[], object], Callable[[], object]]
"""How one is killed, and started again."""


class Site:
    """The processes, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.postgres: Postgres = started(quick=False)
        self.nats = Nats()
        self.nonces = folder / "nonces"
        self.ports = [free_port(socket.SOCK_STREAM) for _ in range(PROCESSES)]
        self.servers: dict[int, Process] = {}

    async def set_up(self, kek: bytes) -> None:
        first = self.folder / "srv-0"
        await Folder(first).create(SERVER, None, lambda size: kek[:size], self.postgres.url("postgres"))
        for number in range(1, PROCESSES):
            shutil.copytree(first, self.folder / f"srv-{number}")
        await asyncio.gather(*(asyncio.to_thread(self.start_server, number) for number in range(PROCESSES)))

    def start_server(self, number: int) -> None:
        one = Process(
            [
                *(sys.executable, "-m", "tests.support.oracle", str(self.nonces), "--", "server", "run"),
                *("--data", str(self.folder / f"srv-{number}"), "--listen", f"127.0.0.1:{self.ports[number]}"),
                *("--nats", self.nats.url),
            ],
            {},
            fresh=True,  # its start is part of what is measured
        )
        one.wait_line("listening at")
        self.servers[number] = one

    def victims(self) -> dict[str, Victim]:
        """Return how each is killed, and started again."""
        found: dict[str, Victim] = {
            "PostgreSQL": (self.postgres.kill, self.postgres.start),
            "NATS": (self.nats.stop, self.nats.start),
        }
        for number in range(PROCESSES):
            found[f"process {number}"] = (
                lambda number=number: self.servers[number].end(signal.SIGKILL),  # type: ignore[misc]
                lambda number=number: self.start_server(number),  # type: ignore[misc]
            )
        return found

    def close(self) -> None:
        for one in self.servers.values():
            one.end(signal.SIGKILL)
        self.nats.stop()
        self.postgres.stop()


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    one = Site(folder)
    try:
        yield one
    finally:
        one.close()


async def parties(world: World, ports: list[int]) -> list[Pne]:
    """Start gateways, each with the addresses of all processes, and PNEs behind them; return these."""
    pnes = []
    for number in range(GATEWAYS):
        own = [("127.0.0.1", port) for port in ports[number % len(ports) :] + ports[: number % len(ports)]]
        world.address = own[0]
        gateway = await world.start_gateway(
            f"gw-{number}", kept=True, more_servers=tuple(own[1:]), keepalive=1.0, answer_timeout=2.0
        )
        names = [f"pne-{number}-{one}" for one in range(PNES)]
        options = {"timer": 3.0, "request_timeout": 2.0, "presence": 1.0}
        pnes += await asyncio.gather(*(world.joined_pne(name, gateway, **options) for name in names))
    return pnes


async def sends(pne: Pne, told: list[int]) -> None:
    """Send one reading after the other, each until it is acknowledged."""
    for number in range(10**9):
        await pne.send(pne.next_reading({"n": number}))
        told.append(number)
        await asyncio.sleep(PAUSE)


async def run(
    folder: Path, seconds: float, draw: random.Random, say: Callable[[str], None] = lambda _: None, what: str = ""
) -> Told:
    """Kill and start again those called *what* for so many seconds, each at least once; return what came of it."""
    told = Told()
    kek = random_bytes(32)
    with site(folder) as one, watching() as pairs:
        await one.set_up(kek)
        world = World(folder, one.postgres.url("postgres"))
        world.kek = Secret(kek)
        world.store = ServerStore.open(world.place)
        vault = FileVault(world.kek, random_bytes)
        world.provisioning = Provisioning(SERVER, world.store, vault, CLOCK, random_bytes, NoSessions())
        pnes = await parties(world, one.ports)
        await world.store.close()
        senders = [asyncio.create_task(sends(pne, told.acknowledged.setdefault(pne.config.pne_id, []))) for pne in pnes]
        say(f"{len(pnes)} PNEs behind {GATEWAYS} gateways send, {PROCESSES} processes serve them")
        victims = {name: how for name, how in one.victims().items() if name.startswith(what)}
        await _kill(victims, seconds, draw, told, say)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        await asyncio.sleep(1)
        told.stored = stored(one.postgres.url("postgres"))
        await world.close()
        told.pairs = Counter([*pairs, *one.nonces.read_text().split()])
    return told


async def _kill(
    victims: dict[str, Victim], seconds: float, draw: random.Random, told: Told, say: Callable[[str], None]
) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(told.recoveries) < len(victims):
        for name in draw.sample(list(victims), len(victims)):
            kill, start = victims[name]
            await asyncio.sleep(draw.uniform(0.2, 2.0))
            begun = time.monotonic()
            await asyncio.to_thread(kill)
            heard = {pne: len(numbers) + 1 for pne, numbers in told.acknowledged.items()}
            away = draw.uniform(0.2, 2.0)
            await asyncio.sleep(away)
            await asyncio.to_thread(start)
            await until(partial(_all_newer, told, heard), RECOVERY_SECONDS)
            told.recoveries.append((name, time.monotonic() - begun))
            say(f"kill -9 {name}: away {away:.1f} s, all flows again after {told.recoveries[-1][1]:.1f} s")
            if time.monotonic() > end and len(told.recoveries) >= len(victims):
                return


def _all_newer(told: Told, heard: dict[EntityId, int]) -> bool:
    return all(len(told.acknowledged[pne]) > count for pne, count in heard.items())


def stored(url: str) -> Counter[tuple[str, int]]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT pne_id, body FROM readings").fetchall()
    return Counter((str(pne), int(json.loads(body)["n"])) for pne, body in rows)


def check(told: Told) -> None:
    """Nothing acknowledged is lost, nothing stored twice, no nonce used twice."""
    sent = {(pne, number) for pne, numbers in told.acknowledged.items() for number in numbers}
    assert sent
    assert not sent - set(told.stored), "an acknowledged reading is lost"
    assert max(told.stored.values()) == 1, "a reading is stored twice"
    assert len(told.pairs) > len(sent), "the oracle saw nothing"
    assert max(told.pairs.values()) == 1, "a (key, nonce) pair was used twice"


def main() -> None:
    """Do it, and print what came of it."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    with tempfile.TemporaryDirectory(prefix="cpns-chaos-") as folder:
        told = asyncio.run(run(Path(folder), seconds, random.Random(), lambda line: print(line, flush=True)))
    check(told)
    count = sum(map(len, told.acknowledged.values()))
    print(f"\n{count} readings acknowledged, all stored, none twice; {len(told.pairs)} encryptions, no nonce twice")
    kinds = {"server process": "process", "PostgreSQL": "PostgreSQL", "NATS": "NATS"}
    for title, prefix in kinds.items():
        took = [seconds for name, seconds in told.recoveries if name.startswith(prefix)]
        print(
            f"{title:<15} killed {len(took):>3} times; seconds until all flowed again, the time it was away included:"
            f" median {statistics.median(took):.1f}, worst {max(took):.1f}"
        )


if __name__ == "__main__":
    main()
