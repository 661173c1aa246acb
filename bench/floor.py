"""What no server can save: PROTOCOL's derivations for one PNE, and one committed row.

One thread, no sockets, no messages, no sessions: `cpns.crypto` alone, then SQLite as Python's driver has it, WAL and
synchronous=FULL, one transaction for each batch. ``python -m bench.floor FOLDER SUITE BATCH PNES`` prints CPU
microseconds per PNE.
"""

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from cpns.crypto import primitives as p
from cpns.crypto.ephemeral import Responder, initiate
from cpns.crypto.local_eukey import GatewayWrap, gateway_prk, rand_server
from cpns.crypto.schedule import Profile, Schedule, Transcript
from cpns.crypto.secret import Secret
from cpns.ids import EntityId, PnId
from cpns.service.system import random_bytes
from cpns.store.vault import FileVault

WARM_UP = 3
_SERVER, _GATEWAY, _PN = EntityId("server.example"), EntityId("gw-00000"), PnId("pn-aaaaaaaaaaaaaaaa")


def measure(suite: int, batch: int, pnes: int, database: sqlite3.Connection) -> float:
    """Return CPU microseconds per PNE; what a PNE does itself is made before the clock starts."""
    vault = FileVault(Secret(random_bytes(32)), random_bytes)
    process_key = Secret(random_bytes(32))
    prk = gateway_prk(Secret(random_bytes(32)), Secret(random_bytes(32)))
    ids = [EntityId(f"pne-{number:05}") for number in range(batch)]
    sealed = [vault.seal("eukey", entity, Secret(random_bytes(32))) for entity in ids]
    ephs = [initiate(suite, random_bytes(96)).public for _ in ids]
    rands, kids = [random_bytes(16) for _ in ids], [random_bytes(1) for _ in ids]
    rounds = -(-pnes // batch)
    spent = 0
    for number in range(-WARM_UP, rounds):
        start = time.process_time_ns()
        rand = rand_server(process_key, random_bytes(32), bytes(8))
        responder, for_gateway = Responder(random_bytes(96)), GatewayWrap(prk)
        rows = []
        for entity, box, eph_i, rand_i, kid_i in zip(ids, sealed, ephs, rands, kids, strict=True):
            eukey = vault.open("eukey", entity, box)
            local_eukey, kid_r = Secret(random_bytes(32)), random_bytes(4)
            ss, eph_r = responder.agree(suite, eph_i)
            th0 = Transcript(
                Profile.PNE_SERVER,
                suite,
                _SERVER,
                entity,
                rand_i,
                kid_i,
                eph_i,
                rand,
                kid_r,
                eph_r,
                _GATEWAY,
                1,
                _PN,
                True,
            ).th0()
            schedule = Schedule(eukey, th0, ss)
            wrapped = schedule.wrap(local_eukey)
            for_gateway.wrap(th0, local_eukey)
            proofs = schedule.proofs(rand_i, rand, wrapped)
            expected = proofs.hash_i()  # the server makes it once, to compare
            if not p.equal(expected, bytes(expected)):
                raise AssertionError
            proofs.session_keys(expected, proofs.hash_r(expected))
            rows.append((f"{entity}-{number}", _PN, 0))
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO members VALUES (?, ?, ?)", rows)
        database.execute("COMMIT")
        if number >= 0:
            spent += time.process_time_ns() - start
    return spent / 1000 / (rounds * batch)


def main(folder: Path, suite: int, batch: int, pnes: int) -> None:
    database = sqlite3.connect(folder / f"floor-{time.monotonic_ns()}.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE members (pne_id TEXT PRIMARY KEY, pn_id TEXT NOT NULL, pan_secure INTEGER NOT NULL)")
    print(measure(suite, batch, pnes, database))
    database.close()


def run(folder: Path, suite: int, batch: int, pnes: int) -> float:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "bench.floor", str(folder), str(suite), str(batch), str(pnes)]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
