"""How well the time of a refusal tells IDs apart, as the area under the ROC curve (AUC): 0.5 is not at all.

``python -m tests.support.siege.uniform 4000`` refuses so many of each kind, interleaved at random, and prints the
table. Server and asker share a process, so that nothing but the server's own work is between two stamps.
"""

import asyncio
import itertools
import logging
import random
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind
from cpns.errors import AuthenticationFailed
from cpns.service.system import random_bytes
from cpns.wire import messages as m
from tests.support.device import device
from tests.support.raw import Scripted, ScriptedGateway, ask, entry_of, guesses
from tests.support.siege.attackers import cm_activate, setup
from tests.support.siege.site import Addresses
from tests.support.world import World, world

GATEWAYS = ("gw-unknown", "gw-revoked", "gw-wrong--")
PNES = ("pne-unknown", "pne-revoked", "pne-wrong--", "pne-via-b--")
"""IDs of one length; of the last of each tuple's kinds the server has a key."""
CARRIERS = 8
Times = dict[str, list[float]]


def auc(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how often a value of *one* is above a value of *other*, ties as half."""
    ordered = sorted(other)
    wins = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in one)
    return wins / 2 / len(one) / len(other)


class Stopwatch:
    """The spans of one refusal: M1 to M2 (or its refusal), and M3 to M4, in seconds."""

    def __init__(self) -> None:
        self.asked: Times = {}
        self.answered: Times = {}
        self._at = 0.0

    def start(self) -> None:
        self._at = time.perf_counter()

    def challenged(self, kind: str) -> None:
        self.asked.setdefault(kind, []).append(time.perf_counter() - self._at)

    def ended(self, kind: str) -> None:
        self.answered.setdefault(kind, []).append(time.perf_counter() - self._at)


class _Gateway(ScriptedGateway):
    """Stamps the time at which it is challenged, and at which it has answered."""

    def __init__(self, name: str, key: Secret, watch: Stopwatch) -> None:
        super().__init__(name, key)
        self._watch = watch

    async def _asked(self, inbound: Any, body: Any) -> Any:
        if isinstance(body, m.LinkChallengeFromServer):
            self._watch.challenged(self.name)
        answer = await super()._asked(inbound, body)
        self._watch.start()
        return answer


async def gateways(here: World, rounds: int) -> Stopwatch:
    """Let PN GWs be refused, each from a host that was never seen."""
    watch, addresses = Stopwatch(), Addresses()
    for kind in _shuffled(GATEWAYS, rounds):
        while not await _refused(here, kind, watch, addresses):
            await asyncio.sleep(0.05)  # there were too many of all: that says nothing of an ID
    return watch


async def _refused(here: World, kind: str, watch: Stopwatch, addresses: Addresses) -> bool:
    """Let one PN GW prove itself in vain; return whether it came as far as that."""
    gateway = _Gateway(kind, Secret(random_bytes(32)), watch)
    try:
        with addresses.of_gateway(addresses.take()):
            watch.start()
            await gateway.connect(here.address)
    except AuthenticationFailed:
        watch.ended(kind)
        return True
    except AssertionError:  # another answer than a Response
        return False
    finally:
        await gateway.close()
    raise RuntimeError(f"{kind} got in")


async def pnes(here: World, rounds: int) -> Stopwatch:
    """Let PNEs be refused, through PN GWs that take turns."""
    watch, carriers = Stopwatch(), []
    for number in range(CARRIERS):
        carrier = ScriptedGateway(f"carrier-{number}", await here.key(Kind.GATEWAY, f"carrier-{number}"))
        await carrier.connect(here.address)
        carriers.append(carrier)
    turns = itertools.cycle(carriers)
    for kind in _shuffled(PNES, rounds):
        carrier = next(turns)

        def answer(challenge: m.GatewayChallenge, kind: str = kind) -> m.GatewayProofs:
            watch.challenged(kind)
            proofs = guesses(challenge)
            watch.start()
            return proofs

        carrier.answer_with = answer
        watch.start()
        await carrier.setup(entry_of(setup(0, kind)))
        watch.ended(kind)
    for carrier in carriers:
        await carrier.close()
    return watch


async def cm_devices(here: World, rounds: int) -> Stopwatch:
    """Let CM Devices be refused for a wrong code, which is the answer to M1."""
    watch, addresses = Stopwatch(), Addresses()
    external = await here.start_gateway("external")
    for name in ("tablet", "car"):
        await device(here, external, name=name)
    async with asyncio.timeout(40):
        while len(found := await here.store.cm_devices()) < 2:
            await asyncio.sleep(0.05)
    known, revoked = (one.cm_device_id for one in found)
    await here.provisioning.revoke(OPERATOR, revoked)
    kinds = {"cm-unknown": "cm-" + "a" * (len(known) - 3), "cm-revoked": revoked, "cm-wrong": known}
    for kind in _shuffled(tuple(kinds), rounds):
        asker = Scripted("asker")
        with addresses.of_gateway(addresses.take()):
            link = await asker.endpoint.connect(*here.address)
        request = cm_activate(0, kinds[kind])
        watch.start()
        await ask(link, request)
        watch.challenged(kind)
        await asker.close()
    return watch


def _shuffled(kinds: Sequence[str], rounds: int) -> list[str]:
    every = [kind for kind in kinds for _ in range(rounds)]
    random.shuffle(every)
    return every


async def prepare(here: World) -> None:
    """Start a server that knows the IDs as their names say."""
    await here.start_server()
    for kind, names in ((Kind.GATEWAY, GATEWAYS), (Kind.PNE, PNES)):
        for name in names[1:]:
            await here.provision(kind, name, "gw-wrong--" if "via" in name else None)
        await here.provisioning.revoke(OPERATOR, names[1])


async def measure(rounds: int, say: Callable[[str], None] = lambda _: None) -> list[tuple[str, str, float]]:
    """Return who was compared, in which span, and the AUC."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="cpns-uniform-") as folder:
        async with world(Path(folder)) as here:
            await prepare(here)
            for measured in (gateways, pnes, cm_devices):
                say(f"{measured.__name__} ...")
                watch = await measured(here, rounds)
                for span, times in (("after M1", watch.asked), ("after M3", watch.answered)):
                    for one, other in itertools.combinations(times, 2):
                        rows.append((f"{one} / {other}", span, auc(times[one], times[other])))
    return rows


async def main(rounds: int) -> None:
    """Print the table."""
    logging.disable(logging.WARNING)
    console = Console()
    table = Table("refused", "span", "AUC", title=f"{rounds} refusals of each kind, interleaved")
    for names, span, value in await measure(rounds, console.print):
        table.add_row(names, span, f"{value:.3f}")
    console.print(table)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000))
