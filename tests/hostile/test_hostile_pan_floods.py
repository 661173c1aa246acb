"""Strangers on a PAN that ask for SETUPs and hop sessions, often and in silence: what others notice of it.

Each honest device has an address of its own, as it has on a PAN; the strangers, a process beside this one, have others.
The bounds here tell a device that gets in from one that is kept out; `make siege` measures, on a quiet machine.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from aiocoap import Message

from cpns.crypto.secret import Secret
from cpns.gateway.members import Member
from cpns.gateway.queue import KEPT_FOR_MEMBERS, MAX_WAITING
from cpns.ids import EntityId, PnId
from cpns.pne import app as pne_app
from cpns.pne.app import Pne
from cpns.service.system import random_bytes
from cpns.transport.errors import UNIFORM_REFUSAL, Code
from cpns.wire import codec
from tests.support.siege.attackers import Attack, Attacker, activate, datagram
from tests.support.siege.site import SLOW, _slow_down
from tests.support.world import World, world

ELSEWHERE, HERE = 8.0, 35.0
"""Seconds that a new device may take behind a gateway that is left alone: its first attempt takes ten where nobody
answers; and behind the one that is not: it may try three times. Who is kept out stays so as long as the flood lasts."""
FLOOD_SECONDS = 300.0
"""A flood ends with the test."""
BEGUN = 1.5
"""Seconds until an attacker is at its rate."""
NAMED = "new-1"
IN_FLIGHT = 25 * 64
RATE = 200
"""Messages a second; they, and all that is measured, share the machine with whatever other tests run."""
FLOODS: dict[str, dict[str, Any]] = {
    "SETUPs of new IDs, one port": {"what": "setup of new IDs"},
    "SETUPs of new IDs, 200 hosts": {"what": "setup of new IDs", "hosts": 200, "ports": 1000},
    "SETUPs of one ID, 300 ports": {"what": "setup of one ID", "rate": 100, "ports": 300},
    "SETUPs of the ID that comes, 1,000 ports": {"what": "setup of one ID", "entity": NAMED, "ports": 1000},
    "SETUPs of the ID that comes, 200 hosts": {"what": "setup of one ID", "entity": NAMED, "hosts": 200, "ports": 200},
    "ACTIVATEs of new IDs, one port": {"what": "activate of new IDs", "rate": 400},
    "ACTIVATEs of the ID that comes, 200 hosts": {
        "what": "activate of one ID",
        "entity": NAMED,
        "hosts": 200,
        "ports": 200,
    },
}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


class Devices:
    """Makes PNEs, each at an address of its own."""

    def __init__(self, here: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self._here = here
        self._own = Mock(side_effect=(f"127.3.0.{number}" for number in itertools.count(1)))
        monkeypatch.setattr(pne_app, "any_address", self._own)

    async def come(self, name: str, gateway: Any, *, slow: bool = False) -> float:
        """Let a new PNE set up behind *gateway*; return the seconds that it took."""
        begun = self._here.now()
        pne = await self._here.make_pne(name, gateway, suite=2)
        if slow:
            _slow_down(pne)
        self._here.run(pne)
        async with asyncio.timeout(100):
            await pne.wait_established()
        return self._here.now() - begun

    async def member(self, name: str, gateway: Any) -> Pne:
        return await self._here.joined_pne(name, gateway, suite=2)


async def keeps_sending(here: World, pne: Pne, took: list[float]) -> None:
    while True:
        begun = here.now()
        await pne.send(pne.next_reading({"n": len(took)}))
        took.append(here.now() - begun)
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("flood", FLOODS)
async def test_who_floods_a_pan_keeps_nobody_out(here: World, monkeypatch: pytest.MonkeyPatch, flood: str) -> None:
    devices = Devices(here, monkeypatch)
    attacked, quiet = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    steady = await devices.member("steady", attacked)
    took: list[float] = []
    sending = asyncio.create_task(keeps_sending(here, steady, took))
    attack = {
        "target": here.pan(attacked),
        "entity": "stranger",
        "rate": RATE,
        "seconds": FLOOD_SECONDS,
        **FLOODS[flood],
    }
    async with Attacker(Attack(**attack)):
        await asyncio.sleep(BEGUN)
        elsewhere, first, second, slow = await asyncio.gather(
            devices.come("elsewhere", quiet),
            devices.come(NAMED, attacked),
            devices.come("new-2", attacked),
            devices.come("slow", attacked, slow=True),
        )
        sending.cancel()
        await steady.send(steady.next_reading({"last": True}))
        pan = attacked.pans[0]
        assert len(pan.setup) <= MAX_WAITING + KEPT_FOR_MEMBERS + IN_FLIGHT
        assert len(pan.hop) <= 64 + 2 * len(attacked.members)
    print(f"\n{flood}: elsewhere {elsewhere:.1f} s, here {first:.1f} s, {second:.1f} s, slow {slow:.1f} s")
    assert elsewhere < ELSEWHERE
    assert max(first, second) < HERE
    assert slow < HERE + 2 * SLOW
    assert len(took) > 5, "who is established goes on"


class Port(asyncio.DatagramProtocol):
    """One socket of a `Knocker`."""

    def __init__(self, got: Callable[["Port", bytes], None]) -> None:
        self._got = got
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._got(self, data)


class Knocker:
    """Sends M1s from the ports of one host, again with the Echo that is asked for, and keeps what each is told."""

    def __init__(self) -> None:
        self.ports: list[Port] = []
        self.answered: dict[int, int] = {}
        self.shown: dict[int, bytes] = {}
        self._sent: dict[int, bytes] = {}

    async def open(self, host: str, ports: int, to: tuple[str, int]) -> None:
        for _ in range(ports):
            _, port = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: Port(self._got), local_addr=(host, 0), remote_addr=to
            )
            self.ports.append(port)

    def send(self, number: int, payload: bytes, echo: bytes = b"") -> None:
        self._sent[number] = payload
        self.ports[number % len(self.ports)].transport.sendto(datagram(number, payload, echo))

    def _got(self, port: Port, data: bytes) -> None:
        message = Message.decode(data)
        if message.code.is_request():  # asked to prove itself, it says that it has heard it, and then nothing
            port.transport.sendto(b"\x60\x00" + data[2:4])
        number, echo = int.from_bytes(message.token), message.opt.echo
        if echo is not None:
            assert (int(message.code), message.payload) == (Code.UNAUTHORIZED, UNIFORM_REFUSAL.payload)
            self.shown[number] = echo
            self.send(number, self._sent[number], echo)
        elif message.code.is_response():
            self.answered[number] = int(message.code)

    async def close(self) -> None:
        for port in self.ports:
            port.transport.abort()


async def test_a_stranger_is_told_the_same_whatever_id_it_names(here: World) -> None:
    """1,000 IDs, half of them of members, some with a hop session: the first 64 are asked, the others told 61.

    As soon as more than half of the places are taken, all but 16 have to show first that they are where they say.
    """
    gateway = await here.start_gateway(answer_timeout=60.0)
    pan = gateway.pans[0]
    joined = [await here.joined_pne(f"joined-{number}", gateway) for number in range(4)]
    pn_id, link = gateway.members.pns[0], gateway.members.get(joined[0].config.pne_id).link
    names = [EntityId(f"member-{number}") for number in range(496)]
    held = [Member(name, PnId(pn_id), random_bytes(32), Secret(random_bytes(32)), link, None) for name in names]
    await gateway.members.admit(held)
    known = [pne.config.pne_id for pne in joined] + names
    mixed = [name for pair in zip(known, (f"unknown-{number}" for number in range(500)), strict=True) for name in pair]
    knocker = Knocker()
    here.closes(knocker)
    await knocker.open("127.9.0.1", 16, here.pan(gateway))
    for first in range(0, len(mixed), 16):
        for number in range(first, min(first + 16, len(mixed))):
            knocker.send(number, codec.encode(activate(number, mixed[number])))
        async with asyncio.timeout(40):
            while len(knocker.answered) < min(first + 16, len(mixed)) - 64 or len(pan.hop) < min(first + 16, 64):
                await asyncio.sleep(0.002)
    assert knocker.answered == dict.fromkeys(range(64, 1000), int(Code.TOO_MANY_REQUESTS))
    assert len(pan.hop) == 64
    assert set(knocker.shown) == set(range(33 + 16, 1000))
    assert {len(echo) for echo in knocker.shown.values()} == {9}


async def test_a_member_at_its_own_address_needs_no_place_of_those(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All places of strangers are taken, in the member's own name too: its hop session stands at once."""
    devices = Devices(here, monkeypatch)
    gateway = await here.start_gateway()
    pne = await devices.member("pne-1", gateway)
    hops = gateway.pans[0].hops
    attack = Attack("activate of one ID", here.pan(gateway), "pne-1", 400, FLOOD_SECONDS, hosts=200, ports=200)
    async with Attacker(attack):
        async with asyncio.timeout(40):
            while len(gateway.pans[0].hop) < 64:
                await asyncio.sleep(0.05)
        hop, link, joined = hops.with_peer(EntityId("pne-1")), pne._way.link, pne.joined
        assert hop is not None
        assert link is not None
        assert joined is not None
        hops.remove(hop)
        begun = here.now()
        await pne._join.hop(link, joined)
        assert here.now() - begun < ELSEWHERE
