"""Who is let in and who is not: a batch with bad ones in it, suites, admission, the pinned PN GW; over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind, State
from cpns.errors import AuthenticationFailed, NoAnswer, Refused, Result, Unavailable
from cpns.ids import EntityId, PnId
from cpns.service.system import random_bytes
from cpns.wire import messages as m
from tests.support.raw import ScriptedGateway, ScriptedPne, ask, entry_of, result_of
from tests.support.tap import body_of, one_body, scene
from tests.support.world import World, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def scripted(here: World, name: str, key: Secret | None = None, **options: object) -> ScriptedPne:
    """Return a scripted PNE with the right key, unless another is given."""
    pne = ScriptedPne(name, key or await here.key(Kind.PNE, name), **options)
    here.closes(pne)
    return pne


@pytest.mark.req("AUTH-G1", "AUTH-G5", "AUTH-S3", "AUTH-0")
async def test_a_batch_of_64_with_bad_ones_in_it(here: World) -> None:
    """60 PNEs are established in the one SETUP in which a silent, a wrong, an unknown and a revoked one fail."""
    on = await scene(here, batch_window=0.6, answer_timeout=1.0)
    pnes = [await here.make_pne(f"pne-{number:02}", on.pan.address) for number in range(60)]
    await here.provision(Kind.PNE, "wrong")
    await here.provision(Kind.PNE, "revoked")
    await here.provisioning.revoke(OPERATOR, "revoked")
    silent = await scripted(here, "silent")
    silent.answer_with = lambda challenge: None
    bad = [silent]
    for name in ("wrong", "unknown", "revoked"):
        bad.append(await scripted(here, name, Secret(random_bytes(32))))
        bad[-1].answer_with = bad[-1].guess
    for pne in pnes:
        here.run(pne)
    answers = await asyncio.gather(*(pne.setup(on.pan.address) for pne in bad))
    async with asyncio.timeout(40):
        for pne in pnes:
            await pne.wait_established()
    request = one_body(on.on_uplink(), m.GatewaySetupRequest)
    assert len(request.entries) == 64
    told = {pne.name: answer.result for pne, answer in zip(bad, answers, strict=True)}
    failed = Result.AUTHENTICATION_FAILED
    assert told == {"silent": Result.NO_ANSWER, "wrong": failed, "unknown": failed, "revoked": failed}
    assert len({answer.proof for answer in answers if answer.proof is not None}) == 4  # random bytes, each its own
    reasons = {"silent": "no_answer", "wrong": "wrong_hash", "unknown": "unknown", "revoked": "revoked"}
    for name, reason in reasons.items():
        (row,) = await here.audit(name)
        assert (row.reason, row.via) == (reason, "gw-1")
        assert here.server.sessions.with_peer(EntityId(name)) is None
        assert on.gateway.members.get(EntityId(name)) is None
    assert len(here.server.sessions) == 61
    assert len(await here.audit("pne-00", "pne_established")) == 1
    (pn,) = await here.store.networks()
    assert [member.pne_id for member in pn.members] == [f"pne-{number:02}" for number in range(60)]


@pytest.mark.req("AUTH-S3")
async def test_an_id_twice_in_one_request_fails_alone(here: World) -> None:
    """A PN GW that puts one ID into its request twice gets that ID refused, and the others on their way."""
    await here.start_server()
    gateway = ScriptedGateway("gw-1", await here.key(Kind.GATEWAY, "gw-1"))
    here.closes(gateway)
    await gateway.connect(here.address)
    twice, once = await scripted(here, "twice"), await scripted(here, "once")
    entries = [entry_of(twice.begin()), entry_of(once.begin()), entry_of(twice.begin())]

    def answer(challenge: m.GatewayChallenge) -> m.GatewayProofs:
        (entry,) = challenge.entries
        c = challenge
        assert c.pn_id is not None
        proof = once.answer(m.Challenge(gateway.name, c.server_id, c.pn_id, c.rand, entry.kid, None, entry.wrapped))
        return m.GatewayProofs(challenge.txn, (m.ProofEntry(once.name, proof.proof),))

    gateway.answer_with = answer
    body = body_of((await gateway.setup(*entries)).payload)
    assert {entry.entity_id: entry.result for entry in body.entries} == {"once": 0, "twice": Result.BAD_REQUEST}
    assert [session.peer_id for session in here.server.sessions] == ["gw-1", "once"]
    assert (await here.refusal("twice")).reason == "bad_request"


async def test_two_that_claim_one_id_at_once(here: World) -> None:
    """Two SETUPs of one ID go to the server one after the other; the one without the key gets nothing."""
    on = await scene(here, batch_window=0.2)
    right, wrong = await scripted(here, "alice"), await scripted(here, "alice", Secret(random_bytes(32)))
    wrong.answer_with = wrong.guess
    joined, answer = await asyncio.gather(right.join(on.pan.address), wrong.setup(on.pan.address))
    assert answer.result == Result.AUTHENTICATION_FAILED
    session = here.server.sessions.with_peer(right.name)
    assert session is not None
    assert session.keys.th2 == joined.session.keys.th2
    held = on.gateway.members.get(right.name)
    assert held is not None
    assert held.local_eukey == joined.local_eukey


@pytest.mark.req("AUTH-G6")
async def test_a_setup_is_refused_in_one_form(here: World) -> None:
    """By its Response, be it for a wrong key or for a PN that another PN GW serves."""
    on = await scene(here)
    stranger = await scripted(here, "stranger", Secret(random_bytes(32)))
    stranger.answer_with = stranger.guess
    wrong = await stranger.setup(on.pan.address)
    elsewhere = await stranger.setup(on.pan.address, replace(stranger.begin(), pn_id=PnId("pn-elsewhere")))
    assert wrong.result == elsewhere.result == Result.AUTHENTICATION_FAILED
    assert elsewhere.pn_id == "pn-elsewhere"


@pytest.mark.req("AUTH-G6")
async def test_a_setup_that_nobody_decides_on_is_told_so(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server refuses what its PN GW does, not the PNE: that hears 51, and comes again."""

    async def refuse(*_: object) -> None:
        raise AuthenticationFailed("not_today")

    on = await scene(here)
    pne = await scripted(here, "pne-1")
    with monkeypatch.context() as patched:
        patched.setattr(here.server.access.admission, "setup", refuse)
        answer = await ask(await pne.link(on.pan.address), pne.begin())
    assert result_of(answer) == ("5.04", Result.NO_ANSWER)
    await pne.join(on.pan.address)


@pytest.mark.req("AUTH-S3", "AUTH-7.5.5")
@pytest.mark.parametrize("suite", [1, 2])
async def test_a_suite_below_the_lowest_is_refused(here: World, suite: int) -> None:
    """Nobody falls back: a PN GW and a PNE below the server's lowest suite stay out, those at it come in."""
    await here.start_server(lowest_suite=suite + 1)
    low = ScriptedGateway("gw-low", await here.key(Kind.GATEWAY, "gw-low"))
    here.closes(low)
    with pytest.raises(Refused, match="refused_with_21"):
        await low.connect(here.address)
    assert (await here.refusal("gw-low")).reason == "suite_too_low"
    gateway = await here.start_gateway(suite=suite + 1)
    pne = await here.make_pne("low", gateway, suite=suite, timer=1.0)
    with pytest.raises(Refused, match="refused_with_21"):
        await pne.establish()
    assert (await here.refusal("low")).reason == "suite_refused"
    await here.joined_pne("high", gateway, suite=suite + 1)


@pytest.mark.req("AUTH-S3")
async def test_a_pne_comes_only_through_the_gateway_it_is_admitted_by(here: World) -> None:
    """Provisioned for gw-2 alone: through gw-1 it fails as one with a wrong key would; through gw-2 it gets in."""
    await here.start_server()
    first = await here.start_gateway("gw-1", answer_timeout=0.3)
    second = await here.start_gateway("gw-2")
    await here.provision(Kind.PNE, "bound", via="gw-2")
    pne = await here.make_pne("bound", first, timer=1.0)
    with pytest.raises(Refused, match="refused_with_51"):
        await pne.establish()
    row = await here.refusal("bound")
    assert (row.reason, row.via) == ("not_admitted_through_this_gateway", "gw-1")
    guessing = await scripted(here, "bound")
    guessing.answer_with = guessing.guess
    assert (await guessing.setup(here.pan(first))).result == Result.AUTHENTICATION_FAILED
    assert here.server.sessions.with_peer(EntityId("bound")) is None
    await here.joined_pne("bound", second)
    assert here.server.sessions.with_peer(EntityId("bound")).via == "gw-2"  # type: ignore[union-attr]


@pytest.mark.req("AUTH-P7")
async def test_a_pne_pinned_to_a_gateway_takes_no_other(here: World) -> None:
    await here.start_server()
    first = await here.start_gateway("gw-1", answer_timeout=4.0)
    pne = await here.make_pne("pinned", first, gateway_id=EntityId("gw-2"), timer=2.0)
    with pytest.raises(NoAnswer, match="challenge_names_another_gateway"):
        await pne.establish()
    assert len(pne.sessions) == 0
    assert (await here.refusal("pinned")).reason == "no_answer"
    assert first.members.get(EntityId("pinned")) is None
    second = await here.start_gateway("gw-2")
    pne = await here.joined_pne("pinned", second, gateway_id=EntityId("gw-2"))
    assert pne.joined.gateway_id == "gw-2"  # type: ignore[union-attr]


async def test_what_is_revoked_ends_at_once(here: World) -> None:
    """A revoked PNE loses its session and can't set up again; a revoked PN GW takes its PNEs' sessions with it."""
    await here.start_server()
    gateway = await here.start_gateway("gw-1", answer_timeout=0.3)
    pne = await here.joined_pne("alice", gateway, timer=1.0)
    await here.joined_pne("bob", gateway, timer=1.0)
    assert await here.provisioning.revoke(OPERATOR, "alice") == 1
    assert here.server.sessions.with_peer(EntityId("alice")) is None
    again = await scripted(here, "alice")
    again.answer_with = again.guess
    assert (await again.setup(here.pan(gateway))).result == Result.AUTHENTICATION_FAILED
    assert (await here.refusal("alice")).reason == "revoked"
    entity = await here.store.entity(EntityId("alice"))
    assert entity is not None
    assert (entity.state, entity.pn_id) == (State.REVOKED, None)
    assert await here.provisioning.revoke(OPERATOR, "gw-1") == 2
    assert len(here.server.sessions) == 0
    await until(lambda: gateway.uplink.standing is None)
    assert pne.config.pne_id == "alice"


async def test_a_request_for_a_pn_of_another_gateway_is_refused(here: World) -> None:
    await here.start_server()
    honest = await here.start_gateway("gw-1")
    await here.joined_pne("alice", honest)
    (pn,) = await here.store.networks()
    other = ScriptedGateway("gw-2", await here.key(Kind.GATEWAY, "gw-2"))
    here.closes(other)
    await other.connect(here.address)
    bob = await scripted(here, "bob")
    assert result_of(await other.setup(entry_of(bob.begin()), pn_id=pn.network.pn_id)) == ("4.03", Result.UNKNOWN_PN)
    assert not other.challenges
    assert [one.network.gateway_id for one in await here.store.networks()] == ["gw-1"]


async def test_a_gateway_that_can_not_store_lets_in_and_stores_later(
    here: World, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that fails at the PN GW keeps nobody out: what it did not take is written when it works again."""
    on = await scene(here, kept=True)
    store = on.gateway.members._store
    assert store is not None

    class Full:
        def __getattr__(self, name: str) -> object:
            async def refuse(*args: object) -> None:
                raise Unavailable("store_unavailable", "the disk is damaged: look at it")

            return refuse

    on.gateway.members._store = Full()  # type: ignore[assignment]
    pne = await here.make_pne("pne-1", on.pan.address)
    await pne.establish()
    assert pne.joined is not None
    assert on.gateway.members.get(EntityId("pne-1")) is not None
    assert "members are not written down yet: the disk is damaged" in caplog.text
    assert await store.members() == []
    on.gateway.members._store = store
    await on.gateway.members.settle()
    assert [member.pne_id for member in await store.members()] == ["pne-1"]
