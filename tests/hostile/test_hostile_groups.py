"""Who is not in a group, who was, and PN GWs that lie: nothing of it is heard, nothing is opened (FN-7, FN-9)."""

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.crypto import group as crypto
from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.errors import AuthenticationFailed, Refused, Result
from cpns.ids import EntityId, SgId
from cpns.pne.app import Pne
from cpns.protocol.group_keying.member import Gkdk
from cpns.protocol.group_messaging.receiver import open_message
from cpns.wire import group_messages as gm
from cpns.wire.registry import JoinPolicy
from tests.support.groups import all_have, group_of, keys, until_epoch
from tests.support.hostile_gateway import HostileGateway, Way, altered, flip
from tests.support.raw import ask
from tests.support.tap import body_of
from tests.support.world import FAST, World, address_of, until, world


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("cpns.pne.groups.CATCH_UP_PAUSES", (0.3, 1.0))
    async with world(tmp_path) as one:
        yield one


async def two_networks(here: World, **options: Any) -> tuple[SgId, HostileGateway, HostileGateway, list[Pne]]:
    """Return a group of alice, bob and carol behind the first PN GW, dave behind the second."""
    await here.start_server()
    first: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway, answer_timeout=0.6)
    second: HostileGateway = await here.start_gateway("gw-2", kind=HostileGateway, answer_timeout=0.6)
    names = {"alice": first, "bob": first, "carol": first, "dave": second}
    pnes = [await here.joined_pne(name, gateway, **FAST) for name, gateway in names.items()]
    sg_id, _ = await pnes[0].groups.create("family", JoinPolicy.OPEN, **options)
    for pne in pnes[1:]:
        await pne.groups.join(sg_id)
    await all_have(here, sg_id, *pnes)
    return sg_id, first, second, pnes


def texts(here: World, name: str) -> list[tuple[str, str | None]]:
    return [(one.sender, one.text) for one in here.said[name]]


def caught(gateway: HostileGateway, way: Way) -> gm.GroupMessage:
    """Return the newest message to a group that passed."""
    found = [body for at, _, body in gateway.log if at is way and isinstance(body, gm.GroupMessage)]
    return found[-1]


async def cast(pne: Pne, to: Pne, message: gm.GroupMessage) -> Any:
    """Say something to another PNE on the PAN, from a member's own socket; return its answer."""
    link = await pne._endpoint.link_to("127.0.0.1", address_of(to._endpoint)[1])
    return body_of((await ask(link, message)).payload)


FIELDS: dict[str, Any] = {
    "sender": EntityId("bob"),
    "epoch": lambda epoch: epoch - 1,
    "seq": lambda seq: seq[:3] + bytes([seq[3] + 1]) + seq[4:],  # not one that is taken already
    "sealed": flip,
    "signature": flip,
}


@pytest.mark.req("FN-7", "FN-9")
@pytest.mark.parametrize("field", FIELDS)
async def test_a_gateway_that_changes_a_message_is_not_heard(here: World, field: str) -> None:
    """On its way up, the server refuses it; on its way down, the members do, and get what the server keeps for them."""
    sg_id, first, second, (alice, *_) = await two_networks(here)
    await alice.messages.send(sg_id, "zero")
    second.hook = lambda way, _, body: changed(field, body) if way is Way.TO_PNE else body
    await alice.messages.send(sg_id, "one")
    await until(lambda: texts(here, "dave")[-1:] == [("alice", "one")])
    first.hook = lambda way, _, body: changed(field, body) if way is Way.TO_SERVER else body
    with pytest.raises((Refused, TimeoutError)):
        await asyncio.wait_for(alice.messages.send(sg_id, "two"), 2)
    await asyncio.sleep(0.2)  # an attempt that was under way ends
    first.hook = lambda way, _, body: body
    await alice.messages.send(sg_id, "three")
    await until(lambda: ("alice", "three") in texts(here, "dave"))
    assert [("alice", text) for text in ("zero", "one", "three")] == texts(here, "dave")


def changed(field: str, body: Any) -> Any:
    return altered(body, **{field: FIELDS[field]}) if isinstance(body, gm.GroupMessage | gm.GroupMessageUp) else body


@pytest.mark.req("FN-7", "FN-9")
async def test_a_gateway_can_not_use_up_the_numbers_of_a_sender(here: World) -> None:
    sg_id, first, _, (alice, *_) = await two_networks(here)
    await alice.messages.send(sg_id, "zero")
    standing = await first.uplink.wait(40)
    last = caught(first, Way.FROM_PNE)
    for seq in (last.seq[:4] + b"\xff" * 8, b"\xff" * 12):
        up = gm.GroupMessageUp(*(sg_id, last.epoch, last.sender, seq, last.sealed, 0, ()), last.signature)
        with pytest.raises(Refused) as refused:
            await standing.link.ask(up, gm.GroupMessageResponse, timeout=5, session=standing.session)
        assert refused.value.result in (Result.AUTHENTICATION_FAILED, Result.NOT_AUTHENTICATED)
    await alice.messages.send(sg_id, "one")
    await until(lambda: texts(here, "dave") == [("alice", "zero"), ("alice", "one")])


@pytest.mark.req("FN-7", "FN-9")
async def test_a_gateway_that_calls_each_epoch_over_does_not_wear_out_a_sender(here: World) -> None:
    """The server tells the sender of no newer one, so that it takes its time; what it says is heard, and once."""
    sg_id, first, _, (alice, *_) = await two_networks(here)
    first.hook = lambda way, _, body: (
        gm.GroupMessageResponse(Result.KEY_EXPIRED)
        if way is Way.TO_PNE and isinstance(body, gm.GroupMessageResponse)
        else body
    )
    saying = asyncio.create_task(alice.messages.send(sg_id, "one"))
    await asyncio.sleep(2)
    heard = await until(lambda: first.heard(Way.FROM_PNE, gm.GroupMessage, "alice")[1:])
    assert len(heard) <= 3
    first.hook = lambda way, _, body: body
    await asyncio.wait_for(saying, 40)
    await until(lambda: texts(here, "dave") == [("alice", "one")])
    await asyncio.sleep(0.2)
    assert texts(here, "dave") == texts(here, "carol") == [("alice", "one")]


@pytest.mark.req("FN-7", "FN-9")
async def test_a_gateway_speaks_for_nobody_behind_another(here: World) -> None:
    """Whatever it replays, or names: the sender's session is not through it."""
    sg_id, first, second, (alice, *_) = await two_networks(here)
    await alice.messages.send(sg_id, "zero")
    message = caught(second, Way.FROM_SERVER)
    standing = await second.uplink.wait(40)
    up = gm.GroupMessageUp(
        *(sg_id, message.epoch, message.sender, message.seq, message.sealed, 0, ()), message.signature
    )
    with pytest.raises(Refused):
        await standing.link.ask(up, gm.GroupMessageResponse, timeout=5, session=standing.session)
    assert len(first.heard(Way.FROM_SERVER, gm.GroupMessage)) == 0


@pytest.mark.req("FN-7", "FN-9")
async def test_a_member_can_not_speak_for_another(here: World) -> None:
    """Bob has the Group Key, and says it to carol himself: as alice, signed by himself, by nobody, by her before."""
    sg_id, first, _, (alice, bob, carol, _) = await two_networks(here)
    for pne in (alice, bob):
        await pne.messages.send(sg_id, "zero")
    sent, own = caught(first, Way.FROM_PNE), bob.messages._sender
    assert own is not None
    key = bob.groups.keys[sg_id][sent.epoch]
    of_alice = [body for at, _, body in first.log if at is Way.FROM_PNE and getattr(body, "sender", "") == "alice"]
    real = [body for body in of_alice if isinstance(body, gm.GroupMessage)][-1]  # one before may be of an epoch over
    seq = (int.from_bytes(real.seq, "big") + 1).to_bytes(12, "big")
    sealed = crypto.seal_message(key, sg_id, sent.epoch, EntityId("alice"), seq, b"\x82\x48" + b"x" * 8 + b"\x62hi")
    signed = crypto.sign(own.sign_key, crypto.message_input(sg_id, sent.epoch, EntityId("alice"), seq, sealed))
    for signature in (signed, None, real.signature):
        forged = gm.GroupMessage(sg_id, sent.epoch, EntityId("alice"), seq, sealed, signature)
        assert (await cast(bob, carol, forged)).result != Result.SUCCESS
    await cast(bob, carol, real)  # as it was: it has that
    assert texts(here, "carol") == [("alice", "zero"), ("bob", "zero")]


@pytest.mark.req("FN-7", "FN-9", "DEF-5")
@pytest.mark.parametrize("how", ["expelled", "left", "revoked"])
async def test_who_is_out_speaks_no_more(here: World, how: str) -> None:
    """With the key of an epoch that it was in, and its own signature, straight to a member on the PAN."""
    sg_id, first, _, (alice, bob, carol, dave) = await two_networks(here)
    await bob.messages.send(sg_id, "zero")
    own, last = bob.messages._sender, caught(first, Way.FROM_PNE)
    assert own is not None
    key = Secret(keys(bob, sg_id)[last.epoch])
    if how == "expelled":
        await alice.groups.expel(sg_id, [EntityId("bob")])
    elif how == "left":
        await bob.groups.leave(sg_id)
    else:
        await here.provisioning.revoke(OPERATOR, EntityId("bob"))
    await until_epoch(here, sg_id, last.epoch + 1)
    await all_have(here, sg_id, alice, carol, dave)
    await until(lambda: carol.groups.views[sg_id].epoch > last.epoch)
    payload = b"\x82\x48" + b"y" * 8 + b"\x62hi"
    said = own.seal(sg_id, last.epoch, key, payload, signed=True)
    assert (await cast(bob, carol, said)).result != Result.SUCCESS
    assert texts(here, "carol") == [("bob", "zero")]


@pytest.mark.req("FN-7", "FN-1")
async def test_what_is_replayed_to_a_member_that_has_restarted_is_not_heard(here: World) -> None:
    """It remembers nothing, and asks the server how far each sender is."""
    sg_id, first, _, (alice, _, carol, _) = await two_networks(here)
    await alice.messages.send(sg_id, "zero")
    old = caught(first, Way.FROM_PNE)
    await here.stop(carol)
    here.said["carol"].clear()
    again = await here.joined_pne("carol", first, **FAST)
    await again.groups.refresh(sg_id)
    await until(lambda: old.epoch in keys(again, sg_id))
    member = first.members.get(EntityId("carol"))
    assert member is not None
    assert member.link is not None
    await ask(member.link, old)
    await alice.messages.send(sg_id, "one")
    await until(lambda: here.said["carol"])
    assert texts(here, "carol") == [("alice", "one")]


@pytest.mark.req("FN-7", "FN-9", "SES-6")
async def test_in_a_vouched_group_the_hop_session_is_the_proof(here: World) -> None:
    """Neither another member nor a stranger on the PAN is heard outside of it, nor a PNE that names another."""
    sg_id, first, _, (alice, bob, carol, _) = await two_networks(here, vouched=True)
    await alice.messages.send(sg_id, "zero")
    last = caught(first, Way.FROM_PNE)
    assert last.signature is None
    own = bob.messages._sender or await bob.messages._registered()
    said = own.seal(sg_id, last.epoch, bob.groups.keys[sg_id][last.epoch], b"\x82\x48yyyyyyyy\x62hi", signed=False)
    assert (await cast(bob, carol, said)).result != Result.SUCCESS
    hop = bob._hop()
    assert hop is not None
    as_alice = dataclasses.replace(said, sender=EntityId("alice"))
    assert body_of((await ask(hop[0], as_alice, session=hop[1])).payload).result != Result.SUCCESS
    assert body_of((await ask(hop[0], said)).payload).result != Result.SUCCESS
    assert texts(here, "carol") == [("alice", "zero")]


@pytest.mark.req("FN-7", "FN-9", "DEF-6", "DEF-7")
async def test_outsiders_with_all_that_passed_open_nothing_of_other_epochs(here: World) -> None:
    """Expelled, left and never in it: each with every key that it ever held, and any two of them together."""
    await here.start_server()
    gateway: HostileGateway = await here.start_gateway("gw-1", kind=HostileGateway)
    sg_id, pnes = await group_of(here, 6, gateway)
    never = await here.joined_pne("never", gateway, **FAST)
    held = {pne: Held() for pne in (pnes[4], pnes[5], never)}
    inside: dict[int, set[str]] = {}

    async def say(text: str) -> None:
        await until_epoch(here, sg_id, max(inside, default=1) + 1)
        found = await here.store.group(sg_id)
        assert found is not None
        inside[found.group.epoch] = set(found.members)
        await all_have(here, sg_id, *(pne for pne in pnes if pne.config.pne_id in found.members))
        for pne, having in held.items():
            having.look(pne, sg_id)
        await pnes[0].messages.send(sg_id, text)

    await say("all")
    await pnes[4].groups.leave(sg_id)
    await say("without the one that left")
    await pnes[0].groups.expel(sg_id, [EntityId("pne-5")])
    await say("without the other")
    await pnes[4].groups.join(sg_id)
    await say("with the first again")
    await pnes[4].groups.leave(sg_id)
    await say("and without")
    traffic = [body for _, _, body in gateway.log]
    messages = [body for body in traffic if isinstance(body, gm.GroupMessage)]
    broadcasts = [body for body in traffic if isinstance(body, gm.GroupKeyBroadcast)]
    assert {one.epoch for one in messages} == set(inside)
    assert {one.epoch for one in broadcasts} >= set(inside)
    opened = 0
    for who in [*itertools.combinations(held, 1), *itertools.combinations(held, 2)]:
        names = {pne.config.pne_id for pne in who}
        keyring = [key for pne in who for key in held[pne].keys]
        keyring += [key for pne in who for path in held[pne].paths for key in reached(path, broadcasts)]
        for message in messages:
            may = bool(names.intersection(inside[message.epoch]))
            assert any(opens(message, key) for key in keyring) is may
            opened += may
    assert opened  # the attempt is a real one: what they were to open, they do


class Held:
    """What a PNE has held at any time."""

    def __init__(self) -> None:
        self.keys: list[Secret] = []
        self.paths: list[Gkdk] = []

    def look(self, pne: Pne, sg_id: SgId) -> None:
        self.keys += pne.groups.keys.get(sg_id, {}).values()
        own = pne.groups._gkdks.get(sg_id)
        if own is not None:
            self.paths.append(own)


def reached(own: Gkdk, broadcasts: list[gm.GroupKeyBroadcast]) -> list[Secret]:
    """Return every Group Key that a path opens, whichever node it is wrapped under."""
    found = []
    for one in broadcasts:
        for entry, (node, key) in itertools.product(one.entries, own.path.items()):
            try:
                found.append(crypto.open_group_key(key, one.sg_id, one.gateway_id, one.epoch, node, entry.wrapped))
            except AuthenticationFailed:
                continue
    return found


def opens(message: gm.GroupMessage, key: Secret) -> bool:
    try:
        open_message(message, key)
    except AuthenticationFailed:
        return False
    return True
