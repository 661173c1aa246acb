"""What is about SQLite's file alone; the rest of the store's tests run on both databases."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from cpns.errors import Conflict, Unavailable
from cpns.store import migrate
from cpns.store.database import Database
from tests.support.stores import by_migrations
from tests.unit.test_store import keys, put


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "store.db")
    yield database
    await database.close()


async def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "a %(b)s?c.db"
    for expected in (["one"], ["one", "two"]):
        database = Database(path)
        await database.run(put(expected[-1]))
        assert await database.run(keys, write=False) == expected
        await database.close()
    assert path.exists()


async def test_the_stores_of_all_other_tests_are_as_the_migrations_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dump(connection: Connection) -> list[str]:
        made: Any = connection.connection.driver_connection
        return [*made.iterdump()]

    found = []
    for number in range(3):
        if number == 2:
            monkeypatch.setattr(migrate, "upgrade", by_migrations)
        database = Database(tmp_path / f"{number}.db")
        found.append(await database.run(dump, write=False))
        await database.close()
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 40


async def test_only_the_owner_reads_the_files(database: Database, tmp_path: Path) -> None:
    await database.run(put("a"))
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}


async def test_it_is_durable_by_its_settings(database: Database) -> None:
    def settings(connection: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database.run(settings, write=False) == ["wal", 2, 1, 5000]


async def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database at all " * 100)
    with pytest.raises(Unavailable, match="no cpns store") as caught:
        Database(path)
    assert caught.value.code == "store_unavailable"


async def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="check that its folder exists"):
        Database(tmp_path / "missing" / "store.db")


async def test_a_full_disk_is_told_and_left_behind(database: Database) -> None:
    def limit(pages: int) -> Callable[[Connection], object]:
        return lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar()

    def much(connection: Connection) -> None:
        connection.execute(text("INSERT INTO meta (key, value) VALUES ('much', hex(zeroblob(1000000)))"))

    await database.run(limit(1), write=False)  # SQLite takes what it has now as the least
    with pytest.raises(Unavailable, match="the disk is full: free some space") as caught:
        await database.run(much)
    assert caught.value.code == "store_unavailable"
    await database.run(limit(100_000), write=False)
    await database.run(much)
    assert await database.run(keys, write=False) == ["much"]


async def test_a_failing_commit_fails_its_group_and_no_other(database: Database) -> None:
    def orphan(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")  # the commit finds it, not the INSERT
        connection.execute(text("INSERT INTO members VALUES ('nobody', 'nowhere', true, 0)"))

    group = asyncio.gather(database.run(put("a")), database.run(orphan), return_exceptions=True)
    assert [type(error) for error in await group] == [Conflict, Conflict]
    await database.run(put("b"))
    assert await database.run(keys, write=False) == ["b"]
