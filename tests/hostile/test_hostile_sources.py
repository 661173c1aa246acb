"""Forged sources: under load a PN GW lets in who shows that it is where it says, and keeps nothing of others."""

import asyncio
import gc
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiocoap import ACK, CON, Message

from cpns.domain.credential import DeviceCredential
from cpns.domain.inventory import Kind
from cpns.gateway.cookies import Asker, Cookies
from cpns.gateway.hop import STRANGERS_RUNS, UNSHOWN_RUNS
from cpns.gateway.queue import MAX_WAITING, UNSHOWN
from cpns.ids import EntityId
from cpns.pne import join
from cpns.transport.errors import UNIFORM_REFUSAL, Code
from cpns.wire import messages as m
from tests.support import forged, versions
from tests.support.forged import Forger, forging
from tests.support.lossy import Datagram, Fates, UdpProxy
from tests.support.siege.attackers import Maker, activate, setup
from tests.support.tap import body_of
from tests.support.world import FAST, SERVER, World, until, world

HALF = MAX_WAITING // 2 + 1
HOW = [
    False,
    pytest.param(True, marks=pytest.mark.skipif(not forged.allowed(), reason="a raw socket takes CAP_NET_RAW")),
]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        await one.start_server()
        yield one


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The IDs of M1s that came with a good cookie."""
    found: list[str] = []
    fits = Cookies.fits

    def noted(self: Cookies, cookie: bytes | None, asker: Asker) -> bool:
        good = fits(self, cookie, asker)
        if good:
            found.append(asker.entity)
        return good

    monkeypatch.setattr(Cookies, "fits", noted)
    return found


async def load(gateway: Any, forger: Forger, count: int = HALF + UNSHOWN) -> None:
    """Fill all places that there are for who shows nothing; they wait until `goes_on`."""
    queue = gateway.pans[0].setup._queue
    queue.next, queue.take_old = lambda: None, list
    for _ in range(count):
        forger.send()
    await until(lambda: len(gateway.pans[0].setup) == count)


def goes_on(gateway: Any) -> None:
    """Let those that wait have their turns."""
    queue = gateway.pans[0].setup._queue
    del queue.next, queue.take_old


async def load_hops(gateway: Any, forger: Forger) -> None:
    """The same for hop sessions; they ask for a proof, and get none."""
    for _ in range(STRANGERS_RUNS // 2 + 1 + UNSHOWN_RUNS):
        forger.send()
    await until(lambda: len(gateway.pans[0].hop) == STRANGERS_RUNS // 2 + 1 + UNSHOWN_RUNS)


@pytest.mark.parametrize("raw", HOW, ids=lambda raw: "raw socket" if raw else "in this process")
async def test_a_new_device_comes_in_under_a_flood(here: World, shown: list[str], raw: bool) -> None:
    gateway = await here.start_gateway()
    with forging(gateway, raw=raw) as forger:
        flood = asyncio.create_task(forger.flood(300.0))
        await until(lambda: len(gateway.pans[0].setup) > HALF)
        pne = await here.joined_pne("ann", gateway, **FAST | {"timer": 10.0})
        await pne.send(pne.next_reading({"n": 1}))
        flood.cancel()
    assert set(shown) <= {"ann"}, "nobody else could"
    assert len(gateway.pans[0].setup) <= MAX_WAITING + 5 * 64


async def test_it_is_let_in_as_it_shows_where_it_is(here: World, shown: list[str]) -> None:
    """No place is left for who does not; nothing is waited for, but an answer that is there at once."""
    gateway = await here.start_gateway()
    with forging(gateway) as forger:
        await load(gateway, forger)
        pne = await here.start_pne("ann", gateway, **FAST | {"timer": 30.0})
        await until(lambda: len(gateway.pans[0].setup) == HALF + UNSHOWN + 1)
        goes_on(gateway)
        await pne.wait_established()
    assert shown == ["ann"]


async def test_without_load_nobody_is_asked(here: World, shown: list[str]) -> None:
    gateway = await here.start_gateway()
    proxy = UdpProxy(here.pan(gateway))
    here.closes(proxy)
    with forging(gateway) as forger:
        await load(gateway, forger, HALF - 1)
        goes_on(gateway)
        await here.joined_pne("ann", proxy.address, **FAST | {"timer": 30.0})
        assert not any(Message.decode(one).opt.echo for host in forger.said for one in forger.answers(host))
    assert shown == []
    assert not any(Message.decode(one.data).opt.echo for one in proxy.seen)


@pytest.mark.parametrize("what", [setup, activate])
async def test_ids_that_are_provisioned_are_answered_as_those_that_are_not(here: World, what: Maker) -> None:
    """Members too, from elsewhere: one answer, of one length, that is shorter than what it answers."""
    gateway = await here.start_gateway(answer_timeout=60.0)
    names = [f"pne-{number}" for number in range(6)]
    for name in names[:4]:
        await here.provision(Kind.PNE, name)
    for name in names[:2]:
        await here.joined_pne(name, gateway, **FAST)
    with forging(gateway, what=what) as forger:
        await (load(gateway, forger) if what is setup else load_hops(gateway, forger))
        asked = {f"127.9.{n}.{host}": (name, n) for n, name in enumerate(names) for host in range(1, 20)}
        sent = [forger.send(name, host) for host, (name, _) in asked.items()]
        await until(lambda: all(forger.answers(host) for host in asked))
        told = {host: Message.decode(said) for host in asked for (said,) in [forger.answers(host)]}
        assert {(int(one.code), one.payload) for one in told.values()} == {(Code.UNAUTHORIZED, UNIFORM_REFUSAL.payload)}
        assert len({one.opt.echo for one in told.values()}) == len(asked)
        assert {len(one.opt.echo) for one in told.values()} == {9}
        assert {len(said) for host in asked for said in forger.answers(host)} == {25}
        assert min(map(len, sent)) > 4 + 25, "and an acknowledgement, if it comes before the answer"


def alive() -> Counter[str]:
    """Count the objects of each class of ours, and tasks, that somebody still holds.

    Left out are what watches in this test, and what the message layer remembers of whoever says anything: 8 MiB, and
    4,096 peers.
    """
    gc.collect()
    names = (f"{type(one).__module__}.{type(one).__name__}" for one in gc.get_objects())
    found = Counter(name for name in names if name.startswith("cpns."))
    remembered = ("coap.mids._Counter", "coap.duplicates._Entry", "coap.duplicates._Share", "transport.datagrams.Ours")
    for name in ("transport.watch.Passed", *remembered):
        del found[f"cpns.{name}"]
    return found + Counter(tasks=len(asyncio.all_tasks()))


@pytest.mark.parametrize("what", [setup, activate])
async def test_nothing_is_kept_of_who_does_not_show_where_it_is(
    here: World, what: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask, and they are answered once."""
    monkeypatch.setattr("cpns.transport.endpoint.MAX_NAMES", 16)  # for who watches
    gateway = await here.start_gateway(answer_timeout=60.0)
    with forging(gateway, what=what) as forger:

        async def more(count: int) -> Counter[str]:
            first = forger.sent
            for _ in range(count):
                forger.send()
            hosts = [forged.source(number) for number in range(first + 1, forger.sent + 1)]
            await until(lambda: all(forger.answers(host) for host in hosts))
            assert {len(forger.answers(host)) for host in hosts} == {1}

            await asyncio.sleep(0.3)  # longer than an acknowledgement waits for its answer
            return alive()

        await (load(gateway, forger) if what is setup else load_hops(gateway, forger))
        before = await more(50)
        after = await more(500)
    assert not {name: more for name, more in (after - before).items() if more > 50}


class Liar:
    """Answers each M1 that passes with Echoes of its own, before the PN GW does."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.m1s: dict[bytes, list[bytes | None]] = {}
        self.forged: list[bytes] = []
        self.proxy: UdpProxy | None = None

    def __call__(self, datagram: Datagram) -> Fates:
        message = Message.decode(datagram.data)
        body = body_of(message.payload)
        if not datagram.up or not isinstance(body, m.SetupRequest | m.ActivateRequest):
            return [(0.0, datagram.data)]
        first = body.rand not in self.m1s
        self.m1s.setdefault(body.rand, []).append(message.opt.echo)
        if first:
            for number in range(self.count):
                lie = Message(code=Code.UNAUTHORIZED, payload=UNIFORM_REFUSAL.payload, _mtype=ACK, _mid=message.mid)
                lie.token = message.token
                lie.opt.echo = bytes([number]) * 9
                self.forged.append(lie.opt.echo)
                assert self.proxy is not None
                self.proxy.send(datagram.pne, False, lie.encode())
        return [(0.2, datagram.data)]


@pytest.mark.parametrize("lies", [1, 3, 50])
async def test_an_echo_that_another_asks_for_ends_nothing(here: World, lies: int) -> None:
    """The M1 goes out three times more, as a message of its own, and the run goes on; the hop's likewise."""
    gateway = await here.start_gateway()
    liar = Liar(lies)
    proxy = liar.proxy = UdpProxy(here.pan(gateway), liar)
    here.closes(proxy)
    pne = await here.joined_pne("ann", proxy.address, **FAST | {"timer": 20.0})
    await pne.send(pne.next_reading({"n": 1}))
    assert len(liar.m1s) == 2, "one SETUP, and one ACTIVATE"
    for echoes in liar.m1s.values():
        known = [echo for echo in echoes if echo is not None]
        assert set(known) == set(liar.forged[: min(lies, join.ECHOES)])
        assert None in echoes


async def test_a_refusal_without_an_echo_is_not_followed(here: World) -> None:
    """A 4.01 that any peer may send, as before: dropped, and nothing is sent again."""
    gateway = await here.start_gateway()
    sent: list[bytes] = []

    def refused(datagram: Datagram) -> Fates:
        message = Message.decode(datagram.data)
        if datagram.up and isinstance(body_of(message.payload), m.SetupRequest):
            sent.append(datagram.data)
            lie = Message(code=Code.UNAUTHORIZED, payload=UNIFORM_REFUSAL.payload, _mtype=CON, _mid=7)
            lie.token = message.token
            proxy.send(datagram.pne, False, lie.encode())
        return [(0.0, datagram.data)]

    proxy = UdpProxy(here.pan(gateway), refused)
    here.closes(proxy)
    await here.joined_pne("ann", proxy.address, **FAST | {"timer": 20.0})
    assert len(set(sent)) == 1


async def test_a_device_that_knows_no_echo_has_a_place(
    here: World, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(join, "ECHOES", 0)
    gateway = await here.start_gateway()
    with forging(gateway) as forger:
        await load(gateway, forger, HALF)
        pne = await here.start_pne("ann", gateway, **FAST | {"timer": 30.0})
        await until(lambda: len(gateway.pans[0].setup) == HALF + 1)
        goes_on(gateway)
        await pne.wait_established()
    assert shown == []


@pytest.mark.skipif(not versions.in_history(), reason=versions.ABSENT)
async def test_a_device_of_the_version_before_comes_in_under_a_flood(here: World, tmp_path: Path) -> None:
    """It takes what it is told for a lie, and tries again: sometimes one of the places for such as it is free."""
    gateway = await here.start_gateway()
    credential = tmp_path / "ann.key"
    line = DeviceCredential(Kind.PNE, EntityId("ann"), SERVER, await here.provision(Kind.PNE, "ann")).line()
    credential.touch(mode=0o600)
    credential.write_text(line.reveal().decode())
    old = await asyncio.to_thread(versions.before)
    with forging(gateway) as forger:
        flood = asyncio.create_task(forger.flood(100.0))
        await until(lambda: len(gateway.pans[0].setup) > HALF)
        pan = "{}:{}".format(*here.pan(gateway))
        process = old.start(
            "pne", "run", "--key", str(credential), "--gateway", pan, "--timer", "4", "--output", "json"
        )
        try:
            await until(lambda: any('"established"' in line for line in process.out), 120.0)
        finally:
            process.end(signal.SIGKILL)
            flood.cancel()


@pytest.mark.parametrize("moved", [False, True])
async def test_a_member_elsewhere_shows_where_it_is_for_its_hop(here: World, shown: list[str], moved: bool) -> None:
    """At its own address it has places of its own; a NAT gives it another one, and there it is a stranger."""
    gateway = await here.start_gateway(answer_timeout=60.0)
    proxy = UdpProxy(here.pan(gateway))
    here.closes(proxy)
    pne = await here.joined_pne("ann", proxy.address, **FAST | {"presence": 600.0})
    hops = gateway.pans[0].hops
    with forging(gateway, what=activate) as forger:
        await load_hops(gateway, forger)
        if moved:
            proxy.rebind()
        hops.remove(hops.with_peer(EntityId("ann")))
        await pne.present_again()
    assert shown == ["ann"] * moved
    assert hops.with_peer(EntityId("ann")).confirmed
