"""A registered PN GW that lies in one message, over real sockets: who refuses, with which code, who goes on unharmed.

`evil` is the gateway's own code with its own valid key (`tests.support.hostile_gateway`). bob has joined through it
before; alice comes while it attacks. Each case names what alice ends with and what the server's audit log says.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cpns.errors import NoAnswer, Result
from cpns.ids import EntityId
from cpns.wire import messages as m
from tests.support.hostile_gateway import Hook, HostileGateway, Way, altered, changes, flip, in_entry, together
from tests.support.stage import EVIL, comes_in, stage, unharmed, views_agree, watch_refusals
from tests.support.world import World, until, world

ALICE = EntityId("alice")
TO_PNE, FROM_PNE, TO_SERVER, FROM_SERVER = Way.TO_PNE, Way.FROM_PNE, Way.TO_SERVER, Way.FROM_SERVER
SILENT = (Result.NO_ANSWER, "no_answer")
WRONG = (Result.AUTHENTICATION_FAILED, "wrong_hash")
DOES_NOT_OPEN = "wrapped_key_does_not_open"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


@dataclass(frozen=True)
class Case:
    """One attack.

    Attributes:
        refused: the reason at alice, which drops what does not fit and waits on.
        audit: result and reason in the server's audit log; None: the server was satisfied, its session is half open.
        alice: how alice is configured.
        secure: whether evil calls its PAN secure.
    """

    name: str
    hook: Hook
    refused: str
    audit: tuple[Result, str] | None = SILENT
    alice: dict[str, Any] = field(default_factory=dict)
    secure: bool = False


def challenge(**fields: Any) -> Hook:
    return changes(TO_PNE, m.Challenge, **fields)


def asked(**fields: Any) -> Hook:
    return changes(FROM_PNE, m.SetupRequest, **fields)


def outcome(**fields: Any) -> Hook:
    return changes(TO_PNE, m.SetupResponse, **fields)


def own_kid(shape: type[Any], response: type[Any]) -> Hook:
    """Give alice her own kid as that of the other side."""
    seen: list[bytes] = []

    def hook(way: Way, name: str, body: Any) -> Any:
        if way is FROM_PNE and type(body) is shape:
            seen.append(body.kid)
        return altered(body, kid=seen[-1]) if way is TO_PNE and type(body) is response and name == "alice" else body

    return hook


def reflected(response: type[Any], rand: bool = False) -> Hook:
    """Give alice her own hash_I as hash_R (and her own rand as rand_R)."""
    seen: dict[str, Any] = {}

    def hook(way: Way, name: str, body: Any) -> Any:
        if name == "alice" and way is FROM_PNE:
            seen["proof"] = getattr(body, "proof", None)
            seen["rand"] = getattr(body, "rand", seen.get("rand"))
        if name == "alice" and way is TO_PNE and type(body) is response:
            return altered(body, result=0, proof=seen["proof"])
        if rand and name == "alice" and way is TO_PNE and type(body) is m.LinkChallengeFromGateway:
            return altered(body, rand=seen["rand"])
        return body

    return hook


def proofs(change: Any) -> Hook:
    """Change the entries of the AUTHENTICATE Response."""

    def hook(way: Way, name: str, body: Any) -> Any:
        return change(body) if way is TO_SERVER and type(body) is m.GatewayProofs else body

    return hook


HOME = EntityId("home")
OTHER_EPH = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
SECURE: dict[str, Any] = {"alice": {"pan_secure": True}, "secure": True}
X25519: dict[str, Any] = {"alice": {"suite": 2}}
MLKEM: dict[str, Any] = {"alice": {"suite": 3}}
HOP = {"audit": None}
UNKEYED = (Result.AUTHENTICATION_FAILED, "no_local_eukey_on_open_pan")

CASES = [
    # attacks 1 and 2: it poses as home, and is connected as evil
    Case("home to one that wants home", challenge(gateway_id=HOME), DOES_NOT_OPEN, alice={"gateway_id": HOME}),
    Case("home to one that takes any", challenge(gateway_id=HOME), DOES_NOT_OPEN),
    Case("home on a secure PAN", challenge(gateway_id=HOME), "refused_with_21", WRONG, **SECURE),
    Case("evil to one that wants home", challenge(), "challenge_names_another_gateway", alice={"gateway_id": HOME}),
    # AUTHENTICATE Request
    Case("another server", challenge(server_id=EntityId("other")), "challenge_names_another_server"),
    Case("another PN", challenge(pn_id="pn-other"), DOES_NOT_OPEN),
    Case("another PN, secure PAN", challenge(pn_id="pn-other"), "refused_with_21", WRONG, **SECURE),
    Case("rand_server changed", challenge(rand=flip), DOES_NOT_OPEN),
    Case("rand_server changed, secure PAN", challenge(rand=flip), "refused_with_21", WRONG, **SECURE),
    Case("kid_R changed", challenge(kid=flip), DOES_NOT_OPEN),
    Case("kid_R changed, secure PAN", challenge(kid=flip), "refused_with_21", WRONG, **SECURE),
    Case("kid_R is kid_I", own_kid(m.SetupRequest, m.Challenge), "kids_are_equal"),
    Case("W changed", challenge(wrapped=flip), DOES_NOT_OPEN),
    Case("W left out", challenge(wrapped=None), "local_eukey_missing_or_uncalled_for"),
    Case("W where none is due", challenge(wrapped=bytes(40)), "local_eukey_missing_or_uncalled_for", **SECURE),
    Case("eph_R changed", challenge(eph=OTHER_EPH), DOES_NOT_OPEN, **X25519),
    Case("eph_R zero", challenge(eph=bytes(32)), "bad_ephemeral_key", **X25519),
    Case("eph_R left out", challenge(eph=None), "ephemeral_key_does_not_fit_suite", **X25519),
    Case("eph_R where none is due", challenge(eph=OTHER_EPH), "ephemeral_key_does_not_fit_suite"),
    Case("ML-KEM ciphertext changed", challenge(eph=flip), DOES_NOT_OPEN, **MLKEM),
    # SETUP Request, what the PNE said
    Case("rand_PNE changed", asked(rand=flip), DOES_NOT_OPEN),
    Case("kid_I changed", asked(kid=flip), DOES_NOT_OPEN),
    Case("procedure changed", asked(procedure=3), DOES_NOT_OPEN),
    Case("procedure changed, secure PAN", asked(procedure=2), "refused_with_21", WRONG, **SECURE),
    Case("eph_I changed", asked(eph=OTHER_EPH), DOES_NOT_OPEN, **X25519),
    Case("ML-KEM down to X25519", asked(suite=2, eph=lambda eph: eph[:32]), "fit_suite", **MLKEM),
    Case("X25519 down to none", asked(suite=1, eph=None), "fit_suite", **X25519),
    Case("alice said to be bob", asked(entity_id=EntityId("bob")), DOES_NOT_OPEN, None),
    Case("need_local cleared", asked(need_local=False), "refused_with_21", UNKEYED),
    Case("need_local set", asked(need_local=True), "local_eukey_missing_or_uncalled_for", **SECURE),
    Case(
        "need_local set, its W kept back",
        together(asked(need_local=True), challenge(wrapped=None)),
        "refused_with_21",
        WRONG,
        **SECURE,
    ),
    # lies about the Secure PAN
    Case(
        "secure, says its own field alone",
        changes(TO_SERVER, m.GatewaySetupRequest, pan_secure=True),
        "refused_with_21",
        (Result.PAN_MISMATCH, "pan_mismatch"),
    ),
    Case("secure, says it for alice too", asked(pan_secure=True), DOES_NOT_OPEN, secure=True),
    Case("open, though alice is on a secure one", asked(pan_secure=False), "refused", UNKEYED, {"pan_secure": True}),
    Case(
        "open, and that alice wants a key, though she is on a secure one",
        together(asked(pan_secure=False, need_local=True), challenge(wrapped=None)),
        "refused_with_21",
        WRONG,
        {"pan_secure": True},
    ),
    # AUTHENTICATE Response
    Case("hash_PNE changed", in_entry(TO_SERVER, m.GatewayProofs, proof=flip), "refused_with_21", WRONG),
    Case("alice said to be silent", in_entry(TO_SERVER, m.GatewayProofs, proof=None, result=51), "with_51", SILENT),
    Case("hash_PNE under another txn", proofs(lambda b: altered(b, txn=flip)), "peer_answered_no_answer", None),
    Case("hash_PNE twice", proofs(lambda b: altered(b, entries=b.entries * 2)), "peer_answered_no_answer", None),
    # SETUP Response
    Case("hash_server changed", outcome(proof=flip), "wrong_hash", None),
    Case("hash_server left out", outcome(proof=None), "refused_with_0", None),
    Case("hash_PNE as hash_server", reflected(m.SetupResponse), "wrong_hash", None),
    Case("success said to be failure", outcome(result=21, proof=None), "refused_with_21", None),
    Case("another PN in the end", outcome(pn_id="pn-other"), "outcome_names_another_pn", None),
    # the hop (attack 7): reflection, another name
    Case("hop: home", changes(TO_PNE, m.LinkChallengeFromGateway, gateway_id=HOME), "another_responder", None),
    Case("hop: kid", own_kid(m.ActivateRequest, m.LinkChallengeFromGateway), "kids_are_equal", None),
    Case("hop: rand", changes(TO_PNE, m.LinkChallengeFromGateway, rand=flip), "refused_with_21", None),
    Case("hop: hash_R changed", changes(TO_PNE, m.ActivateResponse, proof=flip), "wrong_hash", None),
    Case("hop: hash_R left out", changes(TO_PNE, m.ActivateResponse, proof=None), "refused_with_0", None),
    Case("hop: hash_I as hash_R", reflected(m.ActivateResponse), "wrong_hash", None),
    Case("hop: all reflected", reflected(m.ActivateResponse, rand=True), "wrong_hash", None),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_lie_is_refused(here: World, case: Case) -> None:
    evil, bob = await stage(here, secure=case.secure)
    evil.hook = case.hook
    alice = await here.make_pne("alice", evil, **{"timer": 2.0, **case.alice})
    refusals: list[str] = []
    watch_refusals(alice, refusals)
    with pytest.raises(NoAnswer) as ended:
        await alice.establish()
    assert any(case.refused in reason for reason in [*refusals, ended.value.reason]), (refusals, ended.value)
    assert alice.joined is None
    assert alice.sessions.with_peer(EVIL) is None
    views_agree(here, evil, alice)
    if case.audit is None:
        assert await here.audit("alice") == []
    else:
        row = await here.refusal("alice")
        assert (row.result, row.reason, row.via) == (*case.audit, EVIL)
        assert here.server.sessions.with_peer(ALICE) is None
        assert evil.members.get(ALICE) is None
    await unharmed(here, bob)
    evil.hook = lambda way, name, body: body
    await until(lambda: here.server.sessions.with_peer(ALICE) is None)  # half open at most, and not for long
    if "gateway_id" not in case.alice and case.alice.get("pan_secure", False) is case.secure:
        await comes_in(alice)
        assert alice.joined is not None
        views_agree(here, evil, alice)


@pytest.mark.parametrize("lowest", [2, 3])
async def test_a_downgrade_below_the_lowest_suite(here: World, lowest: int) -> None:
    """The lowest suite of the server ends it, before any key is looked at; alice hears 21."""
    await here.start_server(lowest_suite=lowest)
    evil = await here.start_gateway("evil", kind=HostileGateway, answer_timeout=1.0, suite=lowest)
    evil.hook = asked(suite=1, eph=None)
    alice = await here.make_pne("alice", evil, suite=lowest, timer=2.0)
    with pytest.raises(NoAnswer, match="refused_with_21"):
        await alice.establish()
    row = await here.refusal("alice")
    assert (row.result, row.reason) == (Result.SUITE_REFUSED, "suite_refused")


async def test_the_case_without_a_lie(here: World) -> None:
    """The stage itself lets alice in: what the cases show is the attack, not the stage."""
    evil, bob = await stage(here)
    alice = await here.make_pne("alice", evil, timer=2.0)
    await alice.establish()
    assert alice.joined is not None
    views_agree(here, evil, alice)
    await unharmed(here, bob)
    assert [type(body).__name__ for _, name, body in evil.log if name == "alice"] == [
        *("SetupRequest", "Challenge", "Proof", "SetupResponse"),
        *("ActivateRequest", "LinkChallengeFromGateway", "Proof", "ActivateResponse"),
    ]
