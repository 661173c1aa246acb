"""Invitations into groups and networks: an ID is taken onto a list whether it exists or not, so they are bounded."""

from collections.abc import AsyncIterator
from functools import partial

import pytest

from cpns.domain import group as rules
from cpns.domain import membership
from cpns.domain.actor import OPERATOR, Actor, Role
from cpns.domain.group import Group, GroupRule
from cpns.domain.inventory import Establishment, Kind, Membership, NewEntity
from cpns.domain.invitation import INVITATION_SECONDS, OPEN_OF_LIST, OPEN_OF_OWNER
from cpns.domain.member_list import Policy, Standing
from cpns.errors import Refused, Result
from cpns.ids import EntityId, PnId, SgId
from cpns.server.groups.models import Group as ShownGroup
from cpns.store.server_store import ServerStore
from tests.support.stores import Location

OWNER, ANN, BEN, CAT = PNES = [EntityId(name) for name in ("owner", "ann", "ben", "cat")]
GATEWAY, SG, PN = EntityId("gw"), SgId("sg-1"), PnId("pn-1")
MEMBER, INVITED = Standing.MEMBER, Standing.INVITED


@pytest.fixture
async def store(place: Location) -> AsyncIterator[ServerStore]:
    """A store with a group and a network of one owner."""
    one = ServerStore.open(place)
    kinds = {**dict.fromkeys(PNES, Kind.PNE), GATEWAY: Kind.GATEWAY}
    await one.add_entities(
        [
            NewEntity(who, kind, None, "", b"sealed", who.encode(), 1.0, may_own=kind is Kind.PNE)
            for who, kind in kinds.items()
        ],
        OPERATOR,
    )
    await one.create_group(Group(SG, "walk", None, OWNER, Policy.OPEN, 1, 1, 1.0), 9)
    await comes(one, OWNER, 2.0)
    yield one
    await one.close()


async def comes(store: ServerStore, pne: EntityId, at: float) -> Result:
    arrived = Establishment(PN, GATEWAY, None, Policy.OPEN, at, (Membership(pne, True),), {})
    return (await store.establish(arrived)).admissions[pne].result


async def do(store: ServerStore, rule: GroupRule, at: float, by: EntityId | None, sg_id: SgId = SG) -> None:
    await store.change_group(sg_id, rule, at, OPERATOR if by is None else Actor(Role.PNE, by))


async def invites(store: ServerStore, whom: list[EntityId], at: float, by: EntityId | None = OWNER) -> None:
    """Invite into the network."""
    actor = OPERATOR if by is None else Actor(Role.PNE, by)
    rule = partial(membership.invite, whom=whom)
    await store.edit(PN, whom, rule, at, actor)


def named(prefix: str, count: int) -> list[EntityId]:
    return [EntityId(f"{prefix}-{number}") for number in range(count)]


@pytest.mark.req("DEF-5")
async def test_a_group_has_so_many_open_invitations_and_so_has_its_owner(store: ServerStore) -> None:
    async def invites(sg_id: SgId, count: int, prefix: str, at: float = 10.0, by: EntityId | None = OWNER) -> None:
        whom = [EntityId(f"{prefix}-{number}") for number in range(count)]
        await do(store, partial(rules.invite, whom=whom), at, by, sg_id)

    await invites(SG, OPEN_OF_LIST, "a")
    await invites(SG, OPEN_OF_LIST, "a")  # the same, once more
    for count in (1, OPEN_OF_LIST):
        with pytest.raises(Refused, match="too_many_invitations") as refused:
            await invites(SG, count, "b")
        assert refused.value.result is Result.TOO_MANY
    await invites(SG, 3, "c", by=None)  # the operator is not bounded by it
    others = [SgId(f"sg-{number}") for number in range(2, 7)]
    for number, other in enumerate(others):
        await store.create_group(Group(other, other, None, OWNER, Policy.OPEN, 1, 1, 10.0), 9)
        if number < OPEN_OF_OWNER // OPEN_OF_LIST - 2:
            await invites(other, OPEN_OF_LIST, "d")
    await invites(others[2], OPEN_OF_LIST - 3, "e")
    with pytest.raises(Refused, match="too_many_invitations"):
        await invites(others[3], 1, "f")
    await invites(SG, OPEN_OF_LIST, "g", at=10.0 + INVITATION_SECONDS)  # the others have ended by then


@pytest.mark.req("DEF-5")
async def test_an_invitation_ends(store: ServerStore) -> None:
    await do(store, partial(rules.update, policy=Policy.CLOSED), 9.0, None)
    for at, whom in ((10.0, [ANN, BEN]), (20.0, [BEN, CAT])):
        await do(store, partial(rules.invite, whom=whom), at, OWNER)
    late = 10.0 + INVITATION_SECONDS
    with pytest.raises(Refused, match="no_such_group"):
        await do(store, rules.join, late, ANN)  # before it was swept away
    (ended,) = await store.expire_group_invitations(late, 99)
    assert ended.change.subjects == (ANN,)  # BEN was invited again
    assert await store.expire_group_invitations(late, 99) == []
    await do(store, rules.join, late, BEN)
    found = await store.group(SG)
    assert found is not None
    assert {one.pne_id: one.standing for one in found.listed} == {OWNER: MEMBER, BEN: MEMBER, CAT: INVITED}


@pytest.mark.req("DEF-5")
async def test_who_is_revoked_has_invited_in_vain(store: ServerStore) -> None:
    await do(store, rules.join, 10.0, ANN)
    await do(store, partial(rules.invite, whom=[BEN, CAT]), 11.0, OWNER)
    await store.revoke(OWNER, 12.0, OPERATOR)
    found = await store.group(SG)
    assert found is not None
    assert (found.group.owner, [one.pne_id for one in found.listed]) == (ANN, [ANN])


@pytest.mark.req("FN-8", "DEF-3")
async def test_a_network_has_so_many_open_invitations_and_shares_them_with_the_groups_of_its_owner(
    store: ServerStore,
) -> None:
    await invites(store, named("a", OPEN_OF_LIST), 10.0)
    await invites(store, named("a", OPEN_OF_LIST), 11.0)  # the same, once more
    with pytest.raises(Refused, match="too_many_invitations") as refused:
        await invites(store, named("b", 1), 12.0)
    assert refused.value.result is Result.TOO_MANY
    await invites(store, named("c", 3), 12.0, by=None)  # the operator is not bounded by it
    for number in range(2, 4):
        other = SgId(f"sg-{number}")
        await store.create_group(Group(other, other, None, OWNER, Policy.OPEN, 1, 1, 10.0), 9)
        await do(store, partial(rules.invite, whom=named("d", OPEN_OF_LIST)), 13.0, OWNER, other)
    left = OPEN_OF_OWNER - 3 * OPEN_OF_LIST - 3
    await do(store, partial(rules.invite, whom=named("e", left)), 13.0, OWNER)
    with pytest.raises(Refused, match="too_many_invitations"):
        await do(store, partial(rules.invite, whom=named("f", 1)), 13.0, OWNER)
    await invites(store, named("g", OPEN_OF_LIST), 14.0 + INVITATION_SECONDS)


@pytest.mark.req("FN-8", "AUTH-0")
async def test_an_invitation_into_a_network_ends(store: ServerStore) -> None:
    rule = partial(membership.update, policy=Policy.CLOSED)
    await store.edit(PN, [], rule, 9.0, OPERATOR)
    await invites(store, [ANN, BEN], 10.0)
    await invites(store, [BEN], 20.0)
    late = 10.0 + INVITATION_SECONDS
    assert await comes(store, ANN, late) is Result.POLICY  # before it was swept away
    (ended,) = await store.expire_invitations(late, 99)
    assert ended.pn_id == PN
    assert await store.expire_invitations(late, 99) == []
    assert await comes(store, BEN, late) is Result.SUCCESS
    rows = [(row.event, row.entity_id) for row in await store.audit(ANN, 9)]
    assert ("invitation_ended", ANN) in rows


@pytest.mark.req("FN-8")
async def test_who_is_revoked_has_invited_into_its_network_in_vain(store: ServerStore) -> None:
    await invites(store, [ANN, CAT], 10.0)
    assert await comes(store, BEN, 11.0) is Result.SUCCESS
    await store.revoke(OWNER, 12.0, OPERATOR)
    found = await store.inventory(PN)
    assert found is not None
    assert (found.network.owner, found.listed) == (BEN, ())


@pytest.mark.req("DEF-4", "DEF-5")
async def test_an_operator_sees_who_comes_and_goes_and_when_invitations_end(store: ServerStore) -> None:
    for pne, at in ((ANN, 10.0), (BEN, 10.2)):
        await do(store, rules.join, at, pne)
    await do(store, rules.leave, 10.3, ANN)
    await do(store, partial(rules.invite, whom=[CAT]), 10.4, OWNER)
    found = await store.group(SG)
    assert found is not None
    shown = ShownGroup.of(found)
    assert set(shown.members) == {OWNER}
    assert shown.listed == {ANN: "leaving", BEN: "coming", CAT: "invited"}
    assert shown.invited_until == {CAT: "1970-01-08T00:00:10.400Z"}
    assert shown.invitations_left == OPEN_OF_LIST - 1
