"""How often a refusal is written to the audit log that lasts until somebody does something about it."""

import asyncio
from typing import Any

import pytest

from cpns.domain.inventory import Outcome
from cpns.errors import Result
from cpns.ids import EntityId
from cpns.service.refusals import LASTING, LASTING_SECONDS, Refusals
from cpns.shares.party import Party

HUB, WATCH, DEN = EntityId("hub"), EntityId("watch"), EntityId("den")
DAYS = 3
EVERY = 8.0
TIMES = int(DAYS * 86400 / EVERY)


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> float:
        return self.at


class Store:
    """Keeps what is recorded."""

    def __init__(self) -> None:
        self.rows: list[Outcome] = []

    async def record(self, outcomes: list[Outcome]) -> None:
        self.rows.extend(outcomes)


@pytest.mark.parametrize("reason", sorted(LASTING))
@pytest.mark.parametrize("what", ["gateway", "device"])
async def test_who_tries_for_ever_has_a_row_a_day(reason: str, what: str) -> None:
    time, store = Time(), Store()
    as_any: Any = (store, time)
    refusals = Refusals(*as_any)
    for _ in range(TIMES):
        if what == "gateway":
            refusals.peer(HUB, reason, Party("10.0.0.1", 1))
            refusals.over(HUB, "10.0.0.1")  # another one with its key has proven itself
        else:
            refusals.pne(WATCH, Result.AUTHENTICATION_FAILED, reason, DEN)
            refusals.over(WATCH, DEN)
        time.at += EVERY
        refusals.due()
    await asyncio.sleep(0)
    written = len(refusals._waiting)
    assert DAYS <= written <= DAYS + 1
    await refusals.close()
    assert sum(row.times for row in store.rows) == TIMES


async def test_copies_have_a_row_a_day() -> None:
    time, store = Time(), Store()
    as_any: Any = (store, time)
    refusals = Refusals(*as_any)
    for _ in range(DAYS * 1440):
        refusals.cloned(WATCH, ("den", "hub"))
        time.at += 60.0
        refusals.due()
    await refusals.close()
    assert DAYS <= len(store.rows) <= DAYS + 1
    assert {(row.event, row.entity_id, row.reason) for row in store.rows} == {("cloned", WATCH, "den and hub")}
    assert sum(row.times for row in store.rows) == DAYS * 1440


async def test_a_wrong_key_is_news_again_after_a_right_one() -> None:
    time, store = Time(), Store()
    as_any: Any = (store, time)
    refusals = Refusals(*as_any)
    for _ in range(3):
        refusals.peer(HUB, "wrong_hash", Party("10.0.0.1", 1))
        refusals.over(HUB, "10.0.0.1")
    await refusals.close()
    assert [row.times for row in store.rows] == [1, 1, 1]
    assert LASTING_SECONDS == 86400
