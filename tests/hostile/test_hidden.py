"""A closed group is none for who has no place in it, nor is another's network: the same answer to every message, and
the same statements of the store before it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cpns.domain.actor import OPERATOR
from cpns.domain.member_list import Policy
from cpns.errors import Result
from cpns.ids import EntityId, PnId, SgId
from cpns.pne.app import Pne
from cpns.transport.errors import Answer
from cpns.wire import group_messages as gm
from cpns.wire import pn_messages as pm
from cpns.wire import sg_messages as sg
from cpns.wire.registry import CPNS_PATH, JoinPolicy
from tests.support.costs import Costs, counted
from tests.support.raw import ask, result_of
from tests.support.tap import body_of
from tests.support.world import World, world

UNKNOWN = (Result.UNKNOWN_SG, Result.UNKNOWN_PN)
NO_GROUP, NO_NETWORK = SgId("sg-" + 16 * "z"), PnId("pn-" + 16 * "z")
ANN, BEN = EntityId("ann"), EntityId("ben")
OF_GROUPS: dict[str, Any] = {
    "join": sg.SgJoinRequest,
    "invite": lambda sg_id: sg.SgInviteRequest(sg_id, (BEN,)),
    "leave": sg.SgLeaveRequest,
    "expel": lambda sg_id: sg.SgExpelRequest(sg_id, (ANN,)),
    "owner": sg.SgOwnerChangeRequest,
    "owner, named": lambda sg_id: sg.SgOwnerChangeRequest(sg_id, ANN),
    "delete": sg.SgDeleteRequest,
    "inventory": sg.SgInventoryRequest,
    "inventory, one": lambda sg_id: sg.SgInventoryRequest(sg_id, member=ANN),
}
OF_NETWORKS: dict[str, Any] = {
    "invite": lambda pn_id: pm.InviteRequest(pn_id, (BEN,)),
    "leave": pm.LeaveRequest,
    "expel": lambda pn_id: pm.ExpelRequest(pn_id, (ANN,)),
    "release": pm.ReleaseRequest,
    "inventory": pm.InventoryRequest,
}
BY_GATEWAYS: dict[str, Any] = {
    "key": gm.GroupKeyWanted,
    "inventory": sg.SgInventoryRequest,
    "message": lambda sg_id: gm.GroupMessageUp(sg_id, 1, EntityId("mallory"), bytes(12), bytes(17), 0, ()),
}


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    """What is counted; nothing else of the server goes to the store meanwhile."""
    monkeypatch.setattr("cpns.server.upkeep.SWEEP_SECONDS", 3600.0)
    with counted(monkeypatch) as one:
        yield one


@pytest.fixture
async def here(tmp_path: Path, costs: Costs) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        one.passed = costs
        await one.start_server(half_open=9999.0)
        yield one


async def two(here: World) -> tuple[Pne, Pne]:
    """Return ann, who makes what there is, and mallory, who has a network of its own."""
    ann = await here.joined_pne("ann", await here.start_gateway("gw-1"))
    return ann, await here.joined_pne("mallory", await here.start_gateway("gw-2"))


Way = Callable[[Any], Awaitable[Answer]]


def by(pne: Pne) -> Way:
    """Return what sends a message as *pne*."""
    assert pne._way.link is not None
    return partial(ask, pne._way.link, path=CPNS_PATH, session=pne._way.session)


async def result(way: Way, message: Any) -> Result:
    return Result(body_of((await way(message)).payload).result)


async def alike(costs: Costs, way: Way, one: Any, other: Any) -> Result:
    """Hold two messages to the same refusal, and the same statements before it; return the result.

    What else the server does meanwhile may be counted with one of them, but not with each of twenty.
    """
    for _ in range(20):
        looks = []
        for message in (one, other):
            costs.begin()
            refusal = result_of(await way(message))
            looks.append((refusal, {name: count for name, count in costs.spent.items() if name.startswith("SQL")}))
        assert looks[0][0] == looks[1][0], one
        if looks[0] == looks[1]:
            return looks[0][0][1]
        await asyncio.sleep(0.1)
    pytest.fail(f"{one}: {looks}")


@pytest.mark.req("FN-7", "DEF-4")
async def test_a_closed_group_is_none_for_who_has_no_place_in_it(here: World, costs: Costs) -> None:
    ann, mallory = await two(here)
    closed, _ = await ann.groups.create("secret", JoinPolicy.CLOSED)
    for name, make in OF_GROUPS.items():
        assert await alike(costs, by(mallory), make(closed), make(NO_GROUP)) is Result.UNKNOWN_SG, name
    assert await mallory.groups.discover() == []


@pytest.mark.req("FN-7", "DEF-4")
async def test_who_has_a_place_is_told_the_truth(here: World) -> None:
    """Invited, pending, barred; and open groups and those by approval are found by anybody."""
    ann, mallory = await two(here)
    waits, _ = await ann.groups.create("waits", JoinPolicy.APPROVAL)
    assert await mallory.groups.join(waits) is Result.PENDING_APPROVAL
    closed, _ = await ann.groups.create("secret", JoinPolicy.CLOSED)
    here.accepting.discard("mallory")
    await ann.groups.invite(closed, [EntityId("mallory")])
    barred, _ = await ann.groups.create("barred", JoinPolicy.OPEN)
    assert await mallory.groups.join(barred) is Result.SUCCESS
    await ann.groups.expel(barred, [EntityId("mallory")])
    for sg_id in (waits, barred):
        assert (await here.server.groups.actions.update(sg_id, OPERATOR, Policy.CLOSED, None)).policy is Policy.CLOSED
    expected = {
        (waits, "join"): Result.POLICY,
        (barred, "join"): Result.NOT_ALLOWED,
        (closed, "delete"): Result.NOT_ALLOWED,
        (waits, "delete"): Result.NOT_ALLOWED,
        (barred, "delete"): Result.NOT_ALLOWED,
        (barred, "leave"): Result.NOT_A_MEMBER,
    }
    for (sg_id, name), told in expected.items():
        assert await result(by(mallory), OF_GROUPS[name](sg_id)) == told, name
    assert await result(by(mallory), OF_GROUPS["join"](closed)) == Result.SUCCESS
    for policy in (JoinPolicy.OPEN, JoinPolicy.APPROVAL):
        shown, _ = await ann.groups.create(policy.name, policy)
        assert await result(by(mallory), OF_GROUPS["delete"](shown)) == Result.NOT_ALLOWED


@pytest.mark.req("FN-7", "DEF-4")
async def test_a_name_that_a_closed_group_has_is_free(here: World) -> None:
    ann, mallory = await two(here)
    await ann.groups.create("secret", JoinPolicy.CLOSED)
    assert await result(by(mallory), sg.SgCreateRequest("secret", JoinPolicy.OPEN)) == Result.SUCCESS
    assert await result(by(mallory), sg.SgCreateRequest("secret", JoinPolicy.OPEN)) == Result.EXISTS


@pytest.mark.req("FN-8", "DEF-3")
@pytest.mark.parametrize("policy", ["open", "approval", "closed"])
async def test_another_s_network_is_none(here: World, costs: Costs, policy: str) -> None:
    ann, mallory = await two(here)
    assert ann.joined is not None
    await here.server.networks.actions.update(ann.joined.pn_id, OPERATOR, policy=Policy(policy), alias=None, owner=None)
    for name, make in OF_NETWORKS.items():
        assert await alike(costs, by(mallory), make(ann.joined.pn_id), make(NO_NETWORK)) is Result.UNKNOWN_PN, name


@pytest.mark.req("FN-7", "FN-8", "DEF-3", "DEF-4")
async def test_a_gateway_sees_nothing_of_what_is_not_its_own(here: World, costs: Costs) -> None:
    """Neither a network that another one serves, nor a group that none of its devices is in."""
    ann, _ = await two(here)
    assert ann.joined is not None
    up = await here.gateways[1].uplink.wait(40)
    closed, _ = await ann.groups.create("secret", JoinPolicy.CLOSED)
    pairs = [
        *product(BY_GATEWAYS.values(), [(closed, NO_GROUP)]),
        *((OF_NETWORKS[name], (ann.joined.pn_id, NO_NETWORK)) for name in ("expel", "release", "inventory")),
    ]
    for make, (there, nowhere) in pairs:
        assert await alike(costs, partial(ask, up.link, session=up.session), make(there), make(nowhere)) in UNKNOWN
