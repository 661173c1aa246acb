"""A registered PN GW that wants an honest device to be taken for two: it may hold back, repeat, answer in its place.

The device goes to and fro between that gateway and an honest one, so that the server asks about it.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.errors import NoAnswer, Refused
from cpns.ids import EntityId
from cpns.transport.relay import Sealed
from cpns.wire import messages as m
from tests.support.hostile_gateway import HostileGateway, lost
from tests.support.world import SERVER, World, until, world

WATCH = EntityId("watch")
QUICK: dict[str, Any] = {"timer": 1.0, "request_timeout": 1.0, "suite": 1}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


class Hoard:
    """Keeps what passes, and may let nothing pass, or answer in the place of a device.

    Attributes:
        up: what the device said to the server.
        answers: what it answered to the server.
        asked: what the server asked it under a session that was over.
    """

    def __init__(self) -> None:
        self.up: list[Sealed] = []
        self.answers: list[Sealed] = []
        self.asked = 0
        self.holds = False

    def __call__(self, is_request: bool, destination: str, sealed: Sealed) -> Sealed:
        if is_request and destination == SERVER:
            self.up.append(sealed)
            if self.holds:
                raise NoAnswer("held_back")
        elif not is_request and destination == WATCH and sealed.oscore is not None:
            self.answers.append(sealed)
        elif not is_request and destination == WATCH:
            self.asked += 1
            return self.answers[-1]
        return sealed


async def hand_in(evil: HostileGateway, hoard: Hoard) -> None:
    """Send all that was kept, each twice."""
    standing = evil.uplink.standing
    assert standing is not None
    for sealed in hoard.up[-8:]:
        for _ in range(2):
            with contextlib.suppress(NoAnswer):
                await standing.link.carry(SERVER, sealed)


async def a_round(here: World, hoard: Hoard, evil: HostileGateway, pne: Any, honest: Any, attack: str) -> None:
    """Let the device leave, and come back, while the gateway attacks."""
    assert await here.server.sending.send(WATCH, "ping", b"") == "here"  # its answer can be kept too
    hoard.holds = attack == "holds back"
    for _ in range(3):
        with contextlib.suppress(Refused):
            await pne._way.exchange("readings", b"not a reading", 0.1)
    hoard.holds = False
    if attack == "keeps the end of a SETUP":
        evil.hook = lost("watch", m.SetupResponse)
        with contextlib.suppress(Refused):
            await pne.go((await here.pne_config("watch", here.pan(evil))).where)
        evil.hook = lambda way, name, body: body
    await pne.go((await here.pne_config("watch", here.pan(honest))).where)
    await hand_in(evil, hoard)
    await until(lambda: not here.server.replaced._asking)
    await pne.go((await here.pne_config("watch", here.pan(evil))).where)
    await pne.send(pne.next_reading({"n": 1}))
    await until(lambda: not here.server.replaced._asking)


@pytest.mark.parametrize("attack", ["repeats", "holds back", "keeps the end of a SETUP"])
async def test_one_device_is_not_taken_for_two(here: World, attack: str) -> None:
    honest = await here.start_gateway("hub")
    evil = await here.start_gateway("evil", kind=HostileGateway)
    hoard = Hoard()
    evil.seal = hoard
    pne = await here.joined_pne("watch", evil, **QUICK)
    for _ in range(4):
        await a_round(here, hoard, evil, pne, honest, attack)
    assert hoard.asked > 0  # the server did ask the older session
    assert here.server.clones._seen == {}
    assert not here.server.clones.waits(WATCH)
    assert "cloned" not in await here.reasons("watch")


async def test_two_devices_are_found_by_the_same_gateway(here: World) -> None:
    """The attack above is no reason why nothing would be found: with a second device, it is."""
    honest = await here.start_gateway("hub")
    evil = await here.start_gateway("evil", kind=HostileGateway)
    evil.seal = Hoard()
    for gateway in (evil, honest):
        await here.start_pne("watch", gateway, presence=0.3, **QUICK)
    await until(lambda: here.server.clones.of(WATCH) is not None, 60)
