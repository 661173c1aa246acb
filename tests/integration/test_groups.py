"""Service groups over real sockets: who may do what, who is asked, who is told (DEF-4, DEF-5, FN-7)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns.domain.actor import OPERATOR
from cpns.errors import Refused, Result
from cpns.gateway.config import PanConfig
from cpns.ids import EntityId, SgId
from cpns.pne.app import Pne
from cpns.wire import sg_messages as sg
from cpns.wire.registry import Change, JoinPolicy, Place
from tests.support.raw import ask
from tests.support.stage import stage
from tests.support.tap import body_of
from tests.support.world import World, until, world

ANN, BEN, CAT = EntityId("ann"), EntityId("ben"), EntityId("cat")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def three(here: World) -> tuple[Pne, Pne, Pne]:
    """Return ann and ben behind one PN GW, and cat behind another."""
    await here.start_server()
    first, second = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    return (
        await here.joined_pne("ann", first),
        await here.joined_pne("ben", first),
        await here.joined_pne("cat", second),
    )


async def members(here: World, sg_id: SgId) -> set[str]:
    found = await here.store.group(sg_id)
    return set() if found is None else set(found.members)


async def owner(here: World, sg_id: SgId) -> str:
    found = await here.store.group(sg_id)
    assert found is not None
    return found.group.owner


async def refused(work: object) -> Result:
    with pytest.raises(Refused) as error:
        await work  # type: ignore[misc]
    return error.value.result


@pytest.mark.req("DEF-4", "DEF-5", "FN-7")
async def test_from_its_first_member_to_its_end(here: World) -> None:
    """Across two PNs: created, found, invited into, joined, left, deleted; all members know at every step."""
    ann, ben, cat = await three(here)
    here.accepting.add("cat")
    sg_id, asked = await ann.groups.create("family", JoinPolicy.OPEN, "music", [BEN, CAT, EntityId("nobody")])
    assert asked == {"ben": Result.REFUSED_BY_USER, "cat": Result.SUCCESS, "nobody": Result.OUT_OF_REACH}
    assert await members(here, sg_id) == {"ann", "cat"}
    assert here.asked["cat"] == [sg.SgInvitation(sg_id, "family", ANN, "music")]
    (found,) = await ben.groups.discover("FAM", members=True)
    assert (found.sg_id, found.owner, found.service, found.members) == (sg_id, "ann", "music", None)
    assert await ben.groups.discover(service="films") == []
    assert await ben.groups.join(sg_id) is Result.SUCCESS
    assert await refused(ben.groups.join(sg_id)) is Result.ALREADY_MEMBER
    here_now = {"ann", "ben", "cat"}
    for pne in (ben, cat):
        await until(lambda pne=pne: set(pne.groups.views[sg_id].places) == here_now)  # type: ignore[misc]
    await until(lambda: set(ann.groups.views[sg_id].places) == {*here_now, "nobody"})  # its owner sees the whole list
    await cat.groups.leave(sg_id)
    await until(lambda: set(ben.groups.views[sg_id].places) == {"ann", "ben"})
    await until(lambda: any(one.change == Change.LEFT and one.members == ("cat",) for one in here.group_changes["ben"]))
    await ann.groups.delete(sg_id)
    await until(lambda: sg_id not in ben.groups.views)
    assert await here.store.group(sg_id) is None
    assert await refused(ben.groups.join(sg_id)) is Result.UNKNOWN_SG


@pytest.mark.req("DEF-5")
async def test_the_owner_alone_expels_deletes_and_passes_on(here: World) -> None:
    ann, ben, cat = await three(here)
    sg_id, _ = await ann.groups.create("family", JoinPolicy.OPEN)
    for pne in (ben, cat):
        await pne.groups.join(sg_id)
    assert await refused(ben.groups.expel(sg_id, [CAT])) is Result.NOT_ALLOWED
    assert await refused(ben.groups.delete(sg_id)) is Result.NOT_ALLOWED
    assert await refused(ben.groups.pass_on(sg_id, BEN)) is Result.NOT_ALLOWED
    assert await refused(ann.groups.expel(sg_id, [ANN])) is Result.NOT_ALLOWED
    await ann.groups.expel(sg_id, [CAT])
    await until(lambda: sg_id not in cat.groups.views)
    assert await refused(cat.groups.join(sg_id)) is Result.NOT_ALLOWED  # barred
    assert await members(here, sg_id) == {"ann", "ben"}


@pytest.mark.req("DEF-5")
async def test_ownership_is_passed_on_to_who_agrees(here: World) -> None:
    """To a named member, which may refuse; or to the one that the server chooses: who has been in it longest."""
    ann, ben, cat = await three(here)
    sg_id, _ = await ann.groups.create("family", JoinPolicy.OPEN)
    for pne in (ben, cat):
        await pne.groups.join(sg_id)
    assert await refused(ann.groups.pass_on(sg_id, CAT)) is Result.REFUSED_BY_USER
    assert await owner(here, sg_id) == "ann"
    here.accepting.update(("ben", "cat"))
    assert await ann.groups.pass_on(sg_id, CAT) == "cat"
    await until(lambda: ben.groups.views[sg_id].owner == "cat")
    assert await refused(ann.groups.delete(sg_id)) is Result.NOT_ALLOWED
    assert await cat.groups.pass_on(sg_id) == "ben"  # ann, who has been in it longest, was asked first, and refused
    assert len(here.asked["ann"]) == 1
    assert await owner(here, sg_id) == "ben"


@pytest.mark.req("DEF-5", "FN-7")
async def test_an_owner_that_leaves_or_is_revoked_is_followed_by_rule(here: World) -> None:
    """By the member that has been in it longest; a group of nobody ends."""
    ann, ben, cat = await three(here)
    sg_id, _ = await ann.groups.create("family", JoinPolicy.OPEN)
    for pne in (ben, cat):
        await pne.groups.join(sg_id)
    await ann.groups.leave(sg_id)
    assert await owner(here, sg_id) == "ben"
    await here.provisioning.revoke(OPERATOR, "ben")
    assert (await owner(here, sg_id), await members(here, sg_id)) == ("cat", {"cat"})
    await until(lambda: cat.groups.views[sg_id].owner == "cat")
    await cat.groups.leave(sg_id)
    assert await here.store.group(sg_id) is None


@pytest.mark.req("FN-7", "DEF-4")
async def test_by_approval_and_closed(here: World) -> None:
    """Who waits is let in by the owner's invitation, or refused by its expulsion; a closed group is not to be found."""
    ann, ben, cat = await three(here)
    by_approval, _ = await ann.groups.create("club", JoinPolicy.APPROVAL)
    assert await ben.groups.join(by_approval) is Result.PENDING_APPROVAL
    assert await cat.groups.join(by_approval) is Result.PENDING_APPROVAL
    await ann.groups.refresh(by_approval)
    assert ann.groups.views[by_approval].places == {"ann": Place.MEMBER, "ben": Place.PENDING, "cat": Place.PENDING}
    assert await ann.groups.invite(by_approval, [BEN]) == {"ben": Result.SUCCESS}
    await ann.groups.expel(by_approval, [CAT])
    assert await members(here, by_approval) == {"ann", "ben"}
    closed, _ = await ann.groups.create("secret", JoinPolicy.CLOSED)
    assert await ben.groups.discover("secret") == []
    assert await refused(ben.groups.join(closed)) is Result.UNKNOWN_SG
    assert await refused(ben.groups.refresh(closed)) is Result.UNKNOWN_SG
    here.accepting.add("ben")
    assert await ann.groups.invite(closed, [BEN]) == {"ben": Result.SUCCESS}
    assert await refused(ben.groups.invite(closed, [CAT])) is Result.NOT_ALLOWED
    assert await refused(ann.groups.create("secret", JoinPolicy.OPEN)) is Result.EXISTS
    assert await cat.groups.create("secret", JoinPolicy.OPEN)  # a name is not its own alone


@pytest.mark.req("DEF-4", "FN-7")
async def test_each_gateway_has_a_copy_of_what_its_devices_are_in(here: World) -> None:
    """And no other: it follows each change, and asks when it comes back, or a member comes to it."""
    ann, ben, cat = await three(here)
    first, second = here.gateways
    sg_id, _ = await ann.groups.create("family", JoinPolicy.OPEN)
    await ben.groups.join(sg_id)
    await until(lambda: sg_id in first.groups.copies and first.groups.copies[sg_id].members == ("ann", "ben"))
    assert second.groups.copies == {}
    await cat.groups.join(sg_id)
    await until(lambda: sg_id in second.groups.copies and len(second.groups.copies[sg_id].members) == 3)
    found = await here.store.group(sg_id)
    assert found is not None
    await until(lambda: {one.groups.copies[sg_id].version for one in (first, second)} == {found.group.version})
    pan = PanConfig(*here.pan(second), secure=False)
    await here.stop(second)
    again = await here.start_gateway("gw-2", pans=(pan,))
    await cat.wake()  # it notices, and sets up again
    await until(lambda: sg_id in again.groups.copies)
    await ann.groups.delete(sg_id)
    await until(lambda: not first.groups.copies and not again.groups.copies)


@pytest.mark.req("DEF-5", "SES-3")
async def test_a_gateway_can_not_act_as_owner(here: World) -> None:
    """In its own session it may look at what its PNEs are in, and change nothing; nor tell a PNE of a change."""
    evil, bob = await stage(here)
    sg_id, _ = await bob.groups.create("family", JoinPolicy.OPEN)
    standing = await evil.uplink.wait(40)
    bobs = EntityId("bob")
    for message in (
        sg.SgExpelRequest(sg_id, (bobs,)),
        sg.SgDeleteRequest(sg_id),
        sg.SgOwnerChangeRequest(sg_id, EntityId("evil")),
        sg.SgJoinRequest(sg_id),
        sg.SgInviteRequest(sg_id, (EntityId("evil"),)),
        sg.SgCreateRequest("of evil", JoinPolicy.OPEN),
    ):
        answer = body_of((await ask(standing.link, message, session=standing.session)).payload)
        assert answer.result == Result.UNKNOWN_MESSAGE
    seen = body_of((await ask(standing.link, sg.SgInventoryRequest(sg_id), session=standing.session)).payload)
    assert seen.owner == bobs
    hop = evil.pans[0].hops.with_peer(bobs)
    member = evil.members.get(bobs)
    assert member is not None
    assert member.link is not None
    for lie in (
        sg.SgChangeNotify(sg_id, (bobs,), 9, Change.EXPELLED, 9),
        sg.SgInvitation(sg_id, "family", EntityId("evil")),
        sg.SgOwnerChangeRequest(sg_id, EntityId("evil")),
    ):
        for session in (hop, None):
            answer = body_of((await ask(member.link, lie, session=session)).payload)
            assert answer.result in (Result.AUTHENTICATION_FAILED, Result.UNKNOWN_MESSAGE)
    assert sg_id in bob.groups.views
    assert (await members(here, sg_id), await owner(here, sg_id)) == ({"bob"}, "bob")


@pytest.mark.req("DEF-5")
async def test_one_candidate_at_a_time(here: World) -> None:
    ann, ben, cat = await three(here)
    sg_id, _ = await ann.groups.create("family", JoinPolicy.OPEN)
    for pne in (ben, cat):
        await pne.groups.join(sg_id)
    here.accepting.update(("ben", "cat"))
    ended = await asyncio.gather(ann.groups.pass_on(sg_id, BEN), ann.groups.pass_on(sg_id, CAT), return_exceptions=True)
    assert ended[0] == "ben"
    assert isinstance(ended[1], Refused)
    assert await owner(here, sg_id) == "ben"


@pytest.mark.req("FN-7")
async def test_a_device_is_in_as_many_groups_as_the_server_says(here: World) -> None:
    await here.start_server(max_groups=2)
    gateway = await here.start_gateway("gw-1")
    ann, ben = [await here.joined_pne(name, gateway) for name in ("ann", "ben")]
    for name in ("one", "two"):
        await ben.groups.create(name, JoinPolicy.OPEN)
    sg_id, _ = await ann.groups.create("three", JoinPolicy.OPEN)
    assert await refused(ben.groups.join(sg_id)) is Result.TOO_MANY
    assert await refused(ben.groups.create("four", JoinPolicy.OPEN)) is Result.TOO_MANY
    here.accepting.add("ben")
    assert await ann.groups.invite(sg_id, [BEN]) == {"ben": Result.TOO_MANY}
    assert await members(here, sg_id) == {"ann"}
