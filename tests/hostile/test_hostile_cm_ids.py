"""Who has an ID, a key, a code or a word that is not its own to use: CM Devices under attack, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.numbers.codes import POST
from aiocoap.transports.tcp import _serialize

from cpns.crypto import cm as crypto
from cpns.crypto.schedule import Profile, Schedule, Transcript
from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.cm import MAX_CM_DEVICES, CmKey
from cpns.domain.inventory import Kind, State
from cpns.errors import AuthenticationFailed, NoAnswer, Refused, Result
from cpns.gateway.uplink_states import Standing
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.pne.config import Where
from cpns.server.changing.devices import MAX_ASSIGNMENTS
from cpns.service.system import random_bytes
from cpns.session.table import Session
from cpns.transport.coap import request_of
from cpns.transport.errors import UNIFORM_REFUSAL, Hinted
from cpns.transport.relay import Sealed
from cpns.wire import cm_messages as cm
from cpns.wire import codec
from cpns.wire import messages as m
from cpns.wire.application import PING_PATH
from cpns.wire.registry import CONTENT_FORMAT, CPNS_PATH, Mode, Suite
from tests.hostile.test_hostile_cm import UNKNOWN, Direct, assigned, begun, carried_directly, meddler
from tests.hostile.test_hostile_cm_keys import (
    ALICE,
    FORGED,
    HOME,
    TABLET,
    TO_PNE,
    TO_SERVER,
    Run,
    can_begin_again,
    pending,
    say,
    stage,
)
from tests.support.costs import Costs, counted
from tests.support.device import device
from tests.support.hostile_gateway import HostileGateway, changes, unchanged
from tests.support.raw import RawTcp, Scripted, ScriptedGateway, ask, result_of
from tests.support.stage import EVIL
from tests.support.tap import body_of, frames_of
from tests.support.world import SERVER, World, address_of, until, world

HAS_NO_PLACE_THERE = ("4.00", Result.UNKNOWN_MESSAGE)
"""What is said in a session to what another has to say."""


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    monkeypatch.setattr("cpns.service.refusals.GATHER_SECONDS", 60.0)
    with counted(monkeypatch) as one:
        yield one


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, costs: Costs) -> AsyncIterator[World]:
    monkeypatch.setattr("cpns.node.keying.PAUSES", (0.05, 0.1))
    async with world(tmp_path) as one:
        one.passed = costs
        await one.start_server()
        yield one


# Who has an ID, or a key, that does not go with it


@pytest.mark.req("CM-18", "CM-13")
async def test_neither_id_nor_key_goes_with_another(here: World) -> None:
    """Whatever is mixed of two CM Devices is refused; each of them gets in with its own."""
    _, _, one = await assigned(here, "alice")
    _, _, other = await assigned(here, "bob")
    for mixed in (replace(one, key=other.key), replace(other, key=one.key)):
        await Direct(here, mixed).is_refused()
        assert [row.reason for row in await here.audit(mixed.cm_device_id)] == ["wrong_code"]
    for mine, named in ((one, other), (other, one)):  # a code that is right for the ID that it was made for
        thief = Direct(here, mine)
        assert await thief.knock(thief.hello(cm_device_id=named.cm_device_id)) == UNIFORM_REFUSAL
    assert here.server.sessions.with_peer(one.cm_device_id) is None
    assert here.server.sessions.with_peer(other.cm_device_id) is None
    for key in (one, other):
        await Direct(here, key).activate()
        assert await begun(here, key) == 1


@pytest.mark.req("CM-18", "CM-12")
async def test_keys_of_one_kind_do_not_serve_as_the_other(here: World) -> None:
    """A CM Device Key is no EUKey for 7.5.5, and an EUKey no CM Device Key: the profile is in all that is derived."""
    _, _, key = await assigned(here)
    posing = ScriptedGateway(key.cm_device_id, key.key)
    here.closes(posing)
    with pytest.raises(Refused, match="refused_with_21"):
        await posing.connect(here.address)
    for name, kind in (("gw-2", Kind.GATEWAY), ("alice", Kind.PNE)):
        await Direct(here, CmKey(EntityId(name), 0, await here.key(kind, name))).is_refused()
        assert (await here.refusal(name)).reason == "unknown"
    assert here.server.sessions.with_peer(key.cm_device_id) is None
    await Direct(here, key).activate()


@pytest.mark.req("CM-16")
async def test_a_first_message_carried_off_to_another_connection_begins_nothing(here: World) -> None:
    """The session is that of the connection which proved itself: who takes the device's message away gains none."""
    _, _, key = await assigned(here)
    honest, thief = Direct(here, key), Direct(here, key)
    honest.finish(await honest.knock(honest.hello()))
    taken, _ = request_of(honest.session, PING_PATH, b"")
    thief.to_server = await thief.endpoint.connect(*here.address)
    await thief.to_server.carry(SERVER, Sealed(taken.code, taken.value(9), taken.payload))
    assert (len(here.server.expected._waiting), await begun(here, key)) == (1, 0)
    assert here.server.sessions.with_peer(key.cm_device_id) is None
    assert (await honest.say(b"", PING_PATH)).ok
    assert await begun(here, key) == 1


async def raw_answer(here: World, request: m.CmActivateRequest) -> bytes:
    """Return all bytes that the server sends over a connection that says *request*, always with the same token."""
    message = Message(code=POST, _token=b"\1", uri_path=(CPNS_PATH,), payload=codec.encode(request))
    message.opt.content_format = CONTENT_FORMAT
    raw = await RawTcp.open(here.address)
    raw.writer.write(_serialize(message))
    await until(lambda: [one for one in frames_of(bytes(raw.got)) if not one.code.is_signalling()])
    await raw.close()
    return bytes(raw.got)


@pytest.mark.req("CM-12", "CM-13")
async def test_a_stolen_id_without_its_key_tells_nothing(here: World, costs: Costs) -> None:
    """Every byte, and what was run before the answer, is alike: for an ID in whatever state, a revoked one, none."""
    states = {}
    for name in ("alice", "bob", "carol", "dave"):
        _, pne, states[name] = await assigned(here, name)
        if name in ("bob", "carol"):
            fresh = await pne.cm.rekey(states[name])
        if name == "carol":
            await Direct(here, fresh).activate()
    await here.provisioning.revoke(OPERATOR, states["dave"].cm_device_id)
    states["nobody"] = replace(states["alice"], cm_device_id=UNKNOWN)
    sent, counts = {}, {}
    for name, key in states.items():
        thief = Direct(here, replace(key, key=Secret(random_bytes(32))))
        hello = thief.hello()
        sent[name], counts[name] = await costs.least(partial(raw_answer, here, hello))
        for _ in range(16):
            assert await raw_answer(here, thief.hello(code=random_bytes(16))) == sent[name]
    honest = Direct(here, states["alice"], Suite.PSK)
    sent["suite 1, right code"] = await raw_answer(here, honest.hello())
    sent["suite 1, wrong code"] = await raw_answer(here, honest.hello(code=bytes(16)))
    answered = (honest := Direct(here, states["alice"])).hello()
    assert await raw_answer(here, answered) != sent["alice"]
    sent["answered before"] = await raw_answer(here, answered)
    assert set(sent.values()) == {sent["nobody"]}
    assert {frozenset(one.items()) for one in counts.values()} == {frozenset(counts["nobody"].items())}
    assert sum(counts["nobody"].values()) > 10
    assert (counts["nobody"]["SQL SELECT"], counts["nobody"]["SQL COMMIT"]) == (1, 0)
    for name, reason in (("bob", "wrong_code"), ("carol", "wrong_code"), ("dave", "revoked"), ("nobody", "unknown")):
        assert {row.reason for row in await here.audit(states[name].cm_device_id)} == {reason}
    assert {row.reason for row in await here.audit(states["alice"].cm_device_id)} == {
        *("wrong_code", "suite_too_low", "replayed_code")
    }
    for name in ("alice", "bob", "dave", "nobody"):
        assert here.server.sessions.with_peer(states[name].cm_device_id) is None
    await honest.activate()


# Codes confused


@pytest.mark.req("CM-12", "CM-13", "CM-8")
async def test_no_code_serves_as_code_i(here: World) -> None:
    """Codes of steps 6, 8 and 14, each with the rands that belong to it, are no code of step 12."""
    evil, _, key = await assigned(here)
    said = {type(body): body for _, _, body in evil.log}
    rand_s, rand_g = said[cm.CmAssignResponse].rand, said[cm.CmIdRequest].rand
    code_s, code_g = said[cm.CmIdResponse].code, said[cm.CmConfirmRequest].code
    honest = Direct(here, key)
    response = body_of((await honest.knock(honest.hello())).payload)
    honest.to_server.close()
    await until(lambda: not here.server.expected._waiting)
    answers: list[dict[str, Any]] = [
        {"code": code, "rand": rand} for code in (code_s, code_g) for rand in (rand_s, rand_g, bytes(16))
    ]
    answers += [{"code": response.code}, {one: getattr(response, one) for one in ("rand", "kid", "eph", "code")}]
    thief = Direct(here, replace(key, key=Secret(random_bytes(32))))
    for said_again in answers:
        assert await thief.knock(thief.hello(**said_again)) == UNIFORM_REFUSAL
    assert await here.reasons(key.cm_device_id) == ["wrong_code"] * len(answers)
    assert (here.server.expected._waiting, here.server.sessions.with_peer(key.cm_device_id)) == ({}, None)
    await honest.activate()


# CM-KEY Request and CMRotateNotify from elsewhere


async def refused_from_elsewhere(here: World, alice: Pne, evil: HostileGateway, message: Any) -> None:
    """Show that alice takes *message* neither unprotected nor from another gateway."""
    home = next(one for one in here.gateways if one.config.gateway_id == HOME)
    stranger = Scripted(HOME)
    here.closes(stranger)
    link = await stranger.link(("127.0.0.1", address_of(alice._endpoint)[1]))
    hop, way, other = (
        alice.sessions.with_peer(EVIL),
        evil.members.way_to(alice.config.pne_id),
        home.members.way_to(EntityId("bob")),
    )
    assert hop is not None
    assert way is not None
    assert other is not None
    assert isinstance(other[1], Session)
    assert await ask(link, message) == UNIFORM_REFUSAL
    assert await ask(way[0], message) == UNIFORM_REFUSAL  # our own gateway's address is not its session
    posing = replace(other[1], peer_id=alice.config.pne_id, peer_kid=hop.own_kid, protection=None)
    with pytest.raises(Hinted):  # another gateway, under the key ID of ours
        await ask(link, message, session=posing)


@pytest.mark.req("CM-11")
async def test_cm_key_from_elsewhere_is_not_taken(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even while alice waits for it: it comes from its own PN GW, in their hop session; not from the server."""
    evil, alice = await stage(here)
    await here.joined_pne("bob", await here.start_gateway(HOME))
    goes_on, runs = asyncio.Event(), evil._mediator._assigned

    async def held(standing: Standing, pne: EntityId) -> CmKey:
        await goes_on.wait()
        return await runs(standing, pne)

    monkeypatch.setattr(evil._mediator, "_assigned", held)
    asking = asyncio.create_task(alice.cm.assign())
    await until(lambda: alice.cm._asking)
    await refused_from_elsewhere(here, alice, evil, FORGED)
    down = here.server.gateways.link(EVIL)
    assert down is not None
    by_server = await ask(down, FORGED, session=here.server.sessions.with_peer(ALICE))
    assert (result_of(by_server), alice.cm._brought) == (HAS_NO_PLACE_THERE, None)
    goes_on.set()
    key = await asking
    assert [one.cm_device_id for one in await here.store.cm_devices()] == [key.cm_device_id]
    await Direct(here, key).activate()


@pytest.mark.req("CM-11")
async def test_cm_key_on_a_secure_pan_comes_from_the_gateway_s_address(here: World) -> None:
    """There the PAN vouches for the source: from any other it is refused, and unasked too."""
    evil, alice = await stage(here, secure=True)
    stranger, way = Scripted(EVIL), evil.members.way_to(ALICE)
    here.closes(stranger)
    link = await stranger.link(("127.0.0.1", address_of(alice._endpoint)[1]))
    alice.cm._asking = True
    assert await ask(link, FORGED) == UNIFORM_REFUSAL
    alice.cm._asking = False
    assert way is not None
    assert body_of((await ask(way[0], FORGED)).payload) == cm.CmKeyResponse(Result.NOT_ALLOWED)
    assert alice.cm._brought is None
    await can_begin_again(here, alice)


@pytest.mark.req("CM-11")
async def test_cm_key_unasked_or_twice_is_not_taken(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the hop session: one for each wish, so that what the server confirmed is not replaced."""
    evil, alice = await stage(here)
    way = evil.members.way_to(ALICE)
    assert way is not None

    async def forged() -> Any:
        return body_of((await ask(way[0], FORGED, session=way[1])).payload)

    assert await forged() == cm.CmKeyResponse(Result.NOT_ALLOWED)
    assert alice.cm._brought is None
    hands_over, said = evil._mediator._handed_over, []

    async def twice(*arguments: Any) -> bool:
        done = await hands_over(*arguments)
        said.append(await forged())
        return done

    monkeypatch.setattr(evil._mediator, "_handed_over", twice)
    await can_begin_again(here, alice)
    said.append(await forged())
    assert said == [cm.CmKeyResponse(Result.NOT_ALLOWED)] * 2


@pytest.mark.req("CM-18")
async def test_only_the_server_has_a_device_take_a_fresh_key(here: World) -> None:
    """CMRotateNotify is the server's, end to end: each from elsewhere is refused, and the key serves on."""
    evil = await here.start_gateway(EVIL, kind=HostileGateway, answer_timeout=1.0)
    await here.joined_pne("bob", await here.start_gateway(HOME))
    tablet = await device(here, evil)
    keys = tablet.keys
    assert keys is not None
    key = await until(lambda: keys.newest)
    assert tablet.pne is not None
    await refused_from_elsewhere(here, tablet.pne, evil, cm.CmRotateNotify(key.cm_device_id))
    way = evil.members.way_to(TABLET)
    assert way is not None
    by_gateway = await ask(way[0], cm.CmRotateNotify(key.cm_device_id), session=way[1])
    assert result_of(by_gateway) == HAS_NO_PLACE_THERE
    assert not tablet.is_rekeying
    (one,) = await here.store.cm_devices()
    assert (one.generation, one.rekeying, keys.newest) == (0, False, key)
    await here.server.changing.rotations.rotate([key.cm_device_id], OPERATOR)
    await until(lambda: keys.newest != key)
    (one,) = await here.store.cm_devices()
    assert (one.generation, one.rekeying, keys.newest and keys.newest.generation) == (0, True, 1)


# The gateway that mediated keeps the key


@pytest.mark.req("CM-18", "CM-B", "CM-0")
async def test_the_gateway_that_mediated_keeps_the_key(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can act as the CM Device until that has a fresh key: but reads no reading, and has no way to that key."""
    evil = await here.start_gateway(EVIL, kind=HostileGateway, answer_timeout=1.0)
    bob, between = await here.joined_pne("bob", evil), await meddler(here)
    relayed: list[Sealed] = []

    def seal(is_request: bool, to: str, sealed: Sealed) -> Sealed:
        relayed.append(sealed)
        return sealed

    evil.seal = seal
    tablet = await device(here, evil, server=(between.host, between.port))
    assert tablet.keys is not None
    keys = tablet.keys
    await until(lambda: keys.newest)
    (kept,) = evil.heard(TO_PNE, cm.CmKeyRequest)
    stolen = CmKey(kept.cm_device_id, 0, Secret(kept.cm_device_key))
    thief = Direct(here, stolen)
    await thief.activate()  # so much for a dishonest one
    as_thief = here.server.sessions.with_peer(stolen.cm_device_id)
    assert as_thief is not None
    assert as_thief.keys.th2 == thief.session.keys.th2
    await tablet.send({"canary": 1})
    assert [one.gateway_id for one in await here.store.readings(0, 9, TABLET)] == [EVIL]
    assert relayed
    assert not any(b"canary" in one.payload for one in relayed)
    # a fresh key: for no PNE but the device's own, and not in the PN GW's session
    wish = cm.CmRekeyRequest(stolen.cm_device_id, 1, random_bytes(16))
    assert result_of(await bob._way.exchange(CPNS_PATH, codec.encode(wish)))[1] is Result.NOT_ALLOWED
    assert not (await thief.say(wish)).ok
    standing = await evil.uplink.wait(40)
    assert not (await ask(standing.link, wish, session=standing.session)).ok
    (one,) = await here.store.cm_devices()
    assert (one.pne_id, one.generation, one.rekeying) == (TABLET, 0, False)
    # the device goes direct: from its first session on the thief's is over, from the second on so is the key
    way, agrees, agreed = evil.members.way_to(TABLET), here.server.changing.devices.rekey, []

    async def watched(source: Session, request: cm.CmRekeyRequest) -> cm.CmRekeyResponse:
        response = await agrees(source, request)
        agreed.append((source.keys.exporter(), request.rand, response.rand))
        return response

    monkeypatch.setitem(here.server.from_pne.handlers, cm.CmRekeyRequest, watched)
    await tablet.change(Mode.BOTH)
    await until(lambda: keys.newest and keys.newest.generation == 1 and len(keys._keys) == 1)
    fresh = keys.newest
    assert fresh is not None
    await until(
        lambda: here.server.pnes.is_connected_here(fresh.cm_device_id) and here.server.pnes.is_connected_here(TABLET)
    )
    await until(lambda: thief.to_server.closed)  # after it was asked whether it is there
    with pytest.raises(NoAnswer, match="connection_gone"):
        await thief.say(b"", PING_PATH)
    await thief.is_refused()
    assert (await here.refusal(stolen.cm_device_id)).reason == "wrong_code"
    (one,) = await here.store.cm_devices()
    assert (one.generation, one.is_known_to_gateway) == (1, False)
    await carried_directly(here, tablet, fresh)
    assert not any(b'"n"' in frame.payload for frame in between.frames)
    # what it has: its key, every exporter of its own; here even the rands, which passed inside the PNE's session
    ((exporter, *rands),) = agreed
    device_id = fresh.cm_device_id
    assert crypto.rekey(exporter, stolen.key, device_id, 1, *rands) == fresh.key
    assert way is not None
    assert way[1] is not None
    for own in (thief.session, standing.session, way[1]):
        assert crypto.rekey(own.keys.exporter(), stolen.key, device_id, 1, *rands) != fresh.key
    first, answer = between.all(m.CmActivateRequest)[0], between.all(m.CmActivateResponse)[0]
    transcript = Transcript(
        *(Profile.CM_SERVER, first.suite, SERVER, device_id, first.rand, first.kid, first.eph),
        **{"rand_r": answer.rand, "kid_r": answer.kid, "eph_r": answer.eph, "binding": first.code},
    )
    recorded = Schedule(stolen.key, transcript.th0(), bytes(32)).proofs(first.rand, answer.rand, None)
    with pytest.raises(AuthenticationFailed):  # nor does the key open the device's own recorded session
        recorded.verify_r(first.code, answer.code)


# While something else happens


async def test_revoked_while_its_session_begins(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The revocation finds no session to end; so none begins behind it."""
    _, _, key = await assigned(here)
    direct, networks_of = Direct(here, key), here.store.networks_of
    direct.finish(await direct.knock(direct.hello()))

    async def meanwhile(gateway: EntityId) -> Any:
        if gateway == key.cm_device_id:
            await here.provisioning.revoke(OPERATOR, gateway)
        return await networks_of(gateway)

    monkeypatch.setattr(here.store, "networks_of", meanwhile)
    await asyncio.gather(direct.say(b"", PING_PATH), return_exceptions=True)
    assert here.server.sessions.with_peer(key.cm_device_id) is None
    assert not here.server.pnes.is_connected_here(key.cm_device_id)


async def test_its_connection_goes_while_its_session_begins(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, key = await assigned(here)
    direct, networks_of = Direct(here, key), here.store.networks_of
    direct.finish(await direct.knock(direct.hello()))

    async def meanwhile(gateway: EntityId) -> Any:
        if gateway == key.cm_device_id:
            direct.to_server.close()
            await until(lambda: all(one.closed for one in here.server._endpoint._uplinks.connections))
        return await networks_of(gateway)

    monkeypatch.setattr(here.store, "networks_of", meanwhile)
    await asyncio.gather(direct.say(b"", PING_PATH), return_exceptions=True)
    await until(lambda: here.server.sessions.with_peer(key.cm_device_id) is None)
    assert not here.server.pnes.is_connected_here(key.cm_device_id)


@pytest.mark.req("CM-1")
async def test_many_assignments_at_once_are_no_more_than_one_after_the_other(here: World) -> None:
    evil, _ = await stage(here)
    await asyncio.gather(*(say(evil, cm.CmAssignRequest(ALICE, random_bytes(8))) for _ in range(64)))
    assert pending(here) == MAX_ASSIGNMENTS


# A mediator that means it for itself


@pytest.mark.req("CM-11", "CM-18")
async def test_a_mediator_that_names_another_device_of_its_own(here: World) -> None:
    """By the server's word it is not the device's, which so can take no fresh key: it drops it, and asks again."""
    evil = await here.start_gateway(EVIL, kind=HostileGateway, answer_timeout=1.0)
    await here.joined_pne("bob", evil)
    evil.hook = changes(TO_SERVER, cm.CmAssignRequest, pne_id=EntityId("bob"))
    tablet = await device(here, evil)
    await until(lambda: tablet.can_go_direct)
    assert tablet.keys is not None
    assert tablet.keys.newest is not None
    bobs = tablet.keys.newest.cm_device_id
    evil.hook = unchanged
    await tablet.change(Mode.BOTH)
    await until(lambda: tablet.mode is Mode.PNE)
    await until(lambda: tablet.keys is not None and tablet.keys.newest and tablet.keys.newest.cm_device_id != bobs)
    await tablet.change(Mode.BOTH)
    await until(lambda: tablet.keys is not None and tablet.keys.newest and tablet.keys.newest.generation == 1)


@pytest.mark.req("CM-11", "CM-18")
async def test_a_mediator_that_makes_many_locks_nobody_out(here: World) -> None:
    """Those whose key a gateway knows make room; the one that a device took a fresh key for stays."""
    evil, alice = await stage(here)
    for _ in range(MAX_CM_DEVICES):
        run = Run(evil)
        await run.named()
        assert await run.confirmed() == 0
        await Direct(here, run.made).activate()
    await alice.go(Where((here.pan(await here.start_gateway(HOME)),)))
    key = await alice.cm.assign()
    fresh = await alice.cm.rekey(key)
    await Direct(here, fresh).activate()
    states = {one.cm_device_id: one.state for one in await here.store.cm_devices()}
    assert [one for one, state in states.items() if state is State.ACTIVE] == [key.cm_device_id]
    assert {session.peer_id for session in here.server.sessions} == {EVIL, HOME, ALICE, key.cm_device_id}
