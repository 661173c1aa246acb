"""Floods on the uplink, with a key and without: who comes honestly gets in meanwhile, and who is in goes on.

The honest parties come from 127.0.0.1, those without a key from 127.9.x.y, each flood in a process of its own.
"""

import asyncio
import contextlib
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.domain.inventory import Kind
from cpns.errors import Result
from cpns.server.access import admission as access
from cpns.service.system import random_bytes
from cpns.transport.errors import Code
from cpns.wire import messages as m
from tests.support.raw import Scripted, ScriptedGateway, ask
from tests.support.siege.attackers import Attack, Attacker, activate
from tests.support.siege.insiders import Insider, InsiderProcess
from tests.support.siege.site import Addresses
from tests.support.tap import body_of
from tests.support.world import World, until, world

SOURCES = {"one port": (1, 1), "1,000 ports": (1, 1000), "200 hosts": (200, 1000)}
GOALS = {"gateway": 2.0, "device": 1.0, "reading": 0.5}
FLOOD_SECONDS = 300.0
"""A flood ends with the test."""


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("cpns.service.hosts.KNOWN_SECONDS", 0.0)  # no host is known: it is no help to the honest
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


class Honest:
    """Newcomers, and one that is there: of each kind half come within the goal, all in the end.

    Half, as these tests share the machine with others; `make siege` looks at the slowest. Where it is so busy that they
    take long without a flood, they may take ten times that.
    """

    def __init__(self, here: World) -> None:
        self.here = here
        self._number = 0

    async def quiet(self) -> None:
        """Let a gateway and a device be there before the flood."""
        self.gateway = await self.here.start_gateway("quiet")
        self.steady = await self.here.joined_pne("steady", self.gateway)
        self.before = await self._take("before", 3)

    async def _take(self, name: str, count: int) -> dict[str, list[float]]:
        """Return the seconds that newcomers take, and readings of the one that is there."""
        took: dict[str, list[float]] = {"gateway": [], "device": [], "reading": []}
        for number in range(count):
            new = await self.here.start_gateway(f"gw-{name}-{number}", wait=False)
            took["gateway"].append(await seconds(new.uplink.wait(100.0)))
            pne = await self.here.start_pne(f"pne-{name}-{number}", self.gateway)
            took["device"].append(await seconds(pne.wait_established()))
            took["reading"].append(await seconds(self.steady.send(self.steady.next_reading({"n": number}))))
        return took

    async def come(self) -> None:
        """Let newcomers come in the flood, and one that is there go on."""
        took = await self._take("new", 5)
        for what, goal in GOALS.items():
            assert statistics.median(took[what]) <= max(goal, 10 * statistics.median(self.before[what])), took


async def seconds(work: Any) -> float:
    """Return how long *work* takes."""
    begun = time.monotonic()
    async with asyncio.timeout(100):
        await work
    return time.monotonic() - begun


@contextlib.asynccontextmanager
async def flood(attack: Any, here: World) -> AsyncIterator[Honest]:
    """Give honest parties that were here before *attack* began, once it is under way.

    Runs that end at once are seen by what was sent in them: a look at what is under way may miss each of them.
    """
    honest = Honest(here)
    await honest.quiet()
    before = len(here.passed)
    async with attack:
        await until(lambda: [one.what for one in here.passed[before:]].count("AUTHENTICATE Request") > 3)
        await asyncio.sleep(2.0)
        yield honest


async def slow_gateway(here: World) -> None:
    """Let a gateway that takes 1.5 s for its answer authenticate itself."""
    gateway = ScriptedGateway("slow", await here.key(Kind.GATEWAY, "slow"))
    answers = gateway.script
    assert answers is not None

    async def slowly(*of: Any) -> Any:
        await asyncio.sleep(1.5)
        return await answers(*of)

    gateway.script = slowly
    here.closes(gateway)
    async with asyncio.timeout(40):
        await gateway.connect(here.address)


@pytest.mark.req("AUTH-7.5.5")
@pytest.mark.parametrize(
    ("rate", "sources"), [(100, "one port"), (100, "1,000 ports"), (100, "200 hosts"), (300, "200 hosts")]
)
async def test_activations_without_a_proof_keep_nobody_out(here: World, rate: int, sources: str) -> None:
    hosts, ports = SOURCES[sources]
    attack = Attack("activate of new IDs", here.address, "stranger", rate, FLOOD_SECONDS, hosts, ports, tcp=True)
    async with flood(Attacker(attack), here) as honest:
        slow = asyncio.create_task(slow_gateway(here))
        await honest.come()
        await slow
        assert here.server.access.admission.under_way <= access.ACTIVATE_RUNS[0]


@pytest.mark.parametrize("rate", [60, 120])
async def test_a_gateway_that_never_answers_for_its_pnes_spends_its_own_share(here: World, rate: int) -> None:
    bad = Insider("SETUP, AUTHENTICATE never answered", "bad", here.address, rate, FLOOD_SECONDS, is_gateway=True)
    async with flood(InsiderProcess(bad, await here.key(Kind.GATEWAY, "bad")), here) as honest:
        await until(lambda: here.server.access.admission.under_way > 20)
        await honest.come()
        pace, burst = access.UNPROVEN_PNES
        assert here.server.access.admission.under_way <= burst + 9 * pace


@pytest.mark.parametrize("rate", [120, 240])
async def test_a_gateway_that_makes_up_pnes_spends_its_own_share(here: World, rate: int) -> None:
    """64 PNEs of suite 2 in each request, and a wrong hash for each of them."""
    insider = Insider("SETUP of 64, wrong hashes", "bad", here.address, rate, FLOOD_SECONDS, is_gateway=True)
    bad = InsiderProcess(insider, await here.key(Kind.GATEWAY, "bad"))
    begun = time.monotonic()
    async with flood(bad, here) as honest:
        await honest.come()
        told = await bad.told()
    lasted = time.monotonic() - begun
    assert told.keys() <= {Code.CHANGED, Code.TOO_MANY_REQUESTS, Code.SERVICE_UNAVAILABLE}
    pace, burst = access.UNPROVEN_PNES
    assert 0 < told[Code.CHANGED] <= (burst + lasted * pace) / 64


async def test_a_flood_is_told_the_same_whatever_the_id(here: World) -> None:
    """1,000 IDs, half of them provisioned, in any order from strange addresses: one distribution of answers."""
    ids = [f"gw-{random_bytes(6).hex()}" for _ in range(1000)]
    for name in ids[:500]:
        await here.provision(Kind.GATEWAY, name)
    order = [(name, number < 500) for number, name in enumerate(ids)]
    random.Random(14).shuffle(order)
    told: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    stranger = Scripted("stranger")
    here.closes(stranger)

    async def answer(inbound: Any, body: Any) -> Any:
        told[provisioned]["AUTHENTICATE Request"] += 1
        return m.Proof(request.entity_id, random_bytes(16))

    stranger.script = answer
    async with Attacker(Attack("activate of new IDs", here.address, "x", 200, FLOOD_SECONDS, 20, 20, tcp=True)):
        for number, (name, provisioned) in enumerate(order):
            request = activate(0, name)
            with Addresses().of_gateway(f"127.8.0.{number % 200 + 1}"):
                link = await stranger.endpoint.connect(*here.address)
            body = body_of((await ask(link, request)).payload)
            told[provisioned][Result(body.result).name] += 1
    assert told[True].keys() == told[False].keys() == {"AUTHENTICATE Request", "AUTHENTICATION_FAILED", "TOO_MANY"}
    for what in told[True]:
        known, unknown = told[True][what], told[False][what]
        assert min(known, unknown) > 50
        assert abs(known - unknown) < 4 * (known + unknown) ** 0.5, told
