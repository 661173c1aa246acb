"""A device with a key that asks as fast as it can: honest devices elsewhere, and behind the same gateway, go on."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import pytest

from cpns.errors import CpnsError
from cpns.pne.app import Pne
from cpns.server.app import Server
from cpns.transport.endpoint import Inbound
from cpns.transport.errors import Answer
from cpns.wire import application, codec
from cpns.wire.pn_messages import InventoryRequest
from cpns.wire.registry import CPNS_PATH
from cpns.wire.sg_messages import SgDiscoveryRequest, SgInventoryRequest
from tests.support.world import World, world

AT_ONCE = 64
HONEST = 15
MOST_BETWEEN = 100
"""Requests of the hostile device that the server takes while one reading of an honest one is on its way."""

REQUESTS = {
    "status": (application.STATUS_PATH, application.encode_text("x" * 1024)),
    "SG-INVENTORY": (CPNS_PATH, codec.encode(SgInventoryRequest())),
    "SG-DISCOVERY": (CPNS_PATH, codec.encode(SgDiscoveryRequest("a"))),
    "INVENTORY": (CPNS_PATH, codec.encode(InventoryRequest())),
}


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[World, Counter[str]]]:
    """A world, and whose requests its server handled."""
    handled: Counter[str] = Counter()
    handle = Server._handle

    async def counted(self: Server, inbound: Inbound) -> Answer | None:
        handled["" if inbound.source is None else inbound.source.peer_id] += 1
        return await handle(self, inbound)

    monkeypatch.setattr(Server, "_handle", counted)
    async with world(tmp_path) as one:
        yield one, handled


@contextlib.asynccontextmanager
async def flood(pne: Pne, what: str) -> AsyncIterator[Counter[str]]:
    """Have *pne* ask on and on, as much at once as anybody lets it; gives how it was answered."""
    answers: Counter[str] = Counter()

    async def ask() -> None:
        while True:
            path, payload = REQUESTS.get(what) or ("readings", application.encode_reading(pne.next_reading({"n": 1})))
            try:
                answer = await pne._way.exchange(path, payload, 2.0)
                answers["ok" if answer.ok else "refused"] += 1
            except CpnsError as error:
                answers[str(error)] += 1

    tasks = [asyncio.create_task(ask()) for _ in range(AT_ONCE)]
    try:
        yield answers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def latencies(pne: Pne, hostile: str, handled: Counter[str]) -> tuple[list[float], int]:
    """Return what readings of *pne* took, and how many of *hostile*'s requests were handled during one at most."""
    took, between = [], 0
    clock = asyncio.get_running_loop().time
    for n in range(HONEST):
        since, before = clock(), handled[hostile]
        await pne.send(pne.next_reading({"n": n}))
        took.append(clock() - since)
        between = max(between, handled[hostile] - before)
    return took, between


@pytest.mark.parametrize("what", ["readings", *REQUESTS])
async def test_a_device_that_asks_as_fast_as_it_can(here: tuple[World, Counter[str]], what: str) -> None:
    on, handled = here
    await on.start_server(readings_rate=2.0)
    first, second = await on.start_gateway("gw-1"), await on.start_gateway("gw-2")
    hostile, beside = await on.joined_pne("hostile", first), await on.joined_pne("beside", first)
    elsewhere = await on.joined_pne("elsewhere", second)
    async with flood(hostile, what) as answers:
        while answers.total() < AT_ONCE:
            await asyncio.sleep(0.01)
        for honest in (elsewhere, beside):
            took, between = await latencies(honest, "hostile", handled)
            assert between <= MOST_BETWEEN
            assert median(took) < 1.0
    assert answers["ok"] > 0
    if what == "readings":
        assert answers["refused"] > 0
        assert await on.store.last_reading_number() < 2 * HONEST + 100
