"""Gateways at an any-address, and names that have several addresses: who asks at one is answered from that one."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiocoap import CON, Message
from aiocoap.numbers.codes import POST

from cpns.errors import Refused
from cpns.gateway.config import PanConfig
from cpns.ids import EntityId
from cpns.pne.config import Where
from cpns.transport import address, uplink
from cpns.wire import codec
from cpns.wire.pn_messages import EntityDiscoveryRequest, EntityDiscoveryResponse
from cpns.wire.registry import CPNS_PATH, Mode
from tests.support.world import World, pan_config, push_of, until, world

ASKED = [
    ("0.0.0.0", "127.0.0.1"),
    ("0.0.0.0", "127.0.0.9"),
    ("::", "127.0.0.1"),
    ("::", "127.0.0.9"),
    ("::", "::1"),
]
"""Where a gateway is, and where it is asked. All of 127.0.0.0/8 is this machine, though no interface lists it."""


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


async def start_gateway(here: World, host: str, port: int | None = None, **options: Any) -> tuple[Any, int]:
    """Start a gateway at *host*, at a port of its own, or at *port* again; return it and the port of its PAN."""
    pan = pan_config(host) if port is None else PanConfig(host, port, secure=False)
    gateway = await here.start_gateway("gw-1", pans=(pan,), **options)
    return gateway, address.split_address(gateway.bound[0])[1]


@pytest.mark.parametrize(("host", "asked"), ASKED)
async def test_it_answers_from_the_address_that_was_asked(here: World, host: str, asked: str) -> None:
    """A connected socket takes datagrams from that address alone."""
    _, port = await start_gateway(here, host)
    asks = EntityDiscoveryRequest(EntityId("alice"), Mode.PNE)
    question = Message(code=POST, uri_path=(CPNS_PATH,), payload=codec.encode(asks))
    question.mtype, question.mid, question.token = CON, 7, b"t"
    with socket.socket(socket.AF_INET6 if ":" in asked else socket.AF_INET, socket.SOCK_DGRAM) as device:
        device.setblocking(False)
        device.connect((asked, port))
        device.send(question.encode())
        async with asyncio.timeout(40):
            answer = Message.decode(await asyncio.get_running_loop().sock_recv(device, 2048))
    assert codec.decode(answer.payload, EntityDiscoveryResponse).entity_id == "gw-1"


@pytest.mark.parametrize(("host", "asked"), ASKED)
async def test_a_device_sets_up_there_and_is_reached_there(here: World, host: str, asked: str) -> None:
    gateway, port = await start_gateway(here, host)
    alice = await here.joined_pne("alice", (asked, port))
    await alice.send(alice.next_reading({"n": 1}))
    await here.server.sending.send(EntityId("alice"), "inbox", push_of("hello"))
    await until(lambda: here.inboxes["alice"] == ["hello"])
    assert gateway.members.get(EntityId("alice")).link is not None


async def test_two_devices_at_two_addresses_and_one_that_changes(here: World) -> None:
    _, port = await start_gateway(here, "0.0.0.0")
    alice = await here.joined_pne("alice", ("127.0.0.8", port))
    bob = await here.joined_pne("bob", ("127.0.0.9", port))
    await alice.go(Where((("127.0.0.7", port),)))
    for name, pne in (("alice", alice), ("bob", bob)):
        await pne.send(pne.next_reading({"from": name}))
        await here.server.sending.send(EntityId(name), "inbox", push_of(f"to {name}"))
        await until(lambda name=name: here.inboxes[name] == [f"to {name}"])  # type: ignore[misc]


@pytest.mark.parametrize(("host", "asked"), ASKED)
async def test_a_gateway_that_is_back_asks_from_where_it_was_asked(here: World, host: str, asked: str) -> None:
    """It remembers both ends, so the device knows who asks, and a text waits for no sign of life."""
    gateway, port = await start_gateway(here, host, kept=True)
    alice = await here.joined_pne("alice", (asked, port), presence=600.0)
    await here.stop(gateway)
    await start_gateway(here, host, port, kept=True)
    async with asyncio.timeout(40):
        while True:
            with contextlib.suppress(Refused):
                await here.server.sending.send(EntityId("alice"), "inbox", push_of("hello"))
                break
            await asyncio.sleep(0.1)
    await until(lambda: "hello" in here.inboxes["alice"])
    assert alice.joined is not None


@pytest.mark.parametrize("asked", ["127.0.0.1", "::1"])
async def test_a_server_at_the_any_address_of_ipv6_takes_ipv4_too(tmp_path: Path, asked: str) -> None:
    async with world(tmp_path) as one:
        await one.start_server(host="::")
        gateway = await one.start_gateway("gw-1", server_host=asked)
        assert gateway.uplink.standing is not None


async def test_a_device_goes_from_one_kind_of_address_to_the_other(here: World) -> None:
    """Its own socket is of no kind: gateways that are given or found may have either."""
    _, port = await start_gateway(here, "::")
    alice = await here.joined_pne("alice", ("127.0.0.1", port))
    await alice.go(Where((("::1", port),)))
    await alice.send(alice.next_reading({"n": 1}))
    await alice.go(Where((("127.0.0.1", port),)))
    await alice.send(alice.next_reading({"n": 2}))


def names(monkeypatch: pytest.MonkeyPatch, known: dict[str, list[str]]) -> None:
    """Let names have those addresses, as long as *known* says so."""
    found = asyncio.get_running_loop().getaddrinfo

    async def getaddrinfo(host: str, port: int, **more: Any) -> list[Any]:
        if host in known and not known[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [one for each in known.get(host, [host]) for one in await found(each, port, **more)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


DEAD = [
    ["::1", "127.0.0.1"],
    ["127.0.0.7", "127.0.0.1"],
    ["127.0.0.7", "::1", "127.0.0.1"],
]


@pytest.mark.parametrize("own", DEAD)
async def test_a_name_whose_first_addresses_are_dead(
    here: World, own: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next address after one silent timer; the log says which was asked."""
    gateway = await here.start_gateway("gw-1")
    port = here.pan(gateway)[1]
    names(monkeypatch, {"hub.example": own})
    alice = await here.start_pne("alice", ("hub.example", port), timer=2.0)
    async with asyncio.timeout(40):
        await alice.wait_established()
    said = [text for text in caplog.messages if "not established" in text]
    for dead in own[:-1]:
        assert any(f"not established at {address.at(dead, port)}: no_answer" in text for text in said)
    assert not any(f"at {address.at(own[-1], port)}" in text for text in said)


async def test_all_addresses_of_a_name_are_tried_where_a_device_is_told_to_go(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, other = await here.start_gateway("gw-1"), await here.start_gateway("gw-2")
    names(monkeypatch, {"hub.example": ["::1", "127.0.0.7", "127.0.0.1"]})
    alice = await here.joined_pne("alice", gateway, timer=2.0)
    await alice.go(Where((("hub.example", here.pan(other)[1]),)))
    assert alice.joined is not None
    assert alice.joined.gateway_id == "gw-2"


async def test_a_name_that_changes_its_address_or_has_none_for_a_while(
    here: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await here.start_gateway("gw-1")
    port, known = here.pan(gateway)[1], {"hub.example": list[str]()}
    names(monkeypatch, known)
    alice = await here.start_pne("alice", ("hub.example", port), timer=2.0)
    await until(lambda: f"not established at hub.example:{port}: Name or service not known" in caplog.text)
    known["hub.example"] = ["127.0.0.7"]
    await until(lambda: f"not established at 127.0.0.7:{port}" in caplog.text)
    known["hub.example"] = ["127.0.0.1"]
    async with asyncio.timeout(40):
        await alice.wait_established()


@pytest.mark.parametrize("first", ["refuses", "is silent"])
async def test_a_server_whose_first_address_is_dead(here: World, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway takes the next one, long before its patience with the server ends."""
    monkeypatch.setattr(uplink, "ADDRESS_SECONDS", 0.2)
    names(monkeypatch, {"server.example": ["127.0.0.7", "127.0.0.1"]})
    with contextlib.ExitStack() as kept:
        if first == "is silent":
            deaf = kept.enter_context(socket.create_server(("127.0.0.7", here.address[1]), backlog=0))
            for _ in range(4):  # its queue is full then, and the kernel answers no more
                one = kept.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(deaf.getsockname())
        gateway = await here.start_gateway("gw-1", server_host="server.example", wait=False, answer_timeout=30.0)
        await gateway.uplink.wait(40)
    assert gateway.uplink.standing is not None
