"""A store that goes on after an older copy was put back: from which numbers on, on both databases."""

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Table, func, select

from cpns.cli import restore
from cpns.domain import membership
from cpns.domain import set_back as rules
from cpns.domain.actor import OPERATOR, SERVER
from cpns.domain.group import Group
from cpns.domain.inventory import End, Ended, KeptPush, Kind, Outcome
from cpns.domain.member_list import Policy
from cpns.errors import BadInput, Conflict, Result
from cpns.ids import EntityId, SgId
from cpns.store.message_queries import MAX_RUN
from cpns.store.schema import metadata
from cpns.store.server_store import ServerStore
from cpns.store.set_back_queries import ANSWERS, Back
from tests.support.stores import Location, databases
from tests.unit.test_store import GW1, PN1, PN2, establishment, new, pne

AT = 1_800_000_000.5
BASE = 1_800_000_000 * 2**20
OUTCOME = Outcome(AT, "set_back", EntityId("server.test"), OPERATOR, Result.SUCCESS)


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    store = ServerStore.open(place)
    await store.add_entities([new(GW1, Kind.GATEWAY), new(pne(1))], OPERATOR)
    yield store
    await store.close()


async def reading(store: ServerStore, number: int) -> int:
    await store.add_reading(pne(1), GW1, number.to_bytes(12, "big"), "{}", "e2e", AT)
    return await store.last_reading_number()


async def test_all_numbers_go_on_beyond(store: ServerStore) -> None:
    assert await reading(store, 1) == 1
    await store.establish(establishment(PN1, GW1, pne(1)))
    await store.register_sender(pne(1), None, AT)
    before = await store.network(PN1)
    assert before is not None

    assert await store.set_back(OUTCOME) == BASE
    assert await store.last_reading_number() == BASE
    assert await reading(store, 2) == BASE + 1
    network = await store.network(PN1)
    assert network is not None
    assert network.version == BASE
    assert (await store.register_sender(pne(1), None, AT)).run == 1_800_000_000 - rules.RUNS_SINCE + 1
    await store.keep_push(KeptPush(0, bytes(8), pne(1), "hello", AT, AT + 10), OPERATOR)
    assert [one.number for one in await store.pushes_for(pne(1), AT)] == [BASE + 1]
    await store.record([Outcome(AT, "later", GW1, SERVER, Result.SUCCESS)])
    events = [one.event for one in await store.audit(None, 4)]
    assert events == ["later", "text_kept", "sg_sender_registered", "set_back"]
    await store.revoke(pne(1), AT, OPERATOR)
    assert await store.ended_after(0) == (BASE + 1, [Ended(AT, End.REVOKED, pne(1))])


@pytest.mark.parametrize("earlier", [0.0, 0.5], ids=["the same time", "the same second"])
async def test_a_second_is_not_the_first_of_two_lives(store: ServerStore, earlier: float) -> None:
    """The copy was made after a set-back; the lost life gave numbers from there on, and so would this one."""
    await store.set_back(replace(OUTCOME, at=AT - earlier))
    given = await reading(store, 1)
    with pytest.raises(BadInput) as caught:
        await store.set_back(OUTCOME)
    assert caught.value.code == "bad_time"
    assert await reading(store, 2) == given + 1
    assert await store.set_back(replace(OUTCOME, at=AT + 1)) == BASE + 2**20


async def test_an_empty_store_goes_on(store: ServerStore) -> None:
    assert await store.set_back(OUTCOME) == BASE
    assert await store.last_reading_number() == BASE
    assert await store.readings(BASE, 10) == []


async def test_a_time_before_what_is_stored_changes_nothing(store: ServerStore) -> None:
    await store.record([Outcome(AT + 1, "newer", GW1, SERVER, Result.SUCCESS)])
    with pytest.raises(BadInput) as caught:
        await store.set_back(OUTCOME)
    assert caught.value.code == "bad_time"
    assert await reading(store, 1) == 1


async def test_another_process_on_postgresql_is_in_the_way() -> None:
    url = databases().emptied()
    one, other = ServerStore.open(url), ServerStore.open(url)
    with pytest.raises(Conflict) as caught:
        await one.set_back(OUTCOME)
    assert caught.value.code == "server_running"
    await other.close()
    assert await one.set_back(OUTCOME) == BASE
    await one.close()


def test_numbers_last_until_2088_and_stay_exact() -> None:
    """And a PNE registers still, for as long again."""
    assert rules.number(7, rules.LAST_SECOND) < 2**53
    assert rules.run(7, rules.LAST_SECOND) <= MAX_RUN // 2 + 1
    assert rules.number(2**60, AT) == 2**60 + 1
    assert rules.run(2**31, AT) == 2**31 + 1
    assert 0 < rules.run(0, AT) < 2**32


@pytest.mark.parametrize("now", [0.0, rules.RUNS_SINCE, rules.LAST_SECOND + 1, 6e9])
def test_a_clock_that_is_far_off_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    """Its numbers would be none that JSON holds exactly, and no PNE could register any more."""
    monkeypatch.setattr("time.time", lambda: now)
    with pytest.raises(BadInput, match="clock") as caught:
        restore.set_back(tmp_path, None)
    assert caught.value.code == "bad_time"


def test_each_table_says_what_becomes_of_it() -> None:
    """A table that goes back in time gives numbers twice, or is believed where it is no longer true."""
    assert set(ANSWERS) == set(metadata.tables)
    numbered = {name for name, table in metadata.tables.items() if table.primary_key.columns.keys() == ["number"]}
    assert {name for name, back in ANSWERS.items() if back is Back.NUMBERED} == numbered
    counted = {name for name, table in metadata.tables.items() if {"version", "run"} & {*table.columns.keys()}}
    assert {name for name, back in ANSWERS.items() if back is Back.VERSIONED} == counted


def least_of(connection: Connection, table: Table, column: str) -> int:
    least: int = connection.execute(select(func.min(table.c[column]))).scalar_one()
    return least


async def test_no_version_epoch_or_run_is_given_twice(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1)))
    await store.create_group(Group(SgId("sg-1"), "walk", None, pne(1), Policy.OPEN, 1, 1, 1.0), 9)
    await store.register_sender(pne(1), None, AT)
    await store.establish(establishment(PN2, GW1, pne(1)))
    await store.edit(PN2, [], membership.release, 9.0, OPERATOR)
    await store.set_back(OUTCOME)
    for name, columns in {
        "networks": ["version"],
        "ended_networks": ["version"],
        "groups": ["version", "epoch"],
        "senders": ["run"],
    }.items():
        table = metadata.tables[name]
        assert ANSWERS[name] is Back.VERSIONED
        for column in columns:
            least = await store.database.run(partial(least_of, table=table, column=column))
            assert least >= (BASE if column != "run" else 1_800_000_000 - rules.RUNS_SINCE), (name, column)
