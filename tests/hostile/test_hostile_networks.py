"""Lies about personal networks: by a registered gateway, by a member, by whoever is on an open PAN."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiocoap import CON, Message
from aiocoap.numbers.codes import POST

from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind
from cpns.domain.member_list import Policy
from cpns.errors import Refused, Result
from cpns.ids import EntityId
from cpns.protocol.pne_auth import pne as pne_auth
from cpns.service.system import random_bytes
from cpns.transport.endpoint import Inbound
from cpns.transport.errors import Answer, Code
from cpns.wire import codec
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire.registry import Change, Presence
from tests.hostile.test_uniform import masked, pretender
from tests.support.costs import count_primitives
from tests.support.lossy import Datagram, Fates
from tests.support.raw import ScriptedGateway, ScriptedPne, ask, entry_of, result_of
from tests.support.tap import body_of, scene
from tests.support.world import World, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def liar(here: World, name: str = "gw-liar") -> ScriptedGateway:
    """Return a gateway that says what a test wants, and takes note of what it is told of its networks."""
    gateway = ScriptedGateway(name, await here.key(Kind.GATEWAY, name))
    asked = gateway.script
    assert asked is not None

    async def heard(inbound: Inbound, body: object) -> object:
        return Answer(Code.CHANGED) if isinstance(body, pm.PnChangeNotify) else await asked(inbound, body)

    gateway.script = heard
    here.closes(gateway)
    await gateway.connect(here.address)
    return gateway


async def outcome(gateway: ScriptedGateway, pne: ScriptedPne) -> tuple[int, int, object]:
    """Run a SETUP of *pne* through *gateway*; return what the server's answer looks like to the gateway."""

    def forward(challenge: m.GatewayChallenge) -> m.GatewayProofs:
        (entry,) = challenge.entries
        c = challenge
        assert c.pn_id is not None
        told = m.Challenge(gateway.name, c.server_id, c.pn_id, c.rand, entry.kid, entry.eph or c.eph, entry.wrapped)
        proof = pne.answer(told) or pne.guess(told)
        return m.GatewayProofs(challenge.txn, (m.ProofEntry(pne.name, proof.proof),))

    gateway.answer_with = forward
    answer = await gateway.setup(entry_of(pne.begin()))
    gateway.outcomes.append(body_of(answer.payload))
    return answer.code, len(answer.payload), masked(body_of(answer.payload))


def told(pne: ScriptedPne, proof: bytes, result: int = Result.AUTHENTICATION_FAILED) -> str:
    """Return what *pne* makes of a refusal with *proof* in label 14, whichever message brings it."""
    assert pne.state.transcript.pn_id is not None
    reasons = set()
    for shape in (m.SetupResponse, m.PnEstablishmentNotify):
        with pytest.raises(Refused) as refused:
            pne_auth.finish(pne.state, shape(result, pne.state.transcript.pn_id, proof))
        reasons.add(refused.value.reason)
    (reason,) = reasons
    return reason


@pytest.mark.req("AUTH-S3", "FN-8")
@pytest.mark.parametrize("suite", [1, 2, 3])
async def test_why_one_is_not_let_in_is_for_that_one_alone(
    here: World, suite: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each refused entry has 16 bytes, made with the same work. Whoever waits, or meets policy, reads its own in its
    own run; nobody can move, change or repeat it, and all others have none.
    """
    monkeypatch.setattr("cpns.server.networks.delivery.INVITE_TIMEOUT", 0.1)
    await here.start_server()
    gateway = await liar(here)
    calls: Counter[str] = Counter()
    names = ("pne-first", "pne-waits", "pne-close", "pne-barrd", "pne-wrong", "pne-unkno")
    pnes = {name: ScriptedPne(name, await here.key(Kind.PNE, name), suite=suite) for name in names[:5]}
    for pne in pnes.values():
        here.closes(pne)
    await outcome(gateway, pnes["pne-first"])
    (pn,) = await here.store.networks()
    for rule in (here.server.networks.actions.invite, here.server.networks.actions.expel):
        await rule(pn.network.pn_id, OPERATOR, [EntityId("pne-barrd")])
    pnes |= {name: pretender(name, suite) for name in names[4:]}
    count_primitives(monkeypatch, calls)
    policies = {"pne-waits": Policy.APPROVAL, "pne-first": Policy.APPROVAL}
    macs, said = {}, {}
    for name in names:
        policy = policies.get(name, Policy.CLOSED)
        await here.server.networks.actions.update(pn.network.pn_id, OPERATOR, policy=policy, alias=None, owner=None)
        calls.clear()
        await outcome(gateway, pnes[name])
        macs[name] = calls["mac16"] - (name in names[:4])  # the PNE's own is counted too
        said[name] = gateway.outcomes[-1].entries[0].proof
    assert len(set(said.values())) == len(names)
    assert {len(one) for one in said.values()} == {16}
    reasons = {name: told(pnes[name], said[name]) for name in names[1:4]}
    assert reasons == {
        "pne-waits": "pending_approval",
        "pne-close": "policy",
        "pne-barrd": "refused_with_21",
    }
    waits, closed = pnes["pne-waits"], pnes["pne-close"]
    assert told(waits, said["pne-close"]) == told(closed, said["pne-waits"]) == "refused_with_21"
    for bit in range(128):
        assert told(waits, flipped(said["pne-waits"], bit)) == "refused_with_21"
    for result in (1, 20, 54, 60, 70):  # the result beside it is nobody's word
        assert told(waits, said["pne-waits"], result) == "pending_approval"
    assert told(waits, said["pne-waits"], 0) == "wrong_hash"
    await here.server.networks.actions.update(
        pn.network.pn_id, OPERATOR, policy=Policy.APPROVAL, alias=None, owner=None
    )
    await outcome(gateway, waits)
    assert told(waits, said["pne-waits"]) == "refused_with_21"  # of another run
    assert told(waits, gateway.outcomes[-1].entries[0].proof) == "pending_approval"
    assert len(set(macs.values())) == 1, macs


def flipped(data: bytes, bit: int) -> bytes:
    """Return *data* with one bit changed."""
    return (int.from_bytes(data, "big") ^ (1 << bit)).to_bytes(len(data), "big")


async def test_the_order_of_the_answer_tells_nothing(here: World) -> None:
    """Entries come back in the order of the request, whatever became of each."""
    await here.start_server(policy=Policy.APPROVAL)
    gateway = await liar(here)
    first = ScriptedPne("pne-a", await here.key(Kind.PNE, "pne-a"))
    await outcome(gateway, first)
    here.closes(first)
    right = {name: ScriptedPne(name, await here.key(Kind.PNE, name)) for name in ("pne-b", "pne-d")}
    pnes = [right["pne-b"], pretender("pne-c"), right["pne-d"], pretender("pne-e")]
    for pne in pnes:
        here.closes(pne)

    def forward(challenge: m.GatewayChallenge) -> m.GatewayProofs:
        c, proofs = challenge, []
        for pne, entry in zip(pnes, c.entries, strict=True):
            assert c.pn_id is not None
            one = m.Challenge(gateway.name, c.server_id, c.pn_id, c.rand, entry.kid, None, entry.wrapped)
            proofs.append(m.ProofEntry(pne.name, (pne.answer(one) or pne.guess(one)).proof))
        return m.GatewayProofs(c.txn, tuple(proofs))

    gateway.answer_with = forward
    answer = body_of((await gateway.setup(*(entry_of(pne.begin()) for pne in pnes))).payload)
    assert [entry.entity_id for entry in answer.entries] == [pne.name for pne in pnes]
    assert {entry.result for entry in answer.entries} == {Result.AUTHENTICATION_FAILED}


@pytest.mark.req("AUTH-S3", "FN-8")
@pytest.mark.parametrize("why", ["pending_approval", "not_on_the_member_list", "barred"])
async def test_who_is_not_let_in_looks_like_a_wrong_key(here: World, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its proof is right, and its gateway still can't tell it from one that has no key at all."""
    monkeypatch.setattr("cpns.server.networks.delivery.INVITE_TIMEOUT", 0.1)  # this gateway answers nothing of the kind
    await here.start_server()
    gateway = await liar(here)
    first = ScriptedPne("pne-first", await here.key(Kind.PNE, "pne-first"))
    assert (await outcome(gateway, first))[2]["entries"][0]["result"] == Result.SUCCESS  # type: ignore[index]
    (pn,) = await here.store.networks()
    right = ScriptedPne("pne-right", await here.key(Kind.PNE, "pne-right"))
    if why == "barred":
        await here.server.networks.actions.invite(pn.network.pn_id, OPERATOR, [right.name])
        await here.server.networks.actions.expel(pn.network.pn_id, OPERATOR, [right.name])
    else:
        policy = Policy.APPROVAL if why == "pending_approval" else Policy.CLOSED
        await here.server.networks.actions.update(pn.network.pn_id, OPERATOR, policy=policy, alias=None, owner=None)
    await here.provision(Kind.PNE, "pne-wrong")
    looks = [await outcome(gateway, pne) for pne in (pretender("pne-wrong"), right, pretender("pne-unkno"))]
    assert looks[0] == looks[1] == looks[2]
    reasons = [(await here.refusal(name)).reason for name in ("pne-wrong", "pne-right", "pne-unkno")]
    assert reasons == ["wrong_hash", why, "unknown"]
    for pne in (first, right):
        here.closes(pne)


@pytest.mark.req("FN-4")
async def test_a_gateway_reports_on_its_own_pnes_alone(here: World) -> None:
    await here.start_server()
    await here.joined_pne("alice", await here.start_gateway("gw-1"))
    gateway = await liar(here)
    entries = (pm.StatusEntry(EntityId("alice"), Presence.ASLEEP), pm.StatusEntry(EntityId("nobody"), Presence.ASLEEP))
    await ask(gateway.to_server, pm.PnStatusNotify(entries), session=gateway.session)
    assert here.server.reach.here(EntityId("alice")).presence is Presence.CONNECTED


@pytest.mark.req("FN-8", "DEF-3")
async def test_a_gateway_can_not_send_its_pnes_to_one_that_does_not_serve_them(here: World) -> None:
    """It says that another gateway serves the network now: that one can't, and the PNE stays where it is."""
    await here.start_server()
    home, evil = await here.start_gateway("gw-1"), await here.start_gateway("gw-evil")
    pne = await here.joined_pne("alice", home, timer=1.0, presence=0.5, request_timeout=0.8)
    assert pne.joined is not None
    pn_id = pne.joined.pn_id
    where = (":".join(map(str, here.pan(evil))),)
    notice = pm.PnChangeNotify(pn_id, (), 99, Change.GATEWAY, EntityId("gw-evil"), where)
    await home.networks.tell(pne.config.pne_id, notice)
    await until(lambda: here.changes["alice"])
    async with asyncio.timeout(40):
        await until(lambda: not pne.is_joining)
        await pne.send(pne.next_reading({"still": "home"}))
    session = here.server.sessions.with_peer(EntityId("alice"))
    assert session is not None
    assert session.via == "gw-1"
    assert evil.members.get(EntityId("alice")) is None


@pytest.mark.req("FN-8")
async def test_a_gateway_does_not_take_a_network_that_nobody_gave_it(here: World) -> None:
    await here.start_server()
    home = await here.start_gateway("gw-1")
    await here.joined_pne("alice", home)
    (pn,) = await here.store.networks()
    gateway = await liar(here)
    steal = pm.PnGwSwitchingRequest(pn.network.pn_id, gateway.name, ("127.0.0.1:1",))
    assert result_of(await ask(gateway.to_server, steal, session=gateway.session))[1] is Result.NOT_ALLOWED
    give_away = pm.PnGwSwitchingRequest(pn.network.pn_id, EntityId("gw-2"))
    assert result_of(await ask(gateway.to_server, give_away, session=gateway.session))[1] is Result.UNKNOWN_PN
    invite = pm.InviteRequest(pn.network.pn_id, (EntityId("mallory"),))
    assert result_of(await ask(gateway.to_server, invite, session=gateway.session))[1] is Result.UNKNOWN_MESSAGE
    assert (await here.store.networks())[0].network == pn.network


@pytest.mark.req("AUTH-P7", "AUTH-0")
async def test_a_forged_notify_ends_no_invited_run(here: World) -> None:
    """Before the true PNEstablishmentNotify comes one with another proof, and one that refuses."""
    on = await scene(here)
    here.accepting.add("bob")
    forged: list[bytes] = []

    def forge(datagram: Datagram) -> Fates:
        message = Message.decode(datagram.data)
        body = body_of(message.payload)
        if datagram.up or not isinstance(body, m.PnEstablishmentNotify) or forged:
            return [(0.0, datagram.data)]
        fates: list[tuple[float, bytes]] = []
        for wrong in (
            m.PnEstablishmentNotify(21, body.pn_id),
            m.PnEstablishmentNotify(0, body.pn_id, random_bytes(16)),
        ):
            lie = Message(code=POST, uri_path=("cpns",), payload=codec.encode(wrong))
            lie.mtype, lie.mid, lie.token = CON, int.from_bytes(random_bytes(2), "big"), random_bytes(4)
            forged.append(lie.encode())
            fates.append((0.0, forged[-1]))
        return [*fates, (0.2, datagram.data)]

    on.pan.policy = forge
    bob = await here.start_pne("bob", on.pan.address, waits=True)
    await until(lambda: on.gateway.pans[0].reach.link(EntityId("bob"), here.now()))
    await here.joined_pne("alice", on.pan.address, setup_type=2)
    await asyncio.wait_for(bob.wait_established(), 40)
    assert len(forged) == 2
    await bob.send(bob.next_reading({"forged": "in vain"}))


@pytest.mark.req("FN-8")
async def test_a_member_learns_nothing_of_other_networks_and_changes_none(here: World) -> None:
    await here.start_server()
    first, second = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    mallory = await here.joined_pne("mallory", first)  # owns a network of its own
    await here.joined_pne("alice", second)
    theirs = next(pn.network for pn in await here.store.networks() if pn.network.gateway_id == "gw-2")
    attempts: list[tuple[codec.Message, type]] = [
        (pm.ExpelRequest(theirs.pn_id, (EntityId("alice"),)), pm.ExpelResponse),
        (pm.ReleaseRequest(theirs.pn_id), pm.ReleaseResponse),
        (pm.InviteRequest(theirs.pn_id, (EntityId("mallory"),)), pm.InviteResponse),
        (pm.LeaveRequest(theirs.pn_id), pm.LeaveResponse),
        (pm.InventoryRequest(theirs.pn_id), pm.InventoryResponse),
    ]
    for message, shape in attempts:
        with pytest.raises(Refused):
            await mallory.network._ask(message, shape)
    assert next(pn.network for pn in await here.store.networks() if pn.network.gateway_id == "gw-2") == theirs
