"""What goes wrong at once, or again and again: nothing is lost, nothing comes twice, and all are back by themselves."""

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.errors import CpnsError, Unavailable
from cpns.gateway.app import Gateway
from cpns.gateway.config import PanConfig
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.service.system import SystemClock
from cpns.store.gateway_store import GatewayStore
from cpns.wire import application
from tests.support.lossy import Datagram, Fates, UdpProxy
from tests.support.world import World, push_of, until, world

QUICK: dict[str, Any] = {"timer": 3.0, "request_timeout": 1.0, "presence": 0.5}
UNBOUNDED = 1e6
YEAR = 365 * 24 * 3600.0


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def bodies(here: World) -> list[str]:
    return [one.body for one in await here.store.readings(0, 10_000)]


async def settled(here: World, gateway: Gateway | tuple[str, int]) -> Pne:
    """Return a device that has joined, and has nothing more to say."""
    pne = await here.joined_pne("alice", gateway, **QUICK)
    await until(lambda: not pne.is_joining)
    return pne


async def a_text_arrives(here: World, name: str, text: str) -> None:
    """Send a text until it is taken, as an operator does."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(CpnsError):
                await here.server.sending.send(EntityId(name), application.INBOX_PATH, push_of(text))
                return
            await asyncio.sleep(0.05)


def pans_of(here: World, gateway: Gateway) -> tuple[PanConfig, ...]:
    return (PanConfig("127.0.0.1", here.pan(gateway)[1], gateway.pans[0].config.secure),)


async def test_restarts_without_end(here: World) -> None:
    """Each party in turn, in the middle of what others say: each reading is stored once, texts arrive."""
    await here.start_server()
    gateway = await here.start_gateway(kept=True)
    pans = pans_of(here, gateway)
    alice = await settled(here, here.pan(gateway))
    said: list[str] = []
    for number in range(9):
        sending = asyncio.create_task(alice.send(alice.next_reading({"n": number})))
        said.append(f'{{"n":{number}}}')
        if number % 3 == 0:
            await here.stop(gateway)
            gateway = await here.start_gateway(kept=True, pans=pans)
        elif number % 3 == 1:
            await here.stop(here.server)
            await here.start_server()
        else:
            await asyncio.wait_for(sending, 60)
            await here.stop(alice)
            alice = await settled(here, pans_address(pans))
        await asyncio.wait_for(sending, 60)
        await a_text_arrives(here, "alice", f"text {number}")
        assert here.inboxes["alice"][-1] == f"text {number}"
    assert await bodies(here) == said


def pans_address(pans: tuple[PanConfig, ...]) -> tuple[str, int]:
    return pans[0].host, pans[0].port


class _Off(SystemClock):
    """A clock that is wrong."""

    def __init__(self, by: float) -> None:
        self._by = by

    def now(self) -> float:
        return super().now() + self._by


@pytest.mark.parametrize("off", [(YEAR, 0.0, -YEAR), (-YEAR, YEAR, 0.0)])
async def test_clocks_off_by_a_year(here: World, monkeypatch: pytest.MonkeyPatch, off: tuple[float, ...]) -> None:
    """No proof, no session and no message depends on the time of day."""
    of_server, of_gateway, of_pne = map(_Off, off)
    monkeypatch.setattr("tests.support.world.CLOCK", of_server)
    await here.start_server()
    monkeypatch.setattr("tests.support.world.CLOCK", of_gateway)
    gateway = await here.start_gateway()
    monkeypatch.setattr("tests.support.world.CLOCK", of_pne)
    alice = await settled(here, gateway)
    await alice.send(alice.next_reading({"n": 1}))
    assert await bodies(here) == ['{"n":1}']
    await a_text_arrives(here, "alice", "what time is it?")


async def test_datagrams_that_come_three_times_and_in_any_order(here: World) -> None:
    await here.start_server()
    gateway = await here.start_gateway()
    draw = random.Random(16).uniform

    def thrice(datagram: Datagram) -> Fates:
        return [(draw(0.0, 0.05), datagram.data) for _ in range(3)]

    proxy = UdpProxy(here.pan(gateway), thrice)
    here.closes(proxy)
    alice = await settled(here, proxy.address)
    async with asyncio.timeout(60):
        await asyncio.gather(*(alice.send(alice.next_reading({"n": number})) for number in range(20)))
    assert sorted(await bodies(here)) == sorted(f'{{"n":{number}}}' for number in range(20))
    for number in range(5):
        await a_text_arrives(here, "alice", f"text {number}")
    assert here.inboxes["alice"] == [f"text {number}" for number in range(5)]


async def test_hundreds_of_readings_that_wait_for_the_server(here: World) -> None:
    """All are stored, each once, when it is back."""
    rate = {"readings_rate": UNBOUNDED}
    await here.start_server(**rate)
    gateway = await here.start_gateway()
    alice = await settled(here, here.pan(gateway))
    await here.stop(here.server)
    many = 300
    sending = [asyncio.create_task(alice.send(alice.next_reading({"n": number}))) for number in range(many)]
    await asyncio.sleep(0.3)
    await here.start_server(**rate)
    async with asyncio.timeout(120):
        await asyncio.gather(*sending)
    assert sorted(await bodies(here)) == sorted(f'{{"n":{number}}}' for number in range(many))


async def test_a_herd_is_back_after_its_gateway(here: World) -> None:
    """Forty devices, of which none says anything by itself: each is asked, and each gets its text."""
    await here.start_server()
    gateway = await here.start_gateway(kept=True)
    pans = pans_of(here, gateway)
    names = [f"pne-{number}" for number in range(40)]
    herd = [await here.start_pne(name, gateway, presence=10_000.0) for name in names]
    async with asyncio.timeout(60):
        await asyncio.gather(*(pne.wait_established() for pne in herd))
        await until(lambda: not any(pne.is_joining for pne in herd), 60)
    await here.stop(gateway)
    gateway = await here.start_gateway(kept=True, pans=pans)
    await until(lambda: all(gateway.members.way_to(EntityId(name)) is not None for name in names), 60)
    await asyncio.gather(*(a_text_arrives(here, name, "back") for name in names))
    assert all(here.inboxes[name] == ["back"] for name in names)


DAMAGE = {
    "key": "UPDATE held_members SET sealed_key = x'00'",
    "address": "UPDATE held_members SET there = 'nowhere', own = '-'",
    "address that is none": f"UPDATE held_members SET there = '{'x' * 300}:99999'",
    "networks": "DELETE FROM served",
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_gateway_with_damaged_rows_starts_and_serves(here: World, damage: str) -> None:
    await here.start_server()
    gateway = await here.start_gateway(kept=True)
    pans = pans_of(here, gateway)
    alice = await settled(here, gateway)
    await here.stop(gateway)
    with contextlib.closing(sqlite3.connect(here.folder / "gw-1.db")) as file:
        file.execute(DAMAGE[damage])
        file.commit()
    await here.start_gateway(kept=True, pans=pans)
    await asyncio.wait_for(alice.send(alice.next_reading({"n": 1})), 60)
    await a_text_arrives(here, "alice", "still here")


async def test_a_gateway_s_damaged_file_is_told(here: World) -> None:
    """And left as it is: who repairs it has it still."""
    path = here.folder / "gateway.db"
    store = GatewayStore.open(path)
    await store.close()
    content = path.read_bytes()
    path.write_bytes(b"damaged" * 20 + content[140:])
    before = path.read_bytes()
    with pytest.raises(Unavailable) as told:
        GatewayStore.open(path)
    assert told.value.code == "store_unavailable"
    assert path.read_bytes() == before


class _Names:
    """A resolver whose names change their addresses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: dict[str, str] = {}
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def resolve(host: Any, port: Any, **options: Any) -> Any:
            return await real(self.of.get(host, host), port, **options)

        monkeypatch.setattr(loop, "getaddrinfo", resolve)


async def test_names_that_change_their_address(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's for its devices, the server's for its gateways: each is looked up anew where it went silent."""
    names = _Names(monkeypatch)
    names.of = {"gateway.test": "127.0.0.1", "server.test": "127.0.0.1"}
    await here.start_server()
    port = here.address[1]
    gateway = await here.start_gateway(server_host="server.test", keepalive=0.5)
    pan = here.pan(gateway)
    alice = await settled(here, ("gateway.test", pan[1]))
    await here.stop(gateway)
    await here.stop(here.server)
    names.of = {"gateway.test": "127.0.0.2", "server.test": "127.0.0.3"}
    await here.start_server(host="127.0.0.3", port=port)
    pans = (PanConfig("127.0.0.2", pan[1], False),)
    gateway = await here.start_gateway(pans=pans, server_host="server.test")
    await asyncio.wait_for(alice.send(alice.next_reading({"n": 1})), 60)
    await here.stop(here.server)
    names.of["server.test"] = "127.0.0.1"
    await here.start_server(host="127.0.0.1", port=port)
    await asyncio.wait_for(alice.send(alice.next_reading({"n": 2})), 60)
    assert await bodies(here) == ['{"n":1}', '{"n":2}']


async def test_what_a_gateway_held_as_it_ended_is_said_again(here: World) -> None:
    """Its device does not wait for an answer that nobody can bring: the gateway that is back does not know its hop."""
    await here.start_server()
    gateway = await here.start_gateway(kept=True)
    pans = pans_of(here, gateway)
    alice = await settled(here, gateway)
    session = alice._way.session
    await gateway._work.close()  # its uplink is away, while the server runs on
    sending = asyncio.create_task(alice.send(alice.next_reading({"n": 1})))
    await until(lambda: alice._way.held_up)
    await here.stop(gateway)
    await here.start_gateway(kept=True, pans=pans)
    await asyncio.wait_for(sending, 40)  # what is held is waited for for a minute
    assert alice._way.session is session
    assert await bodies(here) == ['{"n":1}']
