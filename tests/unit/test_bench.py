"""What of the measurements needs neither peers nor minutes: counting, gathering, tables, plots, absent peers."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import processes, report, scale, versus
from bench.cpu import Others
from bench.load import SERVER_CPU
from bench.peers import __main__ as peers
from bench.peers import edhoc, oscore, relay
from bench.peers.peer import Absent, Cost, Measure, Peer, charged, environment, free_port, need, run, serving
from bench.postgres import POSTGRES_CPU
from bench.server_process import Provisioning
from bench.wire import Gate
from cpns.crypto.secret import Secret
from cpns.domain.inventory import Kind
from cpns.service.system import random_bytes
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault

PRESENT = peers.HANDSHAKES[0]


def measured() -> peers.Measured:
    """Return what two turns might give, with one peer."""
    found = peers.Measured(yardsticks=[0.75], others=Others(wall_s=1.0))
    for shape in peers.SHAPES:
        found.cpns[shape] = [Cost(200.0, 250.0, 2), Cost(100.0, 250.0, 2)]
        found.floor[shape] = [75.0, 75.0]
    found.peers[PRESENT] = [Cost(300.0, 861.0, 3), Cost(300.0, 861.0, 3)]
    found.readings = [Cost(150.0, 100.0, 1)]
    return found


def test_rows_tell_median_range_ratio_and_a_fleet() -> None:
    by_name = {row[0]: row[1:] for row in peers.rows(measured())}
    assert by_name["cpns, suite 2, 64 in a batch"] == ["yes", "150 (100-200)", "1.0", "250", "2", "2"]
    assert by_name["cpns, suite 1, 8 in a batch"] == ["no", "150 (100-200)", "1.0", "250", "2", "16"]
    assert by_name[PRESENT.name] == ["no", "300 (300-300)", "2.0", "861", "3", "192"]
    assert all(len(row) + 1 == len(peers.HEAD) for row in by_name.values())
    assert peers.exchange_rows(measured()) == [["cpns, a reading, committed", "150 (150-150)", "100"]]


async def test_an_absent_peer_is_left_out_with_a_word(tmp_path: Path) -> None:
    tried = []

    @contextlib.asynccontextmanager
    async def start(folder: Path) -> AsyncIterator[Measure]:
        tried.append(folder)
        need("a-package", "no-such-program")
        yield lambda count: asyncio.sleep(0, Cost(0, 0, 0))

    found, peer = measured(), Peer("nobody", forward_secret=False, start=start)
    for _ in range(2):
        await peers._peer(peer, tmp_path, 32, found)
    assert len(tried) == 1
    assert peer not in found.peers
    assert peers.absences(found) == "Left out: nobody (no-such-program not found; on Debian: apt install a-package)."
    assert list(tmp_path.iterdir()) == []


async def test_without_lakers_two_peers_are_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (edhoc, oscore):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
        for peer in module.PEERS:
            with pytest.raises(Absent, match="pip install lakers-python"):
                async with peer.start(tmp_path):
                    pass


async def test_a_gate_waits_for_all_that_have_something_to_say() -> None:
    gate, sent = Gate(60.0), list[int]()
    gate.level = 3
    for number in (1, 2):
        gate.hold(partial(sent.append, number))
    assert sent == []
    gate.leave()  # the third has no more to say
    assert sent == [1, 2]


ECHO = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    data, client = server.recvfrom(100)
    server.sendto(data * 2, client)
"""
ASK = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(("127.0.0.1", int(sys.argv[1])))
client.send(b"abc")
sys.exit(client.recv(100) != b"abcabc")
"""


async def test_a_server_is_charged_and_stopped_and_what_passes_is_counted(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    async with serving(tmp_path, port, sys.executable, "-c", ECHO, str(port)) as pid, relay.udp(port) as between:

        async def client() -> None:
            await run(sys.executable, "-c", ASK, str(between.port), env=environment(), cwd=tmp_path)

        cost = await charged(pid, between, 2, [[client(), client()]])
    assert cost.server_cpu_us > 0
    assert (cost.bytes, cost.round_trips) == (9, 1)
    assert not Path(f"/proc/{pid}").exists()


async def test_a_server_that_ends_by_itself_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="bad luck"):
        async with serving(tmp_path, 1, sys.executable, "-c", "raise SystemExit('bad luck')"):
            pass


async def test_pnes_with_a_key_lie_scattered_among_those_registered(tmp_path: Path) -> None:
    store = ServerStore.open(tmp_path / "server.db")
    provisioning = Provisioning(store, FileVault(Secret(random_bytes(32)), random_bytes))
    await provisioning.add(gateways=1, pnes=3, registered=10)
    assert [entity.entity_id for entity in await store.entities(Kind.PNE)] == [f"pne-{n:05}" for n in range(10)]
    assert list(provisioning.keys) == ["gw-00000", "pne-00000", "pne-00003", "pne-00006"]
    await store.close()


def test_scale_is_told_against_the_fewest() -> None:
    found = scale.Measured(cpu_us={"SQLite": {64: {1000: [100.0], 2000: [150.0]}, 1: {1000: [400.0], 2000: [400.0]}}})
    assert scale.rows(found) == [
        ["SQLite", "1,000", "100 (100-100)", "1.00", "400 (400-400)", "1.00"],
        ["SQLite", "2,000", "150 (150-150)", "1.50", "400 (400-400)", "1.00"],
    ]
    assert len(scale.rows(found)[0]) == len(scale.HEAD)
    assert scale.USED <= min(scale.FULL.registered)
    assert (1 + scale.FULL.turns) * sum(shape.pnes for shape in scale.SHAPES) <= scale.USED


def test_processes_are_told_against_one_without_nats() -> None:
    found = processes.Measured()
    for row in processes.ROWS:
        roles = {SERVER_CPU: 100.0 * row.processes, POSTGRES_CPU: 40.0} | (
            {processes.NATS_CPU: 3.0} if row.nats else {}
        )
        found.turns[row] = [dict.fromkeys(processes.WHAT, roles)]
    told = {tuple(line[:2]): line[2:] for line in processes.rows(found)}
    assert told["reading", "1, without NATS"] == ["100 (100-100)", "1.00", "40 (40-40)", "-"]
    assert told["reading", "4"] == ["400 (400-400)", "4.00", "40 (40-40)", "3 (3-3)"]
    assert told["reading", "1, 1/4 of the load"][1] == "1.00"
    assert [key[1] for key in told if key[0] == processes.AT_REST] == ["1, without NATS", "1", "2", "4"]
    assert all(len(line) == len(processes.HEAD) for line in processes.rows(found))
    assert ElementTree.fromstring(processes.drawing(found)).tag.endswith("svg")
    for row in processes.ROWS:
        for shape in processes.SHAPES:
            assert shape.gateways % (row.processes * row.parts) == 0


def test_bars_are_well_formed_and_within_their_frame() -> None:
    root = ElementTree.fromstring(peers.drawing(measured()))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    places = [(float(one.attrib["x"]), float(one.attrib["y"])) for one in root if "x" in one.attrib]
    assert len(places) > 4
    assert all(0 <= x <= width and 0 <= y <= height for x, y in places)


def test_a_block_of_the_page_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\nold\n<!-- end -->\nb\n<!-- two -->\n<!-- end -->\n")
    report.put(page, "one", report.table(["x"], [["1"]]))
    assert page.read_text().startswith("a\n<!-- one -->\n| x |\n| --- |\n| 1 |\n<!-- end -->\nb\n<!-- two -->")
    with pytest.raises(ValueError, match="three"):
        report.put(page, "three", "")


def test_what_costs_more_than_was_wanted_is_named() -> None:
    table = {versus.READING: [(100.0, 60.0), (200.0, 150.0), (100.0, 69.0)], "a PNE": [(300.0, 330.0)]}
    reading, pne = versus.rows(table, "us")
    assert reading == ["a reading, us", "100 (100-200)", "69 (60-150)", "0.69 (0.60-0.75)", "yes (at most 0.70)"]
    assert pne[3:] == ["1.10 (1.10-1.10)", "NO (at most 1.05)"]
