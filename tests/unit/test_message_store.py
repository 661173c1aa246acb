"""Messages to groups in the store: who may be given which run, and what waits for whom, for how long (FN-7)."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from cpns.domain import group as rules
from cpns.domain.actor import OPERATOR, Actor, Role
from cpns.domain.group import Group, SenderKey, TakenMessage
from cpns.domain.inventory import Kind, NewEntity
from cpns.domain.member_list import Policy
from cpns.errors import Refused, Result
from cpns.ids import EntityId, SgId
from cpns.store import message_queries
from cpns.store.server_store import ServerStore
from tests.support.stores import Location

ANN, BEN, CAT = EntityId("ann"), EntityId("ben"), EntityId("cat")
SG, OTHER = SgId("sg-1"), SgId("sg-2")


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    """A store with two groups of three."""
    one = ServerStore.open(place)
    await one.add_entities(
        [NewEntity(pne, Kind.PNE, None, "", b"sealed", pne.encode(), 1.0) for pne in (ANN, BEN, CAT)], OPERATOR
    )
    for sg_id in (SG, OTHER):
        await one.create_group(Group(sg_id, sg_id, None, ANN, Policy.OPEN, 1, 1, 1.0), 64)
        for pne in (BEN, CAT):
            await one.change_group(sg_id, rules.join, 2.0, Actor(Role.PNE, pne))
        await one.begin_epoch(sg_id, 3.0)
    yield one
    await one.close()


def taken(count: int, *keep_for: EntityId, at: float = 10.0, sg_id: SgId = SG, seconds: float = 60.0) -> TakenMessage:
    return TakenMessage(
        *(sg_id, 3, ANN, count.to_bytes(12, "big"), b"sealed %d" % count, b"s" * 64, b"v" * 32, b"key"),
        keep_for=keep_for,
        created_at=at,
        expires_at=at + seconds,
    )


async def waits(store: ServerStore, pne: EntityId, now: float = 11.0) -> list[int]:
    return [int.from_bytes(one.message.seq, "big") for one in await store.kept_group_messages(pne, now)]


async def newest(store: ServerStore, pne: EntityId = ANN, sg_id: SgId = SG) -> bytes | None:
    found = await store.group(sg_id)
    assert found is not None
    return next(one.newest for one in found.listed if one.pne_id == pne)


@pytest.mark.req("FN-7", "FN-9")
async def test_no_run_returns(store: ServerStore, place: Location) -> None:
    """Each PNE has its own, also after a restart and after a revocation; the inventory names the newest key."""
    assert await store.register_sender(ANN, b"a" * 32, 9.0) == SenderKey(1, b"a" * 32)
    assert await store.register_sender(ANN, b"b" * 32, 9.0) == SenderKey(2, b"b" * 32)
    assert await store.register_sender(BEN, None, 9.0) == SenderKey(1, None)
    await store.close()
    again = ServerStore.open(place)
    assert (await again.register_sender(ANN, b"c" * 32, 9.0)).run == 3
    found = await again.group(SG)
    assert found is not None
    assert {one.pne_id: one.key for one in found.listed} == {
        ANN: SenderKey(3, b"c" * 32),
        BEN: SenderKey(1, None),
        CAT: None,
    }
    await again.revoke(ANN, 5.0, OPERATOR)
    assert (await again.register_sender(ANN, b"d" * 32, 9.0)).run == 4
    await again.close()


async def test_runs_end_before_they_return(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_queries, "MAX_RUN", 1)
    await store.register_sender(ANN, None, 9.0)
    with pytest.raises(Refused) as refused:
        await store.register_sender(ANN, None, 9.0)
    assert refused.value.result is Result.TOO_MANY


@pytest.mark.req("FN-7")
async def test_it_waits_for_each_until_that_one_has_it(store: ServerStore) -> None:
    message = taken(1, BEN, CAT)
    await store.take_group_message(message)
    await store.take_group_message(taken(2, CAT, sg_id=OTHER))
    assert await newest(store) == message.seq
    assert await newest(store, BEN) is None
    assert sorted(await store.awaiting_group_messages()) == [BEN, CAT]
    (kept,) = await store.kept_group_messages(BEN, 11.0)
    assert kept.message == dataclasses.replace(message, keep_for=())
    await store.drop_group_message(kept.number, BEN)
    await store.drop_group_message(kept.number, BEN)
    assert (await waits(store, BEN), await waits(store, CAT)) == ([], [1, 2])
    for one in await store.kept_group_messages(CAT, 11.0):
        await store.drop_group_message(one.number, CAT)
    assert await store.awaiting_group_messages() == []
    assert await rows(store) == 0


async def rows(store: ServerStore) -> int:
    return await store.database.run(
        lambda connection: int(connection.exec_driver_sql("SELECT count(*) FROM group_messages").scalar_one())
    )


async def test_the_newest_number_never_goes_back(store: ServerStore) -> None:
    for count in (2, 1):
        await store.take_group_message(taken(count))
    assert await newest(store) == (2).to_bytes(12, "big")
    assert await newest(store, sg_id=OTHER) is None


@pytest.mark.req("FN-7")
async def test_it_waits_no_longer_than_it_may(store: ServerStore) -> None:
    await store.take_group_message(taken(1, BEN, seconds=5.0))
    await store.take_group_message(taken(2, BEN, seconds=60.0))
    assert await waits(store, BEN, now=15.0) == [1, 2]
    assert await waits(store, BEN, now=15.1) == [2]
    assert await waits(store, BEN, now=15.0) == [1, 2]  # to look ends nothing
    assert await store.spare_kept(12.0, 20.0) == 1  # a clock that went from one to the other at once
    assert await waits(store, BEN, now=23.0) == [1, 2]
    await store.drop_kept(23.1)
    assert await waits(store, BEN, now=15.0) == [2]
    assert await rows(store) == 1


@pytest.mark.req("FN-7")
async def test_the_oldest_make_room(store: ServerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same group for the same member."""
    monkeypatch.setattr(message_queries, "MAX_OWED", 3)
    await store.take_group_message(taken(100, BEN, sg_id=OTHER))
    for count in range(1, 6):
        await store.take_group_message(taken(count, BEN, *([CAT] if count < 3 else [])))
    assert await waits(store, BEN) == [100, 3, 4, 5]
    assert await waits(store, CAT) == [1, 2]


@pytest.mark.req("FN-7", "DEF-5")
async def test_who_is_out_is_owed_nothing(store: ServerStore) -> None:
    """Left, revoked, or the group has ended; also where that was so while the message was on its way."""
    for sg_id in (SG, OTHER):
        await store.take_group_message(taken(1, BEN, CAT, sg_id=sg_id))
    await store.change_group(SG, rules.leave, 3.0, Actor(Role.PNE, BEN))
    assert len(await waits(store, BEN)) == 1
    await store.take_group_message(taken(2, BEN, CAT))
    assert (await waits(store, BEN), await waits(store, CAT)) == ([1], [1, 1, 2])
    await store.revoke(CAT, 4.0, OPERATOR)
    assert await waits(store, CAT) == []
    await store.change_group(OTHER, rules.delete, 5.0, Actor(Role.PNE, ANN))
    assert await store.awaiting_group_messages() == []
    await store.take_group_message(taken(3, BEN, sg_id=OTHER))
    assert await store.awaiting_group_messages() == []
    assert await rows(store) == 0


@pytest.mark.req("DEF-5")
async def test_which_owners_are_silent(store: ServerStore) -> None:
    assert await store.silent_owners(0.0) == [
        ((await group_of(store, sg_id)), ()) for sg_id in (SG, OTHER)
    ]  # nobody was ever established


async def group_of(store: ServerStore, sg_id: SgId) -> Group:
    found = await store.group(sg_id)
    assert found is not None
    return found.group
