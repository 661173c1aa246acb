"""Who would be let in by the edge: without the key that protects the PAN, or past the session that should say so.

What protects a message to a PNE follows from the PAN that it is on, whatever PNE and server say.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiocoap import CON, Message
from aiocoap.numbers.codes import POST

from cpns.admin.service import Admin
from cpns.crypto.secret import Secret
from cpns.domain.inventory import Kind
from cpns.errors import Refused, Result
from cpns.gateway.app import Gateway
from cpns.ids import EntityId, PnId, SgId
from cpns.pne.app import Pne
from cpns.protocol.group_messaging.sender import Sender
from cpns.protocol.pne_auth import server as pne_auth_server
from cpns.protocol.pne_auth.server import Screened
from cpns.server.app import Server
from cpns.service.system import random_bytes
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code
from cpns.wire import codec
from cpns.wire import group_messages as gm
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire import sg_messages as sg
from cpns.wire.registry import Change, JoinPolicy, Mode, Place
from tests.support.groups import all_have, epoch, group_of, keys
from tests.support.lossy import UdpProxy
from tests.support.raw import Scripted, ScriptedPne, ask, said
from tests.support.tap import body_of
from tests.support.world import CLOCK, SERVER, World, address_of, pan_config, push_of, until, world

REASON = "no_local_eukey_on_open_pan"
MALLORY = EntityId("mallory")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


# no LocalEUKey on an open PAN


async def mallory_in(here: World, **options: Any) -> ScriptedPne:
    """Return a provisioned device that asks for no LocalEUKey."""
    pne = ScriptedPne(MALLORY, await here.key(Kind.PNE, MALLORY), need_local=False, **options)
    here.closes(pne)
    return pne


async def behind_proxy(here: World, **options: Any) -> tuple[Gateway, UdpProxy]:
    """Return a gateway, and the proxy that sees all of its PAN."""
    gateway = await here.start_gateway(**options)
    proxy = UdpProxy(here.pan(gateway))
    here.closes(proxy)
    return gateway, proxy


async def is_explained(here: World, name: str) -> bool:
    """Whether `explain` has words of its own for why a device was refused last."""
    found = await Admin(SERVER, here.store, here.provisioning, here.server, CLOCK).explain(name)
    (attempt,) = [one for one in found if one.step == "newest attempt"]
    return REASON in attempt.what and "LocalEUKey" in attempt.next_step


@pytest.mark.req("AUTH-P6", "AUTH-G4")
async def test_who_asks_for_no_local_eukey_on_an_open_pan_is_refused(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any key is touched; the wire says 21, the audit log why; those of the same SETUP go on."""
    opened: list[EntityId] = []
    server = await here.start_server()
    keyring, open_keys = server.access.authentication._keyring, server.access.authentication._keyring.open

    async def watched(ids: Any, *rest: Any) -> Any:
        opened.extend(ids)
        return await open_keys(ids, *rest)

    monkeypatch.setattr(keyring, "open", watched)
    gateway = await here.start_gateway(batch_window=0.3)
    mallory = await mallory_in(here)
    alice = await here.start_pne("alice", gateway)
    response = await mallory.setup(here.pan(gateway))
    assert response.result == Result.AUTHENTICATION_FAILED
    assert response.proof is not None
    assert len(response.proof) == 16  # drawn: it was refused before any key was looked at
    assert mallory.challenges == []
    await asyncio.wait_for(alice.wait_established(), 40)
    assert opened == ["gw-1", "alice"]
    row = await here.refusal(MALLORY)
    assert (row.result, row.reason) == (Result.AUTHENTICATION_FAILED, REASON)
    assert await is_explained(here, MALLORY)
    assert (server.sessions.with_peer(MALLORY), gateway.members.get(MALLORY)) == (None, None)
    assert await here.members_of("gw-1") == ["alice"]


@pytest.mark.req("AUTH-P6", "FN-8")
async def test_who_was_invited_and_asks_for_no_local_eukey_is_refused(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway()
    alice = await here.joined_pne("alice", gateway)
    mallory = await mallory_in(here)
    told: list[m.PnEstablishmentNotify] = []

    async def script(inbound: Any, body: Any) -> Any:
        if isinstance(body, m.Invitation):
            r = mallory.begin()
            return m.InvitationAccepted(0, r.suite, MALLORY, r.rand, r.kid, r.need_local, r.pan_secure, r.eph)
        if isinstance(body, m.Challenge):
            return mallory.answer(body)
        told.append(body)
        return Answer(Code.CHANGED)

    mallory.script = script
    link = await mallory.link(here.pan(gateway))
    await link.tell(pm.EntityDiscoveryRequest(MALLORY, 1), timeout=5)
    assert await alice.network.invite([MALLORY]) == {MALLORY: Result.AUTHENTICATION_FAILED}
    assert [(one.result, len(one.proof or b"")) for one in told] == [(Result.AUTHENTICATION_FAILED, 16)]
    assert (await here.refusal(MALLORY)).reason == REASON
    assert gateway.members.get(MALLORY) is None


def old(request: m.GatewaySetupRequest, lowest_suite: int) -> Screened:
    """Screen as a server did that takes everybody."""
    return Screened(request.entries, {})


async def lies(here: World, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Return a server that refuses no entry, whose verdict is always success, and that names mallory as a member."""
    server = await here.start_server()
    pnes = server.access.authentication.pnes

    async def succeeded(request: m.GatewaySetupRequest, *rest: Any) -> m.GatewaySetupResponse:
        response = await pnes(request, *rest)
        entries = tuple(
            m.OutcomeEntry(one.entity_id, 0, one.proof or random_bytes(16)) if one.entity_id == MALLORY else one
            for one in response.entries
        )
        return replace(response, entries=entries)

    monkeypatch.setattr(pne_auth_server, "screen", old)
    monkeypatch.setattr(server.access.authentication, "pnes", succeeded)
    return server


async def told_all(server: Server, pn_id: PnId, group_key: bytes) -> None:
    """Have the server tell the gateway what concerns mallory: a change of the PN, and the Group Key of a group."""
    sg_id = SgId("sg-secret")

    async def inventory(source: Any, request: sg.SgInventoryRequest) -> sg.SgInventoryResponse:
        head = (Result.SUCCESS, sg_id, 1, "secret", MALLORY, None, JoinPolicy.OPEN)
        return sg.SgInventoryResponse(*head, (sg.SgMemberEntry(MALLORY, Place.MEMBER),), epoch=1)

    server.groups.queries.answer = inventory  # type: ignore[method-assign]
    gateway = EntityId("gw-1")
    await server.gateways.tell(gateway, pm.PnChangeNotify(pn_id, (EntityId("carol"),), 9, Change.LEFT))
    await server.gateways.ask(gateway, gm.GroupKeyRequest(sg_id, 1, group_key), gm.GroupKeyResponse, 5)
    await asyncio.sleep(0.8)


def in_the_clear(proxy: UdpProxy) -> list[Any]:
    """Return the messages that went over the PAN in no session, but for those of discovery and of runs."""
    bodies = [body_of(message.payload) for one in proxy.seen if not (message := Message.decode(one.data)).opt.oscore]
    of_runs = m.SetupRequest | m.SetupResponse | m.Challenge | m.Proof | m.ErrorBody
    return [one for one in bodies if one is not None and not isinstance(one, of_runs)]


@pytest.mark.req("AUTH-P6", "AUTH-G4", "SES-6")
async def test_a_gateway_lets_nobody_in_without_local_eukey_whatever_the_server_says(
    here: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And not one byte of what a member is told goes over the PAN in the clear."""
    server = await lies(here, monkeypatch)
    gateway, proxy = await behind_proxy(here)
    mallory = await mallory_in(here)
    assert (await mallory.setup(proxy.address)).result != Result.SUCCESS
    assert gateway.members.get(MALLORY) is None
    assert "mallory" in caplog.text
    assert "without LocalEUKey" in caplog.text
    group_key = random_bytes(32)
    await told_all(server, server.gateways._connected[EntityId("gw-1")][0].pns[0], group_key)
    assert in_the_clear(proxy) == []
    assert not any(group_key in one.data for one in proxy.seen)


@pytest.mark.req("AUTH-G4", "SES-5")
@pytest.mark.parametrize("secure", [True, False])
async def test_the_pan_says_how_a_member_is_reached_whatever_key_there_is(here: World, secure: bool) -> None:
    """Plainly on a Secure PAN; on an open one in the hop session, and without one not at all."""
    await here.start_server()
    gateway = await here.start_gateway(secure=secure)
    alice = await here.joined_pne("alice", gateway, pan_secure=secure)
    (member,), hop = gateway.members, gateway.pans[0].hops.with_peer(alice.config.pne_id)
    assert (member.local_eukey is None, hop is None) == (secure, secure)
    for key in (Secret(random_bytes(32)), None):
        await gateway.members.admit([replace(member, local_eukey=key)])  # ends the hop session
        assert gateway.members.way_to(alice.config.pne_id) == ((member.link, None) if secure else None)


@pytest.mark.req("SES-5", "AUTH-G4")
async def test_a_local_eukey_of_a_secure_pan_opens_no_open_pan(here: World) -> None:
    """It may be asked for there, and is not used: what is said on a Secure PAN is plain with it and without it."""
    server = await here.start_server()
    pans = (pan_config(secure=True), pan_config())
    gateway = await here.start_gateway(pans=pans)
    carol = ScriptedPne("carol", await here.key(Kind.PNE, "carol"), need_local=True, pan_secure=True)
    here.closes(carol)
    joined = await carol.join(here.pan(gateway, 0))
    assert joined.local_eukey is not None
    held = gateway.members.get(carol.name)
    assert held is not None
    assert held.local_eukey == joined.local_eukey
    for index, told in ((0, r"4\.01"), (1, "refused_with_21")):  # on the Secure PAN there is no such run
        with pytest.raises(Refused, match=told):
            await carol.activate(here.pan(gateway, index), joined.local_eukey, joined.session.th0, "gw-1")
    await here.joined_pne("dave", (here.pan(gateway, 1)))
    notice = pm.PnChangeNotify(joined.pn_id, (EntityId("dave"),), 9, Change.LEFT)
    carol.got.clear()
    await server.gateways.tell(EntityId("gw-1"), notice)
    await until(lambda: [one for one in carol.got if isinstance(one, pm.PnChangeNotify) and one.change == Change.LEFT])


# past the session that should say so: Gateway Change (29), GroupKeyNotify (72), GROUP-MESSAGE (75)


def plain(message: Any) -> bytes:
    """Return a request in no session, as a datagram."""
    datagram = Message(code=POST, uri_path=("cpns",), payload=codec.encode(message))
    datagram.mtype, datagram.mid, datagram.token = CON, int.from_bytes(random_bytes(2), "big"), random_bytes(4)
    return bytes(datagram.encode())


async def answered(proxy: UdpProxy, pne: Pne, message: Any) -> Any:
    """Say *message* to a PNE from the address that its gateway has; return the answer."""
    address, data = ("127.0.0.1", address_of(pne._endpoint)[1]), plain(message)
    token = Message.decode(data).token
    proxy.send(address, False, data)

    def found() -> Any:
        sent = [Message.decode(one.data) for one in proxy.seen if one.up and one.pne[1] == address[1]]
        return [one for one in sent if one.token == token]

    (answer,) = await until(found)
    return Answer(int(answer.code), answer.payload)


async def wants(pne: Pne) -> list[tuple[EntityId, bool]]:
    """Let *pne* become a gateway for whoever asks; return who did, and whether it was proven to be its own gateway."""
    asked: list[tuple[EntityId, bool]] = []

    async def becomes(request: pm.GatewayChangeRequest, by_own_gateway: bool) -> pm.GatewayChangeResponse:
        asked.append((request.entity_id, by_own_gateway))
        return pm.GatewayChangeResponse(Result.SUCCESS, EntityId("alice-gw"))

    pne._becomes = becomes
    return asked


@pytest.mark.req("SES-6", "FN-8")
@pytest.mark.parametrize("secure", [False, True], ids=["open", "secure"])
async def test_a_gateway_asks_for_a_change_in_its_session_alone(here: World, secure: bool) -> None:
    """Its name and its address prove nothing on an open PAN; a stranger may ask, as a stranger."""
    await here.start_server()
    gateway, proxy = await behind_proxy(here, secure=secure)
    alice = await here.joined_pne("alice", proxy.address, pan_secure=secure)
    asked = await wants(alice)
    stranger = Scripted("gw-1")
    here.closes(stranger)
    pn_id, own = gateway.members.pns[0], EntityId("gw-1")
    link = await stranger.link(("127.0.0.1", address_of(alice._endpoint)[1]))
    for name in (own, EntityId("somebody")):
        answer = await answered(proxy, alice, pm.GatewayChangeRequest(name, Mode.BOTH, pn_id))
        assert (answer == UNIFORM_REFUSAL) is not secure  # on a Secure PAN the address is the proof (DEF-9)
    assert asked == ([(own, True), (EntityId("somebody"), True)] if secure else [])
    assert await ask(link, pm.GatewayChangeRequest(own, Mode.BOTH, pn_id)) == UNIFORM_REFUSAL
    await said(link, pm.GatewayChangeRequest(EntityId("somebody"), Mode.BOTH, pn_id), pm.GatewayChangeResponse)
    assert await gateway.switching.make_gateway(pn_id, alice.config.pne_id) == "alice-gw"
    assert asked[-2:] == [(EntityId("somebody"), False), (own, True)]


@pytest.mark.req("FN-7", "FN-9", "SES-6")
async def test_a_broadcast_that_the_gateway_did_not_sign_is_not_taken(here: World) -> None:
    """72 needs no session, as it protects itself: whoever sends it, from wherever."""
    await here.start_server()
    _, proxy = await behind_proxy(here)
    sg_id, pnes = await group_of(here, 4, proxy.address)
    alice = pnes[0]
    await all_have(here, sg_id, *pnes)
    real = [one for one in in_the_clear(proxy) if isinstance(one, gm.GroupKeyBroadcast)][-1]
    before = keys(alice, sg_id)
    newer = replace(real, epoch=real.epoch + 1)
    forged = {
        "signed for an older epoch": newer,
        "signature changed": replace(newer, signature=bytes(64)),
        "another gateway": replace(newer, gateway_id=EntityId("gw-2")),
        "another tree": replace(newer, tree=real.tree + 1),
        "another key": replace(newer, entries=tuple(replace(one, wrapped=bytes(40)) for one in real.entries)),
        "again": real,
        "a key in the clear": gm.GroupKeyRequest(sg_id, newer.epoch, random_bytes(32)),
        "a tree in the clear": gm.GkdkRequest(sg_id, 9, random_bytes(32), (gm.PathEntry(1, random_bytes(32)),)),
    }
    for name, message in forged.items():
        assert await answered(proxy, alice, message) == UNIFORM_REFUSAL, name
    assert keys(alice, sg_id) == before
    await pnes[-1].groups.leave(sg_id)
    await all_have(here, sg_id, *pnes[:-1])  # the next one of its gateway is taken


@pytest.mark.req("FN-7", "FN-9", "SES-6")
@pytest.mark.parametrize("vouched", [False, True], ids=["signed", "vouched"])
async def test_a_message_to_a_group_that_nobody_signed_is_not_heard(here: World, vouched: bool) -> None:
    """75 needs no session where its sender signed it; where it did not, the hop session is the proof."""
    await here.start_server()
    _, proxy = await behind_proxy(here)
    sg_id, pnes = await group_of(here, 3, proxy.address, vouched=vouched)
    alice, bob, _ = pnes
    key = await all_have(here, sg_id, *pnes)
    await bob.messages.send(sg_id, "from bob")
    await until(lambda: len(here.said["pne-0"]) == 1)
    epoch_now = await epoch(here, sg_id)
    sender = Sender(EntityId("pne-1"), 1, random_bytes(4), Secret(random_bytes(32)))
    for signed in (False, True):
        message = sender.seal(sg_id, epoch_now, Secret(key), push_of("not from bob"), signed=signed)
        assert await answered(proxy, alice, message) == UNIFORM_REFUSAL
    assert [one.text for one in here.said["pne-0"]] == ["from bob"]
    await bob.messages.send(sg_id, "and again")
    await until(lambda: [one.text for one in here.said["pne-0"]] == ["from bob", "and again"])
