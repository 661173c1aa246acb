"""kill -9 of server, gateway or PNE at any moment: traffic flows again without help, and nothing is lost or doubled."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.parties import Parties, Process, acknowledged, until

ROUNDS = 9


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    ones = Parties(tmp_path, prefix=("-m", "tests.support.oracle", str(tmp_path / "nonces"), "--"))
    yield ones
    ones.close()


class Feeder:
    """Gives the PNE numbered lines, whichever process it is at the moment, a little ahead of what it acknowledges."""

    def __init__(self) -> None:
        self.pnes: list[Process] = []
        self._number = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed, daemon=True)

    def start(self, pne: Process) -> None:
        self.pnes.append(pne)
        if not self._thread.ident:
            self._thread.start()

    def _feed(self) -> None:
        while not self._stop.wait(0.02):
            self._number += 1
            self.pnes[-1].write(f'{{"n": {self._number}}}')

    def wait_for_more(self, count: int, what: str) -> None:
        enough = len(self.acknowledged()) + count
        until(lambda: len(self.acknowledged()) > enough, what)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def acknowledged(self) -> list[int]:
        return [body["n"] for pne in self.pnes for body in acknowledged(pne)]


@pytest.mark.long
@pytest.mark.req("SES-1", "AUTH-0", "DEF-1")
def test_kill_9_of_any_party_at_any_moment(parties: Parties) -> None:
    parties.provision("pne-1")
    starts: dict[str, Callable[[], Process]] = {
        "server": parties.server,
        "gateway": parties.gateway,
        "pne": lambda: parties.pne("pne-1"),
    }
    running = {name: start() for name, start in starts.items()}
    feeder = Feeder()
    feeder.start(running["pne"])
    feeder.wait_for_more(3, "first readings")
    draw = random.Random(7)
    recoveries = []
    order = [name for _ in range(ROUNDS // 3) for name in draw.sample(list(starts), 3)]
    for name in order:
        time.sleep(draw.uniform(0.0, 0.6))
        running[name].end(signal.SIGKILL)
        killed = time.monotonic()
        running[name] = starts[name]()
        if name == "pne":
            feeder.start(running["pne"])
        feeder.wait_for_more(3, f"readings after kill -9 of the {name}")
        recoveries.append((name, round(time.monotonic() - killed, 1)))
    feeder.stop()
    print("seconds from kill -9 to flowing readings, start of the process included:", recoveries)

    acked = feeder.acknowledged()  # before what is stored is read: the PNE goes on with what it was given
    stored = Counter(row["body"]["n"] for row in parties.readings())
    assert set(acked) <= set(stored), "an acknowledged reading is lost"
    assert max(stored.values()) == 1, "a reading is stored twice"
    assert max(Counter(acked).values()) == 1
    assert {row["verified"] for row in parties.readings()} == {"e2e"}
    _no_nonce_twice(Path(parties.path("nonces")))


def _no_nonce_twice(file: Path) -> None:
    seen = Counter(file.read_text().split())
    assert len(seen) > 100, "the oracle saw nothing"
    assert max(seen.values()) == 1, "a (key, nonce) pair was used twice"
