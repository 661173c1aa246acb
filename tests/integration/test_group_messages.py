"""Messages to a group over real sockets: once to each member, in order, whoever is away, and to nobody else (FN-7)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.domain.actor import OPERATOR
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId, SgId
from cpns.pne.app import Pne
from cpns.protocol.group_messaging.sender import Sender
from cpns.wire import group_messages as gm
from cpns.wire.registry import JoinPolicy
from tests.support.groups import all_have, epoch, group_of
from tests.support.hostile_gateway import HostileGateway, Way
from tests.support.world import CLOCK, FAST, World, until, world


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("cpns.pne.groups.CATCH_UP_PAUSES", (0.3, 1.0))
    async with world(tmp_path) as one:
        yield one


def heard(here: World, name: str) -> list[tuple[str, str | None, bool]]:
    return [(one.sender, one.text, one.late) for one in here.said[name]]


async def all_heard(here: World, sender: str, texts: list[str], *names: str) -> None:
    await until(lambda: all(len(here.said[name]) >= len(texts) for name in names))
    for name in names:
        assert heard(here, name) == [(sender, text, False) for text in texts]


@pytest.mark.req("FN-7", "FN-9", "DEF-4")
@pytest.mark.parametrize("vouched", [False, True], ids=["signed", "vouched"])
@pytest.mark.parametrize("secure", [False, True], ids=["pan", "secure pan"])
async def test_it_reaches_the_members_of_two_networks_and_nobody_else(here: World, vouched: bool, secure: bool) -> None:
    await here.start_server()
    first = await here.start_gateway("gw-1", secure=secure)
    second = await here.start_gateway("gw-2")
    fast = FAST | {"pan_secure": secure}
    owner, near = [await here.joined_pne(name, first, **fast) for name in ("owner", "near")]
    far, farther = [await here.joined_pne(name, second, **FAST) for name in ("far", "farther")]
    await here.joined_pne("stranger", second, **FAST)
    sg_id, _ = await owner.groups.create("family", JoinPolicy.OPEN, vouched=vouched)
    for pne in (near, far, farther):
        await pne.groups.join(sg_id)
    await all_have(here, sg_id, owner, near, far, farther)
    texts = [f"text {number}" for number in range(5)]
    for text in texts:
        await owner.messages.send(sg_id, text)
    await all_heard(here, "owner", texts, "near", "far", "farther")
    await far.messages.send(sg_id, "an answer")
    await until(lambda: here.said["owner"])
    assert heard(here, "owner") == [("far", "an answer", False)]
    assert heard(here, "farther")[-1] == heard(here, "near")[-1] == ("far", "an answer", False)
    assert heard(here, "stranger") == []
    found = await here.store.group(sg_id)
    assert found is not None
    assert {one.pne_id: one.key is not None and one.key.verify_key is not None for one in found.listed} == {
        "owner": True,
        "near": False,
        "far": True,
        "farther": False,
    }


@pytest.mark.req("FN-7", "FN-1")
async def test_who_is_away_gets_it_when_it_is_back(here: World) -> None:
    """Asleep; gone, and started anew; and one that came late to an epoch: each in the order of the sender."""
    await here.start_server()
    first = await here.start_gateway("gw-1", answer_timeout=0.4)
    second = await here.start_gateway("gw-2", answer_timeout=0.4)
    sg_id, pnes = await group_of(here, 2, first)
    sleepy = await here.joined_pne("sleepy", first, **FAST)
    gone = await here.joined_pne("gone", second, **FAST)
    for pne in (sleepy, gone):
        await pne.groups.join(sg_id)
    await all_have(here, sg_id, *pnes, sleepy, gone)
    await sleepy.sleep()
    await here.stop(gone)
    await pnes[0].messages.send(sg_id, "one")
    newcomer = await here.joined_pne("newcomer", second, **FAST)
    await newcomer.groups.join(sg_id)  # another epoch, whose key the two do not have
    await all_have(here, sg_id, *pnes, newcomer)
    await pnes[0].messages.send(sg_id, "two")
    await all_heard(here, "pne-0", ["one", "two"], "pne-1")
    await all_heard(here, "pne-0", ["two"], "newcomer")
    assert here.said["sleepy"] == here.said["gone"] == []
    await sleepy.wake()
    await here.joined_pne("gone", second, **FAST)
    await all_heard(here, "pne-0", ["one", "two"], "sleepy", "gone")
    await until_nothing_waits(here)
    assert len(here.said["sleepy"]) == len(here.said["gone"]) == 2


async def until_nothing_waits(here: World) -> None:
    async with asyncio.timeout(40):
        while await here.store.awaiting_group_messages():
            await asyncio.sleep(0.05)


@pytest.mark.req("FN-7")
async def test_nothing_is_kept_where_the_group_says_so_nor_for_who_has_left(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway("gw-1", answer_timeout=0.4)
    sg_id, pnes = await group_of(here, 3, gateway, keep=0)
    await all_have(here, sg_id, *pnes)
    await pnes[2].sleep()
    await pnes[0].messages.send(sg_id, "lost on who sleeps")
    assert await here.store.awaiting_group_messages() == []
    await here.server.groups.actions.update(sg_id, OPERATOR, None, 3600)
    await pnes[0].messages.send(sg_id, "kept")
    assert await here.store.awaiting_group_messages() == ["pne-2"]
    await here.server.groups.actions.expel(sg_id, OPERATOR, [EntityId("pne-2")])
    assert await here.store.awaiting_group_messages() == []
    await pnes[2].wake()
    await all_heard(here, "pne-0", ["lost on who sleeps", "kept"], "pne-1")
    assert here.said["pne-2"] == []


@pytest.mark.req("FN-7", "FN-1")
async def test_what_is_sent_again_is_heard_once(here: World) -> None:
    """The answer is lost, to the sender and to the PN GWs; the members have it all the same."""
    await here.start_server()
    first: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway, answer_timeout=0.4)
    second: HostileGateway = await here.start_gateway("gw-2", kind=HostileGateway, answer_timeout=0.4)
    sg_id, pnes = await group_of(here, 2, first)
    far = await here.joined_pne("far", second, **FAST)
    await far.groups.join(sg_id)
    await all_have(here, sg_id, *pnes, far)
    dropped: list[Any] = []

    def once_each(way: Way, peer: str, body: Any) -> Any:
        if isinstance(body, gm.GroupMessageResponse) and way not in dropped:
            dropped.append(way)
            raise NoAnswer("lost on the way")
        return body

    first.hook = second.hook = once_each
    await asyncio.wait_for(pnes[0].messages.send(sg_id, "one"), 60)
    await pnes[0].messages.send(sg_id, "two")
    await all_heard(here, "pne-0", ["one", "two"], "pne-1", "far")
    assert len(dropped) >= 2
    await until_nothing_waits(here)
    await all_heard(here, "pne-0", ["one", "two"], "pne-1", "far")


@pytest.mark.req("FN-7", "FN-9")
async def test_a_message_of_an_epoch_that_is_over_is_sealed_anew(here: World) -> None:
    """Somebody was put out meanwhile. Its members here have heard it by then: the server does not take it, and under
    the new epoch it is not heard twice."""
    await here.start_server()
    gateway: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway)
    other = await here.start_gateway("gw-2")
    sg_id, pnes = await group_of(here, 2, gateway)
    far, gone = [await here.joined_pne(name, other, **FAST) for name in ("far", "gone")]
    await asyncio.gather(*(pne.groups.join(sg_id) for pne in (far, gone)))
    await all_have(here, sg_id, *pnes, far, gone)
    before = await epoch(here, sg_id)

    async def is_put_out_meanwhile(body: Any) -> None:
        if isinstance(body, gm.GroupMessageUp) and body.epoch == before:
            await here.server.groups.actions.expel(sg_id, OPERATOR, [EntityId("gone")])

    gateway.before = is_put_out_meanwhile
    await pnes[0].messages.send(sg_id, "between two epochs")
    await all_heard(here, "pne-0", ["between two epochs"], "pne-1", "far")
    up = [body for way, _, body in gateway.log if way is Way.TO_SERVER and isinstance(body, gm.GroupMessageUp)]
    assert [one.epoch for one in up] == [before, before + 1]
    assert up[0].seq < up[1].seq
    assert here.said["gone"] == []


@pytest.mark.req("FN-7", "FN-9")
async def test_no_number_returns(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after a restart of the sender, or of the server, nor elsewhere: each start has a run of its own."""
    sealed: list[bytes] = []
    seal = Sender.seal

    def noting(self: Sender, *args: Any, **options: Any) -> gm.GroupMessage:
        message = seal(self, *args, **options)
        sealed.append(message.seq)
        return message

    monkeypatch.setattr(Sender, "seal", noting)
    await here.start_server()
    gateway = await here.start_gateway("gw-1", kept=True)
    other = await here.start_gateway("gw-2")
    sg_id, pnes = await group_of(here, 2, gateway)
    await all_have(here, sg_id, *pnes)
    await pnes[0].messages.send(sg_id, "1")
    await here.stop(pnes[0])
    again = await here.joined_pne("pne-0", gateway, **FAST)
    await again.messages.send(sg_id, "2")
    await here.stop(here.server)
    await here.start_server()
    await again.messages.send(sg_id, "3")
    await here.stop(again)
    elsewhere = await here.joined_pne("pne-0", other, **FAST)
    await elsewhere.messages.send(sg_id, "4")
    await all_heard(here, "pne-0", ["1", "2", "3", "4"], "pne-1")
    assert sealed == sorted(set(sealed))
    assert {int.from_bytes(seq[:4], "big") for seq in sealed} == {1, 2, 3}


@pytest.mark.req("FN-7")
async def test_the_local_members_have_it_while_the_uplink_is_away(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway("gw-1")
    other = await here.start_gateway("gw-2")
    sg_id, pnes = await group_of(here, 2, gateway)
    far = await here.joined_pne("far", other, **FAST)
    await far.groups.join(sg_id)
    await all_have(here, sg_id, *pnes, far)
    await pnes[0].messages.send(sg_id, "zero")
    await here.stop(here.server)
    sending = asyncio.create_task(pnes[0].messages.send(sg_id, "one"))
    await all_heard(here, "pne-0", ["zero", "one"], "pne-1")
    assert not sending.done()
    await here.start_server()
    await asyncio.wait_for(sending, 60)
    await all_heard(here, "pne-0", ["zero", "one"], "pne-1", "far")


@pytest.mark.req("FN-7", "DEF-5")
async def test_who_is_no_member_can_not_send(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway("gw-1")
    sg_id, pnes = await group_of(here, 3, gateway)
    await all_have(here, sg_id, *pnes)
    stranger = await here.joined_pne("stranger", gateway, **FAST)
    with pytest.raises(Refused) as refused:
        await stranger.messages.send(sg_id, "hello")
    assert refused.value.result is Result.UNKNOWN_SG
    await pnes[0].groups.expel(sg_id, [EntityId("pne-2")])
    with pytest.raises(Refused):
        await asyncio.wait_for(pnes[2].messages.send(sg_id, "hello"), 40)
    assert heard(here, "pne-1") == []


@pytest.mark.req("DEF-5", "FN-7")
async def test_an_owner_that_has_vanished_is_replaced_by_rule(here: World) -> None:
    """By the member that has been in longest of those that are there; while it is there itself, it stays owner."""
    await here.start_server()
    gateway = await here.start_gateway("gw-1")
    sg_id, pnes = await group_of(here, 4, gateway)
    await here.server.groups.actions.replace_silent_owners(0.0)
    assert await owner_of(here, sg_id) == "pne-0"
    await here.stop(pnes[0])
    await here.stop(pnes[1])
    here.server.sessions.remove(here.server.sessions.with_peer(EntityId("pne-0")))  # type: ignore[arg-type]
    await asyncio.sleep(0.6)
    await here.server.groups.actions.replace_silent_owners(0.5)
    assert await owner_of(here, sg_id) == "pne-0"  # nobody else was heard either
    began = CLOCK.now()
    await rejoined(here, pnes[3])
    await rejoined(here, pnes[2])
    await here.server.groups.actions.replace_silent_owners(CLOCK.now() - began)
    assert await owner_of(here, sg_id) == "pne-2"
    (row,) = [row for row in await here.store.audit(None, 50) if row.event == "sg_owner_replaced"]
    assert (row.entity_id, row.via, row.reason) == ("pne-2", None, sg_id)
    await until(lambda: pnes[3].groups.views[sg_id].owner == "pne-2")


async def owner_of(here: World, sg_id: SgId) -> str:
    found = await here.store.group(sg_id)
    assert found is not None
    return found.group.owner


async def rejoined(here: World, pne: Pne) -> None:
    pne.life.suspect(pne._way.session, lost=True)
    await pne.wait_established()
