"""No (key, nonce) pair is used twice: over restarts of every party, replays, repetitions and sessions made anew."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiocoap import POST, Message

from cpns.coap.message import Message as Message_
from cpns.coap.oscore import RequestId
from cpns.crypto.aead import Ccm
from cpns.pne.states import Lost
from cpns.session.table import Session
from cpns.transport.oscore import protect_response, sent
from tests.support.lossy import Losses, UdpProxy
from tests.support.oracle import watching
from tests.support.raw import RawUdp
from tests.support.tap import settled
from tests.support.world import SERVER, World, push_of, until, world


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


@pytest.fixture
def pairs() -> Iterator[list[str]]:
    with watching() as collected:
        yield collected


def assert_none_twice(pairs: list[str], at_least: int) -> None:
    assert len(pairs) >= at_least, "the oracle saw nothing"
    assert [pair for pair, count in Counter(pairs).items() if count > 1] == []


def test_the_oracle_sees_a_repetition() -> None:
    """The test can fail: the same key and nonce give the same line, whatever is encrypted."""
    with watching() as pairs:
        key = Ccm(bytes(16))
        for plaintext, nonce in ((b"one", bytes(13)), (b"two", bytes(13)), (b"one", bytes(12) + b"\1")):
            key.seal(nonce, plaintext, b"")
    assert len(pairs) == 3
    assert sorted(Counter(pairs).values()) == [1, 2]
    key.seal(bytes(13), b"three", b"")
    assert len(pairs) == 3


@pytest.mark.req("SES-1")
async def test_over_restarts_of_every_party(here: World, pairs: list[str]) -> None:
    """Server, gateway and PNE are closed and started again on the same stores, again and again, under traffic."""
    await here.start_server()
    gateway = await here.start_gateway(kept=True)
    port = here.pan(gateway)[1]
    proxy = UdpProxy(("127.0.0.1", port))
    here.closes(proxy)
    pne = await here.start_pne("pne-1", proxy.address, timer=2.0, request_timeout=1.0, presence=0.3)
    sent = 0
    for turn in ("none", "pne", "gateway", "server", "gateway", "pne", "server", "all"):
        if turn in ("pne", "all"):
            await here.stop(pne)
        if turn in ("gateway", "all"):
            await here.stop(gateway)
        if turn in ("server", "all"):
            await here.stop(here.server)
            await here.start_server()
        if turn in ("gateway", "all"):
            gateway = await here.start_gateway(kept=True, wait=False)
            proxy.target = here.pan(gateway)
        if turn in ("pne", "all"):
            pne = await here.start_pne("pne-1", proxy.address, timer=2.0, request_timeout=1.0, presence=0.3)
        async with asyncio.timeout(40):
            for _ in range(4):
                sent += 1
                await pne.send(pne.next_reading({"n": sent}))
            await settled(pne)
            await here.server.sending.send(pne.config.pne_id, "inbox", push_of(turn))
    stored = [reading.body for reading in await here.store.readings(0, 100)]
    assert sorted(stored) == sorted(f'{{"n":{n}}}' for n in range(1, sent + 1))
    assert_none_twice(pairs, 2 * sent)


async def test_under_replays_and_repetitions(here: World, pairs: list[str]) -> None:
    """Every datagram comes twice, from the PNE's own address and from another one; all are answered, none twice."""
    await here.start_server()
    gateway = await here.start_gateway()
    proxy = UdpProxy(here.pan(gateway), Losses(3, repeat=1.0, late=0.3))
    here.closes(proxy)
    pne = await here.joined_pne("pne-1", proxy.address)
    raw = await RawUdp.open(here.pan(gateway))
    for number in range(20):
        await pne.send(pne.next_reading({"n": number}))
        await here.server.sending.send(pne.config.pne_id, "inbox", push_of(str(number)))
        for datagram in [one for one in proxy.seen if one.up and Message.decode(one.data).code == POST][-2:]:
            raw.send(datagram.data)
    await until(lambda: len(raw.got) >= 20)
    raw.close()
    assert len(await here.store.readings(0, 100)) == 20
    assert here.inboxes["pne-1"] == [str(number) for number in range(20)]
    assert_none_twice(pairs, 80)


@pytest.mark.parametrize("suite", [1, 2])
async def test_over_sessions_made_anew(here: World, pairs: list[str], suite: int) -> None:
    """The same PNE sets up again and again; uplink too: each session has keys of its own."""
    await here.start_server()
    gateway = await here.start_gateway(suite=suite)
    pne = await here.make_pne("pne-1", gateway, suite=suite)
    for _ in range(12):
        pne.life.happens(Lost())
        await pne.establish()
        await pne.send(pne.next_reading({"n": 1}))
    for _ in range(4):
        gateway.uplink.lost(gateway.uplink.standing.link)
        await until(lambda: gateway.uplink.standing is None)
        await gateway.uplink.wait(40)
        pne.life.happens(Lost())
        await pne.establish()
    assert_none_twice(pairs, 60)


async def test_many_at_once(here: World, pairs: list[str]) -> None:
    """Numbers are drawn without a gap in which another could draw the same."""
    await here.start_server()
    gateway = await here.start_gateway()
    pnes = [await here.joined_pne(f"pne-{number}", gateway) for number in range(4)]

    await asyncio.gather(
        *(pne.send(pne.next_reading({"n": n})) for pne in pnes for n in range(30)),
        *(here.server.sending.send(pne.config.pne_id, "inbox", push_of("x")) for pne in pnes for _ in range(3)),
    )
    assert len(await here.store.readings(0, 1000)) == 120
    assert_none_twice(pairs, 250)


async def test_one_answer_for_each_request(here: World) -> None:
    """The first answer takes the nonce of its request: a second one to the same request has a number of its own."""
    await here.start_server()
    gateway = await here.start_gateway()
    pne = await here.joined_pne("pne-1", gateway)
    session = pne.sessions.with_peer(SERVER)
    assert isinstance(session, Session)
    request, before = RequestId(1, b"aad"), sent(session)
    first, second = (protect_response(session, Message_(0x44), request) for _ in range(2))
    assert (first.value(9), sent(session)) == (b"", before + 1)
    assert second.value(9) == bytes((1, before))


async def test_the_oracle_in_a_process_of_its_own(tmp_path: Path) -> None:
    """It hands its arguments on to the command line and opens its file at once."""
    file = tmp_path / "nonces"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.oracle", str(file), "--", "--help"),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert b"server" in out
    assert file.exists()
