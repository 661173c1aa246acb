"""A device that sends more readings than its share: it is told to wait, inside its session, and nothing is lost."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.admin.service import Admin
from cpns.errors import Later, Result
from cpns.pne import sources
from cpns.pne.app import Pne
from cpns.pne.outbox import Outbox
from cpns.server.readings.actions import ReadingActions
from cpns.transport.errors import LONGEST_WAIT, Answer, Code, to_answer
from cpns.wire import application, codec
from cpns.wire.application import Reading
from cpns.wire.messages import ErrorBody
from tests.support.world import CLOCK, SERVER, World, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def scene(here: World, **options: Any) -> tuple[Pne, Pne]:
    """Return two devices behind one gateway of a server that takes two readings a second, 20 at once."""
    await here.start_server(readings_rate=2.0, **options)
    gateway = await here.start_gateway()
    return await here.joined_pne("pne-1", gateway), await here.joined_pne("pne-2", gateway)


async def stored(here: World) -> list[int]:
    """Return the numbers in the readings of pne-1, in the order that they came in."""
    return [json.loads(one.body)["n"] for one in await here.store.readings(0, 1000) if one.pne_id == "pne-1"]


async def test_a_new_device_waits_as_long_as_it_is_told(
    here: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    greedy, calm = await scene(here)
    answers: list[Answer] = []
    exchange = greedy._way.exchange

    async def watched(*what: Any) -> Answer:
        answers.append(await exchange(*what))
        return answers[-1]

    monkeypatch.setattr(greedy._outbox, "_exchange", watched)
    with caplog.at_level(logging.WARNING):
        for n in range(23):
            await greedy.send(greedy.next_reading({"n": n}))
    assert await stored(here) == list(range(23))
    refused = [one for one in answers if not one.ok]
    assert 1 <= len(refused) <= 4  # once each time, as it waited before it tried again
    for one in refused:
        assert (one.code, one.max_age) == (Code.SERVICE_UNAVAILABLE, 1)
        assert codec.decode(one.payload, ErrorBody) == ErrorBody(Result.TOO_MANY)
    assert "pne-1 goes over its share: too_many_readings; it is told to wait" in caplog.text
    await calm.send(calm.next_reading({"n": 0}))  # the other one has its own
    assert "pne-2 goes over" not in caplog.text
    found = await Admin(SERVER, here.store, here.provisioning, here.server, CLOCK).explain("pne-1")
    assert "over its share of readings a second" in found[-1].what
    assert "--readings-rate" in found[-1].next_step


async def test_an_older_device_that_repeats_soon_loses_nothing(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows no time to wait. What it repeats is answered before the store is asked."""
    greedy, _ = await scene(here)
    asked = 0
    add = here.store.add_reading

    async def counted(*what: Any) -> str:
        nonlocal asked
        asked += 1
        return await add(*what)

    monkeypatch.setattr(here.store, "add_reading", counted)
    refused = 0

    async def exchange(path: str, payload: bytes) -> Answer:
        nonlocal refused
        answer = await greedy._way.exchange(path, payload)
        refused += not answer.ok
        return answer._replace(max_age=None)

    outbox = Outbox(bytes(8), greedy.life, exchange, CLOCK)
    for n in range(23):
        await outbox.send(outbox.reading({"n": n}))
    assert await stored(here) == list(range(23))
    assert asked == 23
    assert refused >= 2


async def test_a_day_has_a_volume(here: World) -> None:
    """Counted as it is stored: what is short as CBOR may be long as JSON."""
    greedy, calm = await scene(here, readings_volume=10_000.0)
    texts = {f"{number:02}": "\x01" * 50 for number in range(20)}  # 6 bytes each in JSON
    await greedy.send(greedy.next_reading({"n": 0, **texts}))
    answer = await greedy._way.exchange("readings", application.encode_reading(greedy.next_reading({**texts})))
    assert (answer.code, answer.max_age) == (Code.SERVICE_UNAVAILABLE, LONGEST_WAIT)
    await calm.send(calm.next_reading({"n": 0, **texts}))
    excess = await here.server.overview.excess(greedy.config.pne_id)
    assert excess is not None
    assert excess[:2] == ("too_much_in_readings", 1)


async def test_what_reads_for_the_device_stops_reading(here: World) -> None:
    """Lines that can't be sent yet stay where they come from."""
    greedy, _ = await scene(here)
    taking, giving = os.pipe()
    os.set_blocking(giving, False)
    line = b'{"n": 1, "text": "' + b"x" * 980 + b'"}\n'

    def give() -> int:
        given = 0
        try:
            while given < 10_000:
                os.write(giving, line)
                given += 1
        except BlockingIOError:
            pass
        return given

    async def send() -> None:
        async for body in sources.lines(taking, lambda number, why: None):
            await greedy.send(greedy.next_reading(body))

    give()
    sending = asyncio.create_task(send())
    await until(lambda: here.server.exceeded.of(greedy.config.pne_id) is not None)
    given, quiet = [], 0
    async with asyncio.timeout(40):
        while quiet < 4:  # the share lets two through in a second
            given.append(give())
            quiet = quiet + 1 if given[-1] < 5 else 0
            await asyncio.sleep(0.3)
    assert sum(given) < 400, "what it reads ahead is bounded"
    sending.cancel()
    os.close(giving)


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Store:
    def __init__(self) -> None:
        self.bytes = 0
        self.rows = 0

    async def add_reading(self, pne: str, via: str, number: bytes, body: str, how: str, at: float) -> str:
        self.bytes += len(body.encode())
        self.rows += 1
        return body


async def test_a_flood_of_a_day_is_bounded_by_rate_and_volume() -> None:
    """180 a second of 4 kB, which were 60 GB a day, by a clock of its own."""
    clock, store = Clock(), Store()
    session: Any = type("Session", (), {"peer_id": "pne", "via": "gw"})
    any_store: Any = store
    readings = ReadingActions(any_store, clock, 20.0, 64e6)
    waits = []
    for number in range(24 * 60 * 3):
        clock.time += 20.0
        for _ in range(420):
            try:
                reading = Reading(number.to_bytes(12, "big"), {"a": "x" * 4000})
                await readings.take(session, application.encode_reading(reading))
            except Later as later:
                waits.append(later.seconds)
                break
    assert store.bytes <= 2 * 64e6 + 4096
    assert store.rows <= 20 * 86400 + 200
    assert all(1 <= (to_answer(Later("x", seconds), protected=True).max_age or 0) <= LONGEST_WAIT for seconds in waits)
