"""Who takes all that it can get of its gateway or server, beside honest devices: these notice nothing of it."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiocoap import NON, Message
from aiocoap.numbers.codes import POST

from cpns.errors import CpnsError, NoAnswer, Refused, Result
from cpns.gateway.invite import INVITE_SECONDS
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.service.system import random_bytes
from cpns.transport import discovery
from cpns.transport.coap import request_of
from cpns.transport.endpoint import Inbound
from cpns.wire import codec
from cpns.wire.pn_messages import EntityDiscoveryRequest, InviteRequest
from cpns.wire.registry import CPNS_PATH, Mode, Presence
from tests.support.coap import datagram_of
from tests.support.world import FAST, SERVER, World, push_of, until, world

PROMPT = 2.0
"""Seconds within which the honest are served, on a machine that runs other tests: far below what they would wait for
others, and far above the milliseconds that it takes."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


@contextlib.asynccontextmanager
async def at_rate(rate: float, do: Callable[[int], Awaitable[Any]]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Call *do* with 0, 1, ... *rate* times a second while the block runs; none waits for the one before."""
    tasks: list[asyncio.Task[Any]] = []

    async def attempt(number: int) -> None:
        with contextlib.suppress(CpnsError):
            await do(number)

    async def run() -> None:
        began = time.monotonic()
        while True:
            while len(tasks) < (time.monotonic() - began) * rate:
                tasks.append(asyncio.create_task(attempt(len(tasks))))
            await asyncio.sleep(0.005)

    running = asyncio.create_task(run())
    try:
        yield tasks
    finally:
        for task in (running, *tasks):
            task.cancel()
        await asyncio.gather(running, *tasks, return_exceptions=True)


async def times(count: int, do: Callable[[], Awaitable[Any]]) -> list[float]:
    """Return what each of *count* calls took, sorted."""
    took = []
    for _ in range(count):
        began = time.monotonic()
        await do()
        took.append(time.monotonic() - began)
    return sorted(took)


def falls_silent(pne: Pne) -> None:
    """Let *pne* answer nothing any more, and say on what it wants."""

    async def nothing(inbound: Inbound) -> None:
        return None

    pne._endpoint._handler = nothing


@pytest.mark.req("SES-3")
@pytest.mark.parametrize("rate", [150, 300])
async def test_a_device_that_answers_nothing_fills_its_own_share_of_what_is_carried_down(
    here: World, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    monkeypatch.setattr("cpns.transport.relay.MAX_DOWN", 300)  # which it would fill in a second or two
    server = await here.start_server()
    gateway = await here.start_gateway()
    mallory = await here.joined_pne("mallory", gateway, **FAST)
    await here.joined_pne("bob", gateway, **FAST)
    falls_silent(mallory)
    async with at_rate(
        rate, lambda number: server.sending.send(EntityId("mallory"), "inbox", push_of(str(number)))
    ) as sent:
        await asyncio.sleep(2.2)
        took = await times(20, lambda: server.sending.send(EntityId("bob"), "inbox", push_of("hello")))
        assert len(sent) > 300
    assert len(here.inboxes["bob"]) == 20
    assert took[-2] < PROMPT, took


def sealed_by_nobody(payload: bytes) -> bytes:
    """Return a datagram that a gateway should relay to the server: nobody can tell it from a device's."""
    message = Message(code=POST, payload=payload, uri_host=SERVER)
    message.opt.oscore = b"\x09\x01\x07"
    message.mtype, message.mid, message.token = NON, int.from_bytes(random_bytes(2), "big"), random_bytes(4)
    return bytes(message.encode())


@pytest.fixture
def stranger() -> Iterator[Callable[[int], socket.socket]]:
    """Sockets of a host that nobody else is on."""
    opened: list[socket.socket] = []

    def port(number: int) -> socket.socket:
        while len(opened) <= number:
            opened.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            opened[-1].setblocking(False)
            opened[-1].bind(("127.0.0.2", 0))
        return opened[number]

    yield port
    for one in opened:
        one.close()


@pytest.mark.req("SES-3")
@pytest.mark.parametrize("size", [1, 4096], ids=["in messages", "in bytes"])
async def test_a_stranger_with_many_ports_fills_its_own_share_of_what_is_held(
    here: World, stranger: Callable[[int], socket.socket], size: int
) -> None:
    """While the uplink is away a gateway keeps what its devices say; of a stranger, no more than gives way to them."""
    await here.start_server()
    gateway = await here.start_gateway()
    alice = await here.joined_pne("alice", gateway, **FAST)
    relay, (member,) = gateway.pans[0].relay, gateway.members
    route, relay._route = relay._route, lambda destination: None
    for number in range(2400):
        with contextlib.suppress(BlockingIOError):
            payload = random_bytes(size if number < 1800 else min(size, 30))  # in the end it fills what is left
            stranger(number % 150).sendto(sealed_by_nobody(payload), here.pan(gateway))
        if number % 20 == 0:
            await asyncio.sleep(0.01)
    await until(lambda: relay.holding >= (500 if size == 1 else 256))
    sending = [asyncio.create_task(alice.send(alice.next_reading({"n": n}))) for n in range(8)]
    await until(lambda: len(relay._queues.get(member.link, ())) >= 8)
    relay._route = route
    relay.resume()
    async with asyncio.timeout(40):
        await asyncio.gather(*sending)
    assert len(await here.store.readings(0, 100)) == 8


def question(number: int) -> bytes:
    """Return an Entity Discovery Request of an ID that nobody has heard of."""
    asked = EntityDiscoveryRequest(EntityId(f"made-up-{number}"), Mode.PNE)
    message = Message(code=POST, uri_path=(CPNS_PATH,), payload=codec.encode(asked))
    message.mtype, message.mid, message.token = NON, number & 0xFFFF, number.to_bytes(4, "big")
    return bytes(message.encode())


@pytest.mark.req("FN-8")
@pytest.mark.parametrize("rate", [200, 400])
async def test_a_device_that_waits_stays_in_reach_whatever_a_stranger_calls_itself(
    here: World, stranger: Callable[[int], socket.socket], rate: int
) -> None:
    """And a stranger, whose address may be forged, gets no more than four answers a second beyond the first."""
    await here.start_server()
    gateway = await here.start_gateway()
    here.accepting.add("bob")
    bob = await here.start_pne("bob", gateway, waits=True)
    alice = await here.joined_pne("alice", gateway, **FAST)
    await until(lambda: gateway.pans[0].reach.link(EntityId("bob"), here.now()))
    answers = 0

    async def ask(number: int) -> None:
        nonlocal answers
        port = stranger(number % 50)
        port.sendto(question(number), here.pan(gateway))
        with contextlib.suppress(BlockingIOError):
            while port.recv(2048):
                answers += 1

    async with at_rate(rate, ask) as asked:
        await until(lambda: len(asked) > 600)
        assert await alice.network.invite([EntityId("bob")]) == {"bob": Result.SUCCESS}
        await asyncio.wait_for(bob.wait_established(), 40)
    assert answers < discovery.RATE[1] + discovery.RATE[0] * (len(asked) / rate + 2)


async def told(ask: Callable[[], Awaitable[Any]]) -> Result:
    """Return what the server says, in a session whose window others of its own messages may push on."""
    while True:
        try:
            await ask()
            return Result.SUCCESS
        except NoAnswer:
            continue
        except Refused as refused:
            return refused.result


@pytest.mark.req("FN-8")
@pytest.mark.parametrize("rate", [200, 400])
async def test_who_invites_names_that_stay_silent_holds_up_nobody(
    here: World, stranger: Callable[[int], socket.socket], rate: int
) -> None:
    """Four invitations of one asker are under way; over it there is 61. Others invite, and are served, as ever."""
    server = await here.start_server()
    first, second = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    mallory = await here.joined_pne("mallory", first, **FAST)
    alice = await here.joined_pne("alice", first, **FAST)
    bob = await here.joined_pne("bob", second, **FAST)
    here.accepting.add("carol")
    carol = await here.start_pne("carol", first, waits=True)
    ghosts = [EntityId(f"made-up-{number}") for number in range(40)]
    for number in range(40):
        stranger(number).sendto(question(number), here.pan(first))
    await until(lambda: set(ghosts) | {"carol"} <= set(first.pans[0].reach.known(here.now())))
    assert mallory.joined is not None
    pn_id, session = mallory.joined.pn_id, mallory.sessions.with_peer(SERVER)
    assert session is not None

    async def invite(number: int) -> None:
        request = codec.encode(InviteRequest(pn_id, (ghosts[number % 40],)))
        outer, _ = request_of(session, CPNS_PATH, request)
        data = datagram_of(outer, NON, number & 0xFFFF, number.to_bytes(4, "big"))
        stranger(number % 100).sendto(data, here.pan(first))

    def asked_for() -> int:
        return sum(one.what == "INVITE Request" and one.sender == SERVER for one in here.passed)

    began = time.monotonic()
    async with at_rate(rate, invite) as sent:
        await until(lambda: asked_for() >= 4)
        assert await told(lambda: mallory.network.invite([ghosts[0]])) is Result.TOO_MANY
        took = await times(20, lambda: bob.send(bob.next_reading({"as": "ever"})))
        before = asked_for()
        assert await told(lambda: alice.network.invite([EntityId("carol")])) is Result.SUCCESS
        await asyncio.wait_for(carol.wait_established(), 40)
        await until(lambda: len(sent) > 2 * rate)
        rounds = 1 + int((time.monotonic() - began) / INVITE_SECONDS)  # those that end make room for others
        assert before <= asked_for() <= 4 * rounds + 1
    assert took[-2] < PROMPT, took
    excess = server.exceeded.of(EntityId("mallory"))
    assert excess is not None
    assert excess.what == "invitations_at_once"
    assert server.exceeded.of(EntityId("alice")) is None
    assert server.reach.here(EntityId("bob")).presence is Presence.CONNECTED


@pytest.mark.req("FN-8")
async def test_a_gateway_bounds_the_invitations_under_way(
    here: World, stranger: Callable[[int], socket.socket]
) -> None:
    """A server that asks without an end, as an older one does, is told 61; who is being asked is not asked twice."""
    await here.start_server()
    gateway = await here.start_gateway()
    await here.joined_pne("alice", gateway)
    for number in range(40):
        stranger(number).sendto(question(number), here.pan(gateway))
    await until(lambda: len(gateway.pans[0].reach.known(here.now())) == 40)
    (pn_id,) = gateway.members.pns
    asking = [asyncio.create_task(gateway.invite(pn_id, [EntityId(f"made-up-{n}")])) for n in range(8)]
    await asyncio.sleep(0.1)
    with pytest.raises(Refused) as refused:
        await gateway.invite(pn_id, [EntityId("made-up-20")])
    assert refused.value.result is Result.TOO_MANY
    asking.pop().cancel()
    await asyncio.sleep(0)
    assert await gateway.invite(pn_id, [EntityId("made-up-0")]) == {"made-up-0": Result.IN_PROGRESS}
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
