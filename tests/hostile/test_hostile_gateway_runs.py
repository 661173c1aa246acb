"""A registered PN GW that mixes runs and PNEs, over real sockets: swaps, splices, replays, PNEs that never spoke."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.service.system import random_bytes
from cpns.transport.endpoint import Link
from cpns.transport.errors import UNIFORM_REFUSAL
from cpns.wire import codec
from cpns.wire import messages as m
from cpns.wire.registry import CPNS_PATH
from tests.support.hostile_gateway import Hook, HostileGateway, Way, altered, entries, entry
from tests.support.raw import ScriptedGateway, ScriptedPne, entry_of, result_of
from tests.support.stage import EVIL, stage, unharmed, views_agree, watch_refusals
from tests.support.tap import bodies, body_of, scene, settled
from tests.support.world import SERVER, World, until, world

ALICE, CAROL = EntityId("alice"), EntityId("carol")
TO_PNE, FROM_PNE, TO_SERVER, FROM_SERVER = Way.TO_PNE, Way.FROM_PNE, Way.TO_SERVER, Way.FROM_SERVER
DOES_NOT_OPEN = "wrapped_key_does_not_open"
BATCH: dict[str, Any] = {"batch_window": 0.15}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def both(here: World, evil: HostileGateway, **options: Any) -> tuple[list[Pne], list[Any], list[list[str]]]:
    """Let alice and carol join at once, in one SETUP; return them, how it ended, and why they dropped what."""
    pnes = [await here.make_pne(name, evil, **{"timer": 2.0, **options}) for name in ("alice", "carol")]
    reasons: list[list[str]] = [[], []]
    for pne, into in zip(pnes, reasons, strict=True):
        watch_refusals(pne, into)
    ended = await asyncio.gather(*(pne.establish() for pne in pnes), return_exceptions=True)
    assert len(evil.heard(TO_SERVER, m.GatewaySetupRequest)[-1].entries) == 2
    return pnes, list(ended), reasons


def other(name: str) -> str:
    return "carol" if name == "alice" else "alice"


def swapped_challenges(*fields: str, victims: tuple[str, ...] = ("alice", "carol")) -> Hook:
    """Give each victim these fields of the other one's AUTHENTICATE Request."""
    last: list[m.GatewayChallenge] = []

    def hook(way: Way, name: str, body: Any) -> Any:
        if way is FROM_SERVER and type(body) is m.GatewayChallenge:
            last.append(body)
        if way is TO_PNE and type(body) is m.Challenge and name in victims:
            theirs = entry(last[-1], other(name))
            return altered(body, **{field: getattr(theirs, field) for field in fields})
        return body

    return hook


def swapped_entries(shape: type[Any], way: Way, *fields: str) -> Hook:
    """Swap fields of alice's and carol's entries of one message on the uplink."""

    def hook(at: Way, name: str, body: Any) -> Any:
        if at is not way or type(body) is not shape or len(body.entries) != 2:
            return body
        for one in ("alice", "carol"):
            theirs = entry(body, other(one))
            body_of_one = entries(body, one, **{field: getattr(theirs, field) for field in fields})
            if one == "alice":
                kept = body_of_one
            else:
                body = replace(
                    body,
                    entries=tuple(
                        entry(kept if e.entity_id == "alice" else body_of_one, e.entity_id) for e in body.entries
                    ),
                )
        return body

    return hook


@pytest.mark.parametrize(
    ("hook", "refused", "audit", "secure"),
    [
        (swapped_challenges("kid", "wrapped"), DOES_NOT_OPEN, "no_answer", False),
        (swapped_challenges("wrapped"), DOES_NOT_OPEN, "no_answer", False),
        (swapped_challenges("kid"), DOES_NOT_OPEN, "no_answer", False),
        (swapped_challenges("kid"), "refused_with_21", "wrong_hash", True),
        (swapped_entries(m.GatewayProofs, TO_SERVER, "proof"), "refused_with_21", "wrong_hash", False),
        (swapped_entries(m.GatewaySetupRequest, TO_SERVER, "rand"), DOES_NOT_OPEN, "", False),
        (swapped_entries(m.GatewaySetupRequest, TO_SERVER, "rand"), "refused_with_21", "wrong_hash", True),
        (swapped_entries(m.GatewaySetupResponse, FROM_SERVER, "proof"), "wrong_hash", None, False),
    ],
    ids=["fan-out", "W", "kid", "kid, secure PAN", "hash_PNE", "rand", "rand, secure PAN", "hash_server"],
)
async def test_two_pnes_swapped(here: World, hook: Hook, refused: str, audit: str | None, secure: bool) -> None:
    """Neither gets in as the other, nor as itself with what is the other's (AUTH-G2 undone)."""
    evil, bob = await stage(here, secure=secure, gateway=BATCH)
    evil.hook = hook
    pnes, ended, reasons = await both(here, evil, pan_secure=secure)
    for pne, error, why in zip(pnes, ended, reasons, strict=True):
        assert isinstance(error, NoAnswer)
        assert pne.joined is None
        views_agree(here, evil, pne)
        if audit != "":  # else its own checks stop it: W_G does not open
            assert any(refused in reason for reason in why), why
        if audit:
            assert (await here.refusal(pne.config.pne_id)).reason == audit
    await until(lambda: {session.peer_id for session in here.server.sessions} == {"evil", "bob"})
    await unharmed(here, bob)


async def test_w_of_one_pne_given_to_another(here: World) -> None:
    """Attack 3: alice drops carol's W; carol, in the same SETUP, gets in."""
    evil, bob = await stage(here, gateway=BATCH)
    evil.hook = swapped_challenges("wrapped", victims=("alice",))
    (alice, carol), ended, reasons = await both(here, evil, timer=4.0)  # carol's SETUP waits for silent alice
    assert isinstance(ended[0], NoAnswer)
    assert DOES_NOT_OPEN in reasons[0]
    assert ended[1] is None
    assert (alice.joined, len(alice.sessions)) == (None, 0)
    assert (await here.refusal("alice")).reason == "no_answer"
    for pne in (alice, carol):
        views_agree(here, evil, pne)
    await unharmed(here, bob)


@pytest.mark.parametrize("fields", [("wrapped",), ("wrapped", "kid"), ("wrapped", "kid", "rand")])
async def test_an_old_local_eukey_copy_delivered_again(here: World, fields: tuple[str, ...]) -> None:
    """Attack 4: the PNE's copy of an earlier run does not open in a run with a fresh rand_PNE."""
    evil, bob = await stage(here)
    alice = await here.make_pne("alice", evil, timer=2.0)
    await alice.establish()
    assert alice.joined is not None
    (old,) = evil.heard(TO_PNE, m.Challenge, "alice")
    await here.stop(alice)
    evil.hook = lambda way, name, body: (
        altered(body, **{field: getattr(old, field) for field in fields})
        if way is TO_PNE and name == "alice" and type(body) is m.Challenge
        else body
    )
    again = await here.make_pne("alice", evil, timer=2.0)
    reasons: list[str] = []
    watch_refusals(again, reasons)
    with pytest.raises(NoAnswer):
        await again.establish()
    assert DOES_NOT_OPEN in reasons
    assert len(again.sessions) == 0
    assert (await here.refusal("alice")).reason == "no_answer"
    await unharmed(here, bob)


@pytest.mark.parametrize("change", ["old", "missing", "uncalled for", "other pne", "twice", "another txn"])
async def test_the_gateway_itself_takes_no_wrong_challenge(here: World, change: str) -> None:
    """What the gateway's own checks refuse (AUTH-G3): 4.01 to the server in its session, and no PNE hears of it."""
    secure = change == "uncalled for"  # on an open PAN each is called for
    evil, bob = await stage(here, gateway=BATCH, secure=secure)
    for name in ("alice", "carol"):  # members share a batch with members
        await (await here.make_pne(name, evil, timer=2.0, pan_secure=secure)).establish()
    (old,) = [body for body in evil.heard(FROM_SERVER, m.GatewayChallenge) if body.entries[0].entity_id == "alice"]
    heard = len(evil.heard(TO_PNE, m.Challenge))

    def hook(way: Way, name: str, body: Any) -> Any:
        if way is not FROM_SERVER or type(body) is not m.GatewayChallenge:
            return body
        if change == "old":
            return entries(body, "alice", wrapped_gateway=entry(old, "alice").wrapped_gateway)
        if change == "missing":
            return entries(body, "alice", wrapped_gateway=None)
        if change == "uncalled for":
            return entries(body, "carol", wrapped_gateway=bytes(40), wrapped=bytes(40))
        if change == "other pne":
            return entries(body, "alice", entity_id="bob")
        if change == "twice":
            return entries(body, "carol", entity_id="alice")
        return replace(body, txn=bytes(8))

    evil.hook = hook
    options: dict[str, Any] = {"timer": 2.0, "pan_secure": secure}
    made = [await here.make_pne(name, evil, **options) for name in ("alice", "carol")]
    ended = await asyncio.gather(*(pne.establish() for pne in made), return_exceptions=True)
    assert all(isinstance(error, NoAnswer) for error in ended)
    assert len(evil.heard(TO_PNE, m.Challenge)) == heard
    assert all(len(pne.sessions) == 0 for pne in made)
    await unharmed(here, bob)


# Replays to the server (attack 8), by a PN GW that need not keep to any order


class Mixed:
    """alice's run 1 through a scripted PN GW, to be replayed in run 2."""

    def __init__(self, here: World, gateway: ScriptedGateway, alice: ScriptedPne) -> None:
        self.here, self.gateway, self.alice = here, gateway, alice
        self.said: list[m.GatewayProofs] = []

    def honest(self, challenge: m.GatewayChallenge) -> m.GatewayProofs:
        (one,) = challenge.entries
        assert challenge.pn_id is not None
        proof = self.alice.answer(
            m.Challenge(self.gateway.name, SERVER, challenge.pn_id, challenge.rand, one.kid, None, one.wrapped)
        )
        self.said.append(m.GatewayProofs(challenge.txn, (m.ProofEntry(self.alice.name, proof.proof),)))
        return self.said[-1]


@pytest.mark.parametrize("connection", ["same connection", "other connection"])
@pytest.mark.parametrize("how", ["same txn", "other txn", "old hash under the new txn"])
async def test_an_old_authenticate_response(here: World, how: str, connection: str) -> None:
    """One hash_PNE gives one session: a replay, alice's SETUP Request and all, opens none and replaces none."""
    await here.start_server()
    gateway = ScriptedGateway("evil", await here.key(Kind.GATEWAY, "evil"))
    alice = ScriptedPne("alice", await here.key(Kind.PNE, "alice"))
    here.closes(gateway)
    here.closes(alice)
    run = Mixed(here, gateway, alice)
    await gateway.connect(here.address)
    request = entry_of(alice.begin())
    gateway.answer_with = run.honest
    txn = random_bytes(8)
    first = body_of((await gateway.setup(request, txn=txn)).payload)
    assert first.entries[0].result == 0
    session = here.server.sessions.with_peer(ALICE)
    if connection == "other connection":
        await gateway.close()
        gateway = ScriptedGateway("evil", here.keys["evil"])
        here.closes(gateway)
        await gateway.connect(here.address)
    (old,) = run.said
    if how == "old hash under the new txn":
        gateway.answer_with = lambda challenge: replace(old, txn=challenge.txn)
    else:
        gateway.answer_with = lambda challenge: old
    answer = await gateway.setup(request, txn=txn if how == "same txn" else random_bytes(8))
    if how == "other txn":
        assert result_of(answer) == ("4.03", Result.BAD_REQUEST)
    else:
        (outcome,) = body_of(answer.payload).entries
        assert outcome.result == Result.AUTHENTICATION_FAILED
        assert len(outcome.proof) == 16  # drawn: as for all that did not prove themselves
        assert (await here.refusal("alice")).reason == "wrong_hash"
    assert len(gateway.challenges) == (1 if connection == "other connection" else 2)
    assert here.server.sessions.with_peer(ALICE) is session
    assert len(await here.audit("alice", "pne_established")) == 1


async def test_an_answer_in_another_run_at_the_same_time(here: World) -> None:
    """Two SETUPs under way: the hash of the one given in the other counts for neither."""
    await here.start_server()
    gateway = ScriptedGateway("evil", await here.key(Kind.GATEWAY, "evil"))
    here.closes(gateway)
    await gateway.connect(here.address)
    pnes = {name: ScriptedPne(name, await here.key(Kind.PNE, name)) for name in ("alice", "carol")}
    hashes: dict[str, m.Proof] = {}
    all_asked = asyncio.Event()

    async def answer(challenge: m.GatewayChallenge) -> m.GatewayProofs:
        (one,) = challenge.entries
        name = str(one.entity_id)
        assert challenge.pn_id is not None
        c = m.Challenge(gateway.name, SERVER, challenge.pn_id, challenge.rand, one.kid, None, one.wrapped)
        hashes[name] = pnes[name].answer(c)
        if len(hashes) == 2:
            all_asked.set()
        await all_asked.wait()
        return m.GatewayProofs(challenge.txn, (m.ProofEntry(one.entity_id, hashes[other(name)].proof),))

    gateway.answer_with = answer
    for pne in pnes.values():
        here.closes(pne)
    answers = await asyncio.gather(*(gateway.setup(entry_of(pne.begin())) for pne in pnes.values()))
    for one in answers:
        assert [e.result for e in body_of(one.payload).entries] == [Result.AUTHENTICATION_FAILED]
    assert [session.peer_id for session in here.server.sessions] == ["evil"]


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("name", ["dave", "nobody"])
async def test_a_pne_that_never_spoke(here: World, name: str, hashed: bool) -> None:
    """Claimed in the SETUP Request beside alice: refused, with what the server knows in the log; alice gets in."""
    evil, bob = await stage(here)
    await here.provision(Kind.PNE, "dave")
    claimed = EntityId(name)

    def hook(way: Way, peer: str, body: Any) -> Any:
        if type(body) is m.GatewaySetupRequest:
            return replace(body, entries=(*body.entries, m.SetupEntry(1, claimed, bytes(16), b"k", True, False, 1)))
        if type(body) is m.GatewayProofs:
            made = m.ProofEntry(claimed, bytes(16)) if hashed else m.ProofEntry(claimed, result=51)
            return replace(body, entries=(*body.entries, made))
        if type(body) in (m.GatewayChallenge, m.GatewaySetupResponse):
            return replace(body, entries=tuple(e for e in body.entries if e.entity_id != claimed))
        return body

    evil.hook = hook
    alice = await here.joined_pne("alice", evil)
    views_agree(here, evil, alice)
    (outcome,) = [e for e in evil.heard(FROM_SERVER, m.GatewaySetupResponse)[-1].entries if e.entity_id == claimed]
    assert outcome.result == (Result.AUTHENTICATION_FAILED if hashed else Result.NO_ANSWER)
    assert len(outcome.proof) == 16  # drawn: there is no hash_server of one that never spoke
    why = "unknown" if name == "nobody" else "wrong_hash" if hashed else "no_answer"
    assert (await here.refusal(name)).reason == why
    assert here.server.sessions.with_peer(claimed) is None
    await unharmed(here, bob)


# Two answers


@pytest.mark.parametrize("order", ["forged first", "forged last"])
@pytest.mark.parametrize("shape", [m.SetupResponse, m.ActivateResponse], ids=["SETUP", "ACTIVATE"])
async def test_two_answers_to_one_request(here: World, shape: type[Any], order: str) -> None:
    """On the PAN anyone can send an answer: the one that proves itself counts, whichever comes first."""
    evil, bob = await stage(here)
    evil.twice = {shape: order}
    alice = await here.make_pne("alice", evil)
    await alice.establish()
    assert alice.joined is not None
    views_agree(here, evil, alice)
    await alice.send(alice.next_reading({"a": 1}))
    await unharmed(here, bob)


@pytest.mark.parametrize("second", ["the same", "another"])
async def test_a_pne_answers_once_for_each_rand(here: World, second: str) -> None:
    """Attack 8: after one AUTHENTICATE Request that fits, a second one gets no hash from alice."""
    evil, _ = await stage(here)
    done: list[asyncio.Task[Any]] = []

    def hook(way: Way, name: str, body: Any) -> Any:
        if way is FROM_PNE and type(body) is m.Proof and name == "alice" and not done:
            (sent,) = evil.heard(TO_PNE, m.Challenge, "alice")
            again = sent if second == "the same" else altered(sent, rand=bytes(16))
            ask = Link.request(
                evil.links["alice"], CPNS_PATH, codec.encode(again), timeout=0.3, accept=lambda answer: answer
            )
            done.append(asyncio.create_task(ask))
        return body

    evil.hook = hook
    alice = await here.make_pne("alice", evil)
    await alice.establish()
    (task,) = done
    await asyncio.gather(task, return_exceptions=True)
    assert isinstance(task.exception(), NoAnswer) or task.result() == UNIFORM_REFUSAL
    assert len(evil.heard(FROM_PNE, m.Proof, "alice")) == 2  # one to the server, one on the hop


async def test_unasked_messages_to_a_joined_pne(here: World) -> None:
    """Attack 2's last step: with a LocalEUKey that it holds, evil starts on alice; she answers 4.01 to all of it."""
    evil, bob = await stage(here)
    alice = await here.start_pne("alice", evil)
    await settled(alice)
    before = [session.keys.th2 for session in alice.sessions]
    (challenge,) = evil.heard(TO_PNE, m.Challenge, "alice")
    for message in (
        challenge,
        m.LinkChallengeFromGateway(EVIL, bytes(16), b"k"),
        m.LinkChallengeFromGateway(EntityId("home"), bytes(16), b"k"),
    ):
        answer = await Link.request(
            evil.links["alice"], CPNS_PATH, codec.encode(message), timeout=2, accept=lambda answer: answer
        )
        assert result_of(answer) == ("4.01", Result.AUTHENTICATION_FAILED)
    assert [session.keys.th2 for session in alice.sessions] == before
    await unharmed(here, bob)


# A registered PNE that lies (attacks 5 and 6)


async def test_the_local_eukey_of_another(here: World) -> None:
    """Attack 6: mallory, a member with a LocalEUKey of her own, is not alice to the PN GW."""
    on = await scene(here)
    (alice,) = await on.pnes(["alice"])
    mallory = ScriptedPne("mallory", await here.key(Kind.PNE, "mallory"))
    here.closes(mallory)
    joined = await mallory.join(on.pan.address)
    assert joined.local_eukey is not None
    held = on.gateway.members.get(ALICE)
    assert held is not None
    await here.stop(alice)
    (hop,) = on.gateway.pans[0].hops
    on.gateway.pans[0].hops.remove(hop)
    for name, binding in (("alice", joined.session.th0), ("alice", held.th0), ("mallory", held.th0)):
        mallory.name = EntityId(name)
        with pytest.raises(Refused, match="refused_with_21"):
            await mallory.activate(on.pan.address, joined.local_eukey, binding, "gw-1")
        await asyncio.sleep(1.01)  # who leaves a run unproved waits that long for the next
    assert not [hop for hop in on.gateway.pans[0].hops if hop.peer_id == "mallory"]
    mallory.name = EntityId("mallory")
    await mallory.activate(on.pan.address, joined.local_eukey, joined.session.th0, "gw-1")
    assert on.gateway.members.get(ALICE) == held
    assert sum(one.result == 0 for one in bodies(on.on_pan(), m.ActivateResponse)) == 2


async def test_one_key_in_both_roles_can_not_be_provisioned(here: World) -> None:
    """Attack 5 needs one EUKey for a PNE and a PN GW: the server takes a key once."""
    await here.start_server()
    key = await here.provision(Kind.GATEWAY, "box")
    report = await here.provisioning.import_csv(OPERATOR, f"id,key\nbox-pne,{key.reveal().hex()}\n", dry_run=False)
    assert [(row.line, row.code) for row in report.bad] == [(2, "key_exists")]
    assert await here.store.entity(EntityId("box-pne")) is None
