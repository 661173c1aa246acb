"""The stores: what is committed is there, all of it or nothing, once."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from cpns.domain.actor import OPERATOR, SERVER, Actor, Role
from cpns.domain.inventory import (
    Ends,
    Establishment,
    HeldMember,
    Kind,
    Membership,
    NewEntity,
    Outcome,
    Revocation,
    State,
)
from cpns.domain.member_list import Policy, Standing
from cpns.domain.network import Admission, Admitted, Inventory, Network, Present
from cpns.errors import Conflict, NotFound, Refused, Result, Unavailable
from cpns.ids import EntityId, PnId
from cpns.store.database import Database
from cpns.store.gateway_store import GatewayStore
from cpns.store.schema import metadata
from cpns.store.server_store import ServerStore
from tests.support.stores import Location, traced

GW1, GW2 = EntityId("gw-1"), EntityId("gw-2")
PN1, PN2 = PnId("pn-1"), PnId("pn-2")


def pne(number: int) -> EntityId:
    return EntityId(f"pne-{number}")


def new(entity_id: EntityId, kind: Kind = Kind.PNE, fingerprint: bytes | None = None) -> NewEntity:
    return NewEntity(
        entity_id=entity_id,
        kind=kind,
        only_via=None,
        note="a note",
        sealed_key=b"sealed " + entity_id.encode(),
        fingerprint=fingerprint or entity_id.encode(),
        created_at=100.0,
        may_own=kind is Kind.PNE,
    )


def refused(entity_id: EntityId, at: float, reason: str = "wrong_hash") -> Outcome:
    return Outcome(at, "refused", entity_id, SERVER, Result.AUTHENTICATION_FAILED, reason, GW1)


def named(*ids: EntityId, at: float, via: EntityId = GW1) -> list[Outcome]:
    return [Outcome(at, "refused", one, SERVER, Result.AUTHENTICATION_FAILED, "unknown", via) for one in ids]


def establishment(
    pn_id: PnId,
    gateway_id: EntityId,
    *pnes: EntityId,
    alias: str | None = None,
    at: float = 200.0,
    policy: Policy = Policy.OPEN,
    moved_from: Mapping[EntityId, EntityId] | None = None,
    secure: bool = True,
) -> Establishment:
    return Establishment(
        pn_id=pn_id,
        gateway_id=gateway_id,
        alias=alias,
        policy=policy,
        at=at,
        members=tuple(Membership(pne_id, secure) for pne_id in pnes),
        moved_from=moved_from or {},
    )


def present(pne_id: EntityId, since: float = 200.0, *, secure: bool = True, guest: bool = False) -> Present:
    return Present(pne_id, secure, since, guest)


@pytest.fixture
async def database(place: Location) -> AsyncIterator[Database]:
    database = Database(place)
    yield database
    await database.close()


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    store = ServerStore.open(place)
    await store.add_entities(
        [new(GW1, Kind.GATEWAY), new(GW2, Kind.GATEWAY), *(new(pne(number)) for number in range(1, 5))], OPERATOR
    )
    yield store
    await store.close()


def put(key: str) -> Callable[[Connection], str]:
    def operation(connection: Connection) -> str:
        connection.execute(text("INSERT INTO meta (key, value) VALUES (:key, 'x')"), {"key": key})
        return key

    return operation


def keys(connection: Connection) -> list[str]:
    return list(connection.execute(text("SELECT key FROM meta ORDER BY key")).scalars())


# --- the schema and the file


async def test_the_migrations_make_the_schema(database: Database) -> None:
    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    assert await database.run(compare, write=False) == []


async def test_opening_is_silent_and_keeps_what_is_there(place: Location, capfd: pytest.CaptureFixture[str]) -> None:
    for expected in (["one"], ["one", "two"]):
        database = Database(place)
        await database.run(put(expected[-1]))
        assert await database.run(keys, write=False) == expected
        await database.close()
    assert capfd.readouterr() == ("", "")


async def test_a_store_of_a_newer_version_is_refused(new_place: Callable[[], Location]) -> None:
    place = new_place()
    database = Database(place)
    newer = text("UPDATE alembic_version SET version_num = '9999'")
    await database.run(lambda connection: connection.execute(newer))
    await database.close()
    with pytest.raises(Unavailable) as caught:
        Database(place)
    assert caught.value.code == "store_too_new"


# --- group commit


async def test_one_that_fails_does_not_undo_its_neighbours(database: Database) -> None:
    await database.run(put("taken"))

    def half(connection: Connection) -> None:
        connection.execute(text("INSERT INTO meta (key, value) VALUES ('half', 'x')"))
        raise NotFound("gone", "gone")

    group = asyncio.gather(
        *(database.run(operation) for operation in (put("a"), half, put("taken"), put("b"))),
        database.run(keys, write=False),
        return_exceptions=True,
    )
    a, gone, conflict, b, seen = await group
    assert (a, b, seen) == ("a", "b", ["a", "b", "taken"])
    assert isinstance(gone, NotFound)
    assert isinstance(conflict, Conflict)
    assert conflict.code == "store_conflict"
    assert await database.run(keys, write=False) == ["a", "b", "taken"]


async def test_what_is_queued_together_is_committed_together(database: Database) -> None:
    with traced(database) as ran:
        await asyncio.gather(*(database.run(put(f"{number:03}")) for number in range(50)))
    assert (len(ran), ran[-1]) == (52, "COMMIT")
    assert [line.split()[0] for line in ran] == ["BEGIN", *["INSERT"] * 50, "COMMIT"]


async def test_a_cancelled_wait_does_not_stop_the_others(database: Database) -> None:
    given_up = asyncio.ensure_future(database.run(put("given up")))
    kept = asyncio.ensure_future(database.run(put("kept")))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await kept == "kept"
    assert given_up.cancelled()
    assert await database.run(keys, write=False) == ["given up", "kept"]


async def test_200_at_once(database: Database) -> None:
    done = await asyncio.gather(*(database.run(put(f"{number:03}")) for number in range(200)))
    assert done == await database.run(keys, write=False)


async def test_close_finishes_what_is_queued_and_takes_no_more(place: Location) -> None:
    database = Database(place)
    waiting = [asyncio.ensure_future(database.run(put(f"{number:03}"))) for number in range(20)]
    await asyncio.sleep(0)
    await asyncio.gather(database.close(), database.close())
    assert len(await asyncio.gather(*waiting)) == 20
    with pytest.raises(Unavailable, match="is closed"):
        await database.run(keys)
    again = Database(place)
    assert len(await again.run(keys, write=False)) == 20
    await again.close()


def test_a_loop_that_ends_early_leaves_a_store_that_closes(place: Location) -> None:
    database = Database(place)

    async def leave() -> None:
        left = asyncio.ensure_future(database.run(put("a")))
        await asyncio.sleep(0)
        assert not left.done()

    asyncio.run(leave())
    asyncio.run(database.close())


_CHILD = """
import asyncio, sys
from pathlib import Path
from cpns.ids import EntityId
from cpns.store.server_store import ServerStore

async def main():
    store = ServerStore.open(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1]))
    async def one(number):
        await store.add_reading(EntityId("pne"), EntityId("gw"), number.to_bytes(4, "big"), "{}", "e2e", 1.0)
        print(number, flush=True)
    for start in range(0, 1_000_000, 8):
        await asyncio.gather(*(one(start + more) for more in range(8)))

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_kill_9(place: Location) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", _CHILD, place], stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(100)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
    store = ServerStore.open(place)
    stored = await store.readings(0, 1_000_000)
    await store.close()
    assert {number.to_bytes(4, "big") for number in acknowledged} <= {reading.reading_id for reading in stored}


# --- the server's inventory


async def test_entities_are_added_with_their_credentials_and_audited(store: ServerStore) -> None:
    found = await store.credentials([pne(1), GW1, EntityId("stranger")])
    assert set(found) == {pne(1), GW1}
    assert found[GW1].kind is Kind.GATEWAY
    assert found[pne(1)].sealed_key == b"sealed pne-1"
    assert await store.credentials([]) == {}

    shown = await store.entity(pne(1))
    assert shown is not None
    assert (shown.kind, shown.state, shown.note, shown.fingerprint) == (Kind.PNE, State.ACTIVE, "a note", b"pne-1")
    assert (shown.last_result, shown.last_reason, shown.last_via, shown.last_at) == (None, None, None, None)
    assert await store.entity(EntityId("stranger")) is None
    assert [entity.entity_id for entity in await store.entities(Kind.GATEWAY)] == [GW1, GW2]
    assert await store.audit(pne(1), 9) == [Outcome(100.0, "provisioned", pne(1), OPERATOR, Result.SUCCESS)]


async def test_those_that_may_come_are_counted(store: ServerStore) -> None:
    before = await store.count()
    assert before == {Kind.GATEWAY: 2, Kind.PNE: len(await store.entities(Kind.PNE)), Kind.CM_DEVICE: 0}
    await store.revoke(pne(1), 200.0, OPERATOR)
    assert await store.count() == before | {Kind.PNE: before[Kind.PNE] - 1}


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (new(pne(1), fingerprint=b"fresh"), "id_exists"),
        (new(EntityId("fresh"), fingerprint=b"pne-1"), "key_exists"),
        (new(EntityId("first")), "id_exists"),
        (new(EntityId("fresh"), fingerprint=b"first"), "key_exists"),
    ],
)
async def test_a_taken_id_or_key_adds_nothing(store: ServerStore, second: NewEntity, code: str) -> None:
    with pytest.raises(Conflict, match=second.entity_id) as caught:
        await store.add_entities([new(EntityId("first")), second], OPERATOR)
    assert caught.value.code == code
    assert await store.entity(EntityId("first")) is None
    assert await store.audit(EntityId("first"), 9) == []


async def test_many_are_added_and_found_at_once(store: ServerStore) -> None:
    many = [new(EntityId(f"many-{number}")) for number in range(1200)]
    await store.add_entities(many, OPERATOR)
    await store.add_entities([], OPERATOR)
    assert len(await store.credentials([entity.entity_id for entity in many])) == 1200
    again = new(many[1100].entity_id, fingerprint=b"another key")
    with pytest.raises(Conflict, match="many-1100"):
        await store.add_entities([*(new(EntityId(f"more-{number}")) for number in range(1100)), again], OPERATOR)


async def test_the_same_entity_is_added_once_and_asking_again_is_no_error(store: ServerStore) -> None:
    first, second = new(EntityId("first")), new(EntityId("second"))
    await store.add_entities([first], OPERATOR)
    await store.add_entities([first, second], OPERATOR)
    once = Outcome(100.0, "provisioned", first.entity_id, OPERATOR, Result.SUCCESS)
    assert await store.audit(first.entity_id, 9) == [once]
    assert await store.entity(EntityId("second")) is not None
    await store.revoke(first.entity_id, 101.0, OPERATOR)
    with pytest.raises(Conflict):
        await store.add_entities([first], OPERATOR)


async def test_one_mac_address_in_two_spellings_is_one_entity(store: ServerStore) -> None:
    await store.add_entities([new(EntityId("aabbccddee01"))], OPERATOR)
    for spelling in ("aa:bb:cc:dd:ee:01", "AABBCCDDEE01", "AABB.CCDD.EE01"):
        with pytest.raises(Conflict, match="aabbccddee01"):
            await store.add_entities([new(EntityId(spelling))], OPERATOR)


async def test_record_sets_the_last_result_and_takes_strangers(store: ServerStore) -> None:
    await store.record([refused(pne(1), 1.0), refused(EntityId("stranger"), 2.0), refused(pne(1), 3.0, "replayed")])
    await store.record([])
    shown = await store.entity(pne(1))
    assert shown is not None
    assert (shown.last_result, shown.last_reason) == (Result.AUTHENTICATION_FAILED, "replayed")
    assert (shown.last_via, shown.last_at) == (GW1, 3.0)
    assert [outcome.at for outcome in await store.audit(pne(1), 2)] == [3.0, 1.0]
    assert [outcome.entity_id for outcome in await store.audit(None, 2)] == [pne(1), "stranger"]


async def test_a_refusal_that_comes_again_is_counted_in_its_row(store: ServerStore) -> None:
    """Where anything else was written of that entity in between, it is a row of its own: the newest is the cause."""
    await store.record([refused(pne(1), 1.0), refused(pne(1), 2.0), refused(pne(2), 2.5)])
    await store.record([replace(refused(pne(1), 3.0), times=40)])
    assert (await store.audit(pne(1), 9))[:1] == [replace(refused(pne(1), 3.0), times=42)]
    await store.record([refused(pne(1), 4.0, "revoked"), refused(pne(1), 5.0)])
    await store.establish(establishment(PN1, GW1, pne(1), at=6.0))
    await store.record([refused(pne(1), 7.0), replace(refused(pne(1), 8.0), via=None)])
    rows = [row for row in await store.audit(pne(1), 9) if row.event != "pn_owned"]
    assert [(row.at, row.reason, row.times) for row in rows] == [
        *((8.0, "wrong_hash", 1), (7.0, "wrong_hash", 1), (6.0, "", 1)),
        *((5.0, "wrong_hash", 1), (4.0, "revoked", 1), (3.0, "wrong_hash", 42), (100.0, "", 1)),
    ]
    assert len(await store.audit(pne(2), 9)) == 2


async def test_a_gateway_activation_has_no_via(store: ServerStore) -> None:
    await store.record([Outcome(5.0, "gateway_activated", GW1, Actor(Role.GATEWAY, GW1), Result.SUCCESS)])
    shown = await store.entity(GW1)
    assert shown is not None
    assert (shown.last_result, shown.last_reason, shown.last_via, shown.last_at) == (Result.SUCCESS, "", None, 5.0)


async def test_establish_makes_the_network_once(store: ServerStore) -> None:
    assert [*await store.networks_of(GW1)] == []
    assert await store.establish(establishment(PN2, GW2)) == Admitted(None, {})
    made = await store.establish(establishment(PN1, GW1, pne(2), pne(1), alias="home"))
    let_in = Admission(Result.SUCCESS, standing=Standing.MEMBER)
    assert made.network == Network(PN1, GW1, "home", pne(2), Policy.OPEN, 1, 200.0)
    assert made == Admitted(made.network, {pne(2): let_in, pne(1): let_in}, (pne(2), pne(1)))
    more = await store.establish(establishment(PN1, GW1, pne(3), alias="other", at=300.0, policy=Policy.CLOSED))
    network = Network(PN1, GW1, "home", pne(2), Policy.OPEN, 2, 200.0)
    assert more == Admitted(network, {pne(3): let_in}, (pne(3),))
    assert await store.establish(establishment(PN1, GW1, at=400.0)) == Admitted(network, {})
    members = (present(pne(1)), present(pne(2)), present(pne(3), 300.0))
    assert await store.networks() == [Inventory(network, members, ())]
    assert [*await store.networks_of(GW1)] == [PN1]
    assert [*await store.networks_of(GW2)] == []
    member, gateway = await store.entity(pne(1)), await store.entity(GW1)
    assert member is not None
    assert gateway is not None
    assert (member.pn_id, gateway.pn_id) == (PN1, PN1)
    assert (member.last_result, member.last_via, member.last_at) == (Result.SUCCESS, GW1, 200.0)
    assert await store.audit(pne(1), 1) == [
        Outcome(200.0, "pne_established", pne(1), Actor(Role.PNE, pne(1)), Result.SUCCESS, "", GW1)
    ]


async def members_of(store: ServerStore) -> dict[PnId, list[EntityId]]:
    return {one.network.pn_id: [member.pne_id for member in one.members] for one in await store.networks()}


async def test_a_pne_moves_to_another_pn(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), pne(2)))
    await store.establish(establishment(PN2, GW2, pne(2)))
    assert await members_of(store) == {PN1: [pne(1)], PN2: [pne(2)]}


async def test_a_gateway_serves_several_pns(store: ServerStore) -> None:
    await store.establish(establishment(PN2, GW1, pne(1)))
    await store.establish(establishment(PN1, GW1, pne(2), at=300.0))
    assert [*await store.networks_of(GW1)] == [PN2, PN1]
    assert await members_of(store) == {PN1: [pne(2)], PN2: [pne(1)]}


@pytest.mark.parametrize(
    ("wrong", "family", "said"),
    [
        (establishment(PN1, GW2, pne(1)), Refused, "pn_of_another_gateway"),
        (establishment(PN2, GW2, pne(1), EntityId("stranger")), Conflict, "contradicts what is stored"),
        (establishment(PN2, EntityId("stranger"), pne(1)), Conflict, "contradicts what is stored"),
    ],
)
async def test_an_establishment_that_contradicts_leaves_nothing(
    store: ServerStore, wrong: Establishment, family: type[Exception], said: str
) -> None:
    await store.establish(establishment(PN1, GW1, pne(2)))
    before = await store.networks()
    with pytest.raises(family, match=said) as caught:
        await store.establish(wrong)
    if isinstance(caught.value, Conflict):
        assert caught.value.code == "store_conflict"
    else:
        assert isinstance(caught.value, Refused)
        assert caught.value.result is Result.UNKNOWN_PN
    assert await store.networks() == before
    assert await members_of(store) == {PN1: [pne(2)]}
    assert len(await store.audit(pne(1), 9)) == 1


async def test_revoke_ends_the_membership_once(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), pne(2)))
    left = Network(PN1, GW1, None, pne(2), Policy.OPEN, 2, 200.0)
    assert await store.revoke(pne(1), 400.0, OPERATOR) == Revocation(True, (left,))
    assert await store.revoke(pne(1), 500.0, OPERATOR) == Revocation(False)
    assert (await store.credentials([pne(1)]))[pne(1)].state is State.REVOKED
    shown = await store.entity(pne(1))
    assert shown is not None
    assert (shown.state, shown.revoked_at, shown.pn_id, shown.last_at) == (State.REVOKED, 400.0, None, 200.0)
    events = ["revoked", "pne_established", "pn_owned", "provisioned"]
    assert [outcome.event for outcome in await store.audit(pne(1), 9)] == events
    assert await store.networks() == [Inventory(left, (present(pne(2)),), ())]
    with pytest.raises(NotFound) as caught:
        await store.revoke(EntityId("stranger"), 400.0, OPERATOR)
    assert caught.value.code == "unknown_entity"


# --- readings


async def test_a_reading_is_stored_once(store: ServerStore) -> None:
    added = await asyncio.gather(
        *(store.add_reading(pne(1), GW1, b"r1", f'{{"try":{number}}}', "e2e", float(number)) for number in range(200))
    )
    assert set(added) == {'{"try":0}'}  # each is told what is stored
    assert await store.add_reading(pne(2), GW1, b"r1", "{}", "e2e", 7.0) == "{}"
    stored = await store.readings(0, 9)
    assert [(reading.pne_id, reading.body) for reading in stored] == [(pne(1), '{"try":0}'), (pne(2), "{}")]
    assert (stored[1].reading_id, stored[1].verified, stored[1].received_at) == (b"r1", "e2e", 7.0)


async def test_readings_are_read_on_from_a_number(store: ServerStore) -> None:
    assert await store.last_reading_number() == 0
    for number in range(6):
        await store.add_reading(pne(1 + number % 2), GW1, bytes([number]), "{}", "e2e", float(number))
    everything = await store.readings(0, 9)
    numbers = [reading.number for reading in everything]
    assert numbers == sorted(set(numbers))
    assert await store.last_reading_number() == numbers[-1]
    assert await store.readings(numbers[1], 2) == everything[2:4]
    assert await store.readings(numbers[1], 9, pne(2)) == everything[3::2]


# --- the gateway


AT = Ends("127.0.0.1:5683", "127.0.0.1:49152")


async def test_a_gateway_keeps_its_pns_and_members(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    store = GatewayStore.open(path)
    assert await store.served() == []
    held = [HeldMember(pne(number), PN1, bytes([number]) * 32, b"sealed", AT) for number in range(1, 4)]
    on_a_secure_pan = HeldMember(pne(4), PN1, bytes(32), None, AT)
    await store.serve(PN1)
    await store.keep([*held, on_a_secure_pan])
    renewed = HeldMember(pne(2), PN2, b"new", b"sealed anew")
    await store.serve(PN2)
    await store.serve(PN2)
    await store.keep([renewed])
    await store.keep([])
    await store.forget([pne(3), EntityId("stranger")])
    await store.forget([])
    elsewhere = Ends("127.0.0.1:5683", "[fe80::1%eth0]:49153")
    await store.keep([replace(held[0], ends=elsewhere)])
    await store.close()

    kept = [replace(held[0], ends=elsewhere), renewed, on_a_secure_pan]
    store = GatewayStore.open(path)
    assert await store.served() == [PN1, PN2]
    assert await store.members() == kept
    await store.release(PN1)
    await store.release(PN1)
    assert await store.served() == [PN2]
    assert await store.members() == kept
    await store.close()
