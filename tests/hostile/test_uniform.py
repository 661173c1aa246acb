"""Nobody learns which IDs exist: unknown, wrong key, revoked and not admitted look the same, over real sockets.

Same messages, same lengths, same codes, same count of primitives, statements and commits before the answer; the reason
is in the audit log alone (PROTOCOL 4.3 and 4.7, ATTACKS "Unknown or wrong"). How long it takes: `make siege`.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind
from cpns.errors import Refused, Result
from cpns.ids import EntityId
from cpns.service.system import random_bytes
from cpns.wire import codec
from cpns.wire import messages as m
from tests.support.costs import Costs, counted
from tests.support.raw import ScriptedGateway, ScriptedPne, entry_of
from tests.support.tap import Seen, TcpTap, body_of, scene
from tests.support.world import World, until, world

PNES = {
    "pne-wrong": "wrong_hash",
    "pne-unkno": "unknown",
    "pne-revok": "revoked",
    "pne-admit": "not_admitted_through_this_gateway",
    "gw-as-pne": "not_a_pne",
}
GATEWAYS = {"gw-wrong": "wrong_hash", "gw-unkno": "unknown", "gw-revok": "revoked", "pne-gw-x": "not_a_gateway"}
SECRET_FIELDS = {"rand", "kid", "eph", "wrapped", "wrapped_gateway", "proof", "txn", "entity_id"}


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Costs]:
    """What is counted; what is written down after an answer is written when a test looks."""
    monkeypatch.setattr("cpns.service.refusals.GATHER_SECONDS", 60.0)
    with counted(monkeypatch) as one:
        yield one


@pytest.fixture
async def here(tmp_path: Path, costs: Costs) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        one.passed = costs
        await one.start_server()
        await one.provision(Kind.PNE, "pne-wrong")
        await one.provision(Kind.PNE, "pne-revok")
        await one.provisioning.revoke(OPERATOR, "pne-revok")
        await one.provision(Kind.PNE, "pne-admit", via="gw-other")
        await one.provision(Kind.GATEWAY, "gw-as-pne")
        await one.provision(Kind.GATEWAY, "gw-wrong")
        await one.provision(Kind.GATEWAY, "gw-revok")
        await one.provisioning.revoke(OPERATOR, "gw-revok")
        await one.provision(Kind.PNE, "pne-gw-x")
        yield one


def masked(body: Any) -> Any:
    """Return a message with the lengths of what is random or an ID, and the values of all else."""
    if isinstance(body, tuple):
        return tuple(map(masked, body))
    if not is_dataclass(body):
        return body
    shown: dict[str, Any] = {"": type(body).__name__}
    for field in fields(body):
        value = getattr(body, field.name)
        secret = field.name in SECRET_FIELDS and value is not None
        shown[field.name] = len(value) if secret else masked(value)
    return shown


def look(seen: Seen) -> tuple[Any, ...]:
    """Return what an observer has of a message: direction, code, options, length, fields, and not the random ones."""
    options = sorted((int(option.number), len(option.encode())) for option in seen.message.opt.option_list())
    return seen.up, int(seen.message.code), options, len(seen.message.payload), masked(seen.body)


def pretender(name: str, suite: int = 1) -> ScriptedPne:
    """Return a PNE that has another key."""
    return ScriptedPne(name, Secret(random_bytes(32)), suite=suite)


async def scripted_gateway(here: World) -> ScriptedGateway:
    gateway = ScriptedGateway("gw-honest", await here.key(Kind.GATEWAY, "gw-honest"))
    here.closes(gateway)
    await gateway.connect(here.address)
    return gateway


# PNEs, at the server


@pytest.mark.req("AUTH-S3")
@pytest.mark.parametrize("answers", [True, False], ids=["hash", "silent"])
@pytest.mark.parametrize("suite", [1, 2, 3])
async def test_a_gateway_sees_no_difference(here: World, suite: int, answers: bool, costs: Costs) -> None:
    """Messages to the PN GW in its session are alike for all, and so is what the server ran before it answered."""
    gateway = await scripted_gateway(here)
    if not answers:
        gateway.answer_with = lambda c: m.GatewayProofs(
            c.txn, tuple(m.ProofEntry(entry.entity_id, result=51) for entry in c.entries)
        )
    await gateway.setup(entry_of(pretender("pne-other", suite).begin()))  # names the PN, makes the contexts
    looks: dict[str, Any] = {}
    counts: dict[Any, Any] = {}
    for name in [*PNES, *PNES]:  # one that was refused before costs the same
        entry = entry_of(pretender(name, suite).begin())
        costs.begin()
        answer = await gateway.setup(entry)
        (counts[name],) = costs.answers
        await here.server.refusals.flush()
        counts[name, "in the end"] = Counter(costs.spent)
        challenge, outcome = gateway.challenges[-1], body_of(answer.payload)
        assert [e.entity_id for e in challenge.entries] == [e.entity_id for e in outcome.entries] == [name]
        assert outcome.entries[0].result == (Result.AUTHENTICATION_FAILED if answers else Result.NO_ANSWER)
        assert len(outcome.entries[0].proof) == 16
        looks[name] = [
            (len(codec.encode(body)), masked(body), answer.code, len(answer.payload)) for body in (challenge, outcome)
        ]
    for name in PNES:
        assert looks[name] == looks["pne-wrong"], name
        assert counts[name] == counts["pne-wrong"], name
        assert counts[name, "in the end"] == counts["pne-wrong", "in the end"], name
    assert sum(counts["pne-wrong"].values()) > 20
    assert counts["pne-wrong"]["Box.unseal"] == 1
    assert counts["pne-wrong"]["SQL SELECT"] == 1
    assert counts["pne-wrong"]["SQL COMMIT"] == 0
    for name, reason in PNES.items():
        why = "no_answer" if reason == "wrong_hash" and not answers else reason
        assert (await here.audit(name))[0].reason == why
        assert here.server.sessions.with_peer(EntityId(name)) is None


async def test_an_entity_s_last_reason_is_for_the_operator(here: World) -> None:
    gateway = await scripted_gateway(here)
    for name in PNES:
        await gateway.setup(entry_of(pretender(name).begin()))
    await here.server.refusals.flush()
    for name in ("pne-wrong", "pne-revok", "pne-admit"):
        entity = await here.store.entity(EntityId(name))
        assert entity is not None
        assert (entity.last_result, entity.last_reason, entity.last_via) == (21, PNES[name], "gw-honest")


# PNEs, on the PAN


@pytest.mark.req("AUTH-S3")
@pytest.mark.parametrize("suite", [1, 2, 3])
async def test_a_pne_sees_no_difference(here: World, suite: int) -> None:
    """The datagrams of each run on the PAN: same codes, options, lengths and fields."""
    await here.stop(here.server)  # the scene starts it again, on the same store
    on = await scene(here, answer_timeout=1.0)
    looks: dict[str, list[Any]] = {}
    for name in PNES:
        pne = pretender(name, suite)
        pne.answer_with = pne.guess
        here.closes(pne)
        start = len(on.pan.seen)
        outcome = await pne.setup(on.pan.address)
        assert outcome.result == Result.AUTHENTICATION_FAILED
        assert outcome.proof is not None  # random bytes: none of them proved itself
        everything, on.pan.seen[:] = list(on.pan.seen), on.pan.seen[start:]
        looks[name] = [look(seen) for seen in on.on_pan() if int(seen.message.code)]
        on.pan.seen[:] = everything
        assert (await here.audit(name))[0].reason == PNES[name]
    assert len(looks["pne-wrong"]) == 4
    for name in PNES:
        assert looks[name] == looks["pne-wrong"], name


# PN GWs, at the server


async def knock(address: tuple[str, int], name: str) -> None:
    """Try to activate *name* with another key."""
    gateway = ScriptedGateway(name, Secret(random_bytes(32)))
    try:
        with pytest.raises(Refused, match="refused_with_21"):
            await gateway.connect(address)
    finally:
        await gateway.close()


async def host_is_known(here: World) -> None:
    """Let somebody prove itself from our host, so that it need not wait after a failure."""
    gateway = await scripted_gateway(here)
    await gateway.close()
    await until(lambda: len(here.server.sessions) == 0)


@pytest.mark.req("AUTH-7.5.5")
async def test_a_gateway_that_is_none_sees_no_difference(here: World, costs: Costs) -> None:
    """ACTIVATE of an unknown, revoked or wrong-key PN GW, or of a PNE: same messages, same costs, same answer."""
    looks: dict[str, list[Any]] = {}
    counts: dict[str, Any] = {}
    await host_is_known(here)
    assert len({len(name) for name in GATEWAYS}) == 1
    for name in [*GATEWAYS, *GATEWAYS]:
        tap = TcpTap(here.address)
        await tap.start()
        costs.begin()
        await knock((tap.host, tap.port), name)
        (counts[name],) = costs.answers
        looks[name] = [look(seen) for seen in tap.seen]
        assert tap.seen[-1].body == m.ActivateResponse(Result.AUTHENTICATION_FAILED)
        await tap.close()
        assert (await here.refusal(name)).reason == GATEWAYS[name]
    assert len(looks["gw-wrong"]) == 4
    for name in GATEWAYS:
        assert looks[name] == looks["gw-wrong"], name
        assert counts[name] == counts["gw-wrong"], name
    assert counts["gw-wrong"]["SQL SELECT"] == 1
    assert counts["gw-wrong"]["SQL COMMIT"] == 0
    assert len(here.server.sessions) == 0
