"""Who sends much waits for itself: endpoints on real sockets, one party that floods and one that does not."""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiocoap import Message
from aiocoap.numbers.codes import POST

from cpns.coap.numbers import Option
from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.errors import Result
from cpns.gateway import hop
from cpns.ids import EntityId
from cpns.service.places import places
from cpns.service.system import random_bytes
from cpns.session.table import Session, Sessions
from cpns.shares.bounds import REQUESTS, Requests
from cpns.shares.party import Party, acting
from cpns.shares.room import Room
from cpns.shares.turns import Limits
from cpns.transport import endpoint as endpoint_module
from cpns.transport import oscore
from cpns.transport.coap import request_of, response_of
from cpns.transport.endpoint import Endpoint, Inbound, Link
from cpns.transport.errors import Answer, Code
from cpns.transport.relay import Relay, Sealed
from cpns.transport.watch import Passed
from cpns.wire import codec
from cpns.wire.messages import ActivateRequest, ErrorBody
from cpns.wire.registry import CONTENT_FORMAT, CPNS_PATH
from tests.support.world import until, world

BUSY_LOOP = 0.001
"""Seconds of the loop that the handler of these tests takes for one message."""


class Keys:
    th2 = bytes(32)

    def __init__(self, name: str) -> None:
        self.name = name.encode().ljust(16)

    def oscore_master_secret(self) -> Secret:
        return Secret(self.name)

    def oscore_master_salt(self) -> bytes:
        return bytes(8)


class Peers:
    """One party that serves, and others with sessions.

    `handled` counts whose messages were handled, `before` how many were before the newest quick one.
    """

    def __init__(self, requests: Requests = REQUESTS) -> None:
        self.handled: Counter[str] = Counter()
        self.parties: set[Party | None] = set()
        self.release = asyncio.Event()
        self.sessions = Sessions()
        self.endpoint = Endpoint(EntityId("server"), self.sessions, self.handle, requests=requests)
        self.others: list[Endpoint] = []
        self.number = 0
        self.before = 0

    async def handle(self, inbound: Inbound) -> Answer | None:
        inbound.link.keep()
        if inbound.path == "quick":
            self.before = self.handled.total()
        self.handled[inbound.party.entity or inbound.party.host] += 1
        self.parties.add(acting.get())
        if inbound.path == "wait":
            await self.release.wait()
        elif inbound.path == "work":
            until = time.perf_counter() + BUSY_LOOP
            while time.perf_counter() < until:
                pass
        return Answer(Code.CHANGED)

    def session(self, name: str, via: str | None = None) -> Session:
        """Return a session that *name* has with us, made at both ends."""
        self.number += 1
        keys: Any = Keys(name)
        profile = Profile.GW_SERVER if via is None else Profile.PNE_SERVER
        ours, theirs = bytes([1, self.number]), bytes([2, self.number])
        gateway = None if via is None else EntityId(via)
        self.sessions.add(
            Session(profile, EntityId("server"), EntityId(name), ours, theirs, keys, 0.0, gateway, confirmed=True)
        )
        return Session(profile, EntityId(name), EntityId("server"), theirs, ours, keys, 0.0)

    async def connect(self, address: tuple[str, int], session: Session) -> Link:
        """Connect over TCP, and have the connection proven under *session*."""
        other = Endpoint(session.own_id, Sessions(), self.handle)
        self.others.append(other)
        link = await other.connect(*address)
        await link.exchange("quick", b"", timeout=5, session=session)
        return link

    async def close(self) -> None:
        self.release.set()
        for endpoint in [self.endpoint, *self.others]:
            await endpoint.close()


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    one = Peers()
    yield one
    await one.close()


@contextlib.contextmanager
def flood(link: Link, session: Session, path: str, count: int) -> Iterator[list[asyncio.Task[Answer]]]:
    """Send *count* requests at once."""
    asked = [asyncio.create_task(link.exchange(path, b"", timeout=30, session=session)) for _ in range(count)]
    yield asked
    for one in asked:
        one.cancel()


async def took(link: Link, session: Session, path: str = "quick") -> float:
    since = time.perf_counter()
    answer = await link.exchange(path, b"", timeout=10, session=session)
    assert answer.ok
    return time.perf_counter() - since


def results(asked: list[asyncio.Task[Answer]]) -> Counter[tuple[str, int]]:
    return Counter(
        (str(Code(one.result().code)), codec.decode(one.result().payload, ErrorBody).result)
        for one in asked
        if one.done() and not one.result().ok
    )


async def test_requests_that_wait_hold_the_place_of_their_session_alone(peers: Peers) -> None:
    """And what is more is refused in the session, at once: 61, with a time to wait."""
    address = await peers.endpoint.listen("127.0.0.1", 0)
    gateway, device, other = peers.session("gw"), peers.session("greedy", "gw"), peers.session("other", "gw")
    link = await peers.connect(address, gateway)
    with flood(link, device, "wait", 200) as asked:
        await took(link, other)
        await until(lambda: results(asked).total() >= REQUESTS.waiting.session)
        assert peers.handled["greedy"] == REQUESTS.running.session
        refused = results(asked)
        assert set(refused) == {(str(Code.SERVICE_UNAVAILABLE), Result.TOO_MANY)}
        assert {one.result().max_age for one in asked if one.done()} == {1}
        await took(link, gateway)
        peers.release.set()
        await until(lambda: sum(one.done() and one.result().ok for one in asked) == REQUESTS.running.session)


async def test_an_uplink_with_many_devices_is_one_party(peers: Peers) -> None:
    """Sixty devices that each ask what takes long hold the share of their PN GW, and the loop's time by turns."""
    address = await peers.endpoint.listen("127.0.0.1", 0)
    crowd = [peers.session(f"device-{number}", "gw-1") for number in range(60)]
    first, second = peers.session("gw-1"), peers.session("gw-2")
    honest = peers.session("honest", "gw-2")
    crowded, calm = await peers.connect(address, first), await peers.connect(address, second)
    with contextlib.ExitStack() as stack:
        for device in crowd:
            stack.enter_context(flood(crowded, device, "wait", 20))
        await took(calm, honest)
        assert sum(peers.handled[f"device-{number}"] for number in range(60)) <= REQUESTS.running.uplink
    with contextlib.ExitStack() as stack:
        peers.release.set()
        await asyncio.sleep(0.1)
        for device in crowd:
            stack.enter_context(flood(crowded, device, "work", 20))
        await asyncio.sleep(0)
        peers.handled.clear()
        await took(calm, honest)
        assert peers.before < 200  # of 1,200 that wait


def test_a_flood_on_the_pan_keeps_no_other_host_waiting() -> None:
    """From 200 ports of one address, each message of them work; another address is served in between."""

    async def main() -> None:
        peers = Peers()
        where = await peers.endpoint.open_pan("127.0.0.1", 0, (1e9, 1e9))
        host, port = where.rsplit(":", 1)
        device = peers.session("device")
        other = Endpoint(EntityId("device"), Sessions(), peers.handle)
        await other.open_pan("127.0.0.2", 0)
        link = await other.link_to(host, int(port))
        await link.exchange("quick", b"", timeout=5, session=device)
        try:
            with contextlib.ExitStack() as stack:
                for number in range(200):
                    one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    message = Message(code=POST, uri_path=("work",))
                    message.mid, message.mtype, message.token = number, 1, b"t"
                    one.sendto(message.encode(), (host, int(port)))
                await took(link, device)
                assert peers.before < 150
                async with asyncio.timeout(40):
                    while peers.handled["127.0.0.1"] < 200:
                        await asyncio.sleep(0.01)
        finally:
            await peers.endpoint.close()
            await other.close()

    uvloop.run(main())  # which reads many datagrams at once, as our processes do


async def test_what_the_loop_does_between_two_looks_at_the_sockets_is_bounded(peers: Peers) -> None:
    """A connection that brings hundreds of messages in one read does not have them all begun at once."""
    address = await peers.endpoint.listen("127.0.0.1", 0)
    gateway, other = peers.session("gw"), peers.session("gw-2")
    link, calm = await peers.connect(address, gateway), await peers.connect(address, other)
    peers.handled.clear()
    with flood(link, gateway, "work", 200) as asked:
        await took(calm, other)
        assert peers.before < 100
        await asyncio.wait(asked)
        assert peers.handled["gw"] == 200


async def test_all_that_may_run_and_wait_is_shared() -> None:
    """Three gateways: two fill what may run, their own shares of what may wait, and what may wait in all."""
    peers = Peers(Requests(Limits(4, 8, 12), Limits(4, 8, 12), 6))
    address = await peers.endpoint.listen("127.0.0.1", 0)
    links = [await peers.connect(address, peers.session(f"gw-{gw}")) for gw in (1, 2, 3)]
    try:
        async with asyncio.timeout(40):
            with contextlib.ExitStack() as stack:
                for gw in (1, 2):
                    for n in (1, 2):
                        device = peers.session(f"{gw}-{n}", f"gw-{gw}")
                        stack.enter_context(flood(links[gw - 1], device, "wait", 30))
                names = {f"{gw}-{n}" for gw in (1, 2) for n in (1, 2)}
                await until(lambda: sum(peers.handled[name] for name in names) == 12)
                await asyncio.sleep(0.2)
                assert sum(peers.handled[name] for name in names) == 12
                assert max(peers.handled[name] for name in names) == 4
                late = asyncio.create_task(took(links[2], peers.session("3-1", "gw-3")))
                await asyncio.sleep(0.2)
                assert not late.done()
                peers.release.set()
                await late
    finally:
        await peers.close()


async def test_hop_runs_of_strangers_are_shared_by_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all had shown their addresses; tests/hostile/test_hostile_sources.py has those that do not."""
    monkeypatch.setattr(hop, "STRANGERS_RUNS", 6)
    monkeypatch.setattr(hop, "UNSHOWN_RUNS", 0)
    monkeypatch.setattr(Room, "_is_loaded", False)
    async with world(tmp_path) as here:
        await here.start_server()
        gateway = await here.start_gateway()
        pan = gateway.pans[0]
        with contextlib.ExitStack() as stack:
            for host, count, runs in (("127.0.0.2", 10, 6), ("127.0.0.3", 2, 2)):
                for number in range(count):
                    one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    one.bind((host, 0))
                    one.sendto(activation(f"{host}-{number}"), here.pan(gateway))
                await until(lambda host=host, runs=runs: pan.hop._strangers.share(host) == runs)  # type: ignore[misc]
            assert len(pan.hop) == 6


async def test_what_is_carried_up_is_shared() -> None:
    """One address has 16 messages under way, a host what the others leave."""
    peers, carried = Peers(), Counter[str]()

    class Way:
        async def carry(self, destination: str, sealed: Sealed) -> Sealed:
            carried[destination] += 1
            try:
                await peers.release.wait()
            finally:
                carried[destination] -= 1
            return sealed

    relay = Relay(lambda destination: Way(), places(20, time.monotonic), up=True)
    gateway = Endpoint(EntityId("gw"), Sessions(), peers.handle, relay)
    peers.others.append(gateway)
    host, port = (await gateway.open_pan("127.0.0.1", 0)).rsplit(":", 1)
    with contextlib.ExitStack() as stack:
        for address, count, under_way in (("127.0.0.2", 20, 16), ("127.0.0.2", 20, 20), ("127.0.0.3", 4, 4)):
            one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            one.bind((address, 0))
            for number in range(count):
                message = Message(code=POST, uri_host=address, payload=b"sealed")
                message.opt.oscore = b"\x09\x00a"
                message.mid, message.mtype, message.token = number, 1, bytes([number])
                one.sendto(message.encode(), (host, int(port)))
            await until(lambda address=address, under_way=under_way: carried[address] == under_way)  # type: ignore[misc]
        await until(lambda: carried["127.0.0.2"] == 16)
    await peers.close()


async def test_names_of_strangers_are_forgotten(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "MAX_NAMES", 10)
    seen: list[Passed] = []
    watched = Endpoint(EntityId("gw"), Sessions(), peers.handle, watch=seen.append)
    peers.others.append(watched)
    await watched.open_pan("127.0.0.1", 0)
    for port in range(1000, 1100):
        watched.name(await watched.link_to("127.0.0.2", port), f"stranger-{port}")
    assert len(watched._names) == 10
    watched.passed((await watched.link_to("127.0.0.2", 1099)).remote, None, "ping", b"")
    assert seen[0].peer == "stranger-1099"


def activation(name: str) -> bytes:
    """Return the datagram of an ACTIVATE Request, not confirmable."""
    request = ActivateRequest(1, EntityId(name), random_bytes(16), random_bytes(1))
    message = Message(code=POST, uri_path=(CPNS_PATH,), payload=codec.encode(request))
    message.opt.content_format = CONTENT_FORMAT
    message.mid, message.mtype, message.token = 1, 1, b"t"
    return bytes(message.encode())


async def test_a_handler_and_what_it_starts_know_whose_work_they_are(peers: Peers) -> None:
    address = await peers.endpoint.listen("127.0.0.1", 0)
    gateway, device = peers.session("gw"), peers.session("device", "gw")
    link = await peers.connect(address, gateway)
    await took(link, device)
    known = {party._replace(port=0) for party in peers.parties if party is not None}
    assert known == {
        Party("127.0.0.1", 0, EntityId("gw")),
        Party("127.0.0.1", 0, EntityId("device"), EntityId("gw")),
    }
    assert acting.get() is None


def test_a_busy_answer_is_sealed_with_its_time_to_wait() -> None:
    one = Peers.__new__(Peers)
    one.number, one.sessions = 0, Sessions()
    theirs = one.session("device")
    (ours,) = one.sessions
    outer, theirs_id = request_of(theirs, "quick", b"")
    assert theirs_id is not None
    _, request_id = oscore.opened(ours, outer)
    answer = response_of(Answer(Code.SERVICE_UNAVAILABLE, b"x", 3600), ours, request_id)
    inner = oscore.unprotect_response(theirs, answer, theirs_id)
    assert (inner.code, inner.payload, inner.uint(Option.MAX_AGE)) == (Code.SERVICE_UNAVAILABLE, b"x", 3600)
