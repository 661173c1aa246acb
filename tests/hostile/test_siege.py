"""The siege in short: under each attack newcomers still come in, and established devices go on.

``make siege`` measures how fast; here is shown that it comes about at all, on whatever machine runs the tests.
"""

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from unittest.mock import Mock

import pytest

from cpns.crypto.secret import Secret
from tests.support.siege import uniform
from tests.support.siege.attackers import CSM, DRIP, Attack, run
from tests.support.siege.measure import HOME, NEXT_DOOR, Siege, worst
from tests.support.siege.rows import rows
from tests.support.siege.site import besieged
from tests.support.world import until

SECONDS = 2.0
PATIENCE = 40.0
ATTACKS = [
    "uplink: activate of new IDs, 100/s, one port",
    "uplink: activate of new IDs, 1000/s, 200 hosts",
    "PAN: setup of one ID, 100/s, 1,000 ports",
    "PAN: activate of one ID, 1000/s, one port",
    "gateway: SETUP of 64, never answered, 60/s",
]


@pytest.mark.long
async def test_newcomers_come_in_and_the_others_go_on(tmp_path: Path) -> None:
    async with besieged(tmp_path, 40 * len(ATTACKS)) as site:
        siege = Siege(site)
        for row in (one for one in rows() if one.title in ATTACKS):
            noticed = await siege.measure(row.attacks(site, SECONDS + PATIENCE), SECONDS, PATIENCE)
            for newcomers in (noticed.elsewhere, noticed.here, noticed.gateways, noticed.slow):
                assert worst(newcomers) < PATIENCE, row.title
            assert len(noticed.readings[HOME]) > 3, row.title
            assert len(noticed.readings[NEXT_DOOR]) > 3, row.title


async def test_refusals_are_compared_by_their_time() -> None:
    """Each kind with each other, after M1 and after M3; how well they can be told apart is for `make siege` to say."""
    found = await uniform.measure(3)
    assert len(found) == 3 * 2 + 6 * 2 + 3
    assert all(0.0 <= auc <= 1.0 for _, _, auc in found)


def test_the_attacks_are_rows_of_the_table() -> None:
    assert {one.title for one in rows()} >= set(ATTACKS)


def test_each_row_has_a_title_of_its_own_and_an_attack() -> None:
    every = rows(forged=True, connections=True)
    assert len({one.title for one in every}) == len(every)
    site = Mock(pans=dict.fromkeys(("home", "next-door", "evil"), ("127.0.0.1", 1)), uplink=("127.0.0.1", 2))
    site.keys = {"mallory": Secret(bytes(32)), "evil-2": Secret(bytes(32))}
    assert all(one.attacks(site, 1.0) for one in every)


@pytest.mark.skipif(os.geteuid() != 0, reason="a raw socket takes root")
async def test_forged_sources_are_what_the_other_end_sees() -> None:
    """On the loopback, where the kernel lets us."""
    seen = socket.socket(type=socket.SOCK_DGRAM)
    seen.bind(("127.0.0.1", 0))
    seen.settimeout(10.0)
    attack = Attack("discovery", seen.getsockname(), "stranger", 1000.0, 0.05, forged=True)
    with contextlib.closing(seen):
        await run(attack)
        sources = [seen.recvfrom(2000) for _ in range(10)]
    assert all(data.startswith(b"\x44\x02") for data, _ in sources)
    assert {source[0].split(".")[0] for _, source in sources} == {"198"}
    assert len({source for _, source in sources}) == len(sources)


async def test_a_byte_at_a_time_is_what_each_connection_says() -> None:
    """Ten connections that have their turn thirty times in a second."""
    said: list[int] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            said.append(len(await reader.read()))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        await run(Attack(DRIP, server.sockets[0].getsockname(), "", 100.0, 0.3, ports=10, tcp=True))
        await until(lambda: len(said) == 10)
    assert 10 <= sum(said) - 10 * len(CSM) <= 40
