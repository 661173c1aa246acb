"""Nobody learns which IDs exist: unknown, wrong key, revoked and not admitted look the same, over real sockets.

Same messages, same lengths, same codes, same count of primitives, same time within noise; the reason is in the audit
log alone (PROTOCOL 4.3 and 4.7, ATTACKS "Unknown or wrong").
"""

import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from cpns.crypto import primitives
from cpns.crypto.secret import Secret
from cpns.domain.inventory import Kind
from cpns.errors import Result
from cpns.ids import EntityId
from cpns.service.system import random_bytes
from cpns.transport.errors import UNIFORM_REFUSAL
from cpns.wire import codec
from cpns.wire import messages as m
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
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        await one.start_server()
        await one.provision(Kind.PNE, "pne-wrong")
        await one.provision(Kind.PNE, "pne-revok")
        await one.provisioning.revoke("pne-revok")
        await one.provision(Kind.PNE, "pne-admit", via="gw-other")
        await one.provision(Kind.GATEWAY, "gw-as-pne")
        await one.provision(Kind.GATEWAY, "gw-wrong")
        await one.provision(Kind.GATEWAY, "gw-revok")
        await one.provisioning.revoke("gw-revok")
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


def counting(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count every call of a primitive from now on."""
    calls: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*args, **options)

        return call

    for name, function in list(vars(primitives).items()):
        if isinstance(function, FunctionType) and getattr(function, "__module__", "") == primitives.__name__:
            monkeypatch.setattr(primitives, name, counted(name, function))
    for kind, names in (
        (primitives.Keyed, ("__init__", "mac", "expand")),
        (primitives.Box, ("__init__", "seal", "unseal")),
    ):
        for name in names:
            monkeypatch.setattr(kind, name, counted(f"{kind.__name__}.{name}", vars(kind)[name]))
    return calls


# PNEs, at the server


@pytest.mark.req("AUTH-S3")
@pytest.mark.parametrize("answers", [True, False], ids=["hash", "silent"])
@pytest.mark.parametrize("suite", [1, 2, 3])
async def test_a_gateway_sees_no_difference(
    here: World, suite: int, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages to the PN GW inside its session, and the primitives that the server ran, are alike for all."""
    gateway = await scripted_gateway(here)
    if not answers:
        gateway.answer_with = lambda c: m.GatewayProofs(
            c.txn, tuple(m.ProofEntry(entry.entity_id, result=51) for entry in c.entries)
        )
    await gateway.setup(entry_of(pretender("pne-other", suite).begin()))  # names the PN, makes the contexts
    calls = counting(monkeypatch)
    looks, counts = {}, {}
    for name in PNES:
        entry = entry_of(pretender(name, suite).begin())
        calls.clear()
        answer = await gateway.setup(entry)
        counts[name] = dict(calls)
        challenge, outcome = gateway.challenges[-1], body_of(answer.payload)
        assert [e.entity_id for e in challenge.entries] == [e.entity_id for e in outcome.entries] == [name]
        assert outcome.entries[0].result == (Result.AUTHENTICATION_FAILED if answers else Result.NO_ANSWER)
        looks[name] = [
            (len(codec.encode(body)), masked(body), answer.code, len(answer.payload)) for body in (challenge, outcome)
        ]
    for name in PNES:
        assert looks[name] == looks["pne-wrong"], name
        assert counts[name] == counts["pne-wrong"], name
    assert sum(counts["pne-wrong"].values()) > 20
    assert counts["pne-wrong"]["Box.unseal"] == 1
    for name, reason in PNES.items():
        why = "no_answer" if reason == "wrong_hash" and not answers else reason
        assert (await here.audit(name))[0].reason == why
        assert here.server.sessions.with_peer(EntityId(name)) is None


async def test_an_entity_s_last_reason_is_for_the_operator(here: World) -> None:
    gateway = await scripted_gateway(here)
    for name in PNES:
        await gateway.setup(entry_of(pretender(name).begin()))
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
        assert (outcome.result, outcome.proof) == (Result.AUTHENTICATION_FAILED, None)
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
        with pytest.raises(AssertionError, match="UNAUTHORIZED"):
            await gateway.connect(address)
    finally:
        await gateway.close()


@pytest.mark.req("AUTH-7.5.5")
async def test_a_gateway_that_is_none_sees_no_difference(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """ACTIVATE of an unknown, revoked or wrong-key PN GW, or of a PNE: same messages, same primitives, same 4.01."""
    looks: dict[str, list[Any]] = {}
    counts: dict[str, Any] = {}
    calls = counting(monkeypatch)
    assert len({len(name) for name in GATEWAYS}) == 1
    for name in GATEWAYS:
        tap = TcpTap(here.address)
        await tap.start()
        calls.clear()
        await knock((tap.host, tap.port), name)
        counts[name] = dict(calls)
        looks[name] = [look(seen) for seen in tap.seen]
        assert tap.seen[-1].message.payload == UNIFORM_REFUSAL.payload
        await tap.close()
        assert (await here.refusal(name)).reason == GATEWAYS[name]
    assert len(looks["gw-wrong"]) == 4
    for name in GATEWAYS:
        assert looks[name] == looks["gw-wrong"], name
        assert counts[name] == counts["gw-wrong"], name
    assert len(here.server.sessions) == 0


# Time


async def medians(kinds: list[str], once: Callable[[str], Any], rounds: int) -> dict[str, float]:
    """Return the median seconds of *once* for each kind, in rounds, so that a busy machine is busy for all alike."""
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds):
        for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:
            start = time.perf_counter()
            await once(kind)
            took[kind].append(time.perf_counter() - start)
    return {kind: statistics.median(times) for kind, times in took.items()}


async def test_all_take_the_same_time(here: World) -> None:
    gateway = await scripted_gateway(here)
    entries = {name: entry_of(pretender(name).begin()) for name in PNES}
    for name in PNES:
        await gateway.setup(entries[name])
    times = await medians(list(PNES), lambda name: gateway.setup(entries[name]), 60)
    assert max(times.values()) < 1.5 * min(times.values()), times


async def test_all_gateways_take_the_same_time(here: World) -> None:
    for name in GATEWAYS:
        await knock(here.address, name)
    times = await medians(list(GATEWAYS), lambda name: knock(here.address, name), 40)
    assert max(times.values()) < 1.5 * min(times.values()), times
    await until(lambda: len(here.server.sessions) == 0)
