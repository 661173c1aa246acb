"""Where members are: found again after their gateway's restart and behind a NAT that gives them a new port.

The PNEs here give no sign of life by themselves: what finds them is what the gateway asks.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiocoap import CON, Message
from aiocoap.numbers.codes import POST

from cpns.errors import Unavailable
from cpns.gateway.app import Gateway
from cpns.gateway.members import Member
from cpns.gateway.whereabouts import ASK_SECONDS
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.pne.presence import Presence
from cpns.service.system import random_bytes
from cpns.transport.coap import request_of
from cpns.wire import application, codec
from cpns.wire.pn_messages import EntityDiscoveryRequest, PnChangeNotify
from cpns.wire.registry import Change, Mode
from tests.support.coap import theirs
from tests.support.groups import all_have, group_of
from tests.support.lossy import UdpProxy, honest
from tests.support.raw import RawUdp
from tests.support.world import CLOCK, World, address_of, pan_config, push_of, until, world

NEVER = 10_000.0
"""Seconds until a PNE here says by itself where it is."""
ALICE = EntityId("alice")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


async def restarted(here: World, gateway: Gateway, *, kept: bool = True, **options: Any) -> Gateway:
    """Stop a gateway, and start it again at its addresses."""
    pans = tuple(replace(pan.config, port=here.pan(gateway, number)[1]) for number, pan in enumerate(gateway.pans))
    await here.stop(gateway)
    again: Gateway = await here.start_gateway(kept=kept, pans=pans, **options)
    return again


async def settled(here: World, name: str, gateway: Any, **options: Any) -> Pne:
    """Return a PNE that has joined, and has nothing more to say."""
    pne = await here.joined_pne(name, gateway, presence=NEVER, **options)
    await until(lambda: not pne.is_joining)
    return pne


async def told(here: World, name: str, text: str) -> None:
    """Send a text once; it arrives."""
    await here.server.sending.send(EntityId(name), application.INBOX_PATH, push_of(text))
    assert here.inboxes[name][-1] == text


def member(gateway: Gateway, name: str = ALICE) -> Member:
    found = gateway.members.get(EntityId(name))
    assert found is not None
    return found


def counted(here: World, sender: str, what: str) -> int:
    return sum((one.sender, one.what) == (sender, what) for one in here.passed)


async def has_hop(gateway: Gateway, *names: str) -> None:
    """Wait until the gateway can speak to members in their hop sessions."""
    await until(lambda: all(gateway.members.way_to(EntityId(name)) is not None for name in names))


def is_back(number: int) -> bytes:
    """Return what a gateway says that is back, as a datagram."""
    payload = codec.encode(EntityDiscoveryRequest(EntityId("gw-1"), Mode.PN_GW))
    message = Message(code=POST, uri_path=("cpns",), payload=payload)
    return confirmable(message, number)


def confirmable(message: Message, number: int) -> bytes:
    message.mtype, message.mid, message.token = CON, number % 65536, b"t"
    return bytes(message.encode())


# a gateway that is back


@pytest.mark.parametrize("secure", [False, True], ids=["open", "secure"])
async def test_a_gateway_that_is_back_asks_its_members(here: World, secure: bool) -> None:
    """Texts arrive at once, and each member has its hop session again long before its next sign of life."""
    gateway = await here.start_gateway(kept=True, secure=secure)
    names = [f"pne-{number}" for number in range(4)]
    pnes = [await settled(here, name, gateway, pan_secure=secure) for name in names]
    before = [pne.sessions.with_peer(EntityId("server.example")) for pne in pnes]
    gateway = await restarted(here, gateway)
    for name in names:
        await told(here, name, "after the restart")
    await has_hop(gateway, *names)
    assert [pne.sessions.with_peer(EntityId("server.example")) for pne in pnes] == before  # nobody set up again


async def test_members_of_two_pans_are_asked_each_on_its_own(here: World) -> None:
    pans = (pan_config(), pan_config(secure=True))
    gateway = await here.start_gateway(kept=True, pans=pans)
    await settled(here, "alice", here.pan(gateway, 0))
    await settled(here, "bob", here.pan(gateway, 1), pan_secure=True)
    gateway = await restarted(here, gateway)
    await has_hop(gateway, "alice", "bob")
    assert [member(gateway, name).pan for name in ("alice", "bob")] == [pan.own for pan in gateway.pans]


async def test_one_that_asked_at_one_of_several_addresses_is_asked_from_that_one(here: World) -> None:
    """A PNE takes it from the address alone that it has as its gateway's."""
    gateway = await here.start_gateway(kept=True, pans=(pan_config("0.0.0.0"),))
    port = here.pan(gateway)[1]
    for number in (1, 2):
        await settled(here, f"pne-{number}", (f"127.0.0.{number}", port))
    gateway = await restarted(here, gateway)
    await has_hop(gateway, "pne-1", "pne-2")


async def test_they_are_asked_at_a_pace(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.gateway.whereabouts.RETURN_RATE", 5.0)
    gateway = await here.start_gateway(kept=True)
    names = [f"pne-{number}" for number in range(6)]
    for name in names:
        await settled(here, name, gateway)
    begun = CLOCK.monotonic()
    gateway = await restarted(here, gateway)
    await has_hop(gateway, *names)
    assert CLOCK.monotonic() - begun >= 5 / 5.0


async def test_one_that_sleeps_is_asleep_and_found_as_it_wakes(here: World) -> None:
    gateway = await here.start_gateway(kept=True, answer_timeout=0.5)
    alice = await settled(here, "alice", gateway)
    await alice.sleep()
    gateway = await restarted(here, gateway, answer_timeout=0.5)
    await until(lambda: member(gateway).kept is None)
    with pytest.raises(Unavailable) as refused:
        await here.server.sending.send(ALICE, application.INBOX_PATH, push_of("wake up"))
    assert refused.value.code == "asleep"
    await alice.wake()
    await told(here, "alice", "awake")
    await has_hop(gateway, "alice")


async def test_one_that_went_elsewhere_meanwhile_stays_there(here: World) -> None:
    """What the gateway that is back says to it changes nothing, and it counts there no longer."""
    gateway, other = await here.start_gateway(kept=True), await here.start_gateway("gw-2")
    alice = await settled(here, "alice", gateway, gateways=(here.pan(gateway), here.pan(other)), timer=1.0)
    pans = (replace(gateway.pans[0].config, port=here.pan(gateway)[1]),)
    await here.stop(gateway)
    alice.life.suspect(alice._way.session, lost=True)
    await until(lambda: alice.joined is not None and alice.joined.gateway_id == "gw-2")
    stands = alice._way.session
    gateway = await here.start_gateway(kept=True, pans=pans)
    await until(lambda: gateway.members.get(ALICE) is None)
    await told(here, "alice", "through the other one")
    assert alice._way.session is stands


async def test_an_older_pne_is_found_by_its_next_sign_of_life(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses the question, as it takes nothing unprotected; its texts go to where it was."""
    monkeypatch.setattr(Presence, "asked", lambda *_: None)
    gateway = await here.start_gateway(kept=True)
    alice = await settled(here, "alice", gateway)
    gateway = await restarted(here, gateway)
    await told(here, "alice", "after the restart")
    await until(lambda: counted(here, "alice", "Error"))
    assert gateway.members.way_to(ALICE) is None
    await alice.present_again()
    await has_hop(gateway, "alice")


async def test_one_that_answers_and_does_not_come_is_asleep_after_a_while(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may answer where it was."""
    monkeypatch.setattr(Presence, "asked", lambda *_: None)
    monkeypatch.setattr("cpns.gateway.app.SILENCE_SECONDS", 0.5)
    gateway = await here.start_gateway(kept=True)
    await settled(here, "alice", gateway)
    gateway = await restarted(here, gateway, half_open=0.4)
    await until(lambda: member(gateway).kept is None)
    assert gateway.members.route(ALICE) is None


async def test_a_gateway_that_keeps_nothing_says_that_it_is_back_to_who_sends(here: World) -> None:
    gateway = await here.start_gateway()
    alice = await settled(here, "alice", gateway, timer=1.5)
    gateway = await restarted(here, gateway, kept=False)
    assert gateway.members.get(ALICE) is None
    await alice.send(alice.next_reading({"n": 1}))
    await has_hop(gateway, "alice")
    await told(here, "alice", "found")


async def test_how_many_unknown_addresses_are_told_at_once(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.gateway.whereabouts.MAX_UNKNOWN", 2)
    monkeypatch.setattr("cpns.gateway.whereabouts.PAUSE", NEVER)
    gateway = await here.start_gateway()
    pnes = [await settled(here, f"pne-{number}", gateway) for number in range(4)]
    gateway = await restarted(here, gateway, kept=False)
    here.passed.clear()
    for pne in pnes:
        await pne.send(pne.next_reading({"n": 1}))
        await pne.send(pne.next_reading({"n": 2}))
    assert counted(here, "gw-1", "Entity Discovery Request") == 2


async def test_who_calls_itself_our_gateway_costs_one_sign_of_life_in_two_seconds(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand forged ones a second, from the address of the gateway."""
    monkeypatch.setattr("cpns.pne.presence.ASKED_PAUSE", 0.8)
    gateway = await here.start_gateway()
    proxy = UdpProxy(here.pan(gateway))
    here.closes(proxy)
    alice = await settled(here, "alice", proxy.address)
    stands = alice.sessions.with_peer(EntityId("gw-1"))
    here.passed.clear()
    at = ("127.0.0.1", address_of(alice._endpoint)[1])
    begun = asyncio.get_running_loop().time()
    for number in itertools.count():
        proxy.send(at, False, is_back(number))
        if asyncio.get_running_loop().time() - begun > 2.0:
            break
        await asyncio.sleep(0.001)
    took = asyncio.get_running_loop().time() - begun
    said = counted(here, "alice", "/presence")
    assert 2 <= said <= took / 0.8 + 2
    assert alice.sessions.with_peer(EntityId("gw-1")) is stands


# a NAT that gives a new port


async def behind_nat(here: World, **options: Any) -> tuple[Gateway, UdpProxy, Pne]:
    """Return a gateway, a NAT before it, and a PNE behind that."""
    gateway = await here.start_gateway(**options)
    nat = UdpProxy(here.pan(gateway))
    here.closes(nat)
    alice = await settled(here, "alice", nat.address, pan_secure=options.get("secure", False))
    return gateway, nat, alice


async def says_where_it_is(here: World, pne: Pne, what: str) -> None:
    """Have something pass that is protected: for the server, or for the gateway."""
    if what == "a reading":
        await pne.send(pne.next_reading({"n": 1}))
    else:
        await pne.present_again()


@pytest.mark.parametrize("what", ["a reading", "a sign of life"])
async def test_a_new_port_is_found_by_what_the_device_says_next(here: World, what: str) -> None:
    """The gateway asks there, in the hop session; nobody sets up again, and texts go there."""
    gateway, nat, alice = await behind_nat(here)
    before, session = member(gateway).link, alice._way.session
    nat.rebind()
    await says_where_it_is(here, alice, what)
    await until(lambda: member(gateway).link != before)
    await told(here, "alice", "at the new port")
    assert alice._way.session is session
    assert [one.session for one in here.passed if (one.sender, one.what) == ("gw-1", "/ping")] == ["pne-gw"]


async def test_a_new_port_on_a_secure_pan_takes_a_new_setup(here: World) -> None:
    """There is no hop session to ask in, and a name alone moves nobody; it comes within seconds all the same."""
    gateway, nat, alice = await behind_nat(here, secure=True)
    before, session = member(gateway).link, alice._way.session
    nat.rebind()
    await alice.send(alice.next_reading({"n": 1}))
    await until(lambda: member(gateway).link != before)
    await until(lambda: alice._way.session is not session and not alice.is_joining)
    await told(here, "alice", "at the new port")


async def test_one_that_fell_silent_is_there_again_with_its_next_reading(here: World) -> None:
    gateway, _, alice = await behind_nat(here)
    gateway.members.heard(ALICE, member(gateway).pan, None, CLOCK.monotonic())
    await alice.send(alice.next_reading({"n": 1}))
    await has_hop(gateway, "alice")
    await told(here, "alice", "there again")


async def test_a_new_port_and_a_restart_at_once(here: World) -> None:
    """Where it was nobody answers; its next reading says where it is."""
    gateway, nat, alice = await behind_nat(here, kept=True, answer_timeout=0.5)
    nat.rebind()
    gateway = await restarted(here, gateway, answer_timeout=0.5)
    await until(lambda: member(gateway).kept is None)
    await alice.send(alice.next_reading({"n": 1}))
    await has_hop(gateway, "alice")
    await told(here, "alice", "found")


@pytest.mark.parametrize("orderly", [True, False], ids=["stopped", "killed"])
async def test_the_place_that_is_kept_is_the_newest(
    here: World, monkeypatch: pytest.MonkeyPatch, orderly: bool
) -> None:
    """Written at a stop at once, else within two seconds: so also one that is killed finds its members."""
    monkeypatch.setattr("cpns.gateway.app.SWEEP_SECONDS", NEVER if orderly else 0.05)
    gateway, nat, alice = await behind_nat(here, kept=True, half_open=2 * NEVER)
    before = member(gateway).link
    nat.rebind()
    await alice.send(alice.next_reading({"n": 1}))
    await until(lambda: member(gateway).link != before)
    if not orderly:
        async with asyncio.timeout(40):
            while await kept_at(gateway) != repr(member(gateway).link)[len("<Link ") : -1]:
                await asyncio.sleep(0.02)
        monkeypatch.setattr(gateway.members, "settle", nothing)
    gateway = await restarted(here, gateway)
    await told(here, "alice", "at the newest")
    await has_hop(gateway, "alice")


async def kept_at(gateway: Gateway) -> str | None:
    """Return where the store has the only member."""
    store = gateway.members._store
    assert store is not None
    (held,) = await store.members()
    return None if held.ends is None else held.ends.there


async def nothing() -> None:
    """Do nothing."""


# what a stranger can do with it


class Thief:
    """Sends from an address of its own what a PNE sealed, which never came from that PNE itself.

    Args:
        gateway: where it sends to.
        pne: what the gateway sends here is passed on to it, and its answers back.
    """

    def __init__(self, gateway: RawUdp, pne: RawUdp) -> None:
        self.gateway = gateway
        self.pne = pne
        self.passed_on = 0

    @classmethod
    async def between(cls, pan: tuple[str, int], pne: Pne) -> "Thief":
        return cls(await RawUdp.open(pan), await RawUdp.open(("127.0.0.1", address_of(pne._endpoint)[1])))

    def sends(self, pne: Pne, what: str) -> None:
        """Send what *pne* sealed: for the server, or for its gateway."""
        number = int.from_bytes(random_bytes(2), "big")
        if what == "a reading":
            session, body = pne._way.session, application.encode_reading(pne.next_reading({"stolen": number}))
        else:
            session, body = pne.sessions.with_peer(EntityId("gw-1")), b""
        assert session is not None
        path = "readings" if what == "a reading" else "presence"
        sealed, _ = request_of(session, path, body)
        self.gateway.send(confirmable(theirs(sealed), number))

    async def for_a_while(self, *, passes_on: bool) -> None:
        """Be asked, longer than the gateway waits for an answer."""
        end = CLOCK.monotonic() + ASK_SECONDS + 0.5
        while CLOCK.monotonic() < end:
            if passes_on:
                self.passed_on += len(self.gateway.got)
                for one, other in ((self.gateway, self.pne), (self.pne, self.gateway)):
                    for data in one.got:
                        other.send(data)
                    one.got.clear()
            await asyncio.sleep(0.01)

    def close(self) -> None:
        self.gateway.close()
        self.pne.close()


@pytest.fixture
async def stolen(here: World) -> AsyncIterator[Callable[..., Awaitable[tuple[Gateway, Pne, Thief]]]]:
    """Return a gateway, a PNE, and who has what that sealed."""
    thieves: list[Thief] = []

    async def made(**options: Any) -> tuple[Gateway, Pne, Thief]:
        gateway, _, alice = await behind_nat(here, **options)
        thieves.append(await Thief.between(here.pan(gateway), alice))
        return gateway, alice, thieves[0]

    yield made
    for thief in thieves:
        thief.close()


Stolen = Callable[..., Awaitable[tuple[Gateway, Pne, Thief]]]


@pytest.mark.parametrize("passes_on", [False, True], ids=["silent", "passes it on"])
@pytest.mark.parametrize("what", ["a reading", "a sign of life"])
async def test_who_repeats_what_a_member_said_moves_nobody(
    here: World, stolen: Stolen, what: str, passes_on: bool
) -> None:
    """He is asked, and can't answer; nor does the member answer for him, as its gateway has another address."""
    gateway, alice, thief = await stolen()
    before = member(gateway).link
    thief.sends(alice, what)
    await until(lambda: counted(here, "gw-1", "/ping"))
    await thief.for_a_while(passes_on=passes_on)
    assert bool(thief.passed_on) is passes_on
    assert member(gateway).link == before
    await told(here, "alice", "where it was")


async def test_who_repeats_what_a_member_said_is_asked_once_a_second_and_moves_nobody(
    here: World, monkeypatch: pytest.MonkeyPatch, stolen: Stolen
) -> None:
    """However much he has of it: one question about a member is under way at a time."""
    monkeypatch.setattr("cpns.gateway.whereabouts.PAUSE", NEVER)
    gateway, alice, thief = await stolen()
    before = member(gateway).link
    for number in range(20):
        thief.sends(alice, "a reading" if number % 2 else "a sign of life")
    async with asyncio.timeout(40):
        while await here.store.last_reading_number() < 10:
            await asyncio.sleep(0.02)
    await until(lambda: counted(here, "gw-1", "/ping"))
    assert counted(here, "gw-1", "/ping") == 1
    await alice.send(alice.next_reading({"own": True}))
    assert member(gateway).link == before


async def test_who_repeats_what_a_member_said_keeps_nobody_from_asking_where_it_is(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets a new port while he is asked: it is asked there next."""
    monkeypatch.setattr("cpns.gateway.whereabouts.ASK_SECONDS", 1.0)
    gateway, nat, alice = await behind_nat(here)
    before = member(gateway).link
    with contextlib.closing(await Thief.between(here.pan(gateway), alice)) as thief:
        thief.sends(alice, "a sign of life")
        await until(lambda: counted(here, "gw-1", "/ping"))
        nat.rebind()
        await alice.send(alice.next_reading({"from": "its new port"}))
        await until(lambda: member(gateway).link != before)
        await told(here, "alice", "at the new port")
        assert counted(here, "gw-1", "/ping") == 2


async def test_a_name_moves_nobody_on_a_secure_pan(here: World, stolen: Stolen) -> None:
    """Who repeats a reading there is told that the gateway is here; a sign of life from his address is refused."""
    gateway, alice, thief = await stolen(secure=True)
    before, session = member(gateway).link, alice._way.session
    thief.sends(alice, "a reading")
    await until(lambda: counted(here, "gw-1", "Entity Discovery Request"))
    presence = Message(code=POST, uri_path=("presence",), payload=application.encode_text("alice"))
    thief.gateway.send(confirmable(presence, 7))
    await until(lambda: [one for one in thief.gateway.got if one[1] == 0x81])
    assert (member(gateway).link, alice._way.session) == (before, session)


# what is under way while a device gets a new port


def loses_what_comes_down(nat: UdpProxy) -> None:
    """Be a NAT that forgot its ports: nothing comes in for the device until that has said something."""
    nat.policy = lambda one: honest(one) if one.up else []


async def test_a_text_under_way_goes_to_the_new_port_too(here: World) -> None:
    _, nat, alice = await behind_nat(here)
    loses_what_comes_down(nat)
    sending = asyncio.create_task(here.server.sending.send(ALICE, application.INBOX_PATH, push_of("under way")))
    await until(lambda: [one for one in nat.seen if not one.up and b"" != one.data])
    await asyncio.sleep(0.3)
    nat.rebind()
    nat.policy = honest
    await alice.send(alice.next_reading({"n": 1}))
    assert await sending == "alice got under way"
    assert here.inboxes["alice"] == ["under way"]


async def test_a_change_of_the_network_under_way_goes_to_the_new_port_too(here: World) -> None:
    gateway, nat, alice = await behind_nat(here)
    loses_what_comes_down(nat)
    notice = PnChangeNotify(member(gateway).pn_id, (EntityId("carol"),), 9, Change.LEFT)
    telling = asyncio.create_task(gateway.networks.tell(ALICE, notice))
    await asyncio.sleep(0.3)
    nat.rebind()
    nat.policy = honest
    await alice.send(alice.next_reading({"n": 1}))
    assert await telling
    assert [one.change for one in here.changes["alice"]] == [Change.LEFT]


async def test_a_group_message_reaches_who_got_a_new_port(here: World) -> None:
    """Said while the port is new and nobody knows it: given there as soon as it is known, or kept and given then."""
    gateway = await here.start_gateway()
    nat = UdpProxy(here.pan(gateway))
    here.closes(nat)
    sg_id, pnes = await group_of(here, 3, nat.address)
    await all_have(here, sg_id, *pnes)
    nat.rebind()
    await pnes[0].messages.send(sg_id, "after the move")
    await pnes[1].send(pnes[1].next_reading({"n": 1}))
    await until(lambda: [one.text for one in here.said["pne-1"]] == ["after the move"])
