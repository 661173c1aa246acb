"""The three secure sessions over real sockets: what protects what, what the PN GW sees, what is refused (SES)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiocoap import CON, Message
from aiocoap.numbers.codes import POST
from aiocoap.transports.tcp import _serialize

from cpns.domain.inventory import Kind
from cpns.errors import NoAnswer, Result, Unavailable
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.service.system import random_bytes
from cpns.transport.coap import request_of
from cpns.transport.endpoint import Inbound
from cpns.transport.errors import Code
from cpns.wire import application, codec
from cpns.wire import messages as m
from cpns.wire.registry import CPNS_PATH
from tests.support.coap import ours, theirs
from tests.support.lossy import Datagram, Fates, flipped, honest
from tests.support.raw import RawTcp, RawUdp, Scripted, ScriptedPne, ask, result_of
from tests.support.tap import Scene, Seen, bodies, body_of, frames_of, one_body, opened, scene
from tests.support.world import SERVER, World, push_of, until, world

GATEWAY = EntityId("gw-1")
REFUSED = ("4.01", Result.AUTHENTICATION_FAILED)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def stored(here: World) -> list[str]:
    return [reading.body for reading in await here.store.readings(0, 1000)]


# Three sessions, chosen by source and destination


@pytest.mark.req("SES-1")
@pytest.mark.parametrize("suite", [1, 2, 3])
async def test_three_sessions_protect_every_message(here: World, suite: int) -> None:
    """Once they stand, each application message is in one of three sessions, which share no key."""
    on = await scene(here, suite=suite)
    (pne,) = await on.pnes(["pne-1"], suite=suite)
    before = len(on.pan.seen), len(on.uplink.seen)
    await pne.send(pne.next_reading({"t": 21}))
    assert await here.server.sending.send(pne.config.pne_id, "inbox", push_of("hello")) == "pne-1 got hello"
    await pne.present_again()
    names = {(one.sender, one.peer, one.what, one.session) for one in here.passed}
    assert names >= {
        ("pne-1", SERVER, "/readings", "pne-server"),
        (SERVER, "pne-1", "/inbox", "pne-server"),
        ("pne-1", "gw-1", "/presence", "pne-gw"),
        ("gw-1", SERVER, "SETUP Request", "gw-server"),
    }
    on.pan.seen[: before[0]] = []
    later = [one for one in [*on.on_pan(), *on.uplink.seen[before[1] :]] if one.message.code != 0]
    assert len(later) >= 9
    assert all(one.protected for one in later)
    sessions = [here.server.sessions.with_peer(GATEWAY), *here.server.sessions, *pne.sessions]
    assert len({session.keys.oscore_master_secret().reveal() for session in sessions if session}) == 3


@pytest.mark.req("SES-2")
async def test_the_session_is_chosen_by_source_and_destination(here: World) -> None:
    """Both directions of all three pairs: a message opens under the keys of its pair, and under no other."""
    on = await scene(here)
    alice, bob = await on.pnes(["alice", "bob"])
    for pne in (alice, bob):
        await pne.send(pne.next_reading({"of": str(pne.config.pne_id)}))
        await here.server.sending.send(pne.config.pne_id, "inbox", push_of(f"to {pne.config.pne_id}"))
    for pne in (alice, bob):
        name = str(pne.config.pne_id).encode()
        end, hop = pne.sessions.with_peer(SERVER), pne.sessions.with_peer(GATEWAY)
        assert end is not None
        assert hop is not None
        seen = on.on_pan(pne)
        inside = [one.inner for one in opened(seen, end, own_is_up=True)]
        texts = [inner.payload for inner in inside]
        asked = sorted(inner.opt.uri_path for inner in inside if inner.code.is_request())
        assert asked == [("cpns",), ("inbox",), ("readings",), ("status",)]  # the first: which groups it is in
        assert any(name in text for text in texts)
        assert not any((b"bob" if name == b"alice" else b"alice") in text for text in texts)
        at_hop = [one.inner.opt.uri_path for one in opened(seen, hop, own_is_up=True) if one.inner.code.is_request()]
        assert at_hop == [("presence",)]
        uplink = opened(on.uplink.seen, end, own_is_up=True)
        assert [one.message.payload for one in uplink] == [
            one.message.payload for one in opened(seen, end, own_is_up=True)
        ]
        outer = [one.message for one in on.uplink.seen if one.protected and one.message.code.is_request()]
        assert {message.opt.uri_host for message in outer} == {SERVER, "gw-1", "alice", "bob"}


@pytest.mark.req("SES-2")
async def test_a_session_serves_its_own_pair_alone(here: World) -> None:
    """The gw-server session carries no reading, a PNE's session no SETUP, a hop session nothing for the server."""
    on = await scene(here)
    (pne,) = await on.pnes(["pne-1"])
    standing = on.gateway.uplink.standing
    reading = application.encode_reading(pne.next_reading({"t": 1}))
    assert standing is not None
    answer = await ask(standing.link, reading, path="readings", session=standing.session)
    assert result_of(answer) == ("4.03", Result.NOT_ALLOWED)
    assert pne._way.link is not None
    end, hop = pne.sessions.with_peer(SERVER), pne.sessions.with_peer(GATEWAY)
    entry = m.SetupEntry(1, pne.config.pne_id, bytes(16), b"k", True, False, 1)
    setup = m.GatewaySetupRequest(bytes(8), False, (entry,))
    assert result_of(await ask(pne._way.link, setup, session=end)) == ("4.00", Result.UNKNOWN_MESSAGE)
    answer = await ask(pne._way.link, reading, path="readings", session=hop)
    assert result_of(answer) == ("4.03", Result.NOT_ALLOWED)
    assert await stored(here) == []


# What the PN GW sees


@pytest.mark.req("SES-3")
@pytest.mark.parametrize("suite", [1, 2, 3])
async def test_the_gateway_sees_ciphertext_alone(here: World, suite: int) -> None:
    """All bytes that the PN GW received or sent hold no reading, no text, no key; nor does it hold the session."""
    on = await scene(here, suite=suite)
    (pne,) = await on.pnes(["pne-1"], suite=suite)
    canary = "canary-2b7e151628aed2a6"
    await pne.send(pne.next_reading({"note": canary}))
    assert canary in await here.server.sending.send(pne.config.pne_id, "inbox", push_of(f"down {canary}"))
    assert here.inboxes["pne-1"] == [f"down {canary}"]
    assert await stored(here) == [f'{{"note":"{canary}"}}']
    raw = on.raw()
    assert len(raw) > 1000
    assert b"pne-1" in raw
    assert canary.encode() not in raw
    end = pne.sessions.with_peer(SERVER)
    assert end is not None
    assert end.keys.oscore_master_secret().reveal() not in raw
    assert here.keys["pne-1"].reveal() not in raw
    held = {session.keys.th2 for session in on.gateway.pans[0].hops} | {on.link.keys.th2}
    assert end.keys.th2 not in held


def changing(on: Scene, how: str, up: bool) -> list[bytes]:
    """Damage the next datagram that is sealed end to end in one direction; return what was damaged."""
    done: list[bytes] = []

    def policy(datagram: Datagram) -> Fates:
        data = datagram.data
        message = Message.decode(data)
        if datagram.up is not up or message.opt.oscore is None or done:
            return honest(datagram)
        done.append(data)
        if how == "payload":
            data = flipped(data, 8 * (len(data) - 12))
        elif how == "tag":
            data = flipped(data, 8 * len(data) - 1)
        elif how == "cut":
            data = data[:-3]
        elif how == "longer":
            data += b"\0"
        return [(0.0, data)]

    on.pan.policy = policy
    return done


@pytest.mark.req("SES-3", "SES-1")
@pytest.mark.parametrize("how", ["payload", "tag", "cut", "longer"])
async def test_a_changed_byte_is_refused_by_the_server(here: World, how: str) -> None:
    """4.01 from the server, nothing stored; the PNE's next attempt is stored once."""
    on = await scene(here)
    (pne,) = await on.pnes(["pne-1"], request_timeout=1.0)
    reading = pne.next_reading({"t": 21})
    done = changing(on, how, up=True)
    with pytest.raises(NoAnswer, match=r"unprotected_answer_4\.01"):
        await pne._way.exchange("readings", application.encode_reading(reading))
    assert done
    assert await stored(here) == []
    await pne.send(reading)
    await pne.send(reading)
    assert await stored(here) == ['{"t":21}']


@pytest.mark.req("SES-3", "SES-1")
@pytest.mark.parametrize("how", ["payload", "tag", "cut", "longer"])
async def test_a_changed_byte_is_refused_by_the_pne(here: World, how: str) -> None:
    """The server hears of no success, the device's application of nothing."""
    on = await scene(here)
    (pne,) = await on.pnes(["pne-1"])
    done = changing(on, how, up=False)
    with pytest.raises(Unavailable, match=r"4\.01"):
        await here.server.sending.send(pne.config.pne_id, "inbox", push_of("open the door"))
    assert done
    assert here.inboxes["pne-1"] == []
    on.pan.policy = honest
    await here.server.sending.send(pne.config.pne_id, "inbox", push_of("open the door"))
    assert here.inboxes["pne-1"] == ["open the door"]


@pytest.mark.req("SES-3")
async def test_nothing_unprotected_is_relayed(here: World) -> None:
    """For the server without an OSCORE option: ends at the PN GW; with an unknown key ID: ends at the server."""
    on = await scene(here)
    await on.pnes(["pne-1"])
    before = len(on.uplink.seen)
    stranger = Scripted("stranger")
    here.closes(stranger)
    link = await stranger.link(on.pan.address)
    for option, code in ((None, 0x81), (b"\x09\x01\x77\x77\x77\x77", 0x81)):
        message = Message(code=2, payload=b"\x01" * 20, uri_host=str(SERVER), uri_path=("readings",))
        message.opt.oscore = option
        exchange = link.remote.open(ours(message))
        async with asyncio.timeout(40):
            assert int((await exchange.next()).code) == code
        exchange.close()
        assert len(on.uplink.seen) == before + (0 if option is None else 2)
    assert await stored(here) == []


# Secure PAN


@pytest.mark.req("SES-5", "DEF-9")
@pytest.mark.parametrize("suite", [1, 2, 3])
async def test_no_hop_session_on_a_secure_pan(here: World, suite: int) -> None:
    """The PAN's own protection serves between PNE and PN GW; end to end the session is there all the same."""
    on = await scene(here, suite=suite, secure=True)
    (pne,) = await on.pnes(["pne-1"], suite=suite, pan_secure=True)
    await pne.send(pne.next_reading({"t": 1}))
    assert [session.profile for session in pne.sessions] == ["pne-server"]
    assert len(on.gateway.pans[0].hops) == 0
    assert not bodies(on.on_pan(), m.ActivateRequest)
    assert one_body(on.on_pan(), m.SetupRequest).pan_secure is True
    assert one_body(on.on_uplink(), m.GatewaySetupRequest).pan_secure is True
    assert await stored(here) == ['{"t":1}']
    assert b'{"t":1}' not in on.raw()


@pytest.mark.req("SES-5", "DEF-9")
@pytest.mark.parametrize("pne_says", [True, False])
async def test_pne_and_gateway_must_agree_on_the_pan(here: World, pne_says: bool) -> None:
    """One believes the PAN secure, the other not: result 25 in the audit log, 21 on the PAN, no session."""
    on = await scene(here, secure=not pne_says)
    pne = await here.make_pne("pne-1", on.pan.address, pan_secure=pne_says, timer=2.0)
    with pytest.raises(NoAnswer, match="refused_with_21"):
        await pne.establish()
    row = await here.refusal("pne-1")
    assert (row.result, row.reason) == (Result.PAN_MISMATCH, "pan_mismatch")
    assert one_body(on.on_pan(), m.SetupResponse).result == Result.AUTHENTICATION_FAILED
    (entry,) = one_body(on.on_uplink(), m.GatewaySetupResponse).entries
    assert entry.result == Result.PAN_MISMATCH
    assert [session.peer_id for session in here.server.sessions] == [GATEWAY]


@pytest.mark.req("SES-5", "DEF-9")
async def test_on_a_secure_pan_the_source_is_the_address(here: World) -> None:
    """A secure PAN does not falsify source IDs: presence counts from the PNE's own address, ACTIVATE never."""
    on = await scene(here, secure=True)
    (pne,) = await on.pnes(["pne-1"], pan_secure=True)
    other = Scripted("pne-1")
    here.closes(other)
    link = await other.link(on.pan.address)
    held = on.gateway.members.get(pne.config.pne_id)
    claim = application.encode_text("pne-1")
    assert result_of(await ask(link, claim, path="presence")) == REFUSED
    assert pne._way.link is not None
    assert (await ask(pne._way.link, claim, path="presence")).code == Code.CHANGED
    assert result_of(await ask(pne._way.link, m.ActivateRequest(1, pne.config.pne_id, bytes(16), b"k"))) == REFUSED
    assert on.gateway.members.get(pne.config.pne_id) == held


# Open PAN: nothing without the hop session once it stands


@pytest.mark.req("SES-6")
@pytest.mark.parametrize("suite", [1, 2, 3])
async def test_hop_session_on_an_open_pan(here: World, suite: int) -> None:
    on = await scene(here, suite=suite)
    (pne,) = await on.pnes(["pne-1"], suite=suite)
    (hop,) = on.gateway.pans[0].hops
    mine = pne.sessions.with_peer(GATEWAY)
    assert mine is not None
    assert (hop.profile, hop.peer_id, hop.confirmed) == ("pne-gw", "pne-1", True)
    assert hop.keys.oscore_master_secret() == mine.keys.oscore_master_secret()


def snapshot(on: Scene, pne: Pne) -> tuple[object, ...]:
    gateway = on.gateway
    return (
        gateway.members.get(pne.config.pne_id),
        [session.keys.th2 for session in gateway.pans[0].hops],
        [session.keys.th2 for session in on.world.server.sessions],
        [session.keys.th2 for session in pne.sessions],
    )


@pytest.mark.req("SES-6")
@pytest.mark.parametrize("source", ["own address", "another address"])
async def test_nothing_unprotected_passes_once_the_hop_stands(here: World, source: str) -> None:
    """Unprotected ACTIVATE and presence in the PNE's name: refused, and nothing changes at any party.

    From another address ACTIVATE runs to its end as with any ID: what stands, only the PNE's own address is told.
    """

    async def guess(inbound: Inbound, challenge: m.LinkChallengeFromGateway) -> m.Proof:
        return m.Proof(name, random_bytes(16))

    on = await scene(here)
    (pne,) = await on.pnes(["pne-1"])
    name = pne.config.pne_id
    before = snapshot(on, pne)
    link = pne._way.link
    if source == "another address":
        other = Scripted(name, guess)
        here.closes(other)
        link = await other.link(on.pan.address)
    assert link is not None
    for message, path in (
        (m.ActivateRequest(1, name, bytes(16), b"k"), CPNS_PATH),
        (application.encode_text(name), "presence"),
        (b"", "presence"),
        (application.encode_text("connected"), "status"),
    ):
        code = "2.04" if isinstance(message, m.ActivateRequest) else "4.01"  # a Response says it, or an error
        assert result_of(await ask(link, message, path=path)) == (code, Result.AUTHENTICATION_FAILED)
    assert snapshot(on, pne) == before
    await pne.present_again()


def confirmable(message: Message) -> bytes:
    message.mtype, message.mid, message.token = CON, 1, b"t"
    return bytes(message.encode())


async def first_answer(on: Scene, datagram: bytes) -> Any:
    """Send *datagram* to the PAN from a port of its own; return the first body that comes back."""
    raw = await RawUdp.open(on.pan.address)
    try:
        raw.send(datagram)
        await until(lambda: [one for one in raw.got if Message.decode(one).payload])
        return next(body_of(Message.decode(one).payload) for one in raw.got if Message.decode(one).payload)
    finally:
        raw.close()


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        pytest.param({}, m.Challenge, id="none"),
        pytest.param({"content_format": 50}, m.Challenge, id="another Content-Format"),
        pytest.param({"uri_host": "127.0.0.1"}, m.ErrorBody, id="the address as Uri-Host"),
    ],
)
async def test_what_options_an_unprotected_request_may_have(here: World, options: Any, shape: type[Any]) -> None:
    """No Uri-Host: it names an entity, and there is none of that name. What Content-Format it has nobody looks at."""
    on = await scene(here)
    pne = ScriptedPne("pne-1", await here.key(Kind.PNE, "pne-1"))
    message = Message(code=POST, uri_path=(CPNS_PATH,), payload=codec.encode(pne.begin()), **options)
    assert type(await first_answer(on, confirmable(message))) is shape


@pytest.mark.req("SES-2")
async def test_a_protected_request_without_its_destination_ends_at_the_gateway(here: World) -> None:
    on = await scene(here)
    (pne,) = await on.pnes(["pne-1"])
    assert pne._way.session is not None
    outer = theirs(request_of(pne._way.session, "readings", b"")[0])
    outer.opt.uri_host = None
    assert await first_answer(on, confirmable(outer)) == m.ErrorBody(Result.AUTHENTICATION_FAILED)


@pytest.mark.req("SES-2")
async def test_a_resource_that_is_not_there_is_told_so_in_each_session(here: World) -> None:
    """4.03 with 22, at every party alike: the session stands, and whoever asked need not set up again."""
    on = await scene(here)
    (pne,) = await on.pnes(["pne-1"])
    up, sessions = on.gateway.uplink.standing, here.server.sessions
    assert up is not None
    ways = {
        "PNE to server": (pne._way.link, pne._way.session),
        "PNE to PN GW": pne._hop(),
        "PN GW to server": (up.link, up.session),
        "server to PN GW": (here.server.gateways.link(GATEWAY), sessions.with_peer(GATEWAY)),
        "server to PNE": here.server.pnes.here(pne.config.pne_id),
    }
    for name, way in ways.items():
        assert way is not None, name
        link, session = way
        assert link is not None, name
        answer = await ask(link, b"", path="nowhere", session=session)
        assert result_of(answer) == ("4.03", Result.NOT_ALLOWED), name


@pytest.mark.req("SES-6")
async def test_the_pne_takes_nothing_unprotected_once_it_is_joined(here: World) -> None:
    """AUTHENTICATE Request, inbox and ping without a session: 4.01 from the PNE, whoever sends them."""
    on = await scene(here)
    (pne,) = await on.pnes(["pne-1"])
    before = snapshot(on, pne)
    held = on.gateway.members.get(pne.config.pne_id)
    assert held is not None
    assert held.link is not None
    challenge = m.LinkChallengeFromGateway(GATEWAY, bytes(16), b"k")
    assert result_of(await ask(held.link, challenge)) == REFUSED
    assert result_of(await ask(held.link, push_of("open"), path="inbox")) == REFUSED
    assert result_of(await ask(held.link, b"", path="ping")) == REFUSED
    assert here.inboxes["pne-1"] == []
    assert snapshot(on, pne) == before


@pytest.mark.req("SES-6")
async def test_a_new_setup_is_the_exception_and_changes_nothing_without_proof(here: World) -> None:
    """A stranger's SETUP in the PNE's name fails, and the PNE's sessions stand; the PNE's own replaces them."""
    on = await scene(here, answer_timeout=0.4)
    (pne,) = await on.pnes(["pne-1"])
    before = snapshot(on, pne)
    stranger = ScriptedPne("pne-1", here.keys["gw-1"])
    stranger.answer_with = stranger.guess
    here.closes(stranger)
    assert (await stranger.setup(on.pan.address)).result == Result.AUTHENTICATION_FAILED
    assert snapshot(on, pne) == before
    await pne.send(pne.next_reading({"n": 1}))
    await here.stop(pne)
    again = await here.joined_pne("pne-1", on.pan.address)
    await again.send(again.next_reading({"n": 2}))
    assert await stored(here) == ['{"n":1}', '{"n":2}']
    after = snapshot(on, again)
    assert after[1] != before[1]
    assert len(on.gateway.pans[0].hops) == 1


@pytest.mark.req("SES-1")
async def test_a_replayed_message_is_refused(here: World) -> None:
    """The very datagram of a reading, sent again from another socket: 4.01, stored once."""
    on = await scene(here)
    (pne,) = await on.pnes(["pne-1"])
    start = len(on.pan.seen)
    await pne.send(pne.next_reading({"t": 1}))
    datagram = next(one for one in on.pan.seen[start:] if one.up)
    raw = await RawUdp.open(on.pan.address)
    raw.send(datagram.data)
    (answer,) = await until(lambda: [one for one in raw.got if one[1] == 0x81])
    raw.close()
    assert answer
    assert len(await here.store.readings(0, 10)) == 1


@pytest.mark.req("SES-2")
async def test_a_session_stays_on_the_connection_of_its_gateway(here: World) -> None:
    """A PNE's sealed message on another connection than that of its PN GW: 4.01, not stored."""
    on = await scene(here)
    (pne,) = await on.pnes(["pne-1"], request_timeout=0.3)
    caught: list[bytes] = []

    def catch(datagram: Datagram) -> Fates:
        caught.append(datagram.data)
        return []

    on.pan.policy = catch
    with pytest.raises(NoAnswer):
        await pne._way.exchange("readings", application.encode_reading(pne.next_reading({"t": 1})))
    raw = await RawTcp.open(here.address)
    here.closes(raw)
    again = Message.decode(caught[0])
    raw.writer.write(_serialize(again))
    await until(lambda: len(frames_of(bytes(raw.got))) == 2)
    passed = [Seen(True, Message.decode(caught[0])), Seen(False, frames_of(bytes(raw.got))[1])]
    end = pne.sessions.with_peer(SERVER)
    assert end is not None
    _, answer = opened(passed, end, own_is_up=True)
    assert int(answer.inner.code) == Code.UNAUTHORIZED
    assert await stored(here) == []


@pytest.mark.req("SES-2", "SES-6")
async def test_a_silent_pne_is_asked_in_its_hop_session(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """PN GW to PNE, the hop session protects too; a PNE that does not answer is out of reach, and a push says so."""
    monkeypatch.setattr("cpns.gateway.app.SILENCE_SECONDS", 0.2)
    await here.start_server()
    gateway = await here.start_gateway(half_open=0.4, answer_timeout=0.5)
    pne = await here.joined_pne("pne-1", gateway)
    first = gateway.members.get(pne.config.pne_id).heard_at
    async with asyncio.timeout(40):
        while gateway.members.get(pne.config.pne_id).heard_at == first:
            await asyncio.sleep(0.02)
    asked = [one for one in here.passed if one.sender == "gw-1" and one.what == "/ping"]
    assert asked
    assert {one.session for one in asked} == {"pne-gw"}
    await here.stop(pne)
    async with asyncio.timeout(40):
        while gateway.members.get(pne.config.pne_id).link is not None:
            await asyncio.sleep(0.02)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable) as told:
        await here.server.sending.send(pne.config.pne_id, application.PING_PATH, b"")
    assert told.value.code == "asleep"
    assert asyncio.get_running_loop().time() - begun < 20  # the server would wait half a minute
