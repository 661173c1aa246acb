"""A PAN that loses, repeats, delays and damages datagrams as a seed says, over real sockets (`tests.support.lossy`).

Every run ends either established, with the same keys at all ends, or failed, with nothing left half open.
"""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiocoap import CON, Message

from cpns.coap.datagram import empty
from cpns.coap.datagram import head as datagram_head
from cpns.coap.numbers import Type
from cpns.errors import NoAnswer, Refused
from cpns.gateway.app import Gateway
from cpns.ids import EntityId
from cpns.pne import staying
from cpns.pne.app import Pne
from cpns.server.app import Server
from cpns.session.table import Sessions
from cpns.transport import pan
from tests.support.lossy import Datagram, Fates, Losses, UdpProxy, honest
from tests.support.raw import Scripted, ask
from tests.support.world import SERVER, until, world

GATEWAY = EntityId("gw-1")
HALF_OPEN = 2.0
SETTINGS: dict[str, dict[str, float]] = {
    "20 % lost": {"drop": 0.2},
    "half lost": {"drop": 0.5},
    "repeated": {"repeat": 0.6, "late": 0.5},
    "late": {"late": 0.7, "longest": 0.4},
    "damaged": {"flip": 0.25},
    "all of it": {"drop": 0.15, "repeat": 0.3, "late": 0.3, "flip": 0.1},
}
SEEDS = (1, 2, 3)


async def attempt(pne: Pne) -> bool:
    """Let *pne* try to join once; return whether it says that it has."""
    try:
        await pne.establish()
    except Refused:
        return False
    return True


def assert_same_keys(server: Server, gateway: Gateway, pne: Pne) -> None:
    name = pne.config.pne_id
    mine, theirs = pne.sessions.with_peer(SERVER), server.sessions.with_peer(name)
    assert mine is not None
    assert theirs is not None
    assert mine.keys.exporter() == theirs.keys.exporter()
    assert (mine.own_kid, mine.peer_kid) == (theirs.peer_kid, theirs.own_kid)
    joined, held = pne.joined, gateway.members.get(name)
    assert joined is not None
    assert held is not None
    assert joined.local_eukey is not None
    assert (joined.local_eukey, joined.session.th0, joined.pn_id) == (held.local_eukey, held.th0, held.pn_id)
    hop, other = pne.sessions.with_peer(GATEWAY), gateway.pans[0].hops.with_peer(name)
    assert hop is not None
    assert other is not None
    assert hop.keys.th2 == other.keys.th2
    assert hop.keys.oscore_master_secret() == other.keys.oscore_master_secret()


def nothing_pending(server: Server, gateway: Gateway, pnes: list[Pne]) -> bool:
    """Whether all runs have ended; a late datagram begins one anew, which then ends too."""
    pan = gateway.pans[0]
    reserved = (server.sessions._reserved, pan.hops._reserved, *(pne.sessions._reserved for pne in pnes))
    runs = (server.access.admission.under_way, len(pan.setup), len(pan.hop))
    own = [run for pne in pnes for run in (pne._join._setup, pne._join._hop) if run is not None]
    return not any(reserved) and not any(runs) and not own


def nothing_half_open(sessions: Sessions, name: EntityId) -> bool:
    session = sessions.with_peer(name)
    return session is None or session.confirmed


async def one_seed(folder: Path, seed: int, losses: dict[str, float], pnes: int) -> int:
    """Let *pnes* PNEs try once each; check both outcomes; return how many joined."""
    folder.mkdir()
    async with world(folder) as here:
        server = await here.start_server(half_open=HALF_OPEN, answer_timeout=2.5)
        gateway = await here.start_gateway(half_open=HALF_OPEN, answer_timeout=1.5)
        proxy = UdpProxy(here.pan(gateway), Losses(seed, **losses))
        here.closes(proxy)
        made = [
            await here.make_pne(f"pne-{number}", proxy.address, timer=2.0, request_timeout=1.0)
            for number in range(pnes)
        ]
        joined = dict(zip(made, await asyncio.gather(*map(attempt, made)), strict=True))
        for pne, stands in joined.items():
            if stands:
                assert_same_keys(server, gateway, pne)
        await until(lambda: not len(gateway.pans[0].hop) and not len(gateway.pans[0].setup))
        for pne in (pne for pne, stands in joined.items() if not stands):
            name = pne.config.pne_id
            for table, peer in ((server.sessions, SERVER), (gateway.pans[0].hops, GATEWAY)):
                await until(partial(nothing_half_open, table, name))
                left, mine = table.with_peer(name), pne.sessions.with_peer(peer)
                if left is not None:  # only an answer was lost: both ends hold the same
                    assert mine is not None
                    assert left.keys.th2 == mine.keys.th2
        await until(lambda: nothing_pending(server, gateway, made))
        return sum(joined.values())


@pytest.mark.req("AUTH-P7", "AUTH-S3")
@pytest.mark.parametrize("setting", SETTINGS)
async def test_established_at_both_ends_or_at_none(tmp_path: Path, setting: str) -> None:
    """Of the 15 that try at least one gets in, else others try: a tenth of them do where the most is damaged."""
    joined = 0
    for number in range(10):
        seeds = [10 * number + seed for seed in SEEDS]
        runs = (one_seed(tmp_path / str(seed), seed, SETTINGS[setting], 5) for seed in seeds)
        joined += sum(await asyncio.gather(*runs))
        if joined or setting == "half lost":
            break
    assert joined or setting == "half lost"


def stands(pne: Pne) -> bool:
    return pne.life.stands is not None and len(pne.sessions) == 2


@pytest.mark.parametrize(
    ("seed", "losses"),
    [(11, {"drop": 0.2}), (12, {"drop": 0.2, "repeat": 0.2, "late": 0.2}), (13, {"drop": 0.1, "flip": 0.04})],
    ids=["lost", "lost, repeated, late", "lost, damaged"],
)
async def test_all_get_through_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, losses: dict[str, Any]
) -> None:
    """With a fifth of all datagrams lost every PNE is established, and every reading is stored exactly once."""
    monkeypatch.setattr(staying, "BACKOFF", (0.2, 1.0))
    async with world(tmp_path) as here:
        server = await here.start_server(half_open=10.0, answer_timeout=3.5)
        gateway = await here.start_gateway(half_open=10.0, answer_timeout=2.0)
        proxy = UdpProxy(here.pan(gateway), Losses(seed, **losses))
        here.closes(proxy)
        options = {"timer": 3.0, "request_timeout": 3.0}
        pnes = [await here.start_pne(f"pne-{number}", proxy.address, **options) for number in range(5)]
        async with asyncio.timeout(200):
            for pne in pnes:
                await pne.wait_established()
            await asyncio.gather(*(pne.send(pne.next_reading({"n": n})) for pne in pnes for n in range(10)))
        stored = [(reading.pne_id, reading.body) for reading in await here.store.readings(0, 1000)]
        expected = {(f"pne-{number}", f'{{"n":{n}}}') for number in range(5) for n in range(10)}
        assert len(stored) == len(expected) == 50
        assert set(stored) == expected
        proxy.policy = honest
        for pne in pnes:
            await pne.send(pne.next_reading({"last": True}))
            await until(partial(stands, pne))
            assert_same_keys(server, gateway, pne)


async def test_the_same_seed_gives_the_same_fates() -> None:
    def fates(seed: int) -> list[Any]:
        policy = Losses(seed, drop=0.2, repeat=0.3, late=0.3, flip=0.2)
        return [policy(Datagram(("127.0.0.1", 1), True, bytes(range(number, number + 20)))) for number in range(99)]

    assert fates(5) == fates(5)
    assert fates(5) != fates(6)
    assert {len(fate) for fate in fates(5)} == {0, 1, 2}


async def test_what_nobody_waits_for_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time a request is sent no more, and holds up none behind it, though the peer never acknowledged it."""
    monkeypatch.setattr(pan, "PAN_TUNING", replace(pan.PAN_TUNING, ack_timeout=1.5))  # longer than anybody here waits
    async with world(tmp_path) as here:
        peer, sink = Scripted("pne-1"), UdpProxy(("127.0.0.1", 9))
        here.closes(peer)
        here.closes(sink)
        link = await peer.link(sink.address)
        for number in range(5):
            with pytest.raises(NoAnswer):
                await ask(link, b"%d" % number, path="x", seconds=0.05)
        assert [Message.decode(one.data).payload for one in sink.seen] == [b"0", b"1", b"2", b"3", b"4"]
        await asyncio.gather(  # the second waits in line behind the first, and is withdrawn there
            ask(link, b"first", path="x", seconds=0.3),
            ask(link, b"second", path="x", seconds=0.1),
            return_exceptions=True,
        )
        with pytest.raises(NoAnswer):
            await ask(link, b"third", path="x", seconds=0.05)
        await asyncio.sleep(1.5 * 1.5 + 0.5)
        assert [Message.decode(one.data).payload for one in sink.seen[5:]] == [b"first", b"third"]


async def test_a_forged_reset_ends_nothing(tmp_path: Path) -> None:
    """Whoever hears a message on the PAN can reset it in its receiver's name, before that one says a word."""
    async with world(tmp_path) as here:
        await here.start_server()
        gateway = await here.start_gateway()

        def resets(datagram: Datagram) -> Fates:
            head = datagram_head(datagram.data)
            if head is not None and head.type is Type.CON:
                proxy.send(datagram.pne, not datagram.up, empty(Type.RST, head.mid))
            return honest(datagram)

        proxy = UdpProxy(here.pan(gateway), resets)
        here.closes(proxy)
        pne = await here.make_pne("pne-1", proxy.address)
        assert await attempt(pne)
        await pne.send(pne.next_reading({"goes": "on"}))
        sent = [Message.decode(one.data) for one in proxy.seen]
        assert {one.up for one in proxy.seen} == {True, False}
        assert sum(one.mtype is CON for one in sent) >= 4  # M1 and its answers, and the reading
