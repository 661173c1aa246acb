"""ID and key of a CM Device (S2 steps 1 to 11, and rekey) under attack, over real sockets: liars, thieves, mix-ups.

`evil` is a registered PN GW with the gateway's own code, alice a PNE behind it. Activation is in ``test_hostile_cm``.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cpns.crypto import cm as crypto
from cpns.crypto.schedule import Profile
from cpns.domain.actor import OPERATOR
from cpns.domain.cm import CmKey
from cpns.domain.inventory import Kind
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.protocol.cm_assign import mediator
from cpns.server.changing.devices import MAX_ASSIGNMENTS
from cpns.service.system import random_bytes
from cpns.transport.errors import Code
from cpns.wire import cm_messages as cm
from cpns.wire import messages as m
from tests.hostile.test_hostile_cm import UNKNOWN, Direct
from tests.support.hostile_gateway import Hook, HostileGateway, Way, changes, flip, together, unchanged
from tests.support.raw import ask, result_of
from tests.support.stage import EVIL
from tests.support.tap import body_of
from tests.support.world import SERVER, World, until, world

ALICE, HOME, TABLET = EntityId("alice"), EntityId("home"), EntityId("tablet")
TO_PNE, FROM_PNE, TO_SERVER, FROM_SERVER = Way.TO_PNE, Way.FROM_PNE, Way.TO_SERVER, Way.FROM_SERVER
FORGED = cm.CmKeyRequest(UNKNOWN, bytes(32))
WRONG = Result.AUTHENTICATION_FAILED


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr("cpns.node.keying.PAUSES", (0.05, 0.1))
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


async def stage(here: World, *, secure: bool = False) -> tuple[HostileGateway, Pne]:
    evil = await here.start_gateway(EVIL, kind=HostileGateway, answer_timeout=1.0, secure=secure)
    return evil, await here.joined_pne(ALICE, evil, pan_secure=secure)


async def say(gateway: HostileGateway, message: Any) -> Any:
    """Say *message* to the server in a PN GW's own session; return the message that answers."""
    standing = await gateway.uplink.wait(40)
    return body_of((await ask(standing.link, message, session=standing.session)).payload)


class Run:
    """One assignment that the test plays in *gateway*'s session, step by step, as oddly as it wants."""

    def __init__(self, gateway: HostileGateway, own_id: EntityId = EVIL) -> None:
        self.gateway = gateway
        self.txn = random_bytes(8)
        self._begun, self._wish = mediator.begin(txn=self.txn, device=ALICE, own_id=own_id, server_id=SERVER)

    async def named(self) -> cm.CmIdResponse:
        """Run steps 1 to 6."""
        await self.seeded()
        self.code = await say(self.gateway, self.id)
        assert isinstance(self.code, cm.CmIdResponse)
        return self.code

    async def seeded(self) -> None:
        """Run steps 1 to 3."""
        self.seed: cm.CmAssignResponse = await say(self.gateway, self._wish)
        self._derived, self.id = mediator.derive(self._begun, self.seed, random_bytes(16))

    @property
    def made(self) -> CmKey:
        return self._derived.made

    @property
    def confirmation(self) -> cm.CmConfirmRequest:
        """CM-CONFIRM Request with the code that our ID and key call for, whatever the server said."""
        derived = self._derived
        code_s = crypto.code_server(derived.confirm_key, derived.rand_s, derived.rand_g)
        code_g = crypto.code_gateway(derived.confirm_key, derived.rand_s, derived.rand_g, code_s)
        return cm.CmConfirmRequest(self.txn, code_g)

    async def confirmed(self) -> int:
        """Run steps 8 to 10; return the result."""
        return int((await say(self.gateway, self.confirmation)).result)


def pending(here: World) -> int:
    """Return how many Key Seeds wait for evil's next step, in memory and as long as its session."""
    return len(here.server.gateways._connected[EVIL][0].assignments)


async def nothing_left(here: World, evil: HostileGateway, alice: Pne, unused: int = 0, waiting: int = 0) -> None:
    """Show that nobody has anything; but *unused* of which no device has a key, and what waits in memory."""
    devices = await here.store.cm_devices()
    assert [one.activated_at for one in devices] == [None] * unused
    assert pending(here) == waiting
    assert (alice.cm._asking, alice.cm._brought, evil._mediator._under_way) == (False, None, set())
    assert {session.profile for session in here.server.sessions} == {Profile.GW_SERVER, Profile.PNE_SERVER}


async def can_begin_again(here: World, alice: Pne) -> None:
    """Show that an honest run works: one CM Device, whose key is good."""
    key = await alice.cm.assign()
    (one,) = await here.store.cm_devices()
    assert (one.cm_device_id, one.pne_id, one.gateway_id) == (key.cm_device_id, ALICE, EVIL)
    await Direct(here, key).activate()


# A lie in one message


def lost(way: Way, shape: type[Any]) -> Hook:
    """Return a hook that lets a message end as it does when the timer has run out, but at once."""

    def hook(at: Way, name: str, body: Any) -> Any:
        if at is way and type(body) is shape:
            raise NoAnswer("lost")
        return body

    return hook


@dataclass(frozen=True)
class Case:
    """One lie of evil's.

    Attributes:
        unused: whether the server has committed one that nobody has the key of; it stands in for nothing.
        waiting: whether the server still waits for the next step.
    """

    name: str
    hook: Hook
    unused: int = 0
    waiting: int = 0


CASES = [
    Case("wanted for another", changes(FROM_PNE, cm.CmWanted, pne_id=EntityId("bob"))),
    Case("ASSIGN: for one that is not there", changes(TO_SERVER, cm.CmAssignRequest, pne_id=EntityId("bob"))),
    Case("ASSIGN: txn", changes(TO_SERVER, cm.CmAssignRequest, txn=flip), waiting=1),
    Case("ASSIGN lost", lost(TO_SERVER, cm.CmAssignRequest)),
    Case("seed: txn", changes(FROM_SERVER, cm.CmAssignResponse, txn=flip), waiting=1),
    Case("seed: Key Seed", changes(FROM_SERVER, cm.CmAssignResponse, key_seed=flip)),
    Case("seed: rand_S", changes(FROM_SERVER, cm.CmAssignResponse, rand=flip), waiting=1),
    Case("seed lost", lost(FROM_SERVER, cm.CmAssignResponse), waiting=1),
    Case("ID: txn", changes(TO_SERVER, cm.CmIdRequest, txn=flip), waiting=1),
    Case("ID: another", changes(TO_SERVER, cm.CmIdRequest, cm_device_id=UNKNOWN)),
    Case("ID: rand_G", changes(TO_SERVER, cm.CmIdRequest, rand=flip), waiting=1),
    Case("ID lost", lost(TO_SERVER, cm.CmIdRequest), waiting=1),
    Case("code_S: txn", changes(FROM_SERVER, cm.CmIdResponse, txn=flip), waiting=1),
    Case("code_S: result", changes(FROM_SERVER, cm.CmIdResponse, result=21), waiting=1),
    Case("code_S: changed", changes(FROM_SERVER, cm.CmIdResponse, code=flip), waiting=1),
    Case("code_S: left out", changes(FROM_SERVER, cm.CmIdResponse, code=None), waiting=1),
    Case("code_S lost", lost(FROM_SERVER, cm.CmIdResponse), waiting=1),
    Case("CONFIRM: txn", changes(TO_SERVER, cm.CmConfirmRequest, txn=flip), waiting=1),
    Case("CONFIRM: code_G", changes(TO_SERVER, cm.CmConfirmRequest, code=flip)),
    Case("CONFIRM lost", lost(TO_SERVER, cm.CmConfirmRequest), waiting=1),
    Case("reply: txn", changes(FROM_SERVER, cm.CmConfirmResponse, txn=flip)),
    Case("reply: result", changes(FROM_SERVER, cm.CmConfirmResponse, result=21)),
    Case("reply: another ID", changes(FROM_SERVER, cm.CmConfirmResponse, cm_device_id=UNKNOWN)),
    Case("reply: no ID", changes(FROM_SERVER, cm.CmConfirmResponse, cm_device_id=None)),
    Case("reply lost", lost(FROM_SERVER, cm.CmConfirmResponse)),
    Case("KEY lost", lost(TO_PNE, cm.CmKeyRequest)),
    Case("KEY lost, said to be given", together(lost(TO_PNE, cm.CmKeyRequest), changes(TO_PNE, cm.CmGiven, result=0))),
    Case("KEY: said to be refused", changes(FROM_PNE, cm.CmKeyResponse, result=22)),
    Case("KEY: answer lost", lost(FROM_PNE, cm.CmKeyResponse)),
    Case("given said to be refused", changes(TO_PNE, cm.CmGiven, result=21), unused=1),
]


@pytest.mark.req("CM-2", "CM-4", "CM-5", "CM-7", "CM-9", "CM-10", "CM-11", "CM-A")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_lie_or_a_loss_leaves_nothing(here: World, case: Case) -> None:
    evil, alice = await stage(here)
    evil.hook = case.hook
    with pytest.raises(Refused):
        await alice.cm.assign()
    await nothing_left(here, evil, alice, case.unused, case.waiting)
    evil.hook = unchanged
    await can_begin_again(here, alice)


@pytest.mark.req("CM-11", "CM-18")
@pytest.mark.parametrize("fields", [{"cm_device_id": UNKNOWN}, {"cm_device_key": flip}], ids=["ID", "key"])
async def test_what_the_gateway_brings_is_no_good_if_it_lies(here: World, fields: dict[str, Any]) -> None:
    """The device can't see that; what it then has opens nothing, and it is replaced with the next that it asks for."""
    evil, alice = await stage(here)
    evil.hook = changes(TO_PNE, cm.CmKeyRequest, **fields)
    await Direct(here, await alice.cm.assign()).is_refused()
    await nothing_left(here, evil, alice, unused=1)
    evil.hook = unchanged
    await can_begin_again(here, alice)


SENT: list[type[Any]] = [cm.CmAssignRequest, cm.CmIdRequest, cm.CmConfirmRequest]


@pytest.mark.req("CM-1", "CM-5", "CM-9")
@pytest.mark.parametrize("shape", SENT, ids=lambda shape: shape.__name__)
async def test_a_message_sent_twice_makes_no_second_device(here: World, shape: type[Any]) -> None:
    """However the run with it ends: what alice has is what the server has, or there is nothing."""
    evil, alice = await stage(here)
    second: list[asyncio.Task[Any]] = []

    def hook(way: Way, name: str, body: Any) -> Any:
        if way is TO_SERVER and type(body) is shape and not second:
            second.append(asyncio.create_task(say(evil, body)))
        return body

    evil.hook = hook
    (got,) = await asyncio.gather(alice.cm.assign(), return_exceptions=True)
    assert isinstance(got, CmKey | Refused)
    assert isinstance(await second[0], cm.CmIdResponse | cm.CmConfirmResponse | cm.CmAssignResponse | m.ErrorBody)
    found = [one.cm_device_id for one in await here.store.cm_devices()]
    assert found == ([got.cm_device_id] if isinstance(got, CmKey) else [])
    if shape is cm.CmConfirmRequest:
        assert isinstance(got, CmKey)
        assert second[0].result().result == WRONG
    await can_begin_again(here, alice)


# A mediator that goes its own way


@pytest.mark.req("CM-3", "CM-5")
async def test_an_id_made_with_the_identity_of_another_gateway(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Key Seed is right, and so are ID, key and codes that go with it: but not for the session it speaks in."""
    evil, alice = await stage(here)
    await here.start_gateway(HOME)
    with monkeypatch.context() as patched:
        patched.setattr(evil._mediator, "_config", replace(evil.config, gateway_id=HOME))
        with pytest.raises(Refused):
            await alice.cm.assign()
    assert (await here.refusal(EVIL)).reason == "cm_device_id_does_not_verify"
    await nothing_left(here, evil, alice)
    run = Run(evil, HOME)
    assert await run.named() == cm.CmIdResponse(run.txn, WRONG)
    assert await run.confirmed() == WRONG
    await nothing_left(here, evil, alice)
    await Direct(here, run.made).is_refused()
    await can_begin_again(here, alice)


@pytest.mark.req("CM-1", "CM-5", "CM-9", "CM-18")
async def test_a_key_seed_serves_one_device_once(here: World) -> None:
    evil, alice = await stage(here)
    run = Run(evil)
    assert (await run.named()).result == 0
    assert (await say(evil, run.id)).result == WRONG  # CM-ID twice: the run is over
    assert await run.confirmed() == WRONG
    await nothing_left(here, evil, alice)
    run = Run(evil)
    await run.named()
    assert [await run.confirmed(), await run.confirmed()] == [0, WRONG]
    first = run.made
    for late in (run.id, run.confirmation):
        assert (await say(evil, late)).result == WRONG
    other = Run(evil)
    await other.seeded()
    assert (await say(evil, replace(run.id, txn=other.txn))).result == WRONG  # the first's ID under a second txn
    assert (await say(evil, replace(run.confirmation, txn=other.txn))).result == WRONG
    assert [one.cm_device_id for one in await here.store.cm_devices()] == [first.cm_device_id]
    assert {row.reason for row in await here.audit(EVIL)} == {"no_such_assignment", "cm_device_id_does_not_verify"}
    await Direct(here, first).activate()


@pytest.mark.req("CM-5", "CM-9")
async def test_an_assignment_goes_on_in_its_own_session_alone(here: World) -> None:
    """Neither another gateway nor a later session of the same one can take it up."""
    evil, alice = await stage(here)
    home = await here.start_gateway(HOME, kind=HostileGateway)
    run = Run(evil)
    await run.seeded()
    assert (await say(home, run.id)).result == WRONG
    assert (await say(evil, run.id)).result == 0  # it was not ended by that
    assert (await say(home, run.confirmation)).result == WRONG
    before = evil.uplink.standing
    evil.uplink.renew()
    await until(lambda: evil.uplink.standing not in (None, before))
    assert await run.confirmed() == WRONG
    await nothing_left(here, evil, alice)
    await can_begin_again(here, alice)


@pytest.mark.req("CM-6", "CM-8", "CM-9")
async def test_no_other_code_serves_as_code_g(here: World) -> None:
    """The server's own code comes back as nobody's proof; nor does that of step 12, or of another run."""
    evil, alice = await stage(here)
    earlier = Run(evil)
    await earlier.named()
    assert await earlier.confirmed() == 0
    codes: list[Callable[[Run], Any]] = [
        *(lambda run: run.code.code, lambda run: Direct(here, run.made).hello().code),
        *(lambda run: earlier.confirmation.code, lambda run: earlier.code.code),
    ]
    for code in codes:
        run = Run(evil)
        await run.named()
        assert (await say(evil, cm.CmConfirmRequest(run.txn, code(run)))).result == WRONG
        assert await run.confirmed() == WRONG  # and the right one comes too late
    assert [row.reason for row in await here.audit(EVIL)] == ["no_such_assignment", "wrong_code_of_the_gateway"] * 4
    assert [one.cm_device_id for one in await here.store.cm_devices()] == [earlier.made.cm_device_id]
    await nothing_left(here, evil, alice, unused=1)
    await can_begin_again(here, alice)


@pytest.mark.req("CM-1", "CM-A")
async def test_a_gateway_mediates_for_none_but_its_own(here: World) -> None:
    """Who is elsewhere, revoked, no PNE or not at all: one answer, that does not tell which."""
    evil, alice = await stage(here)
    home = await here.start_gateway(HOME, kind=HostileGateway)
    for name in ("bob", "carol", "dave"):
        await here.joined_pne(name, home if name == "bob" else evil)
    await here.provision(Kind.PNE, "erin", via=EVIL)
    await here.joined_pne("erin", evil)
    await here.provisioning.revoke(OPERATOR, "carol")
    await here.store.revoke(EntityId("dave"), 0.0, OPERATOR)  # while its session stands
    standing = await evil.uplink.wait(40)
    answers = {}
    for name in ("bob", "carol", "nobody", EVIL, HOME, SERVER, "dave", "erin"):
        wish = cm.CmAssignRequest(EntityId(name), random_bytes(8))
        answers[name] = await ask(standing.link, wish, session=standing.session)
    allowed = {result_of(answers.pop(name)) for name in ("dave", "erin")}
    assert allowed == {(str(Code.FORBIDDEN), Result.NOT_ALLOWED)}
    assert len(set(answers.values())) == 1
    assert result_of(answers["nobody"]) == (str(Code.FORBIDDEN), Result.NOT_A_MEMBER)
    await nothing_left(here, evil, alice)
    key = await alice.cm.assign()
    await say(home, cm.CmReleaseRequest(key.cm_device_id))  # it is not home's to give up
    assert [one.cm_device_id for one in await here.store.cm_devices()] == [key.cm_device_id]
    await Direct(here, key).activate()
    await say(evil, cm.CmReleaseRequest(key.cm_device_id))  # nor evil's any more
    assert [one.cm_device_id for one in await here.store.cm_devices()] == [key.cm_device_id]


@pytest.mark.req("CM-17", "CM-A")
async def test_a_cm_device_is_no_mediator(here: World) -> None:
    """S2 has an external PN GW mediate: what is embedded in a device gives no IDs and keys to others."""
    evil, alice = await stage(here)
    key = await alice.cm.assign()
    direct = Direct(here, key)
    await direct.activate()
    run = Run(evil)
    await run.named()
    for message in (cm.CmAssignRequest(ALICE, random_bytes(8)), run.id, run.confirmation):
        assert result_of(await direct.say(message)) == (str(Code.FORBIDDEN), Result.NOT_ALLOWED)
    assert result_of(await direct.say(cm.CmReleaseRequest(key.cm_device_id)))[1] is Result.NOT_ALLOWED
    assert here.server.gateways._connected[key.cm_device_id][0].assignments == {}
    assert [one.cm_device_id for one in await here.store.cm_devices()] == [key.cm_device_id]
    assert await run.confirmed() == 0  # the external one can


@pytest.mark.req("CM-1")
async def test_a_gateway_has_a_few_assignments_under_way_at_most(here: World) -> None:
    evil, alice = await stage(here)
    home = await here.start_gateway(HOME, kind=HostileGateway)
    bob = await here.joined_pne("bob", home)
    said = [await say(evil, cm.CmAssignRequest(ALICE, random_bytes(8))) for _ in range(3 * MAX_ASSIGNMENTS)]
    assert [type(one) for one in said[:MAX_ASSIGNMENTS]] == [cm.CmAssignResponse] * MAX_ASSIGNMENTS
    assert {one.result for one in said[MAX_ASSIGNMENTS:]} == {Result.TOO_MANY}
    assert pending(here) == MAX_ASSIGNMENTS
    with pytest.raises(Refused, match="too_many"):
        await alice.cm.assign()
    await bob.cm.assign()  # it harms itself alone
    before = evil.uplink.standing
    evil.uplink.renew()
    await until(lambda: evil.uplink.standing not in (None, before))
    await nothing_left(here, evil, alice, unused=1)
    assert (await alice.cm.assign()).generation == 0
