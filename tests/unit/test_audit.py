"""The audit log is read by people alone: it can be pruned to nothing, and all else goes on."""

from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from cpns.admin.audit import AuditAdmin
from cpns.domain import membership
from cpns.domain.actor import OPERATOR, SERVER, Actor, Role
from cpns.domain.group import Group
from cpns.domain.inventory import End, Ended, HeldThrough, Kind, Outcome
from cpns.domain.member_list import Policy
from cpns.errors import Result
from cpns.ids import EntityId, SgId
from cpns.store.server_store import ServerStore
from tests.support.stores import Location, Row, make_store_of
from tests.unit.test_store import GW1, GW2, PN1, establishment, new, pne


class Stopped:
    """A clock that stands still."""

    def now(self) -> float:
        return 1000.0

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    one = ServerStore.open(place)
    await one.add_entities([new(GW1, Kind.GATEWAY), new(GW2, Kind.GATEWAY), new(pne(1)), new(pne(2))], OPERATOR)
    yield one
    await one.close()


async def seen(store: ServerStore) -> object:
    """Return all that was once read off the audit log."""
    entities = [await store.entities(kind) for kind in Kind]
    silent = await store.silent_owners(150.0)
    return entities, await store.held_through(GW1), await store.waiting(), silent, await store.ended_after(0)


async def test_nothing_but_the_log_is_gone_when_all_of_it_is(store: ServerStore) -> None:
    await store.establish(establishment(PN1, GW1, pne(1), policy=Policy.APPROVAL, at=100.0))
    for at in (110.0, 120.0):
        await store.establish(establishment(PN1, GW1, pne(2), at=at))
    await store.create_group(Group(SgId("sg-1"), "walk", None, pne(1), Policy.OPEN, 1, 1, 1.0), 9)
    await store.edit(PN1, [pne(1)], partial(membership.expel, whom=[pne(1)], at=130.0), 130.0, OPERATOR)
    await store.revoke(GW2, 140.0, OPERATOR)
    before = await seen(store)
    (waits,) = await store.waiting()
    assert (waits.pne_id, waits.attempts, waits.since, waits.last) == (pne(2), 2, 110.0, 120.0)
    assert await store.held_through(GW1) == [HeldThrough(pne(1), 100.0, 100.0, 1, 0)]
    assert await store.ended_after(0) == (2, [Ended(130.0, End.EXPELLED, pne(1)), Ended(140.0, End.REVOKED, GW2)])
    assert [group.sg_id for group, _ in await store.silent_owners(150.0)] == ["sg-1"]
    assert await store.silent_owners(100.0) == []

    assert await store.audit_before(150.0) == len(await store.audit(None, 99)) > 8
    done = Outcome(150.0, "audit_pruned", EntityId("server"), OPERATOR, Result.SUCCESS)
    assert await store.prune_audit(150.0, 99, done) > 8
    (row,) = await store.audit(None, 99)
    assert (row.event, row.actor, row.reason[-27:]) == ("audit_pruned", OPERATOR, "before 1970-01-01T00:02:30Z")
    assert await seen(store) == before


async def test_numbers_go_on_where_rows_were(store: ServerStore) -> None:
    rows = await store.audit_after(0, 99)
    done = Outcome(9e9, "audit_pruned", EntityId("server"), OPERATOR, Result.SUCCESS)
    await store.prune_audit(8e9, 99, done)
    (row,) = await store.audit_after(0, 99)
    assert row.number > max(one.number for one in rows)


async def test_a_page_goes_on_after_the_last(store: ServerStore) -> None:
    rows = await store.audit_after(0, 2)
    rest = await store.audit_after(rows[-1].number, 99)
    assert [one.outcome.entity_id for one in [*rows, *rest]] == [GW1, GW2, pne(1), pne(2)]
    assert [one.outcome.entity_id for one in await store.audit_after(0, 99, pne(1))] == [pne(1)]


async def test_pruning_is_done_in_steps_and_written_down(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.admin.audit.PRUNED_AT_ONCE", 3)
    audit = AuditAdmin(EntityId("server"), store, Stopped())
    assert await audit.prune(OPERATOR, 10.0, dry_run=True) == (990.0, 4)
    assert await audit.prune(OPERATOR, 10.0, dry_run=False) == (990.0, 4)
    rows = [one.outcome for one in await audit.page(0, 9, None)]
    assert [row.reason.split()[0] for row in rows] == ["3", "1"]
    assert await audit.prune(OPERATOR, 10.0, dry_run=False) == (990.0, 0)


# --- an older store

_ENTITY = (
    "INSERT INTO entities (entity_id, kind, state, only_via, note, {key}, fingerprint, created_at)"
    " VALUES (:id, :kind, 'active', NULL, '', :sealed, :print, 1.0)"
)
_AUDIT = "INSERT INTO audit (at, event, entity_id, via, result, reason) VALUES (:at, :event, :id, :via, :result, :why)"
_REVISIONS = [f"{number:04}" for number in range(1, 16)]
_LOG: list[tuple[float, str, str, str | None, int, str]] = [
    (1.0, "provisioned", "pne-1", None, 0, ""),
    (2.0, "gateway_activated", "gw-1", None, 0, ""),
    (3.0, "pne_established", "pne-1", "gw-1", 0, ""),
    (4.0, "pne_established", "pne-1", "gw-1", 0, ""),
    (5.0, "refused", "pne-1", "gw-1", 21, "wrong_hash"),
    (6.0, "refused", "pne-2", "gw-1", 54, "pending_approval"),
    (7.0, "refused", "pne-2", "gw-1", 54, "pending_approval"),
    (8.0, "invited", "pne-2", "pne-1", 0, "pn-1"),
    (9.0, "expelled", "pne-2", "gw-1", 0, "pn-1"),
    (10.0, "revoked", "gw-2", None, 0, ""),
    (11.0, "refused", "stranger", "gw-1", 21, "unknown"),
]


def rows_of(revision: str) -> list[Row]:
    key = "sealed_eukey" if revision < "0003" else "sealed_key"
    rows: list[Row] = [
        (_ENTITY.format(key=key), {"id": one, "kind": kind, "sealed": b"key", "print": one.encode()})
        for one, kind in (("pne-1", "pne"), ("pne-2", "pne"), ("gw-1", "gateway"), ("gw-2", "gateway"))
    ]
    pn = "INSERT INTO networks (pn_id, gateway_id, alias, created_at) VALUES ('pn-1', 'gw-1', 'home', 1.0)"
    rows.append((pn, {}))
    if revision >= "0002":
        waits = (
            "INSERT INTO standings (pne_id, pn_id, standing, at, via) VALUES ('pne-2', 'pn-1', 'pending', 6.0, 'gw-1')"
        )
        rows.append((waits, {}))
    names = ("at", "event", "id", "via", "result", "why")
    return rows + [(_AUDIT, dict(zip(names, row, strict=True))) for row in _LOG]


@pytest.mark.parametrize("revision", _REVISIONS)
async def test_what_was_read_off_an_older_log_is_there(new_place: Callable[[], Location], revision: str) -> None:
    place = new_place()
    make_store_of(revision, place, rows_of(revision))
    store = ServerStore.open(place)
    last = {one.entity_id: (one.last_result, one.last_reason, one.last_at) for one in await store.entities(Kind.PNE)}
    assert last == {
        "pne-1": (Result.AUTHENTICATION_FAILED, "wrong_hash", 5.0),
        "pne-2": (Result.PENDING_APPROVAL, "pending_approval", 7.0),
    }
    assert await store.held_through(GW1) == [HeldThrough(pne(1), 3.0, 4.0, 2, 0)]
    assert await store.ended_after(None) == (0, [])  # who is out has been so since before any process of today
    if revision >= "0002":
        (waits,) = [one for one in await store.waiting() if one.known]
        assert (waits.pne_id, waits.attempts, waits.last) == ("pne-2", 2, 7.0)
    assert await store.audit_before(99.0) == len(_LOG)
    await store.revoke(pne(1), 20.0, OPERATOR)
    assert [one.outcome.event for one in await store.audit_after(len(_LOG), 9)] == ["revoked"]
    await store.close()


async def test_who_did_what_in_an_older_log(new_place: Callable[[], Location]) -> None:
    place = new_place()
    make_store_of("0014", place, rows_of("0014"))
    store = ServerStore.open(place)
    who = [(one.outcome.event, one.outcome.actor, one.outcome.via) for one in await store.audit_after(0, 99)]
    assert who == [
        ("provisioned", OPERATOR, None),
        ("gateway_activated", Actor(Role.GATEWAY, "gw-1"), None),
        ("pne_established", Actor(Role.PNE, "pne-1"), "gw-1"),
        ("pne_established", Actor(Role.PNE, "pne-1"), "gw-1"),
        *[("refused", SERVER, "gw-1")] * 3,
        ("invited", Actor(Role.PNE, "pne-1"), None),
        ("expelled", Actor(Role.GATEWAY, "gw-1"), None),
        ("revoked", OPERATOR, None),
        ("refused", SERVER, "gw-1"),
    ]
    await store.close()
