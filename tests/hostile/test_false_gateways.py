"""False and slow gateways from the side of a device: it looks elsewhere when the documents say so."""

import asyncio
import dataclasses
import os
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiocoap import NON, Message
from aiocoap.numbers.codes import CHANGED

from cpns.gateway.app import Gateway
from cpns.ids import EntityId
from cpns.pne import loyalty, staying
from cpns.pne.app import Pne
from cpns.pne.candidates import Candidates
from cpns.pne.config import Where
from cpns.pne.find import FIRST_SECONDS
from cpns.pne.inbox import Inbox
from cpns.pne.loyalty import LOYALTY_SECONDS
from cpns.service.system import random_bytes
from cpns.transport import address, discovery, mdns, multicast
from cpns.transport.address import Interface, interfaces
from cpns.wire import codec
from cpns.wire.pn_messages import EntityDiscoveryResponse
from cpns.wire.registry import Mode
from tests.support.tap import body_of
from tests.support.world import CLOCK, FAST, World, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def holds(here: World, name: str) -> Gateway:
    """Return a gateway that brings devices in, and says of all that it should relay that it holds it."""
    gateway: Gateway = await here.start_gateway(name)
    for pan in gateway.pans:
        pan.relay._route = lambda destination: None
    return gateway


@pytest.mark.req("SES-3", "FN-8")
@pytest.mark.parametrize("false", [1, 2])
async def test_a_first_message_that_is_held_is_asked_about_elsewhere(
    here: World, monkeypatch: pytest.MonkeyPatch, false: int
) -> None:
    """However many hold it: each costs the four to eight seconds that a device is loyal, not its whole patience."""
    drawn = iter([1.0, 2.0])

    class Dice:
        """The first message is given up before the gateway is left: else that goes past all of them at once."""

        @staticmethod
        def uniform(least: float, most: float) -> float:
            return next(drawn, least) if (least, most) == (1.0, 2.0) else most

    monkeypatch.setattr(loyalty, "jitter", Dice)
    await here.start_server()
    evil = [await holds(here, f"evil-{number}") for number in range(false)]
    honest = await here.start_gateway("honest")
    where = tuple(map(here.pan, [*evil, honest]))
    alice = await here.start_pne("alice", honest, gateways=where, **{**FAST, "request_timeout": 6.0})
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(60):  # its patience with one that holds a message is longer
        await alice.send(alice.next_reading({"elsewhere": True}))
    took = asyncio.get_running_loop().time() - began
    assert took > false * LOYALTY_SECONDS
    assert alice.joined is not None
    assert alice.joined.gateway_id == "honest"


@pytest.mark.req("SES-3")
async def test_a_first_message_that_is_held_by_the_only_gateway_waits(here: World) -> None:
    """There is nowhere else to go: it is carried on as soon as there is a way."""
    await here.start_server()
    only = await here.start_gateway("only")
    relay = only.pans[0].relay
    route, relay._route = relay._route, lambda destination: None
    alice = await here.start_pne("alice", only, **{**FAST, "request_timeout": 60.0})
    await alice.wait_established()
    await asyncio.sleep(LOYALTY_SECONDS + 1)
    session = alice._way.session
    relay._route = route
    relay.resume()
    await asyncio.wait_for(alice.send(alice.next_reading({"carried": "on"})), 40)
    assert alice._way.session is session


class AlwaysFirst:
    """Answers each multicast question before anybody else does, under a new ID and from a new port, and no more.

    Args:
        asker: whose questions it answers.
        host: whose addresses it has.
        ports: answers to each question.
    """

    def __init__(self, asker: str, host: str, ports: int) -> None:
        self.asker = asker
        self.host = host
        self.ports = ports
        self.answers = 0
        self._loop = asyncio.get_running_loop()
        self._ears = multicast.join(loopback()[0], 4, self._asked, 2048)
        self._mouths: list[socket.socket] = []

    def _asked(self, data: bytes, source: Any, ours: Any) -> None:
        question = Message.decode(data)
        asked = body_of(question.payload)
        if getattr(asked, "entity_id", "") != self.asker:
            return  # of another test, on the same machine
        for _ in range(self.ports):
            self.answers += 1
            mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            mouth.bind((self.host, 0))
            self._mouths.append(mouth)
            told = EntityDiscoveryResponse(EntityId(f"made-up-{self.answers}"), Mode.PN_GW, False, ())
            answer = Message(code=CHANGED, payload=codec.encode(told))
            answer.mtype, answer.mid, answer.token = NON, self.answers & 0xFFFF, question.token
            mouth.sendto(answer.encode(), source)

    async def close(self) -> None:
        self._ears.close()
        for one in self._mouths:
            one.close()


def loopback() -> tuple[Interface, ...]:
    return tuple(one for one in interfaces() if one.is_loopback)


@pytest.fixture
def multicast_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search by multicast on the loopback interface alone, among the parties of this test."""

    async def nothing(told: Any) -> None:
        return None

    monkeypatch.setattr(mdns, "browse", nothing)
    for module in (address, discovery, mdns):
        monkeypatch.setattr(module, "interfaces", loopback)


@pytest.mark.req("FN-8")
@pytest.mark.usefixtures("multicast_alone")
@pytest.mark.parametrize("ports", [1, 20])
async def test_who_answers_each_search_first_does_not_keep_a_device_out(here: World, ports: int) -> None:
    """It is tried once, for four seconds; then the next that answered."""
    await here.start_server()
    asker = f"alice-{os.getpid()}-{ports}"
    evil = AlwaysFirst(asker, "127.0.0.2", ports)
    here.closes(evil)
    answer = discovery.Answering.heard

    def later(self: Any, *what: Any) -> None:
        asyncio.get_running_loop().call_later(0.05, answer, self, *what)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discovery.Answering, "heard", later)
        late = await here.start_gateway(f"late-{os.getpid()}-{ports}", announce=True)
        config = await here.pne_config(asker, ("", 0), **FAST)
        mine = partial(suits_alone, {late.config.gateway_id})
        patch.setattr(Candidates, "heard", only(mine, Candidates.heard))
        pne = Pne(dataclasses.replace(config, where=Where(), timer=10.0), CLOCK, random_bytes, Inbox(str))
        here.closes(pne)
        await pne.start()
        began = asyncio.get_running_loop().time()
        here.run(pne)
        async with asyncio.timeout(40):
            await pne.wait_established()
        took = asyncio.get_running_loop().time() - began
    assert pne.joined is not None
    assert pne.joined.gateway_id == late.config.gateway_id
    assert evil.answers
    assert took > FIRST_SECONDS  # it was tried


@pytest.mark.req("FN-8")
@pytest.mark.usefixtures("multicast_alone")
async def test_a_device_that_waits_is_in_reach_of_all_that_answered(here: World) -> None:
    """A false gateway that says that it is there, and invites nobody, does not hide it from the others."""
    await here.start_server()
    names = {f"{name}-{os.getpid()}" for name in ("gw-1", "gw-2")}
    both = [await here.start_gateway(name, announce=True) for name in names]
    config = await here.pne_config("alice", ("", 0), **FAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staying, "FOUND_SECONDS", 0.5)
        mine = partial(suits_alone, names)
        patch.setattr(Candidates, "heard", only(mine, Candidates.heard))
        pne = Pne(dataclasses.replace(config, where=Where(), waits=True), CLOCK, random_bytes, Inbox(str))
        here.closes(pne)
        await pne.start()
        here.run(pne)
        for gateway in both:
            await until(lambda gateway=gateway: gateway.pans[0].reach.link(EntityId("alice"), here.now()), 10)  # type: ignore[misc]


def suits_alone(names: set[str], found: discovery.Found) -> bool:
    return found.gateway_id in names or found.gateway_id.startswith("made-up-")


def only(mine: Callable[[discovery.Found], bool], heard: Callable[[Any, discovery.Found], None]) -> Any:
    """Other tests on this machine have gateways that answer too: pass over these."""

    def own(self: Candidates, found: discovery.Found) -> None:
        if mine(found):
            heard(self, found)

    return own
