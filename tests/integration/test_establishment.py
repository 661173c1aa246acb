"""PN Establishment over real sockets: what passes on the wire, what each party holds afterwards (AUTH, DEF)."""

import asyncio
import contextlib
import dataclasses
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiocoap import Message
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from cpns.crypto.secret import Secret
from cpns.domain.inventory import Kind
from cpns.errors import NoAnswer, Result
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.transport.endpoint import Inbound
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code
from cpns.wire import codec
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire import sg_messages as sg
from tests.support import formula
from tests.support.lossy import Datagram, Fates, flipped
from tests.support.raw import Scripted, ScriptedPne, said
from tests.support.tap import Scene, TcpTap, bodies, body_of, one_body, scene
from tests.support.world import SERVER, World, until, world

SUITES = pytest.mark.parametrize("suite", [1, 2, 3])


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


class Recorder:
    """The system's randomness, written down: the one who tests knows every ephemeral seed."""

    def __init__(self) -> None:
        self.drawn: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        self.drawn.append(os.urandom(size))
        return self.drawn[-1]


@dataclass
class Joined:
    """One PNE that has joined, and what passed for it, decoded."""

    scene: Scene
    pne: Pne
    setup: m.SetupRequest
    challenge: m.Challenge
    proof: m.Proof
    outcome: m.SetupResponse
    run: formula.Run
    hop: formula.Run | None

    @property
    def name(self) -> EntityId:
        return self.pne.config.pne_id


def shared(drawn: Recorder, suite: int, eph_i: bytes | None, eph_r: bytes | None) -> bytes:
    """Return ss of the run whose initiator's ephemeral key is *eph_i*, from whichever drawn seed gives it."""
    for seed in drawn.drawn:
        if len(seed) == 96 and eph_i is not None:
            public = X25519PrivateKey.from_private_bytes(seed[:32]).public_key().public_bytes_raw()
            if public == eph_i[:32]:
                return formula.shared(suite, seed, eph_r)
    return formula.shared(1, b"", None)


def dissect(on: Scene, pne: Pne, drawn: Recorder) -> Joined:
    """Return what passed on the PAN for *pne*, and the values that PROTOCOL gives for it."""
    seen = on.on_pan(pne)
    setup, challenge = one_body(seen, m.SetupRequest), one_body(seen, m.Challenge)
    key = on.world.keys[pne.config.pne_id].reveal()
    ss = shared(drawn, setup.suite, setup.eph, challenge.eph)
    run = formula.Run(
        "pne-server", setup, challenge, SERVER, key, ss, gw=on.gateway.config.gateway_id, wrapped=challenge.wrapped
    )
    hop = None
    if bodies(seen, m.ActivateRequest):
        m1, m2 = one_body(seen, m.ActivateRequest), one_body(seen, m.LinkChallengeFromGateway)
        assert run.local_eukey is not None
        ss = shared(drawn, m1.suite, m1.eph, m2.eph)
        gateway = on.gateway.config.gateway_id
        hop = formula.Run("pne-gw", m1, m2, gateway, run.local_eukey, ss, binding=run.th0)
    return Joined(on, pne, setup, challenge, bodies(seen, m.Proof)[0], one_body(seen, m.SetupResponse), run, hop)


async def join(here: World, suite: int, *, secure: bool = False, count: int = 1) -> list[Joined]:
    """Let *count* PNEs join at the same time, in one SETUP."""
    on = await scene(here, suite=suite, secure=secure, batch_window=0.15)
    drawn = Recorder()
    names = [f"pne-{number}" for number in range(count)]
    pnes = await on.pnes(names, suite=suite, random=drawn, pan_secure=secure)
    return [dissect(on, pne, drawn) for pne in pnes]


async def watched(here: World) -> TcpTap:
    """Return a tap before the server, which is closed with the world."""
    tap = TcpTap(here.address)
    await tap.start()
    here.closes(tap)
    return tap


# Who and what


@pytest.mark.req("DEF-1")
async def test_three_entities_and_a_device_that_hosts_two(here: World) -> None:
    """PNE, PN GW and server have IDs, keys and sockets of their own; a device hosts a PNE, a PN GW, or both."""
    on = await scene(here)
    (elsewhere,) = await on.pnes(["pne-elsewhere"])
    hosted = await here.joined_pne("box-pne", on.gateway)  # on the machine that runs the PN GW
    ids = {SERVER, on.gateway.config.gateway_id, elsewhere.config.pne_id, hosted.config.pne_id}
    assert len(ids) == 4
    assert len({here.keys[name].reveal() for name in ("gw-1", "pne-elsewhere", "box-pne")}) == 3
    assert {session.peer_id for session in here.server.sessions} == {"gw-1", "pne-elsewhere", "box-pne"}
    assert here.server.sessions.with_peer(hosted.config.pne_id).via == "gw-1"  # type: ignore[union-attr]
    assert [one.entity_id for one in await here.store.entities(Kind.GATEWAY)] == ["gw-1"]
    assert [one.entity_id for one in await here.store.entities(Kind.PNE)] == ["box-pne", "pne-elsewhere"]


@pytest.mark.req("DEF-1")
async def test_no_entity_passes_for_one_of_another_kind(here: World) -> None:
    """One EUKey, two roles: a PNE's credential opens no gateway session, nor a gateway's a PNE session."""
    await here.start_server()
    await here.provision(Kind.PNE, "a-pne")
    gateway = await here.start_gateway("a-pne", wait=False)
    assert (await here.refusal("a-pne")).reason == "not_a_gateway"
    assert gateway.uplink.standing is None
    await here.stop(gateway)  # it would take the turns of its host, which is that of the honest one
    honest = await here.start_gateway("gw-1", answer_timeout=0.3)
    await here.start_pne("gw-1", honest, timer=1.0)
    assert (await here.refusal("gw-1")).reason == "not_a_pne"
    assert here.server.sessions.with_peer(EntityId("gw-1")).profile == "gw-server"  # type: ignore[union-attr]


@pytest.mark.req("DEF-8")
async def test_no_key_is_readable_at_rest(here: World) -> None:
    """Neither the server's nor the gateway's files hold a key in the clear, and nobody else may read them."""
    on = await scene(here, kept=True)
    (pne,) = await on.pnes(["pne-1"])
    local = pne.joined.local_eukey  # type: ignore[union-attr]
    assert local is not None
    files = [path for path in here.folder.iterdir() if path.is_file()]
    at_rest = b"".join(path.read_bytes() for path in files)
    assert {path.name for path in files} >= {"server.db", "gw-1.db"}
    assert b"pne-1" in at_rest
    for key in (here.keys["pne-1"], here.keys["gw-1"], local):
        assert key.reveal() not in at_rest
        assert key.reveal().hex().encode() not in at_rest
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.req("DEF-8")
async def test_a_sealed_key_moved_to_another_row_does_not_open(here: World) -> None:
    """Who can write the store, but has not the KEK, can't give alice mallory's key; bob in that SETUP goes on."""
    on = await scene(here, batch_window=0.2, answer_timeout=0.3)
    await here.provision(Kind.PNE, "mallory")
    await here.provision(Kind.PNE, "alice")
    with contextlib.closing(sqlite3.connect(here.folder / "server.db")) as database, database:
        sealed = database.execute("select sealed_key from entities where entity_id = 'mallory'").fetchone()
        database.execute("update entities set sealed_key = ? where entity_id = 'alice'", sealed)
    here.keys["alice"] = here.keys["mallory"]
    alice = await here.make_pne("alice", on.pan.address, timer=2.0)
    failed, _ = await asyncio.gather(alice.establish(), on.pnes(["bob"]), return_exceptions=True)
    assert isinstance(failed, NoAnswer)
    assert len(one_body(on.on_uplink(), m.GatewaySetupRequest).entries) == 2
    assert (await here.refusal("alice")).reason == "stored_key_does_not_open"
    assert here.server.sessions.with_peer(EntityId("alice")) is None
    assert here.server.sessions.with_peer(EntityId("bob")) is not None


# The PNE's part


@SUITES
@pytest.mark.req("AUTH-P1", "AUTH-P2", "AUTH-0")
async def test_setup_request_on_the_wire(here: World, suite: int) -> None:
    """One datagram: PNE ID, 16 random bytes, the wish for a LocalEUKey, the procedure; no key."""
    (one,) = await join(here, suite)
    datagram = one.scene.pan.seen[0]
    request = one.setup
    assert datagram.up
    assert codec.encode(request) in datagram.data
    assert (request.entity_id, len(request.rand), request.suite) == ("pne-0", 16, suite)
    assert request.need_local is True
    assert request.procedure == 1
    assert (None if request.eph is None else len(request.eph)) == {1: None, 2: 32, 3: 1216}[suite]
    here.run(pne := await here.make_pne("pne-0", one.scene.pan.address, suite=suite))
    await pne.wait_established()
    again = one_body(one.scene.on_pan(pne), m.SetupRequest)
    assert again.rand != request.rand
    assert suite == 1 or again.eph != request.eph


@pytest.mark.req("AUTH-P2", "AUTH-S2")
async def test_no_local_eukey_where_none_is_asked_for(here: World) -> None:
    """On a Secure PAN the PNE asks for none; then there is none, at neither end and not on the wire."""
    (one,) = await join(here, 1, secure=True)
    assert (one.setup.need_local, one.setup.pan_secure) == (False, True)
    assert one.challenge.wrapped is None
    (entry,) = one_body(one.scene.on_uplink(), m.GatewayChallenge).entries
    assert (entry.wrapped, entry.wrapped_gateway) == (None, None)
    assert one.pne.joined.local_eukey is None  # type: ignore[union-attr]
    assert one.scene.gateway.members.get(one.name).local_eukey is None  # type: ignore[union-attr]


@SUITES
@pytest.mark.req("AUTH-P3", "AUTH-P4", "AUTH-S3")
async def test_session_key_and_hash_pne(here: World, suite: int) -> None:
    """hash_PNE on the wire, and the keys at both ends, are what PROTOCOL computes from rands, EUKey and the rest."""
    (one,) = await join(here, suite)
    assert (one.proof.entity_id, one.proof.proof) == ("pne-0", one.run.hash_i)
    mine = one.pne.sessions.with_peer(SERVER)
    theirs = here.server.sessions.with_peer(one.name)
    assert mine is not None
    assert theirs is not None
    for session in (mine, theirs):
        assert session.keys._sk.reveal() == one.run.session_key
        assert session.keys.th2 == one.run.th2
        assert session.keys.oscore_master_secret().reveal() == one.run.oscore_master_secret
    assert (mine.own_kid, mine.peer_kid) == (theirs.peer_kid, theirs.own_kid) == (one.setup.kid, one.challenge.kid)


@SUITES
@pytest.mark.req("AUTH-P5", "AUTH-G3")
async def test_local_eukey_reaches_pne_and_gateway(here: World, suite: int) -> None:
    """W on the wire opens to the key that both keep; the key itself and W_G are never on the PAN."""
    (one,) = await join(here, suite)
    (entry,) = one_body(one.scene.on_uplink(), m.GatewayChallenge).entries
    held = one.scene.gateway.members.get(one.name)
    assert one.run.local_eukey is not None
    assert one.pne.joined.local_eukey.reveal() == one.run.local_eukey  # type: ignore[union-attr]
    assert held.local_eukey.reveal() == one.run.local_eukey  # type: ignore[union-attr]
    assert held.th0 == one.run.th0  # type: ignore[union-attr]
    assert one.challenge.wrapped == entry.wrapped
    pan = b"".join(datagram.data for datagram in one.scene.pan.seen)
    assert entry.wrapped is not None
    assert entry.wrapped in pan
    assert entry.wrapped_gateway is not None
    assert entry.wrapped_gateway not in pan
    assert one.run.local_eukey not in one.scene.raw()


@SUITES
@pytest.mark.req("AUTH-P6", "AUTH-G4")
async def test_hop_session_from_the_local_eukey(here: World, suite: int) -> None:
    """On an open PAN the PNE claims and the PN GW verifies, in the messages of 7.5.5, bound to this run."""
    (one,) = await join(here, suite)
    assert one.hop is not None
    names = [type(seen.body).__name__ for seen in one.scene.on_pan(one.pne) if seen.body is not None]
    assert names[4:] == ["ActivateRequest", "LinkChallengeFromGateway", "Proof", "ActivateResponse"]
    seen = one.scene.on_pan(one.pne)
    assert bodies(seen, m.Proof)[1].proof == one.hop.hash_i
    assert one_body(seen, m.ActivateResponse).proof == one.hop.hash_r
    mine = one.pne.sessions.with_peer(one.scene.gateway.config.gateway_id)
    theirs = one.scene.gateway.pans[0].hops.with_peer(one.name)
    assert mine.keys.th2 == theirs.keys.th2 == one.hop.th2  # type: ignore[union-attr]
    assert theirs.confirmed  # type: ignore[union-attr]


@SUITES
@pytest.mark.req("AUTH-P7", "AUTH-S4", "AUTH-G6")
async def test_hash_server(here: World, suite: int) -> None:
    """hash_server in the SETUP Response is what PROTOCOL computes from rands, EUKey, session key and hash_PNE."""
    (one,) = await join(here, suite)
    (entry,) = one_body(one.scene.on_uplink(), m.GatewaySetupResponse).entries
    assert (entry.result, entry.proof) == (Result.SUCCESS, one.run.hash_r)
    assert (one.outcome.result, one.outcome.proof) == (Result.SUCCESS, one.run.hash_r)


@pytest.mark.req("AUTH-P7")
async def test_a_wrong_hash_server_is_not_taken(here: World) -> None:
    """One bit of hash_server changed on its way: the PNE has no session, LocalEUKey or hop; nor does it come later."""
    on = await scene(here, server={"half_open": 0.4})
    pne = await here.make_pne("pne-1", on.pan.address, timer=2.0)

    def change(datagram: Datagram) -> Fates:
        is_outcome = isinstance(body_of(Message.decode(datagram.data).payload), m.SetupResponse)
        return [(0.0, flipped(datagram.data, 8 * len(datagram.data) - 30) if is_outcome else datagram.data)]

    on.pan.policy = change
    with pytest.raises(Exception, match="wrong_hash"):
        await pne.establish()
    assert (len(pne.sessions), pne.joined) == (0, None)
    await until(lambda: here.server.sessions.with_peer(EntityId("pne-1")) is None)


# The PN GW's and the server's part, several PNEs at once


@SUITES
@pytest.mark.req("AUTH-G1", "AUTH-S1", "AUTH-G2", "AUTH-G5", "AUTH-G6", "AUTH-0")
async def test_one_message_for_all(here: World, suite: int) -> None:
    """All PNEs in one SETUP Request, one AUTHENTICATE Request and Response, one SETUP Response; each gets its own."""
    joined = await join(here, suite, count=4)
    seen = joined[0].scene.on_uplink()
    inventories = (pm.InventoryRequest, pm.InventoryResponse, sg.SgInventoryRequest, sg.SgInventoryResponse)
    about = (*inventories, pm.PnChangeNotify)
    assert [type(one.body).__name__ for one in seen if one.body and not isinstance(one.body, about)] == [
        *("GatewaySetupRequest", "GatewayChallenge", "GatewayProofs", "GatewaySetupResponse")
    ]
    asked = {entry.entity_id: entry for entry in one_body(seen, m.GatewaySetupRequest).entries}
    challenge = one_body(seen, m.GatewayChallenge)
    challenges = {entry.entity_id: entry for entry in challenge.entries}
    proofs = {entry.entity_id: entry.proof for entry in one_body(seen, m.GatewayProofs).entries}
    outcomes = {entry.entity_id: entry.proof for entry in one_body(seen, m.GatewaySetupResponse).entries}
    assert len(asked) == len(challenges) == len(proofs) == len(outcomes) == 4
    for one in joined:
        entry = asked[one.name]
        assert (entry.rand, entry.kid, entry.eph) == (one.setup.rand, one.setup.kid, one.setup.eph)
        assert one.challenge.rand == challenge.rand
        assert one.challenge.kid == challenges[one.name].kid
        assert one.challenge.gateway_id == "gw-1"
        assert proofs[one.name] == one.proof.proof == one.run.hash_i
        assert outcomes[one.name] == one.outcome.proof == one.run.hash_r
    assert len({one.challenge.kid for one in joined}) == 4
    (pn,) = await here.store.networks()
    assert [member.pne_id for member in pn.members] == [f"pne-{number}" for number in range(4)]
    assert {one.outcome.pn_id for one in joined} == {pn.network.pn_id}


@pytest.mark.req("AUTH-S1")
async def test_rand_server_is_new_for_every_request(here: World) -> None:
    on = await scene(here)
    for number in range(4):
        await on.pnes([f"pne-{number}"])
    rands = [body.rand for body in bodies(on.on_uplink(), m.GatewayChallenge)]
    assert len(rands) == len(set(rands)) == 4
    assert {len(rand) for rand in rands} == {16}


@SUITES
@pytest.mark.req("AUTH-S2", "AUTH-G3", "AUTH-P5")
async def test_a_local_eukey_of_its_own_for_each(here: World, suite: int) -> None:
    """Three PNEs, three LocalEUKeys; both copies of each differ and open for their holder alone."""
    joined = await join(here, suite, count=3)
    on = joined[0].scene
    entries = {entry.entity_id: entry for entry in one_body(on.on_uplink(), m.GatewayChallenge).entries}
    exporter, gateway_key = on.link.keys.exporter().reveal(), here.keys["gw-1"].reveal()
    assert len({one.run.local_eukey for one in joined}) == 3
    copies: list[bytes] = []
    for one in joined:
        entry = entries[one.name]
        assert entry.wrapped is not None
        assert entry.wrapped_gateway is not None
        copies += [entry.wrapped, entry.wrapped_gateway]
        local = one.run.local_eukey
        assert local == formula.gateway_copy(exporter, gateway_key, one.run.th0, entry.wrapped_gateway)
        assert local == one.pne.joined.local_eukey.reveal()  # type: ignore[union-attr]
        assert local == on.gateway.members.get(one.name).local_eukey.reveal()  # type: ignore[union-attr]
        for other in joined:
            if other is not one:
                with pytest.raises(InvalidUnwrap):
                    _ = dataclasses.replace(other.run, wrapped=entry.wrapped).local_eukey
                with pytest.raises(InvalidUnwrap):
                    formula.gateway_copy(exporter, gateway_key, other.run.th0, entry.wrapped_gateway)
        with pytest.raises(InvalidUnwrap):
            formula.gateway_copy(exporter, gateway_key, one.run.th0, entry.wrapped)
        with pytest.raises(InvalidUnwrap):
            _ = dataclasses.replace(one.run, wrapped=entry.wrapped_gateway).local_eukey
    assert len(set(copies)) == 6


@SUITES
@pytest.mark.req("AUTH-7.5.5")
async def test_gateway_and_server_authenticate_each_other(here: World, suite: int) -> None:
    """Four messages, both hashes from the PN GW's EUKey; afterwards both hold the same keys."""
    await here.start_server()
    tap = await watched(here)
    drawn = Recorder()
    gateway = await here.start_gateway(suite=suite, server_host=tap.host, server_port=tap.port, random=drawn)
    names = ["ActivateRequest", "LinkChallengeFromServer", "Proof", "ActivateResponse"]
    assert [type(one.body).__name__ for one in tap.seen[:4]] == names
    assert [one.up for one in tap.seen[:4]] == [True, False, True, False]
    m1, m2 = one_body(tap.seen, m.ActivateRequest), one_body(tap.seen, m.LinkChallengeFromServer)
    run = formula.Run("gw-server", m1, m2, SERVER, here.keys["gw-1"].reveal(), shared(drawn, suite, m1.eph, m2.eph))
    assert one_body(tap.seen, m.Proof) == m.Proof(EntityId("gw-1"), run.hash_i)
    assert one_body(tap.seen, m.ActivateResponse) == m.ActivateResponse(0, run.hash_r)
    theirs = here.server.sessions.with_peer(EntityId("gw-1"))
    assert gateway.uplink.standing.session.keys.th2 == theirs.keys.th2 == run.th2  # type: ignore[union-attr]
    assert theirs.keys.exporter().reveal() == run.exporter  # type: ignore[union-attr]


@pytest.mark.req("AUTH-7.5.5")
async def test_the_newest_session_of_a_gateway_replaces_the_older(here: World) -> None:
    await here.start_server()
    first = await here.start_gateway("gw-1")
    older = here.server.sessions.with_peer(EntityId("gw-1"))
    link = first.uplink.standing.link
    await here.start_gateway("gw-1")
    assert here.server.sessions.with_peer(EntityId("gw-1")) is not older
    await until(lambda: link.closed)
    assert len(here.server.sessions) == 1


@pytest.mark.req("AUTH-7.5.5")
async def test_a_gateway_with_another_key_is_refused(here: World) -> None:
    await here.start_server()
    key = await here.provision(Kind.GATEWAY, "gw-1")
    tap = await watched(here)
    here.keys["gw-1"] = Secret(bytes(reversed(key.reveal())))
    gateway = await here.start_gateway(wait=False, server_host=tap.host, server_port=tap.port)
    row = await here.refusal("gw-1")
    assert (row.result, row.reason) == (Result.AUTHENTICATION_FAILED, "wrong_hash")
    (refused, *_) = await until(lambda: [one for one in tap.seen if type(one.body) is m.ActivateResponse])
    assert (int(refused.message.code), refused.body) == (Code.CHANGED, m.ActivateResponse(21))
    assert gateway.uplink.standing is None
    assert here.server.sessions.with_peer(EntityId("gw-1")) is None


@pytest.mark.req("AUTH-7.5.5")
@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        pytest.param(UNIFORM_REFUSAL, "peer_answered_authentication_failed", id="of the commit before"),
        pytest.param(Answer(Code.CHANGED, codec.encode(m.ActivateResponse(21))), "refused_with_21", id="of this one"),
    ],
)
async def test_a_gateway_takes_a_refusal_in_either_form(here: World, refusal: Answer, reason: str) -> None:
    async def refuse(inbound: Inbound, body: m.ActivateRequest) -> Answer:
        return refusal

    await here.start_server()
    other = Scripted(SERVER, refuse)
    host, port = await other.endpoint.listen("127.0.0.1", 0)
    here.closes(other)
    gateway = await here.start_gateway(wait=False, server_host=host, server_port=port)
    assert await until(lambda: gateway.uplink.last_refusal) == reason
    assert gateway.uplink.standing is None


@pytest.mark.req("AUTH-7.5.5")
async def test_a_server_with_another_key_is_not_believed(here: World) -> None:
    """Whoever answers in the server's place, and takes any hash, gets no session from the gateway."""
    await here.start_server()
    told: list[m.Proof] = []

    async def pretend(inbound: Inbound, body: m.ActivateRequest) -> m.ActivateResponse:
        challenge = m.LinkChallengeFromServer(SERVER, bytes(16), b"kid")
        told.append(await said(inbound.link, challenge, m.Proof))
        return m.ActivateResponse(0, told[-1].proof)

    impostor = Scripted(SERVER, pretend)
    host, port = await impostor.endpoint.listen("127.0.0.1", 0)
    here.closes(impostor)
    gateway = await here.start_gateway(wait=False, server_host=host, server_port=port)
    await until(lambda: gateway.uplink.last_refusal == "wrong_hash")
    assert told
    assert gateway.uplink.standing is None


@pytest.mark.req("AUTH-G1")
async def test_a_setup_request_that_is_sent_again_is_the_same_setup(here: World) -> None:
    """Also in a CoAP request of its own: one SETUP at the server, and each request is answered."""
    on = await scene(here, batch_window=0.6)
    pne = ScriptedPne("pne-1", await here.key(Kind.PNE, "pne-1"))
    here.closes(pne)
    link, request = await pne.link(on.pan.address), pne.begin()
    here.passed.clear()
    answers = await asyncio.gather(*(said(link, request, m.SetupResponse) for _ in range(3)))
    assert answers[0].result == Result.SUCCESS
    assert answers == [answers[0]] * 3
    assert [one.what for one in here.passed if one.peer == SERVER].count("SETUP Request") == 1
    assert len(on.gateway.pans[0].setup) == 0
