"""Whose operation the store does next."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from cpns.ids import EntityId
from cpns.shares.party import Party, acting
from cpns.store import database as module
from cpns.store.database import MAX_GROUP, Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    one = Database(tmp_path / "store.db")
    yield one
    await one.close()


def device(name: str, via: str = "gw") -> Party:
    return Party("127.0.0.1", 1, EntityId(name), EntityId(via))


class Work:
    """Operations, and in which order they were done, group by group."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database = database
        self.groups: list[list[str]] = []
        settle = Database._settle

        async def settled(database: Database, group: list[Any]) -> None:
            self.groups.append([])
            await settle(database, group)

        monkeypatch.setattr(Database, "_settle", settled)

    def of(self, party: Party | None, count: int, *, write: bool = False) -> list[asyncio.Task[None]]:
        def operation(connection: Connection) -> None:
            self.groups[-1].append("" if party is None else str(party.entity))

        async def one() -> None:
            acting.set(party)
            await self.database.run(operation, write=write)

        return [asyncio.create_task(one()) for _ in range(count)]


@pytest.fixture
def work(database: Database, monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(database, monkeypatch)


async def test_a_thousand_of_one_party_make_another_wait_for_two(work: Work) -> None:
    tasks = work.of(device("greedy"), 1000) + work.of(device("honest"), 1) + work.of(None, 1)
    await asyncio.gather(*tasks)
    assert set(work.groups[0][:4]) == {"", "greedy", "honest"}
    assert len(work.groups[0]) == 6
    assert sum(map(len, work.groups)) == 1002


async def test_a_thousand_of_one_party_wait_for_who_comes_later(work: Work) -> None:
    tasks = work.of(device("greedy"), 1000, write=True)
    await asyncio.sleep(0.001)
    late = work.of(device("late"), 1, write=True)
    await asyncio.gather(*late)
    assert len(work.groups) < 1000 / MAX_GROUP
    await asyncio.gather(*tasks)
    assert max(map(len, work.groups)) == MAX_GROUP


async def test_a_gateway_with_many_devices_is_one_party(work: Work) -> None:
    tasks = [task for number in range(500) for task in work.of(device(f"crowd-{number}", "gw-1"), 1)]
    tasks += work.of(device("honest", "gw-2"), 3)
    await asyncio.gather(*tasks)
    assert work.groups[0].count("honest") == 3
    assert work.groups[0].index("honest") <= 2


async def test_one_party_alone_has_all_of_a_group(work: Work) -> None:
    await asyncio.gather(*work.of(device("one"), 100))
    assert [len(group) for group in work.groups] == [100]


async def test_many_parties_with_little_each_are_one_group(work: Work) -> None:
    await asyncio.gather(
        *[task for number in range(50) for task in work.of(device(f"one-{number}", f"gw-{number}"), 2)]
    )
    assert [len(group) for group in work.groups] == [100]


async def test_what_one_started_for_another_counts_to_who_asked(work: Work) -> None:
    """A task that a handler starts works for the same party."""
    seen: list[Party | None] = []

    async def later() -> None:
        seen.append(acting.get())

    async def handler() -> None:
        acting.set(device("asker"))
        await asyncio.create_task(later())

    await asyncio.create_task(handler())
    assert seen == [device("asker")]
    assert acting.get() is None


def test_a_party_is_under_its_uplink() -> None:
    gateway = Party("10.0.0.1", 7, EntityId("gw"))
    stranger = Party("10.0.0.1", 7)
    assert (device("one").uplink, device("one").session) == ("gw", "one")
    assert (gateway.uplink, gateway.session) == ("gw", "gw")
    assert (stranger.uplink, stranger.session) == ("10.0.0.1", 7)
    assert module.EACH == 2
