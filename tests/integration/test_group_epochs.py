"""Epochs of groups over real sockets: who is put out is out at once, and who comes and goes holds up nobody (FN-9)."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.crypto.secret import Secret
from cpns.domain import epoch as epochs
from cpns.domain import pace
from cpns.domain.actor import OPERATOR
from cpns.domain.group import Group
from cpns.domain.member_list import Policy, Standing
from cpns.errors import AuthenticationFailed, Refused, Result
from cpns.ids import EntityId, SgId
from cpns.pne.app import Pne
from cpns.protocol.group_messaging.receiver import open_message
from cpns.wire import group_messages as gm
from cpns.wire import sg_messages as sg
from cpns.wire.registry import Change, JoinPolicy, Place
from tests.support.groups import all_have, epoch, group_of, keys, listed, sealing, until_epoch
from tests.support.hostile_gateway import HostileGateway, Way
from tests.support.processes import processes
from tests.support.world import CLOCK, FAST, World, push_of, until, world

MALLORY = EntityId("mallory")
SLOW: Any = 3.0
"""Seconds between epochs, where a test looks at what is until the next one."""
PATIENT = FAST | {"request_timeout": 6.0}


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("cpns.pne.groups.CATCH_UP_PAUSES", (0.3, 1.0))
    async with world(tmp_path) as one:
        yield one


async def come_and_go(pne: Pne, sg_id: SgId, per_second: float, changes: list[Result]) -> None:
    """Ask to join, then to leave, at that rate, whatever the answers."""
    way = pne._way

    async def ask(request: Any, shape: Any) -> None:
        try:
            await way.ask(request, shape)
            changes.append(Result.SUCCESS)
        except Refused as error:
            changes.append(error.result)

    async with asyncio.TaskGroup() as tasks:
        while True:
            for request, shape in (
                (sg.SgJoinRequest(sg_id), sg.SgJoinResponse),
                (sg.SgLeaveRequest(sg_id), sg.SgLeaveResponse),
            ):
                tasks.create_task(ask(request, shape))
                await asyncio.sleep(1 / per_second)


async def say(pne: Pne, sg_id: SgId, texts: list[str]) -> None:
    """Say each of *texts*, 0.4 s after the one before."""
    for text in texts:
        await asyncio.wait_for(pne.messages.send(sg_id, text), 40)
        await asyncio.sleep(0.4)


@pytest.mark.req("FN-7", "FN-9", "DEF-6")
@pytest.mark.parametrize("per_second", [30, 60])
async def test_who_comes_and_goes_keeps_no_text_from_getting_through(
    here: World, per_second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text is sealed anew for an epoch that began meanwhile, and these are few: without a bound none got through."""
    sealed = sealing(monkeypatch)
    await here.start_server()
    gateway, other = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    sg_id, pnes = await group_of(here, 3, gateway)
    far = await here.joined_pne("far", other, **FAST)
    mallory = await here.joined_pne("mallory", other, **FAST)
    await far.groups.join(sg_id)
    await all_have(here, sg_id, *pnes, far)
    before = await epoch(here, sg_id)
    changes: list[Result] = []
    attack = asyncio.create_task(come_and_go(mallory, sg_id, per_second, changes))
    await asyncio.sleep(0.5)
    texts = [f"text {number}" for number in range(5)]
    await say(pnes[0], sg_id, texts)
    await until(lambda: Result.TOO_MANY in changes)
    attack.cancel()
    for name in ("pne-1", "pne-2", "far"):
        await until(lambda name=name: [one.text for one in here.said[name]] == texts)  # type: ignore[misc]
    begun = await epoch(here, sg_id)
    assert begun < 12  # four of its making, and six JOINs and LEAVEs that were allowed
    assert sum(len(under) for under in sealed.values()) <= len(texts) + begun - before


@pytest.mark.req("FN-7", "FN-9", "DEF-6")
@pytest.mark.parametrize("per_second", [30, 60])
async def test_many_that_come_and_go_keep_no_text_from_getting_through(
    here: World, per_second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one without a pace: there is an epoch each second, for as long as they like."""
    monkeypatch.setattr(pace, "JOINS", pace.Limit(10_000, 60.0))
    await here.start_server()
    gateway, other = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    sg_id, pnes = await group_of(here, 3, gateway)
    far = await here.joined_pne("far", other, **FAST)
    mallory = await here.joined_pne("mallory", gateway, **FAST)
    await far.groups.join(sg_id)
    await all_have(here, sg_id, *pnes, far)
    before, began = await epoch(here, sg_id), time.monotonic()
    attack = asyncio.create_task(come_and_go(mallory, sg_id, per_second, []))
    texts = [f"text {number}" for number in range(12)]
    await say(pnes[0], sg_id, texts)
    async with asyncio.timeout(60):
        while await epoch(here, sg_id) < before + 3:
            await asyncio.sleep(0.1)
    attack.cancel()
    for name in ("pne-1", "pne-2", "far"):
        await until(lambda name=name: [one.text for one in here.said[name]] == texts)  # type: ignore[misc]
    passed = (await epoch(here, sg_id)) - before
    assert passed <= time.monotonic() - began + 1


class Ear:
    """Whoever hears what is in no session on the PANs of gateways, and has every key that a PNE ever had."""

    def __init__(self, pne: Pne, sg_id: SgId, *gateways: HostileGateway) -> None:
        self._gateways = gateways
        self._keys = {key.reveal() for key in pne.groups.keys[sg_id].values()}

    def opens(self) -> int:
        """Return how many of the messages to groups that passed it can open."""
        passed = [
            body for one in self._gateways for way, _, body in one.log if way is Way.TO_PNE and hasattr(body, "sealed")
        ]
        assert passed
        return sum(self._one(body) for body in passed)

    def _one(self, message: Any) -> bool:
        for key in self._keys:
            try:
                open_message(message, Secret(key))
            except AuthenticationFailed:
                continue
            return True
        return False


@pytest.mark.req("FN-9", "DEF-5", "DEF-6")
@pytest.mark.parametrize("speaker", ["pne-0", "pne-1", "far"])
@pytest.mark.parametrize("how", ["by its owner", "by the operator", "revoked"])
async def test_who_is_put_out_opens_nothing_that_is_said_from_then_on(here: World, how: str, speaker: str) -> None:
    """It has all keys that it ever had, and every datagram of both PANs; and somebody speaks at once, who may not have
    heard of it yet."""
    await here.start_server()
    gateway: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway)
    other: HostileGateway = await here.start_gateway("gw-2", kind=HostileGateway)
    sg_id, pnes = await group_of(here, 3, gateway)
    far, mallory = [await here.joined_pne(name, other, **PATIENT) for name in ("far", "mallory")]
    await asyncio.gather(*(pne.groups.join(sg_id) for pne in (far, mallory)))
    await all_have(here, sg_id, *pnes, far, mallory)
    await pnes[0].messages.send(sg_id, "the old code word")
    ear = Ear(mallory, sg_id, gateway, other)
    before = ear.opens()
    assert before
    if how == "by its owner":
        await pnes[0].groups.expel(sg_id, [MALLORY])
    elif how == "by the operator":
        await here.server.groups.actions.expel(sg_id, OPERATOR, [MALLORY])
    else:
        await here.provisioning.revoke(OPERATOR, MALLORY)
    by = {one.config.pne_id: one for one in (*pnes, far)}[EntityId(speaker)]
    texts = [f"the new code word {number}" for number in range(3)]
    for text in texts:
        await by.messages.send(sg_id, text)
    for name in {"pne-0", "pne-1", "pne-2", "far"} - {speaker}:
        await until(lambda name=name: [one.text for one in here.said[name]][-3:] == texts)  # type: ignore[misc]
    assert ear.opens() == before


@pytest.mark.req("FN-9", "DEF-6")
async def test_a_server_takes_nothing_under_an_older_epoch_after_somebody_was_put_out(here: World) -> None:
    """Not even of a PN GW that gives it on without asking, and not where others came and went just before."""
    await here.start_server()
    gateway: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway)
    sg_id, pnes = await group_of(here, 4, gateway)
    await all_have(here, sg_id, *pnes)
    began = await epoch(here, sg_id)
    await pnes[2].groups.leave(sg_id)
    await until_epoch(here, sg_id, began + 1)
    await here.server.groups.actions.expel(sg_id, OPERATOR, [EntityId("pne-3")])
    assert await epoch(here, sg_id) == began + 2
    sender = await pnes[1].messages._registered()
    standing = await gateway.uplink.wait(40)
    for of in (began, began + 1):
        key = pnes[1].groups.keys[sg_id].get(of, Secret(bytes(32)))
        one = sender.seal(sg_id, of, key, b"x", signed=True)
        up = gm.GroupMessageUp(one.sg_id, of, one.sender, one.seq, one.sealed, 0, (), one.signature)
        answer = await standing.link.ask(up, gm.GroupMessageResponse, timeout=5, session=standing.session)
        assert (answer.result, answer.epoch) == (Result.KEY_EXPIRED, began + 2)


@pytest.mark.req("FN-7", "FN-9", "DEF-6")
async def test_what_is_said_when_others_come_is_for_who_was_in_it(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under an epoch that ended just now: taken, given to its members, those of the sender's PN GW too, and not to who
    came with the next one, which gets no key of it."""
    older_is_taken(monkeypatch, 60.0)
    await here.start_server()
    gateway: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway)
    other = await here.start_gateway("gw-2")
    sg_id, pnes = await group_of(here, 2, gateway)
    far, newcomer = [await here.joined_pne(name, other, **FAST) for name in ("far", "newcomer")]
    await far.groups.join(sg_id)
    await all_have(here, sg_id, *pnes, far)
    before = await epoch(here, sg_id)

    async def joins_meanwhile(body: Any) -> None:
        if isinstance(body, gm.GroupMessageUp) and body.epoch == before:
            gateway.before = None
            await newcomer.groups.join(sg_id)
            await until(lambda: gateway.groups.copies[sg_id].epoch == before + 1)

    gateway.before = joins_meanwhile
    await pnes[0].messages.send(sg_id, "between two epochs")
    older = pnes[1].groups.keys[sg_id][before]
    sender = await pnes[1].messages._registered()
    late = sender.seal(sg_id, before, older, push_of("said late"), signed=True)
    answer = await gateway.messages.sent(EntityId("pne-1"), late)
    assert answer.result == Result.SUCCESS
    await until(lambda: [one.text for one in here.said["far"]] == ["between two epochs", "said late"])
    await until(lambda: [one.text for one in here.said["pne-0"]] == ["said late"])
    await asyncio.sleep(0.3)
    assert here.said["newcomer"] == []
    assert before not in keys(newcomer, sg_id)
    assert await here.store.awaiting_group_messages() == []
    later = sender.seal(sg_id, before, older, push_of("said too late"), signed=True)
    older_is_taken(monkeypatch, 0.0)
    answer = await gateway.messages.sent(EntityId("pne-1"), later)
    assert (answer.result, answer.epoch) == (Result.KEY_EXPIRED, before + 1)


def older_is_taken(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let what is said under an epoch that others ended by coming be taken for so long."""
    for module in ("cpns.domain.epoch", "cpns.store.epoch_queries"):
        monkeypatch.setattr(f"{module}.OLDER_SECONDS", seconds)


@pytest.mark.req("FN-7", "DEF-4", "DEF-6")
async def test_who_comes_within_a_second_comes_with_one_epoch(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sees it before: to its owner it is invited, to the others and their PN GWs not there."""
    monkeypatch.setattr(epochs, "GATHER_SECONDS", SLOW)
    await here.start_server()
    gateway, other = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    sg_id, pnes = await group_of(here, 2, gateway)
    await all_have(here, sg_id, *pnes)
    comers = [await here.joined_pne(f"comer-{number}", other, **PATIENT) for number in range(4)]
    stays = await here.joined_pne("stays", gateway, **PATIENT)
    await stays.groups.join(sg_id)  # an epoch of its own
    began = await epoch(here, sg_id)
    joining = [asyncio.create_task(pne.groups.join(sg_id)) for pne in comers]
    await until_listed(here, sg_id, "comer-3")
    await pnes[0].groups.refresh(sg_id)
    assert {*(await listed(here, sg_id)).values()} == {Standing.MEMBER, Standing.COMING}
    assert set(gateway.groups.copies[sg_id].members) == {"pne-0", "pne-1", "stays"}
    assert not any(task.done() for task in joining)
    await asyncio.gather(*joining)
    assert await epoch(here, sg_id) == began + 1
    await all_have(here, sg_id, *pnes, stays, *comers)
    assert all(min(keys(pne, sg_id)) == began + 1 for pne in comers)

    def told() -> list[Any]:
        return [one for one in here.group_changes["stays"] if one.epoch == began + 1]

    await until(told)
    assert [(one.change, set(one.members)) for one in told()] == [(Change.JOINED, {f"comer-{n}" for n in range(4)})]


async def until_listed(here: World, sg_id: SgId, name: str) -> None:
    async with asyncio.timeout(40):
        while name not in await listed(here, sg_id):
            await asyncio.sleep(0.01)


@pytest.mark.req("FN-7", "DEF-4")
async def test_who_waits_three_times_in_a_minute_waits_and_may_always_leave(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway("gw-1")
    sg_id, _ = await group_of(here, 1, gateway)
    mallory = await here.joined_pne("mallory", gateway, **PATIENT)
    for _ in range(3):
        assert await mallory.groups.join(sg_id) is Result.SUCCESS
        await mallory.groups.leave(sg_id)
    with pytest.raises(Refused) as refused:
        await mallory.groups.join(sg_id)
    assert refused.value.result is Result.TOO_MANY
    other, _ = await (await here.joined_pne("ann", gateway, **PATIENT)).groups.create("other", JoinPolicy.OPEN)
    assert await mallory.groups.join(other) is Result.SUCCESS


@pytest.mark.req("FN-7", "DEF-6")
async def test_a_server_that_ends_before_an_epoch_begins_it_when_it_is_back(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "GATHER_SECONDS", SLOW)
    await here.start_server()
    gateway = await here.start_gateway("gw-1", kept=True)
    sg_id, pnes = await group_of(here, 2, gateway)
    late = await here.joined_pne("late", gateway, **FAST)
    joining = asyncio.create_task(late.groups.join(sg_id))
    await until_listed(here, sg_id, "late")
    leaving = asyncio.create_task(pnes[1].groups.leave(sg_id))
    async with asyncio.timeout(40):
        while (await listed(here, sg_id))["pne-1"] is not Standing.LEAVING:
            await asyncio.sleep(0.005)
    began = await epoch(here, sg_id)
    await here.stop(here.server)
    await asyncio.sleep(SLOW)
    await here.start_server()
    await until_epoch(here, sg_id, began + 1)
    assert await listed(here, sg_id) == {"pne-0": Standing.MEMBER, "late": Standing.MEMBER}
    await asyncio.gather(joining, leaving, return_exceptions=True)
    await until(lambda: late.joined is not None and late._way.session is not None)
    async with asyncio.timeout(40):
        while sg_id not in late.groups.views:
            try:
                await late.groups.refresh()
            except Refused:
                await asyncio.sleep(0.2)
    await all_have(here, sg_id, pnes[0], late)


@pytest.mark.req("FN-7", "DEF-6")
async def test_an_epoch_that_one_process_owes_is_begun_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cpns.pne.groups.CATCH_UP_PAUSES", (0.3, 1.0))
    async with processes(tmp_path, 2) as (_, (one, other)):
        first, second = await one.start_gateway("gw-1"), await other.start_gateway("gw-2")
        sg_id, pnes = await group_of(one, 2, first)
        far = await other.joined_pne("far", second, **FAST)
        asyncio.create_task(far.groups.join(sg_id)).add_done_callback(lambda task: task.exception())
        await until_listed(one, sg_id, "far")
        began = await epoch(one, sg_id)
        if (await listed(one, sg_id))["far"] is Standing.COMING:
            await other.stop(other.server)
            await until_epoch(one, sg_id, began + 1)
        assert (await listed(one, sg_id))["far"] is Standing.MEMBER
        await all_have(one, sg_id, *pnes)


@pytest.mark.req("DEF-4")
async def test_a_list_tells_of_who_comes_or_goes_when_it_is_in_or_out(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To peers of an older version too: no place is told of that they do not know."""
    monkeypatch.setattr(epochs, "GATHER_SECONDS", SLOW)
    await here.start_server()
    gateway = await here.start_gateway("gw-1")
    sg_id, pnes = await group_of(here, 3, gateway)
    late = await here.joined_pne("late", gateway, **PATIENT)
    joining = asyncio.create_task(late.groups.join(sg_id))
    await until_listed(here, sg_id, "late")
    await pnes[2].groups.leave(sg_id)
    told: dict[str, dict[str, int]] = {}
    for pne in (pnes[0], pnes[1]):
        page = await pne._way.ask(sg.SgInventoryRequest(sg_id), sg.SgInventoryResponse)
        told[pne.config.pne_id] = {one.entity_id: one.standing for one in page.entries or ()}
    assert told["pne-1"] == dict.fromkeys(("pne-0", "pne-1", "pne-2"), Place.MEMBER)
    assert told["pne-0"] == {**told["pne-1"], "late": Place.INVITED}
    for gone in (pnes[2], late):
        with pytest.raises(Refused) as refused:
            await gone._way.ask(sg.SgInventoryRequest(sg_id), sg.SgInventoryResponse)
        assert refused.value.result is Result.UNKNOWN_SG
    await joining
    await until(lambda: set(pnes[0].groups.views[sg_id].places) == {"pne-0", "pne-1", "late"})
    assert gateway.groups.copies[sg_id].epoch == await epoch(here, sg_id)


@pytest.mark.req("DEF-4", "SES-2")
async def test_a_device_that_sets_up_again_and_again_has_its_gateway_told_once(here: World) -> None:
    """Of each group that it is in, one after the other; and again of what has changed."""
    await here.start_server()
    gateway: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway)
    owner = await here.joined_pne("owner", gateway, **FAST)
    ids = [SgId(f"sg-{number}") for number in range(20)]
    for number, sg_id in enumerate(ids):
        at = CLOCK.now() - 6000 + 60 * number
        new = Group(sg_id, sg_id, None, EntityId("owner"), Policy.OPEN, 1, 1, at)
        await here.store.create_group(new, len(ids))

    def told() -> list[SgId]:
        notices = [body for way, _, body in gateway.log if way is Way.FROM_SERVER]
        return [one.sg_id for one in notices if isinstance(one, sg.SgChangeNotify)]

    async def sets_up_again() -> None:
        owner.life.suspect(owner._way.session, lost=True)
        await owner.wait_established()

    await sets_up_again()
    await until(lambda: len(told()) >= len(ids))
    for _ in range(5):
        await sets_up_again()
    await asyncio.sleep(0.5)
    assert sorted(told()) == sorted(ids)
    await here.server.groups.actions.update(ids[3], OPERATOR, None, 60)
    await until(lambda: told().count(ids[3]) == 2)
    await until(lambda: set(gateway.groups.copies) == set(ids))


@pytest.mark.req("DEF-5", "FN-7")
async def test_who_makes_groups_as_fast_as_it_can_is_told_to_wait(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway("gw-1")
    mallory, ann = [await here.joined_pne(name, gateway, **PATIENT) for name in ("mallory", "ann")]
    ended = []
    for number in range(12):
        try:
            await mallory.groups.create(f"name-{number}", JoinPolicy.OPEN)
            ended.append(Result.SUCCESS)
        except Refused as error:
            ended.append(error.result)
    assert ended == [Result.SUCCESS] * pace.CREATIONS.times + [Result.TOO_MANY] * (12 - pace.CREATIONS.times)
    await ann.groups.create("name-11", JoinPolicy.OPEN)


@pytest.mark.req("DEF-5", "FN-7")
async def test_who_invites_names_without_end_is_told_to_stop(here: World) -> None:
    """With one answer for who is unknown and who is away; a group that is made with too many of them is made."""
    await here.start_server()
    gateway = await here.start_gateway("gw-1")
    mallory = await here.joined_pne("mallory", gateway, **PATIENT)
    await here.provision(here.kinds.PNE, "away")
    sg_id, _ = await mallory.groups.create("names", JoinPolicy.OPEN)
    whom = [EntityId("away"), *(EntityId(f"nobody-{number}") for number in range(63))]
    assert set((await mallory.groups.invite(sg_id, whom)).values()) == {Result.OUT_OF_REACH}
    with pytest.raises(Refused) as refused:
        await mallory.groups.invite(sg_id, [EntityId("nobody-64")])
    assert refused.value.result is Result.TOO_MANY
    assert len(await listed(here, sg_id)) == 65
    made = []
    for number in range(4):
        some = [EntityId(f"no-{number}-{one}") for one in range(64)]
        made.append(await mallory.groups.create(f"more-{number}", JoinPolicy.OPEN, invite=some))
    assert [set(results.values()) for _, results in made] == [{Result.OUT_OF_REACH}] * 3 + [{Result.TOO_MANY}]
    assert len(await listed(here, made[3][0])) == 1
