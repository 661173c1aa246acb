"""Group Keys over real sockets: they reach every member and nobody else (DEF-6, DEF-7, FN-9)."""

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.domain import pace
from cpns.domain.actor import OPERATOR
from cpns.domain.member_list import Standing
from cpns.errors import Refused
from cpns.gateway.config import PanConfig
from cpns.ids import EntityId
from cpns.transport import pan as pan_module
from cpns.wire import group_messages as gm
from cpns.wire.registry import JoinPolicy
from tests.support.groups import Epochs, all_have, epoch, group_of, keys, listed, patiently, sealing, until_epoch
from tests.support.hostile_gateway import HostileGateway, Way, lost
from tests.support.lossy import Losses, UdpProxy
from tests.support.raw import ask
from tests.support.tap import body_of
from tests.support.world import FAST, World, until, world


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("cpns.pne.groups.CATCH_UP_PAUSES", (0.3, 1.0))
    async with world(tmp_path) as one:
        yield one


@pytest.mark.req("DEF-6", "DEF-7", "FN-9")
async def test_it_reaches_members_behind_two_gateways_and_nobody_else(here: World) -> None:
    """One by one where they are few, by broadcast where they are more; one key for all, a new one at each change."""
    await here.start_server()
    first: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway)
    second = await here.start_gateway("gw-2")
    sg_id, pnes = await group_of(here, 4, first)
    stranger = await here.joined_pne("stranger", first, **FAST)
    far = await here.joined_pne("far", second, **FAST)
    before = await all_have(here, sg_id, *pnes)
    await far.groups.join(sg_id)
    after = await all_have(here, sg_id, *pnes, far)
    assert before != after
    assert keys(far, sg_id) == {await epoch(here, sg_id): after}  # a newcomer has nothing older
    assert keys(stranger, sg_id) == {}
    broadcasts = [body for way, _, body in first.log if way is Way.TO_PNE and type(body) is gm.GroupKeyBroadcast]
    assert {one.epoch for one in broadcasts} >= {await epoch(here, sg_id)}
    newest = [one for one in broadcasts if one.epoch == max(each.epoch for each in broadcasts)]
    assert len({one.signature for one in newest}) == 1  # the same message for all of them
    clear = [body for way, _, body in first.log if way is Way.TO_PNE and type(body) is gm.GroupKeyRequest]
    assert all(one.epoch < newest[0].epoch for one in clear)


@pytest.mark.req("DEF-6", "FN-9")
@pytest.mark.parametrize("how", ["leaves", "is expelled", "is revoked"])
async def test_who_is_out_has_no_key_of_what_follows(here: World, how: str) -> None:
    """With every key that it ever held, and all that was broadcast."""
    await here.start_server()
    gateway: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway)
    sg_id, pnes = await group_of(here, 5, gateway)
    await all_have(here, sg_id, *pnes)
    gone, others = pnes[-1], pnes[:-1]
    held, own = keys(gone, sg_id), gone.groups._gkdks.get(sg_id)
    assert own is not None
    if how == "leaves":
        await gone.groups.leave(sg_id)
    elif how == "is expelled":
        await pnes[0].groups.expel(sg_id, [gone.config.pne_id])
    else:
        await here.provisioning.revoke(OPERATOR, gone.config.pne_id)
    await until_epoch(here, sg_id, max(held) + 1)
    after = await all_have(here, sg_id, *others)
    assert after not in held.values()
    assert sg_id not in gone.groups.keys or after not in keys(gone, sg_id).values()
    broadcasts = [body for way, _, body in gateway.log if way is Way.TO_PNE and type(body) is gm.GroupKeyBroadcast]
    newest = max(broadcasts, key=lambda one: one.epoch)
    assert newest.epoch == await epoch(here, sg_id)
    assert not {entry.node for entry in newest.entries}.intersection(own.path)


@pytest.mark.req("DEF-7", "FN-9")
async def test_who_missed_it_asks(here: World) -> None:
    """Its PN GW lost every message to it: it hears of the epoch from the server, and asks in its hop session."""
    await here.start_server()
    gateway: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway, answer_timeout=0.3)
    sg_id, pnes = await group_of(here, 2, gateway)
    gateway.hook = lost("pne-0", gm.GroupKeyBroadcast, gm.GroupKeyRequest, gm.GkdkRequest)
    late = await here.joined_pne("late", gateway, **FAST)
    await late.groups.join(sg_id)
    await all_have(here, sg_id, *pnes, late)


@pytest.mark.req("DEF-6", "FN-9", "SES-6")
async def test_a_stranger_is_given_none(here: World) -> None:
    """Neither a PNE of that PN GW that is no member, nor anybody without a session, nor another PN GW."""
    await here.start_server()
    gateway, other = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    sg_id, pnes = await group_of(here, 3, gateway)
    await all_have(here, sg_id, *pnes)
    stranger = await here.joined_pne("stranger", gateway, **FAST)
    hop = stranger._hop()
    assert hop is not None
    for session in (hop[1], None):
        answer = body_of((await ask(hop[0], gm.GroupKeyWanted(sg_id), session=session)).payload)
        assert getattr(answer, "group_key", None) is None
        assert answer.result != 0
    standing = await other.uplink.wait(40)
    with pytest.raises(Refused):
        await standing.link.ask(gm.GroupKeyWanted(sg_id), gm.GroupKeyGiven, timeout=5, session=standing.session)


@pytest.mark.req("DEF-7", "FN-9")
async def test_a_forged_key_is_not_taken(here: World) -> None:
    """Unprotected, or by another PN GW's broadcast, or with an older epoch: members keep what they have."""
    await here.start_server()
    gateway: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway)
    sg_id, pnes = await group_of(here, 4, gateway)
    await all_have(here, sg_id, *pnes)
    victim = pnes[1]
    before = keys(victim, sg_id)
    member = gateway.members.get(victim.config.pne_id)
    assert member is not None
    assert member.link is not None
    sent = [body for way, _, body in gateway.log if way is Way.TO_PNE and type(body) is gm.GroupKeyBroadcast]
    for lie in (
        gm.GroupKeyRequest(sg_id, 99, bytes(32)),
        gm.GkdkRequest(sg_id, 9, bytes(32), (gm.PathEntry(1, bytes(32)),)),
        gm.GroupKeyBroadcast(sg_id, EntityId("gw-1"), 99, 1, sent[-1].entries, sent[-1].signature),
        sent[0],
    ):
        answer = body_of((await ask(member.link, lie)).payload)
        assert answer.result != 0
    assert keys(victim, sg_id) == before


@pytest.mark.req("DEF-6", "FN-9", "FN-1")
async def test_a_gateway_that_restarts_serves_its_members_again(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway("gw-1", kept=True)
    pan = PanConfig(*here.pan(gateway), secure=False)
    sg_id, pnes = await group_of(here, 3, gateway)
    await all_have(here, sg_id, *pnes)
    await here.stop(gateway)
    again = await here.start_gateway("gw-1", kept=True, pans=(pan,))
    await until(lambda: all(again.members.way_to(pne.config.pne_id) is not None for pne in pnes))
    await until(lambda: sg_id in again.group_keys._keyed)
    newcomer = await here.joined_pne("newcomer", again, **FAST)
    await newcomer.groups.join(sg_id)
    await all_have(here, sg_id, *pnes, newcomer)


@pytest.mark.req("DEF-8")
async def test_it_is_sealed_at_rest(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway("gw-1", kept=True)
    sg_id, pnes = await group_of(here, 3, gateway)
    key = await all_have(here, sg_id, *pnes)
    at_rest = b"".join(path.read_bytes() for path in here.folder.iterdir() if path.is_file())
    assert sg_id.encode() in at_rest
    assert key not in at_rest


@pytest.mark.long
@pytest.mark.req("DEF-6", "DEF-7", "FN-7", "FN-9")
async def test_rekey_under_fire(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members come and go and talk, a tenth of all is lost, a gateway restarts.

    Each has the keys of its epochs alone; and hears all that was said in them, once, if it stays, and nothing else.
    """
    monkeypatch.setattr(pan_module, "PAN_TUNING", dataclasses.replace(pan_module.PAN_TUNING, ack_timeout=0.2))
    monkeypatch.setattr(pace, "JOINS", pace.Limit(99, 60.0))
    sealed = sealing(monkeypatch)
    draw = random.Random(5)
    await here.start_server()
    gateways = [await here.start_gateway(name, kept=True, answer_timeout=2.0) for name in ("gw-1", "gw-2")]
    pans = [UdpProxy(here.pan(one), Losses(seed, drop=0.1)) for seed, one in enumerate(gateways)]
    for pan in pans:
        here.closes(pan)
    pnes = {}
    for number in range(10):
        name = EntityId(f"pne-{number}")
        pnes[name] = await here.start_pne(name, pans[number % 2].address, **FAST)
    await asyncio.gather(*(asyncio.wait_for(pne.wait_established(), 40) for pne in pnes.values()))
    sg_id, _ = await pnes[EntityId("pne-0")].groups.create("family", JoinPolicy.OPEN)
    noted = Epochs(here.server.groups.actions)
    members_of = noted.members_of
    members_of[1] = {"pne-0"}
    saying: dict[str, asyncio.Task[Any]] = {}
    for step in range(24):
        inside = {name for name, how in (await listed(here, sg_id)).items() if how is Standing.MEMBER}
        speaker = draw.choice(sorted(inside))
        said = pnes[EntityId(speaker)].messages.send(sg_id, f"{step}")
        saying[f"{step}"] = asyncio.create_task(said)
        name = draw.choice(list(pnes)[1:])
        await patiently(pnes[name], sg_id, leaves=name in inside)
        if step == 12:
            where = PanConfig(*here.pan(gateways[1]), secure=False)
            await here.stop(gateways[1])
            gateways[1] = await here.start_gateway("gw-2", kept=True, answer_timeout=2.0, pans=(where,))
    async with asyncio.timeout(40):
        while await here.store.due_epochs(1):
            await asyncio.sleep(0.05)
    now = await epoch(here, sg_id)
    inside = members_of[now]
    await until(lambda: all(now in keys(pnes[EntityId(name)], sg_id) for name in inside), 60)
    seen: dict[int, set[bytes]] = {}
    for name, pne in pnes.items():
        for of, key in keys(pne, sg_id).items():
            seen.setdefault(of, set()).add(key)
            assert name in members_of[of]
    assert all(len(different) == 1 for different in seen.values())
    assert all(sg_id not in pne.groups.keys for name, pne in pnes.items() if name not in inside)
    await asyncio.wait(saying.values(), timeout=60)
    taken = {text for text, task in saying.items() if task.done() and task.exception() is None}
    assert all(isinstance(saying[text].exception(), Refused) for text in saying if text not in taken)  # it left first
    assert len(taken) > 12
    async with asyncio.timeout(40):
        while await here.store.awaiting_group_messages():
            await asyncio.sleep(0.1)
    for text in saying:
        under = sealed.get(text, [])
        heard = [name for name in pnes for one in here.said.get(name, ()) if one.text == text]
        assert len(set(heard)) == len(heard)
        assert set(heard) <= {name for sealed_in, _ in under for name in members_of[sealed_in]}
        if text in taken:
            last, speaker = under[-1]
            stayed = {name for name in members_of[last] if all(name in members_of[e] for e in members_of if e >= last)}
            stayed -= {name for name, left_in in noted.left_in.items() if left_in >= last}
            assert stayed - {speaker} <= set(heard)


@pytest.mark.req("DEF-7", "FN-9", "FN-1")
@pytest.mark.parametrize("where", ["there", "elsewhere"])
async def test_who_starts_anew_asks_for_its_keys(here: World, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Of all its groups, behind whichever PN GW: it says at once what it is asked to, and hears what is not kept."""
    monkeypatch.setattr("cpns.pne.groups.CATCH_UP_PAUSES", (60.0, 60.0))
    await here.start_server()
    gateways = [await here.start_gateway("gw-1"), await here.start_gateway("gw-2")]
    ann, ben = [await here.joined_pne(name, gateways[0], **FAST) for name in ("ann", "ben")]
    ids = [(await ann.groups.create(f"group {number}", JoinPolicy.OPEN, keep=0))[0] for number in range(4)]
    for sg_id in ids:
        await ben.groups.join(sg_id)
        await all_have(here, sg_id, ann, ben)
    monkeypatch.setattr(
        here.server.groups.delivery.copies, "came", lambda gateway, groups: None
    )  # it was told a moment ago
    await here.stop(ben)
    ben = await here.joined_pne("ben", gateways[where == "elsewhere"], **FAST)
    await until(lambda: set(ben.groups.views) == set(ids))
    for sg_id in ids:
        await all_have(here, sg_id, ann, ben)
        await ann.messages.send(sg_id, f"to {sg_id}")
        await ben.messages.send(sg_id, f"from {sg_id}")
    await until(lambda: [one.text for one in here.said["ben"]] == [f"to {sg_id}" for sg_id in ids])
    await until(lambda: [one.text for one in here.said["ann"]] == [f"from {sg_id}" for sg_id in ids])
