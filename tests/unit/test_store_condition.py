"""A store that fails, and works again: what it says, and what those are told who want something of it."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from cpns.errors import StoreFails
from cpns.store import condition
from cpns.store.database import Database
from tests.support.postgres import Postgres
from tests.support.stores import started
from tests.support.world import until
from tests.unit.test_store import keys, put


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(condition, "AGAIN_SECONDS", 0.2)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "cpns.store"]


def pages(most: int) -> Callable[[Connection], object]:
    return lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {most}").scalar()


def much(connection: Connection) -> None:
    connection.execute(text("INSERT INTO meta (key, value) VALUES ('much', hex(zeroblob(1000000)))"))


async def filled(database: Database) -> StoreFails:
    """Leave no room, not even in pages that are there already; return how that failed."""
    await database.run(pages(1), write=False)  # SQLite takes what it has now as the least
    for number in range(1000):
        try:
            await database.run(put(f"{number:03}" + "x" * 3000))
        except StoreFails as error:
            return error
    raise AssertionError("it has room without end")


async def test_a_full_disk_is_said_until_there_is_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(tmp_path / "store.db")
    assert database.trouble == ""
    begun = time.monotonic()
    failure = await filled(database)
    assert not failure.away
    assert "the disk is full: free some space" in database.trouble
    await until(lambda: len(said(caplog)) >= 3)
    assert set(said(caplog)) == {database.trouble}
    assert time.monotonic() - begun >= 0.4
    kept = await database.run(keys, write=False)  # it can be read

    await database.run(pages(100_000), write=False)
    await until(lambda: not database.trouble)
    assert re.search(r"works again, after \d+ s$", said(caplog)[-1])
    count = len(said(caplog))
    await database.run(much)
    assert await database.run(keys, write=False) == [*kept, "much"]
    await asyncio.sleep(0.2)
    assert len(said(caplog)) == count
    await database.close()


async def test_it_can_be_closed_while_it_fails(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.db")
    await filled(database)
    await database.close()


async def test_what_fails_alone_is_no_trouble_of_the_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(tmp_path / "store.db")
    await database.run(put("a"))
    await asyncio.gather(database.run(put("a")), database.run(put("b")), return_exceptions=True)
    assert database.trouble == ""
    assert said(caplog) == []
    await database.close()


@pytest.fixture
def server() -> Iterator[Postgres]:
    one = started()
    yield one
    one.stop()


async def test_postgresql_is_missed_once_and_greeted_once(server: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    database = Database(server.url("postgres"))
    await database.run(put("a"))
    server.halt()
    for _ in range(3):
        many = await asyncio.gather(*(database.run(put(f"x{n}")) for n in range(200)), return_exceptions=True)
        assert all(isinstance(error, StoreFails) and error.away for error in many)
    await asyncio.sleep(0.3)
    assert len(said(caplog)) == 1
    assert said(caplog)[0] == database.trouble
    server.start()
    await until(lambda: not database.trouble)
    assert [bool(re.search("works again", line)) for line in said(caplog)] == [False, True]
    await database.run(put("b"))
    assert await database.run(keys, write=False) == ["a", "b"]
    await database.close()


async def test_who_comes_while_nobody_answers_waits_for_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is gone without a word takes seconds for each attempt: all that wait share one."""
    monkeypatch.setattr(condition, "PROBE_SECONDS", 60.0)
    server = started()
    try:
        database = Database(server.url("postgres"))
        attempts: list[int] = []
        queued = threading.Event()
        begin = database._begin

        def slow(writes: bool) -> None:
            attempts.append(1)
            server.halt()
            queued.wait(40)
            begin(writes)

        monkeypatch.setattr(database, "_begin", slow)
        first = asyncio.ensure_future(database.run(put("a")))
        await until(lambda: attempts)
        others = [asyncio.ensure_future(database.run(put(f"x{n}"))) for n in range(500)]
        await asyncio.sleep(0)  # they begin
        queued.set()
        ended = await asyncio.gather(first, *others, return_exceptions=True)
        assert all(isinstance(error, StoreFails) for error in ended)
        assert len(attempts) == 1
        await database.close()
    finally:
        server.stop()
