"""A store of each earlier revision, with its rows, becomes what a new one is, whichever database it is on."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, insert, select, text

import cpns.store
from cpns.domain.actor import SERVER
from cpns.domain.inventory import Outcome
from cpns.errors import Result
from cpns.ids import EntityId, PnId, SgId
from cpns.store.schema import metadata
from cpns.store.server_store import ServerStore
from tests.support.stores import Location, fill_store_of, shape_of


def revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", "cpns.store:migrations")
    return sorted(one.revision for one in ScriptDirectory.from_config(config).walk_revisions())


ALL = revisions()

Row = Mapping[str, object]


def entity(name: str, kind: str, **more: object) -> Row:
    sealed = f"key of {name}".encode()
    row: Row = {"entity_id": name, "kind": kind, "state": "active", "only_via": "hub", "note": f"the {name}"}
    since = {"fingerprint": name.encode(), "created_at": 1.5, "revoked_at": None, "may_own": True}
    return {**row, **since, "sealed_key": sealed, "sealed_eukey": sealed, **more}


HELD = {"pne_id": "ann", "pn_id": "pn-1", "th0": b"th0", "sealed_key": b"local", "own": "h:1", "there": "h:2"}
ROWS: dict[str, list[Row]] = {
    "origin": [{"server_id": "server.test", "set_up_at": 1.0, "sealed": b"proof"}],
    "entities": [
        entity("hub", "gateway", only_via=None),
        entity("ann", "pne"),
        entity("ben", "pne", state="revoked", revoked_at=9.5),
        entity("cm-1", "cm-device"),
    ],
    "last_results": [
        {"entity_id": "hub", "at": 3.0, "result": 0, "reason": "", "via": None},
        {"entity_id": "ann", "at": 4.0, "result": 21, "reason": "wrong_hash", "via": "hub"},
    ],
    "networks": [
        {"pn_id": "pn-1", "gateway_id": "hub", "alias": "home", "created_at": 2.0, "owner": "ann", "policy": "approval"}
        | {"version": 7, "served_since": 2.5, "expelled_at": 2.75}
    ],
    "ended_networks": [{"pn_id": "pn-0", "version": 5, "ended_at": 1.25}],
    "members": [{"pne_id": "ann", "pn_id": "pn-1", "pan_secure": True, "since": 3.5}],
    "standings": [
        {"pne_id": "cat", "pn_id": "pn-1", "standing": "invited", "at": 4.5, "via": "hub", "last_at": 4.75}
        | {"attempts": 2},
    ],
    "strangers": [{"entity_id": "eve", "via": "hub", "first_at": 5.0, "last_at": 5.5, "attempts": 3}],
    "pushes": [{"push_id": b"push", "pne_id": "ann", "text": "hello", "created_at": 6.0, "expires_at": 7e9}],
    "cm_devices": [
        {"cm_device_id": "cm-1", "gateway_id": "hub", "pne_id": "ann", "generation": 2, "sealed_next": b"next"}
        | {"rotation_due": True, "reassign": True, "activated_at": 6.5}
    ],
    "groups": [
        {"sg_id": "sg-1", "name": "walk", "service": "fit", "owner": "ann", "policy": "closed", "version": 4}
        | {"epoch": 3, "created_at": 7.0, "vouched": True, "keep": 60, "begun": 7.5, "due": 7.75}
    ],
    "group_places": [
        {"sg_id": "sg-1", "pne_id": "ann", "standing": "member", "at": 7.0, "newest": b"newest", "epoch": 2}
    ],
    "group_keys": [{"sg_id": "sg-1", "epoch": 3, "sealed_key": b"group key", "ended_at": 8e9}],
    "paces": [{"pne_id": "ann", "what": "create", "times": 2, "since": 7.0}],
    "senders": [{"pne_id": "ann", "run": 5, "verify_key": b"verify"}],
    "group_messages": [
        {"sg_id": "sg-1", "epoch": 3, "sender": "ann", "seq": b"seq", "sealed": b"sealed", "signature": b"signature"}
        | {"verify_key": b"verify", "sealed_key": b"group key", "created_at": 8.0, "expires_at": 7e9}
    ],
    "group_messages_owed": [{"pne_id": "ann", "number": 1}],
    "readings": [
        {"pne_id": "ann", "reading_id": bytes(12), "gateway_id": "hub", "verified": "e2e", "received_at": 8.5}
        | {"body": '{"n":1}'}
    ],
    "audit": [
        {"at": 3.0, "event": "gateway_activated", "entity_id": "hub", "via": None, "result": 0, "reason": ""}
        | {"times": 1, "role": "gateway", "actor": "hub", "digest": b"digest", "previous": b"previous"},
        {"at": 4.0, "event": "refused", "entity_id": "ann", "via": "hub", "result": 21, "reason": "wrong_hash"}
        | {"times": 6, "role": "server", "actor": "server", "digest": None, "previous": None},
    ],
    "held_through": [
        {"pne_id": "ann", "gateway_id": "hub", "first_at": 3.0, "last_at": 3.5, "establishments": 2},
    ],
    "revocations": [{"at": 9.5, "what": "bound", "entity_id": "ann", "via": "hub"}],
    "events": [
        {"at": 9.0, "kind": "settled", "role": "admin", "actor": "local", "subject": "ann", "body": '{"n":1}'},
    ],
    "cursors": [{"name": "backup", "number": 1, "at": 9.25, "actor": "local"}],
    "known_hosts": [{"host": "192.0.2.1", "proved_at": 9.0}],
    "processes": [
        {"process_id": "p-1", "host": "one", "pid": 7, "listening": "one:5683", "bus": "nats://one", "started_at": 9.0}
        | {"ahead": 0.5, "heeded": 1, "seen_at": 9.5}
    ],
    "meta": [{"key": "other", "value": "fact"}],
    "served": [{"pn_id": "pn-1"}],
    "held_members": [HELD],
    "local_eukeys": [HELD],
    "cm_keys": [{"cm_device_id": "cm-1", "generation": 2, "sealed_key": b"cm key"}],
}
"""By table, each column that any revision had. What numbers its rows gives each its number."""
NEW_NAMES = {"local_eukeys": "held_members", "sealed_eukey": "sealed_key"}
"""Of tables and columns, as they are called today."""


def fill(connection: Connection) -> dict[str, list[Row]]:
    """Put rows into every table that there is; return them, by table."""
    there = MetaData()
    there.reflect(connection)
    filled: dict[str, list[Row]] = {}
    for table in there.sorted_tables:
        if table.name == "alembic_version":
            continue
        names = [name for name in table.columns.keys() if name != "number" or not numbers_its_rows(table)]
        filled[table.name] = [{name: row[name] for name in names} for row in ROWS[table.name]]
        connection.execute(insert(table), filled[table.name])
    return filled


def numbers_its_rows(table: Table) -> bool:
    return table.primary_key.columns.keys() == ["number"]


def rows_of(connection: Connection, table: Table) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()]


def as_now(row: Row) -> dict[str, object]:
    return {NEW_NAMES.get(name, name): value for name, value in row.items()}


def test_the_revisions_are_one_chain() -> None:
    files = Path(cpns.store.__file__).parent / "migrations" / "versions"
    assert ALL == [f"{number:04}" for number in range(1, len(ALL) + 1)]
    assert sorted(path.name[1:5] for path in files.glob("r*.py")) == ALL


def test_each_table_and_column_of_today_has_a_row() -> None:
    for table in metadata.tables.values():
        for column in table.columns:
            if column.name != "number" or not numbers_its_rows(table):
                assert any(row[column.name] is not None for row in ROWS[table.name]), column


_new: dict[type, dict[str, str]] = {}
"""What a new store has, of each kind of database: it is made once."""


async def shape_at(place: Location) -> dict[str, str]:
    store = ServerStore.open(place)
    try:
        return await store.database.run(shape_of, write=False)
    finally:
        await store.close()


@pytest.mark.parametrize("revision", ALL[:-1])
async def test_an_older_store_is_as_a_new_one_and_has_its_rows(
    new_place: Callable[[], Location], revision: str
) -> None:
    older = new_place()
    if type(older) not in _new:
        _new[type(older)] = await shape_at(new_place())
    filled = fill_store_of(revision, older, fill)
    assert await shape_at(older) == _new[type(older)]
    store = ServerStore.open(older)
    for name, rows in filled.items():
        table = metadata.tables[NEW_NAMES.get(name, name)]
        kept = await store.database.run(partial(rows_of, table=table), write=False)
        expected = [as_now(row) for row in rows]
        columns = expected[0].keys()
        assert [row for row in expected if row not in [{c: one[c] for c in columns} for one in kept]] == [], name
    await goes_on(store)
    await store.close()


async def goes_on(store: ServerStore) -> None:
    """What is there is used, and no number is given twice."""
    ann, sg_id = EntityId("ann"), SgId("sg-1")
    device, group = await store.entity(ann), await store.group(sg_id)
    assert device is not None
    assert (device.note, device.pn_id) == ("the ann", PnId("pn-1"))
    assert group is None or group.members == (ann,)
    assert [row.outcome.event for row in await store.audit_after(0, 9)] == ["gateway_activated", "refused"]
    await store.add_reading(ann, EntityId("hub"), bytes(11) + b"1", "{}", "e2e", 10.0)
    assert await store.last_reading_number() == 2
    await store.record([Outcome(11.0, "looked", ann, SERVER, Result.SUCCESS)])
    assert [row.number for row in await store.audit_after(0, 9)] == [1, 2, 3]
    broken = {"sqlite": "PRAGMA foreign_key_check", "postgresql": "SELECT 1 WHERE false"}

    def check(connection: Connection) -> list[object]:
        return list(connection.execute(text(broken[connection.dialect.name])))

    assert await store.database.run(check, write=False) == []
