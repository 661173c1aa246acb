"""Personal networks over real sockets: the three types of establishment, invite, join, leave, expel, release."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiocoap import Message

from cpns.domain.actor import OPERATOR
from cpns.domain.member_list import Policy, Standing
from cpns.domain.network import Inventory
from cpns.errors import Refused, Result
from cpns.gateway.app import Gateway
from cpns.ids import EntityId, PnId
from cpns.pne.app import Pne
from cpns.pne.states import FellAsleep, WokeUp
from cpns.protocol.pne_auth import pne as pne_auth
from cpns.protocol.pne_auth.pne import NotLetIn
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire.registry import Change, Presence, Procedure, SetupType, Source
from tests.support.lossy import Datagram, Fates
from tests.support.raw import ScriptedGateway, ScriptedPne, ask, entry_of, result_of
from tests.support.tap import bodies, body_of, one_body, scene
from tests.support.world import SERVER, World, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        one.may_own = {"alice", "bob"}
        yield one


def ids(*names: str) -> list[EntityId]:
    return [EntityId(name) for name in names]


async def waiting(here: World, gateway: Any, *names: str, refusing: tuple[str, ...] = ()) -> dict[str, Pne]:
    """Return PNEs that wait to be invited, and that the gateway has in reach."""
    pnes = {}
    for name in (*names, *refusing):
        if name not in refusing:
            here.accepting.add(name)
        pnes[name] = await here.start_pne(name, gateway, waits=True)
    gateways = [gateway] if isinstance(gateway, Gateway) else here.gateways
    for name in pnes:
        await until(
            lambda name=name: any(  # type: ignore[misc]
                name in pan.reach.known(asyncio.get_running_loop().time()) for one in gateways for pan in one.pans
            )
        )
    return pnes


async def the_network(here: World) -> Inventory:
    (pn,) = await here.store.networks()
    return pn


async def members(here: World) -> set[str]:
    return {member.pne_id for pn in await here.store.networks() for member in pn.members}


async def sends(here: World, pne: Pne) -> None:
    """Show that *pne* has a session that works."""
    reading = pne.next_reading({"works": True})
    async with asyncio.timeout(40):
        await pne.send(reading)
    assert any(row.reading_id == reading.reading_id for row in await here.store.readings(0, 1000))


def has_nothing_left(here: World, gateway: Gateway, name: str) -> None:
    """Neither server nor gateway keeps a session or key with *name*."""
    assert here.server.sessions.with_peer(EntityId(name)) is None
    assert gateway.members.get(EntityId(name)) is None
    assert all(pan.hops.with_peer(EntityId(name)) is None for pan in gateway.pans)


# Establishment


@pytest.mark.req("AUTH-0", "FN-8")
async def test_type_1_the_originating_pne_and_its_gateway_alone(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway(alias="home")
    others = await waiting(here, gateway, "bob")
    alice = await here.joined_pne("alice", gateway)
    pn = await the_network(here)
    assert alice.joined is not None
    assert (pn.network.pn_id, pn.network.owner, pn.network.gateway_id) == (alice.joined.pn_id, "alice", "gw-1")
    assert (pn.network.alias, pn.network.version) == ("home", 1)
    assert [member.pne_id for member in pn.members] == ["alice"]
    assert others["bob"].joined is None
    assert "bob" not in here.invited


@pytest.mark.req("AUTH-0", "AUTH-G1", "AUTH-G6", "AUTH-P1", "AUTH-P7", "FN-8")
@pytest.mark.parametrize("suite", [1, 2, 3])
async def test_type_3_listed_pnes_come_in_the_same_setup(here: World, suite: int) -> None:
    """One SETUP Request carries originating and invited PNEs; each of them gets its own hash_server."""
    on = await scene(here, suite=suite)
    here.accepting |= {"bob", "carol"}
    pnes = {}
    for name in ("bob", "carol", "dave", "not-listed"):
        pnes[name] = await here.start_pne(name, on.pan.address, waits=True, suite=suite)
        await until(lambda name=name: on.gateway.pans[0].reach.link(EntityId(name), here.now()))  # type: ignore[misc]
    await here.joined_pne(
        "alice", on.pan.address, setup_type=SetupType.LISTED, invite=tuple(ids("bob", "carol", "dave")), suite=suite
    )
    for name in ("bob", "carol"):
        await asyncio.wait_for(pnes[name].wait_established(), 40)
    request = one_body(on.on_uplink(), m.GatewaySetupRequest)
    assert {entry.entity_id for entry in request.entries} == {"alice", "bob", "carol"}
    assert {entry.procedure for entry in request.entries} == {Procedure.ESTABLISH}
    assert len(bodies(on.on_uplink(), m.GatewayChallenge)) == 1
    outcomes = {one.entity_id: one.proof for one in one_body(on.on_uplink(), m.GatewaySetupResponse).entries}
    for name in ("bob", "carol"):
        seen = on.on_pan(pnes[name])
        accepted = one_body(seen, m.InvitationAccepted)
        entry = next(entry for entry in request.entries if entry.entity_id == name)
        assert (entry.rand, entry.kid, entry.eph) == (accepted.rand, accepted.kid, accepted.eph)
        assert one_body(seen, m.PnEstablishmentNotify) == m.PnEstablishmentNotify(
            Result.SUCCESS,
            one_body(on.on_uplink(), m.GatewaySetupResponse).pn_id,
            outcomes[EntityId(name)],
        )
        ends = (pnes[name].sessions.with_peer(SERVER), here.server.sessions.with_peer(EntityId(name)))
        assert len({end.keys.th2 for end in ends if end is not None}) == 1
        await sends(here, pnes[name])
    assert one_body(on.on_pan(pnes["dave"]), m.InvitationRefused).result == Result.REFUSED_BY_USER
    assert await members(here) == {"alice", "bob", "carol"}
    assert (await the_network(here)).network.owner == "alice"
    assert pnes["not-listed"].joined is None
    declined = await until(lambda: [one for one in here.changes["alice"] if one.change == Change.DECLINED])
    assert declined[0].members == ("dave",)


@pytest.mark.req("AUTH-0", "FN-8")
async def test_type_2_all_in_reach(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway()
    pnes = await waiting(here, gateway, "bob", "carol", refusing=("dave",))
    await here.joined_pne("alice", gateway, setup_type=SetupType.ALL_IN_REACH)
    for name in ("bob", "carol"):
        await asyncio.wait_for(pnes[name].wait_established(), 40)
    assert await members(here) == {"alice", "bob", "carol"}
    assert pnes["dave"].joined is None


@pytest.mark.req("AUTH-0", "FN-8")
@pytest.mark.parametrize("secure", [False, True], ids=["pan", "secure pan"])
async def test_who_does_not_come_is_told_however_late_the_last_answer_is(here: World, secure: bool) -> None:
    """The PN GW has its end of the session first: a word that overtakes its answer finds nobody, and is said again."""
    on = await scene(here, secure=secure)
    last_answer = m.SetupResponse if secure else m.ActivateResponse

    def late(datagram: Datagram) -> Fates:
        body = body_of(Message.decode(datagram.data).payload)
        return [(0.4 if isinstance(body, last_answer) and not datagram.up else 0.0, datagram.data)]

    on.pan.policy = late
    await here.start_pne("dave", on.pan.address, waits=True, pan_secure=secure)
    await until(lambda: on.gateway.pans[0].reach.link(EntityId("dave"), here.now()))
    await here.joined_pne(
        "alice", on.pan.address, setup_type=SetupType.LISTED, invite=tuple(ids("dave")), pan_secure=secure
    )
    declined = await until(lambda: [one for one in here.changes["alice"] if one.change == Change.DECLINED])
    assert [one.members for one in declined] == [("dave",)]


@pytest.mark.req("AUTH-0")
async def test_a_bad_invited_pne_is_left_out_and_the_others_go_on(here: World) -> None:
    """One with a wrong key accepts and can't prove itself; who asked for it is established, and told."""
    await here.start_server()
    gateway = await here.start_gateway(answer_timeout=0.5)
    await waiting(here, gateway, "bob")
    wrong = await here.key(here.kinds.PNE, "gateways-own")
    await here.key(here.kinds.PNE, "mallory")
    here.keys["mallory"] = wrong
    await waiting(here, gateway, "mallory")
    alice = await here.joined_pne("alice", gateway, setup_type=2)
    await until(lambda: here.server.sessions.with_peer(EntityId("bob")))
    assert await members(here) == {"alice", "bob"}
    assert (await here.refusal("mallory")).reason == "no_answer"
    await until(lambda: [one for one in here.changes["alice"] if one.members == ("mallory",)])
    await sends(here, alice)


# Join


@pytest.mark.req("AUTH-0", "FN-8")
async def test_a_pne_joins_a_standing_network(here: World) -> None:
    """Procedure 3, the PN named by the PNE; the others are told, and the inventory has a new version."""
    on = await scene(here)
    await on.pnes(["alice"])
    before = (await the_network(here)).network
    (bob,) = await on.pnes(["bob"], join=before.pn_id)
    setup = one_body(on.on_pan(bob), m.SetupRequest)
    assert (setup.procedure, setup.pn_id) == (Procedure.JOIN, before.pn_id)
    entry = bodies(on.on_uplink(), m.GatewaySetupRequest)[-1].entries[0]
    assert entry.procedure == Procedure.JOIN
    assert bob.joined is not None
    assert bob.joined.pn_id == before.pn_id
    assert (await the_network(here)).network.version == before.version + 1
    (notice,) = await until(lambda: [one for one in here.changes["alice"] if one.change == Change.JOINED])
    assert (notice.members, notice.version) == (("bob",), before.version + 1)


async def test_a_pne_that_wants_another_network_does_not_get_this_one(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway()
    await here.joined_pne("alice", gateway)
    bob = await here.make_pne("bob", gateway, join=PnId("pn-elsewhere"), timer=2.0)
    with pytest.raises(Refused):
        await bob.establish()
    assert await members(here) == {"alice"}


@pytest.mark.req("AUTH-0", "FN-8")
@pytest.mark.parametrize("suite", [1, 2, 3])
@pytest.mark.parametrize(
    ("policy", "told"), [(Policy.APPROVAL, Result.PENDING_APPROVAL), (Policy.CLOSED, Result.POLICY)]
)
async def test_who_is_not_let_in_is_told_why(here: World, policy: Policy, told: Result, suite: int) -> None:
    """At once, by the server itself; it goes on trying at its pace, and comes in when it may."""
    await here.start_server()
    gateway = await here.start_gateway(suite=suite)
    await here.joined_pne("alice", gateway, suite=suite)
    pn_id = (await the_network(here)).network.pn_id
    await here.server.networks.actions.update(pn_id, OPERATOR, policy=policy, alias=None, owner=None)
    bob = await here.start_pne("bob", gateway, suite=suite, timer=1.0)
    (refusal, *_) = await until(lambda: here.not_let_in["bob"])
    assert (refusal.result, refusal.gateway_id, refusal.pn_id) == (told, "gw-1", pn_id)
    await here.server.networks.actions.update(pn_id, OPERATOR, policy=Policy.OPEN, alias=None, owner=None)
    async with asyncio.timeout(40):
        await bob.wait_established()
    assert here.not_let_in["alice"] == []


@pytest.mark.req("AUTH-0", "FN-8")
async def test_who_is_not_on_the_list_waits_for_approval(here: World) -> None:
    """Nothing on the wire tells a waiting PNE from one with a wrong key; approved, it is in at its next attempt."""
    await here.start_server(policy=Policy.APPROVAL)
    gateway = await here.start_gateway()
    await here.joined_pne("alice", gateway)
    bob = ScriptedPne("bob", await here.key(here.kinds.PNE, "bob"))
    here.closes(bob)
    response = await bob.setup(here.pan(gateway))
    assert response.result == Result.AUTHENTICATION_FAILED
    with pytest.raises(NotLetIn, match="pending_approval"):
        pne_auth.finish(bob.state, response)
    assert (await here.refusal("bob")).reason == "pending_approval"
    has_nothing_left(here, gateway, "bob")
    (one,) = await here.store.waiting()
    pn = await the_network(here)
    assert (one.pne_id, one.pn_id, one.via, one.known) == ("bob", pn.network.pn_id, "gw-1", True)
    await here.server.networks.actions.approve(pn.network.pn_id, OPERATOR, EntityId("bob"), let_in=True)
    await bob.join(here.pan(gateway))
    assert await members(here) == {"alice", "bob"}
    assert await here.store.waiting() == []


@pytest.mark.req("AUTH-0", "FN-8")
async def test_an_id_that_nobody_provisioned_waits_for_the_operator(here: World) -> None:
    """A good gateway brings it; it gets what a wrong key gets, and nothing is made of it until somebody decides."""
    await here.start_server()
    gateway = await here.start_gateway()
    stranger = ScriptedPne("stranger", await here.key(here.kinds.PNE, "somebody"))
    here.closes(stranger)
    stranger.answer_with = stranger.guess
    for _ in range(2):
        assert (await stranger.setup(here.pan(gateway))).result == Result.AUTHENTICATION_FAILED
    await here.server.refusals.flush()
    (one,) = await here.store.waiting()
    assert (one.pne_id, one.known, one.via, one.attempts) == ("stranger", False, "gw-1", 2)
    assert await here.store.entity(EntityId("stranger")) is None
    assert await here.store.networks() == []


@pytest.mark.req("AUTH-0", "FN-8")
async def test_a_closed_network_lets_in_whom_it_invited(here: World) -> None:
    await here.start_server(policy=Policy.CLOSED)
    gateway = await here.start_gateway()
    await here.joined_pne("alice", gateway)
    pn_id = (await the_network(here)).network.pn_id
    bob = ScriptedPne("bob", await here.key(here.kinds.PNE, "bob"))
    here.closes(bob)
    assert (await bob.setup(here.pan(gateway))).result == Result.AUTHENTICATION_FAILED
    assert (await here.refusal("bob")).reason == "not_on_the_member_list"
    results = await here.server.networks.actions.invite(pn_id, OPERATOR, ids("bob"))
    assert results == {"bob": Result.OUT_OF_REACH}  # it never asked who is there; it may come by itself now
    await bob.join(here.pan(gateway))
    assert await members(here) == {"alice", "bob"}


@pytest.mark.req("AUTH-0", "FN-8")
async def test_a_guest_is_admitted_or_rejected_by_the_server(here: World) -> None:
    """At home in the first network; the second one's policy decides, and a guest sees itself alone there."""
    await here.start_server()
    home, away = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    await here.joined_pne("host", away)
    await here.stop(await here.joined_pne("alice", home))
    guest = await here.joined_pne("alice", away)
    pns = {pn.network.gateway_id: pn for pn in await here.store.networks()}
    assert {member.pne_id: member.guest for member in pns[EntityId("gw-2")].members} == {"host": False, "alice": True}
    assert pns[EntityId("gw-1")].listed == (("alice", Standing.MEMBER),)
    _, entries = await guest.network.inventory()
    assert [(entry.entity_id, entry.guest) for entry in entries] == [("alice", True)]
    with pytest.raises(Refused, match="not_allowed"):
        await guest.network.invite(ids("bob"))
    await here.stop(guest)
    await here.server.networks.actions.update(
        pns[EntityId("gw-2")].network.pn_id, OPERATOR, policy=Policy.CLOSED, alias=None, owner=None
    )
    await here.server.networks.actions.expel(pns[EntityId("gw-2")].network.pn_id, OPERATOR, ids("alice"))
    barred = await here.make_pne("alice", away, timer=2.0)
    with pytest.raises(Refused):
        await barred.establish()
    assert (await here.refusal("alice")).reason == "barred"
    again = await here.joined_pne("alice", home)
    await sends(here, again)


async def test_a_gateway_alone_admits_nobody(here: World) -> None:
    """A lying gateway that tells a refused PNE that it is in: the PNE does not believe it, nor does the server."""
    await here.start_server(policy=Policy.CLOSED)
    await here.joined_pne("host", await here.start_gateway("gw-1"))
    liar = ScriptedGateway("gw-2", await here.key(here.kinds.GATEWAY, "gw-2"))
    here.closes(liar)
    await liar.connect(here.address)
    alice = ScriptedPne("alice", await here.key(here.kinds.PNE, "alice"))
    here.closes(alice)
    pn_id = (await the_network(here)).network.pn_id
    assert result_of(await liar.setup(entry_of(alice.begin()), pn_id=pn_id)) == ("4.03", Result.UNKNOWN_PN)
    expel = await ask(liar.to_server, pm.ExpelRequest(pn_id, tuple(ids("host"))), session=liar.session)
    release = await ask(liar.to_server, pm.ReleaseRequest(pn_id), session=liar.session)
    assert [result_of(answer)[1] for answer in (expel, release)] == [Result.UNKNOWN_PN, Result.UNKNOWN_PN]
    assert await members(here) == {"host"}


# Invite into a standing network


@pytest.mark.req("AUTH-0", "AUTH-G6", "FN-8")
async def test_the_owner_invites_end_to_end(here: World) -> None:
    """Procedure 2: PNE, server, PN GW, invited PNEs, and back, with a result for each."""
    on = await scene(here)
    (alice,) = await on.pnes(["alice"])
    here.accepting |= {"bob"}
    pnes = {name: await here.start_pne(name, on.pan.address, waits=True) for name in ("bob", "carol")}
    for name in pnes:
        await until(lambda name=name: on.gateway.pans[0].reach.link(EntityId(name), here.now()))  # type: ignore[misc]
    results = await alice.network.invite(ids("bob", "carol", "nowhere", "alice"))
    assert results == {
        **{"bob": Result.SUCCESS, "carol": Result.REFUSED_BY_USER},
        **{"nowhere": Result.OUT_OF_REACH, "alice": Result.ALREADY_MEMBER},
    }
    await asyncio.wait_for(pnes["bob"].wait_established(), 40)
    (entry,) = bodies(on.on_uplink(), m.GatewaySetupRequest)[-1].entries
    assert (entry.entity_id, entry.procedure) == ("bob", Procedure.INVITE)
    assert await members(here) == {"alice", "bob"}
    assert here.invited["bob"][0].procedure == Procedure.INVITE
    await sends(here, pnes["bob"])


async def test_a_member_without_the_right_can_not_invite_expel_or_release(here: World) -> None:
    await here.start_server(policy=Policy.APPROVAL)
    gateway = await here.start_gateway()
    await waiting(here, gateway, "bob", "carol")
    alice = await here.joined_pne("alice", gateway)
    assert await alice.network.invite(ids("bob")) == {"bob": Result.SUCCESS}
    bob = next(pne for pne in here.pnes if pne.config.pne_id == "bob")
    await asyncio.wait_for(bob.wait_established(), 40)
    for attempt in (bob.network.invite(ids("carol")), bob.network.expel(ids("alice")), bob.network.release()):
        with pytest.raises(Refused, match="not_allowed"):
            await attempt
    assert await members(here) == {"alice", "bob"}


async def test_a_gateway_invites_by_itself_where_the_policy_lets_it(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway()
    await here.joined_pne("alice", gateway)
    await waiting(here, gateway, "bob")
    pn_id = (await the_network(here)).network.pn_id
    assert await gateway.invite(pn_id, ids("bob")) == {"bob": Result.SUCCESS}
    await here.server.networks.actions.update(pn_id, OPERATOR, policy=Policy.CLOSED, alias=None, owner=None)
    await waiting(here, gateway, "carol")
    assert await gateway.invite(pn_id, ids("carol")) == {"carol": Result.AUTHENTICATION_FAILED}
    assert await members(here) == {"alice", "bob"}


# Leave, expel, release


@pytest.mark.req("FN-8", "DEF-3")
async def test_leave(here: World) -> None:
    """Sessions and keys die with membership; the others are told; the owner's right goes to the next."""
    await here.start_server()
    gateway = await here.start_gateway(kept=True)
    alice, bob = await here.joined_pne("alice", gateway), await here.joined_pne("bob", gateway)
    await alice.leave()
    has_nothing_left(here, gateway, "alice")
    pn = await the_network(here)
    assert ([member.pne_id for member in pn.members], pn.network.owner) == (["bob"], "bob")
    notices = await until(lambda: [one for one in here.changes["bob"] if one.change == Change.LEFT])
    assert notices[0].members == ("alice",)
    assert (await here.audit("alice", "left"))[0].actor.name == "alice"
    await sends(here, bob)
    assert alice.life.stands is None


@pytest.mark.req("FN-8")
@pytest.mark.parametrize("by", ["owner", "operator", "gateway"])
async def test_expel(here: World, by: str) -> None:
    """It gets nothing more from the moment that this returns; put out by owner or operator, it is barred."""
    await here.start_server()
    gateway = await here.start_gateway(kept=True)
    alice, bob = await here.joined_pne("alice", gateway), await here.joined_pne("bob", gateway, timer=2.0)
    pn_id = (await the_network(here)).network.pn_id
    if by == "owner":
        await alice.network.expel(ids("bob"))
    elif by == "operator":
        await here.server.networks.actions.expel(pn_id, OPERATOR, ids("bob"))
    else:
        await gateway.networks.expel(pn_id, ids("bob"))
    has_nothing_left(here, gateway, "bob")
    with pytest.raises(Refused):
        await bob.network.inventory()
    if by != "gateway":
        assert [one.change for one in here.changes["bob"]][-1] == Change.EXPELLED
    assert (await the_network(here)).listed == (
        (("bob", Standing.BARRED),) if by != "gateway" else (("bob", Standing.MEMBER),)
    )
    await until(lambda: [one for one in here.changes["alice"] if one.change == Change.EXPELLED])
    await sends(here, alice)


@pytest.mark.req("FN-8", "DEF-3")
@pytest.mark.parametrize("by", ["owner", "operator", "gateway"])
async def test_release(here: World, by: str) -> None:
    await here.start_server()
    gateway = await here.start_gateway(kept=True)
    alice, bob = await here.joined_pne("alice", gateway), await here.joined_pne("bob", gateway)
    pn_id = (await the_network(here)).network.pn_id
    for pne in (alice, bob):
        here.pause(pne)
    if by == "owner":
        await alice.network.release()
    elif by == "operator":
        await here.server.networks.actions.release(pn_id, OPERATOR)
    else:
        await gateway.networks.release(pn_id)
    assert await here.store.networks() == []
    await until(lambda: [one for one in here.changes["bob"] if one.change == Change.RELEASED])
    await until(lambda: len(gateway.members) == 0)
    for name in ("alice", "bob"):
        has_nothing_left(here, gateway, name)
    assert pn_id not in gateway.members.pns
    assert await gateway.members._store.served() == []


# The PN Inventory


@pytest.mark.req("DEF-3", "FN-4")
async def test_inventory_at_server_gateway_and_member(here: World) -> None:
    """One truth, copies with its version; each member with its state, the age of that news, and who told."""
    await here.start_server()
    gateway = await here.start_gateway(alias="home")
    alice, bob = await here.joined_pne("alice", gateway), await here.joined_pne("bob", gateway)
    await sends(here, alice)
    found, entries = await alice.network.inventory()
    truth = await the_network(here)
    assert (found.pn_id, found.version, found.owner) == (truth.network.pn_id, truth.network.version, "alice")
    assert (found.gateway_id, found.name) == ("gw-1", "home")
    states = {entry.entity_id: (entry.presence, entry.source) for entry in entries}
    assert states == dict.fromkeys(("alice", "bob"), (Presence.CONNECTED, Source.PNE))
    assert all(entry.age < 30 for entry in entries)
    copy = await until(lambda: next((c for c in gateway.networks.copies.values() if len(c.members) == 2), None))
    assert (copy.version, copy.owner) == (truth.network.version, "alice")
    await bob.sleep()
    assert here.server.reach.here(EntityId("bob")).presence is Presence.ASLEEP
    _, entries = await alice.network.inventory()
    assert {e.entity_id: (e.presence, e.source) for e in entries}[EntityId("bob")] == (Presence.ASLEEP, Source.PNE)
    await bob.wake()
    assert here.server.reach.here(EntityId("bob")).presence is Presence.CONNECTED
    await here.stop(gateway)
    await until(lambda: not here.server.pnes.is_connected_here(EntityId("gw-1")))
    fact = here.server.reach.here(EntityId("bob"))
    assert (fact.presence, fact.source) == (Presence.AWAY, Source.SERVER)


@pytest.mark.req("DEF-3")
async def test_nothing_is_told_again_to_who_has_the_newest_version(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway()
    alice = await here.joined_pne("alice", gateway)
    found, _ = await alice.network.inventory()
    again = await alice.network._ask(pm.InventoryRequest(found.pn_id, found.version), pm.InventoryResponse)
    assert again == pm.InventoryResponse(Result.SUCCESS, found.pn_id, found.version)


@pytest.mark.req("DEF-3")
async def test_an_entity_sees_only_what_it_may(here: World) -> None:
    """Another network's inventory looks like one that does not exist, to a member as to a gateway."""
    await here.start_server()
    first, second = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    alice, _ = await here.joined_pne("alice", first), await here.joined_pne("bob", second)
    theirs = next(pn for pn in await here.store.networks() if pn.network.gateway_id == "gw-2").network.pn_id
    for pn_id in (theirs, PnId("pn-none")):
        with pytest.raises(Refused, match="unknown_pn"):
            await alice.network._ask(pm.InventoryRequest(pn_id), pm.InventoryResponse)
        with pytest.raises(Refused, match="unknown_pn"):
            await first.networks._ask(first.uplink.standing, pm.InventoryRequest(pn_id))


@pytest.mark.req("FN-4")
async def test_a_silent_pne_is_reported_by_its_gateway(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.gateway.app.SILENCE_SECONDS", 0.2)
    monkeypatch.setattr("cpns.gateway.app.SWEEP_SECONDS", 0.1)
    await here.start_server()
    gateway = await here.start_gateway(answer_timeout=0.3)
    pne = await here.joined_pne("alice", gateway, presence=60.0)
    here.pause(pne)
    pne.life.happens(FellAsleep())
    fact = await until(lambda: (f := here.server.reach.here(EntityId("alice"))).presence is Presence.ASLEEP and f)
    assert fact.source is Source.GATEWAY
    pne.life.happens(WokeUp())
    await pne.present_again()
    fact = await until(lambda: (f := here.server.reach.here(EntityId("alice"))).presence is Presence.IDLE and f)
    assert fact.source is Source.GATEWAY


@pytest.mark.req("DEF-3")
async def test_an_inventory_of_many_comes_in_pages(here: World) -> None:
    on = await scene(here, batch_window=0.3)
    pnes = await on.pnes([f"pne-{number:03}" for number in range(70)])
    found, entries = await pnes[0].network.inventory()
    assert [entry.entity_id for entry in entries] == [f"pne-{number:03}" for number in range(70)]
    copies = on.gateway.networks.copies
    await until(lambda: any(len(copy.members) == 70 for copy in copies.values()))
    assert [(copy.pn_id, copy.version) for copy in copies.values()] == [(found.pn_id, found.version)]
