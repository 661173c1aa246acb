"""Several processes of one server: which one a gateway goes to, and how it comes back to that."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns.errors import NoAnswer
from cpns.gateway import uplink
from cpns.gateway.app import Gateway
from cpns.gateway.claim import EukeyClaim
from cpns.gateway.config import GatewayConfig
from cpns.gateway.servers import Servers
from cpns.gateway.uplink_states import Standing
from cpns.ids import EntityId, PnId
from cpns.server.peers import gateways
from cpns.transport.endpoint import Inbound
from cpns.transport.errors import Answer, Code
from cpns.wire import application
from cpns.wire.pn_messages import PnChangeNotify
from cpns.wire.registry import Change
from tests.integration.test_roaming import Traffic, nothing_lost
from tests.support.processes import processes, start
from tests.support.tap import TcpTap
from tests.support.world import SERVER, World, push_of, until, world

THREE = (("192.0.2.1", 5683), ("192.0.2.2", 5683), ("2001:db8::3", 5683))


def order(gateway: str, servers: tuple[tuple[str, int], ...] = THREE, *, kept: bool = False) -> list[tuple[str, int]]:
    """Return the servers of *gateway* as they are tried."""
    first, *others = servers
    config = GatewayConfig(EntityId(gateway), SERVER, *first, (), more_servers=tuple(others), server_order=kept)
    one, found = Servers(config), []
    for _ in servers:
        found.append(one.present)
        one.failed("away")
    return found


def test_one_that_is_named_twice_is_one() -> None:
    config = GatewayConfig(EntityId("gw-1"), SERVER, *THREE[0], (), more_servers=THREE[:1])
    assert Servers(config).failed("away") == "at 192.0.2.1:5683: away"


def test_gateways_spread_over_the_processes_of_a_server() -> None:
    taken = Counter(order(f"gw-{number}")[0] for number in range(900))
    assert set(taken) == set(THREE)
    assert all(240 < count < 360 for count in taken.values())


def test_where_one_is_away_its_gateways_spread_over_the_others_and_no_other_moves() -> None:
    named = [f"gw-{number}" for number in range(900)]
    without = {gateway: order(gateway, THREE[1:])[0] for gateway in named}
    moved = [gateway for gateway in named if order(gateway)[0] != without[gateway]]
    assert {order(gateway)[0] for gateway in moved} == {THREE[0]}
    assert set(Counter(without[gateway] for gateway in moved)) == set(THREE[1:])
    assert all(order(gateway)[1] == without[gateway] for gateway in moved)


def test_the_order_in_which_they_are_named_does_not_count_unless_it_is_to() -> None:
    for number in range(50):
        assert order(f"gw-{number}") == order(f"gw-{number}", THREE[::-1])
        assert order(f"gw-{number}", kept=True) == list(THREE)


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(uplink, "RETURN_SECONDS", 0.3)
    monkeypatch.setattr(uplink, "BACKOFF", (0.05, 0.1))
    monkeypatch.setattr(gateways, "GO_SECONDS", 0.1)
    monkeypatch.setattr(gateways, "STAY_SECONDS", 0.1)
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


class Doors:
    """Two ways to one server, of which a gateway prefers the first; it is behind the second."""

    def __init__(self, first: TcpTap, second: TcpTap, gateway: Gateway) -> None:
        self.first, self.second, self.gateway = first, second, gateway

    @classmethod
    async def behind_the_second(cls, here: World) -> "Doors":
        taps = [TcpTap(here.address), TcpTap(here.address)]
        (host, port), other = [await tap.start() for tap in taps]
        for tap in taps:
            here.closes(tap)
        await taps[0].close()
        where: dict[str, Any] = {"server_host": host, "server_port": port, "more_servers": (other,)}
        gateway = await here.start_gateway("hub", server_order=True, **where)
        found = cls(taps[0], taps[1], gateway)
        assert found.door() == taps[1].port
        return found

    def door(self) -> int | None:
        """Return the port of the door that it goes through."""
        standing = self.gateway.uplink.standing
        return None if standing is None else int(standing.link.remote.source[1])


async def test_a_gateway_comes_back_and_nothing_is_lost(here: World) -> None:
    """It sets up there before it lets go, and the server does not take it for two."""
    doors = await Doors.behind_the_second(here)
    pne = await here.joined_pne("watch", doors.gateway)
    traffic = Traffic(pne, 0.02)
    await until(lambda: len(traffic.acknowledged) > 3)
    before = doors.gateway.uplink.standing
    away: list[bool] = []

    async def look() -> None:
        while True:
            away.append(doors.gateway.uplink.standing is None)
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await doors.first.start()
    await until(lambda: doors.door() == doors.first.port)
    looking.cancel()
    assert not any(away)
    count = len(traffic.acknowledged)
    await until(lambda: len(traffic.acknowledged) > count + 5)
    await until(lambda: before is not None and before.link.closed)
    await traffic.stop()
    await nothing_lost(here, traffic)
    assert (
        await here.server.sending.send(EntityId("watch"), application.INBOX_PATH, push_of("there")) == "watch got there"
    )
    assert here.server.clones.of(EntityId("hub")) is None
    assert not await here.audit("hub", "cloned")


async def test_it_does_not_go_while_a_setup_runs(here: World) -> None:
    doors = await Doors.behind_the_second(here)
    doors.gateway.uplink._is_idle = lambda: False  # type: ignore[method-assign]
    await doors.first.start()
    await asyncio.sleep(1.5)
    assert doors.door() == doors.second.port
    doors.gateway.uplink._is_idle = lambda: True  # type: ignore[method-assign]
    await until(lambda: doors.door() == doors.first.port)


async def tell(here: World, pn_id: PnId) -> bool:
    """Tell the gateway of a change at which there is nothing to do; return whether it took it."""
    return await here.server.gateways.tell(EntityId("hub"), PnChangeNotify(pn_id, (), 0, Change.SETTLED))


async def test_where_nobody_says_a_word_it_stays_and_is_there(here: World) -> None:
    """Something takes the connection and says nothing: the older uplink serves on, newcomers too, and takes notices."""
    doors = await Doors.behind_the_second(here)
    pne = await here.joined_pne("watch", doors.gateway)
    assert pne.joined is not None
    before, ends = doors.gateway.uplink.standing, asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ends.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", doors.first.port)
    try:
        await until(lambda: doors.gateway.uplink._proving is not None)  # and so it is for twice the answer_timeout
        assert await tell(here, pne.joined.pn_id)
        newcomer = await here.joined_pne("newcomer", doors.gateway)
        await newcomer.send(newcomer.next_reading({"who": "newcomer"}))
        assert doors.gateway.uplink._proving is not None
    finally:
        ends.set()
        server.close()
    await until(lambda: not doors.gateway.uplink._connecting.locked())
    assert doors.gateway.uplink.standing is before
    assert await tell(here, pne.joined.pn_id)


async def test_one_that_a_setup_needs_is_not_left(here: World) -> None:
    """The SETUP began after the gateway had set out to go."""
    doors = await Doors.behind_the_second(here)
    link_to, tried = doors.gateway.uplink._link_to, 0

    async def begins(server: Any) -> Any:
        nonlocal tried
        link, tried = await link_to(server), tried + 1
        doors.gateway.uplink._is_idle = lambda: tried > 1  # type: ignore[method-assign]
        return link

    doors.gateway.uplink._link_to = begins  # type: ignore[method-assign]
    before = doors.gateway.uplink.standing
    await doors.first.start()
    await until(lambda: tried == 1)
    await until(lambda: not doors.gateway.uplink._connecting.locked())
    assert doors.gateway.uplink.standing is before
    doors.gateway.uplink._is_idle = lambda: True  # type: ignore[method-assign]
    await until(lambda: doors.door() == doors.first.port)


async def goes_and_fails(here: World, monkeypatch: pytest.MonkeyPatch, doors: Doors) -> list[Standing]:
    """Let the way back fail after the server's challenge, once; return for which uplinks the inventory is fetched."""
    learnt: list[Standing] = []
    learn, challenged = doors.gateway.networks.learn, EukeyClaim.challenged

    async def noted(standing: Standing) -> list[EntityId]:
        learnt.append(standing)
        return await learn(standing)

    def broken(self: EukeyClaim, inbound: Inbound) -> Answer:
        monkeypatch.setattr(EukeyClaim, "challenged", challenged)
        raise NoAnswer("broken")

    monkeypatch.setattr(EukeyClaim, "challenged", broken)
    monkeypatch.setattr(doors.gateway.networks, "learn", noted)
    await doors.first.start()
    return learnt


async def test_after_a_way_back_that_failed_it_asks_what_it_missed(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have taken it for gone."""
    monkeypatch.setattr(gateways, "GO_SECONDS", 100.0)
    monkeypatch.setattr(gateways, "STAY_SECONDS", 100.0)
    doors = await Doors.behind_the_second(here)
    pne = await here.joined_pne("watch", doors.gateway)
    assert pne.joined is not None
    before = doors.gateway.uplink.standing
    learnt = await goes_and_fails(here, monkeypatch, doors)
    await until(lambda: learnt)
    assert learnt == [before]
    await until(lambda: not doors.gateway.uplink._connecting.locked())
    assert doors.gateway.uplink.standing is before
    assert await tell(here, pne.joined.pn_id)
    await here.joined_pne("newcomer", doors.gateway)


async def test_where_it_can_not_ask_what_it_missed_it_connects_anew(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors = await Doors.behind_the_second(here)
    before = doors.gateway.uplink.standing
    learn, failed = doors.gateway.networks.learn, 0

    async def fails(standing: Standing) -> list[EntityId]:
        nonlocal failed
        failed += standing is before
        if standing is before:
            raise NoAnswer("no_answer")
        return await learn(standing)

    await goes_and_fails(here, monkeypatch, doors)
    monkeypatch.setattr(doors.gateway.networks, "learn", fails)
    await until(lambda: failed and doors.gateway.uplink.standing not in (None, before))
    assert before is not None
    assert before.link.closed


async def test_an_uplink_that_is_lost_on_the_way_back_is_made_anew(here: World) -> None:
    doors = await Doors.behind_the_second(here)
    prove = doors.gateway.uplink._prove

    async def lost_meanwhile(link: Any) -> Any:
        await doors.second.close()
        await asyncio.sleep(0.2)
        return await prove(link)

    doors.gateway.uplink._prove = lost_meanwhile  # type: ignore[method-assign]
    await doors.first.start()
    await until(lambda: doors.door() == doors.first.port)
    await asyncio.sleep(0.5)
    assert doors.door() == doors.first.port
    assert sum(one.what == "ACTIVATE Request" for one in here.passed) == 2


async def test_it_stays_with_an_older_server(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """That one knows of no such question."""
    monkeypatch.setattr(gateways, "REBALANCE_PATH", "of another version")
    doors = await Doors.behind_the_second(here)
    await doors.first.start()
    await asyncio.sleep(1.5)
    assert doors.door() == doors.second.port


async def ask(gateway: Gateway) -> Answer:
    """Ask in the name of *gateway* whether it may go elsewhere."""
    standing = gateway.uplink.standing
    assert standing is not None
    return await standing.link.exchange(application.REBALANCE_PATH, b"", timeout=40, session=standing.session)


async def test_one_gateway_in_a_minute_goes_and_none_keeps_the_others(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateways, "GO_SECONDS", 60.0)
    monkeypatch.setattr(gateways, "STAY_SECONDS", 600.0)
    loud, quiet = await here.start_gateway("loud"), await here.start_gateway("quiet")
    first = await ask(loud)
    assert first.ok
    later = await ask(quiet)
    assert (later.code, later.max_age) == (Code.SERVICE_UNAVAILABLE, 60)
    flood = [asyncio.create_task(ask(loud)) for _ in range(30)]
    assert {(one.code, one.max_age) for one in await asyncio.gather(*flood)} == {(Code.SERVICE_UNAVAILABLE, 600)}
    here.server.gateways._went_at -= 60.0
    assert not (await ask(loud)).ok
    assert (await ask(quiet)).ok
    assert here.server.exceeded.of(EntityId("loud")) is None  # asking is no excess


@pytest.mark.req("FN-1")
async def test_a_process_that_is_back_gets_its_gateways_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all their PNEs, and no reading lost."""
    monkeypatch.setattr(uplink, "RETURN_SECONDS", 0.5)
    monkeypatch.setattr(gateways, "GO_SECONDS", 0.1)
    async with processes(tmp_path, 2) as (nats, (one, other)):
        gateway = await one.start_gateway("hub", more_servers=(other.address,), server_order=True)
        pne = await one.joined_pne("watch", gateway, request_timeout=2.0)
        traffic = Traffic(pne, 0.05)
        await until(lambda: len(traffic.acknowledged) > 3)
        await one.stop(one.server)
        await until(lambda: other.server.sessions.with_peer(EntityId("watch")))
        await start(one, nats)
        await until(lambda: one.server.sessions.with_peer(EntityId("watch")))
        count = len(traffic.acknowledged)
        await until(lambda: len(traffic.acknowledged) > count + 5)
        await traffic.stop()
        await nothing_lost(one, traffic)
        assert await other.server.sending.send(EntityId("watch"), "inbox", push_of("back")) == "watch got back"
        assert one.server.clones.of(EntityId("hub")) is None
