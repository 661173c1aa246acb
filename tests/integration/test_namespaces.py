"""Two gateways and ten PNEs over links that lose a tenth and take their time: a gateway cut off, the server restarted.

Once with processes in network namespaces, where the machine allows them, and once in this process on lossy test links.
"""

import asyncio
import csv
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cpns.ids import EntityId
from cpns.pne.app import Pne
from tests.support.lossy import Datagram, Fates, Losses, UdpProxy
from tests.support.namespaces import DELAY, LOSS, End, Net, allowed, net, shaping
from tests.support.parties import Parties, Process, until
from tests.support.soak import SOAK
from tests.support.tap import TcpTap
from tests.support.world import World, world
from tests.support.world import until as holds

GATEWAYS = ("gw-1", "gw-2")
PNES = tuple(f"pne-{number}" for number in range(10))
FIRST = PNES[::2]
"""Those that prefer gw-1; the others prefer gw-2."""
TIMER, REQUEST_TIMEOUT, PRESENCE = 8.0, 4.0, 2.0
"""Of the PNEs. In 4 s a datagram is sent four times: with fewer, PNEs would often take loss for a lost gateway."""
PATIENCE = 90.0

Acknowledged = dict[str, list[int]]


def nothing_lost(acknowledged: Acknowledged, stored: Iterable[tuple[str, int]]) -> None:
    """What a PNE holds for acknowledged is stored, and nothing is stored twice."""
    counts = Counter(stored)
    lost = [(pne, n) for pne, numbers in acknowledged.items() for n in numbers if (pne, n) not in counts]
    assert not lost, f"acknowledged, and not stored: {lost}"
    assert set(counts.values()) == {1}, f"stored twice: {counts.most_common(3)}"
    for pne, numbers in acknowledged.items():
        assert len(set(numbers)) == len(numbers), f"acknowledged twice to {pne}"


# In namespaces


class Device:
    """A PNE's process, which gets its next numbered reading when the one before is acknowledged."""

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process
        self.given = 0
        self.acknowledged: list[int] = []
        self.gateways: list[str] = []
        self.fastest = PATIENCE
        self._given_at = 0.0
        self._read = 0

    def feed(self) -> None:
        """Read what it printed, and give it the next line if it has none."""
        lines = self.process.out[self._read :]
        self._read += len(lines)
        for event in map(json.loads, lines):
            if event["event"] == "established":
                self.gateways.append(event["gateway"])
            elif event["event"] == "acknowledged":
                self.acknowledged.append(event["body"]["n"])
                self.fastest = min(self.fastest, time.monotonic() - self._given_at)
        if len(self.acknowledged) == self.given:
            self.given += 1
            self._given_at = time.monotonic()
            self.process.write(json.dumps({"n": self.given}))


class Place(Parties):
    """The parties of the story, each a process on a host of its own.

    ::

        pne-0   ...   pne-9         10.213.0.10 to .19; each link shaped
            \\    |    /
            [  pan  ]               a switch
            /        \\
         gw-1        gw-2           10.213.0.1, .2
            \\        /              each link shaped: 10.213.1.1 to .254, 10.213.2.1 to .254
              server
    """

    def __init__(self, folder: Path, net: Net) -> None:
        super().__init__(folder)
        self._net = net
        self.devices: list[Device] = []
        self._stop = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        net.host("server")
        net.switch("pan")
        for number, name in enumerate(GATEWAYS, 1):
            net.host(name)
            net.link(End("pan", name), End(name, "pan", f"10.213.0.{number}/24"), shaped=False)
            server = End("server", name, f"10.213.{number}.254/24")
            net.link(server, End(name, "uplink", f"10.213.{number}.1/24"), shaped=True)
        for number, name in enumerate(PNES, 10):
            net.host(name)
            net.link(End("pan", name), End(name, "pan", f"10.213.0.{number}/24"), shaped=True)

    def cut(self, gateway: str, away: bool = True) -> None:
        """Cut both links of a gateway at their far ends, or (False) mend them."""
        for host in ("pan", "server"):
            self._net.cut(End(host, gateway), away)

    def provision_all(self) -> None:
        """Make the server's folder and all credentials."""
        self.provision()
        self.call("gateway", "add", "gw-2", "--data", self.path("server"), "--out", self.path("gw-2.key"))
        (self.folder / "pnes.csv").write_text("\n".join(("id", *PNES)))
        imported = ("--data", self.path("server"), "--out", self.path("credentials.csv"))
        self.call("device", "import", self.path("pnes.csv"), *imported)
        with (self.folder / "credentials.csv").open() as file:
            for row in csv.DictReader(file):
                key = os.open(self.folder / f"{row['id']}.key", os.O_WRONLY | os.O_CREAT, 0o600)
                with open(key, "w") as private:
                    private.write(row["credential"])

    def on(self, host: str, *arguments: str) -> Process:
        """Start ``cpns ARGUMENTS`` on a host."""
        process = Process([sys.executable, "-m", "cpns", *arguments], {}, namespace=self._net.name(host))
        self.all.append(process)
        return process

    def server(self) -> Process:
        one = self.on("server", "server", "run", "--data", self.path("server"), "--listen", "0.0.0.0:5683")
        one.wait_line("listening at")
        return one

    def gateway_on(self, number: int, name: str) -> Process:
        """Start a gateway."""
        key, data = self.path(f"{name}.key"), self.path(name)
        return self.on(
            *(name, "gateway", "run", "--key", key, "--server", f"10.213.{number}.254:5683", "--data", data),
            *("--pan", f"10.213.0.{number}:5683", "--no-announce", "--keepalive", "5"),
        )

    def device(self, name: str) -> None:
        """Start a PNE, and feed it."""
        ways = ["--gateway", "10.213.0.1:5683", "--gateway", "10.213.0.2:5683"]
        if name not in FIRST:
            ways = ways[2:] + ways[:2]
        key = self.path(f"{name}.key")
        process = self.on(
            *(name, "pne", "run", "--key", key, *ways, "--source", "-", "--output", "json"),
            *("--timer", str(TIMER), "--request-timeout", str(REQUEST_TIMEOUT), "--presence", str(PRESENCE)),
        )
        self.devices.append(Device(name, process))

    def start_feeding(self) -> None:
        """Keep all PNEs busy until `stop_feeding`."""
        self._feeder.start()

    def _feed(self) -> None:
        while not self._stop.wait(0.02):
            for device in self.devices:
                device.feed()

    def stop_feeding(self) -> Acknowledged:
        """Give them no more; return what they hold for acknowledged."""
        self._stop.set()
        if self._feeder.ident:
            self._feeder.join()
        return {device.name: list(device.acknowledged) for device in self.devices}

    def recover(self, begun: float, event: str) -> None:
        """Wait until each PNE has an acknowledgement of a reading that it got only now; print the seconds since."""
        marks = [(device, device.given) for device in self.devices]

        def late() -> list[Device]:
            return [device for device, mark in marks if not any(n > mark for n in device.acknowledged[-1:])]

        try:
            until(lambda: not late(), event, PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}: {[(one.name, one.process.err[-4:]) for one in late()]}") from None
        print(f"{event}: new readings of all {len(marks)} PNEs acknowledged after {time.monotonic() - begun:.1f} s")

    def connected(self, what: str) -> dict[str, bool]:
        """Return what the server says of its gateways or devices."""
        listed = json.loads(self.call(what, "list", "--data", self.path("server"), "--output", "json"))
        return {one["id"]: one["connected"] is True for one in listed["items"]}

    def close(self) -> None:
        self.stop_feeding()
        super().close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    if not allowed():
        pytest.skip("takes root, ip, and netem or /dev/net/tun, in network namespaces of our own")
    with net(shaping()) as links:
        one = Place(tmp_path, links)
        try:
            yield one
        finally:
            one.close()


def start_all(place: Place) -> tuple[Process, Process]:
    """Start everybody, feed the PNEs until all have an acknowledgement; return the server and gw-1."""
    print(f"\nlinks shaped by {shaping()}: {LOSS:.0%} loss and {DELAY:.1f} s each way")
    place.provision_all()
    server = place.server()
    gateways = {name: place.gateway_on(number, name) for number, name in enumerate(GATEWAYS, 1)}
    for name, gateway in gateways.items():
        gateway.wait_line(f"{name} at")
    begun = time.monotonic()
    for name in PNES:
        place.device(name)
    place.start_feeding()
    place.recover(begun, "start of all PNEs")
    return server, gateways["gw-1"]


def lose_gateway(place: Place) -> None:
    """Cut gw-1 off until all are at gw-2."""
    place.cut("gw-1")
    begun = time.monotonic()
    until(lambda: all(device.gateways for device in place.devices), "all have said where they are", PATIENCE)
    behind = [device for device in place.devices if device.gateways[-1] == "gw-1"]
    assert behind, "nobody chose gw-1"
    until(lambda: all(device.gateways[-1] == "gw-2" for device in behind), "all at gw-2", PATIENCE)
    place.recover(begun, f"gw-1 cut off ({len(behind)} PNEs behind it)")


def mend_gateway(place: Place, said: Callable[[str], bool]) -> None:
    """Mend the links of gw-1, which has *said* things since they were cut."""
    until(lambda: said("no uplink to"), "gw-1 sees that its uplink is gone", PATIENCE)
    place.cut("gw-1", False)
    begun = time.monotonic()
    until(lambda: said("stands"), "gw-1 back", PATIENCE)
    print(f"gw-1 mended: its uplink stands after {time.monotonic() - begun:.1f} s")


def kill_server(place: Place, server: Process) -> None:
    """Kill the server and start it again, until all are connected."""
    server.end(signal.SIGKILL)
    begun = time.monotonic()
    place.server()
    place.recover(begun, "server killed and started")
    until(lambda: all(place.connected("gateway").values()), "both gateways connected", PATIENCE)
    until(lambda: place.connected("device") == dict.fromkeys(PNES, True), "all PNEs connected", PATIENCE)


@pytest.mark.long
@pytest.mark.soak
@pytest.mark.req("FN-1", "FN-8")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lost", ["gateway", "server", *(["gateway, mended, and server"] if SOAK else [])])
def test_a_lost_gateway_and_a_killed_server_in_namespaces(place: Place, lost: str) -> None:
    """In `make soak` one after the other; so it is below, where time is virtual."""
    server, gateway = start_all(place)
    before = len(gateway.err)
    if "gateway" in lost:
        lose_gateway(place)
    if "mended" in lost:
        mend_gateway(place, lambda what: any(what in line for line in gateway.err[before:]))
    if "server" in lost:
        kill_server(place, server)
    acknowledged = place.stop_feeding()
    rows = place.readings()
    nothing_lost(acknowledged, [(row["device"], row["body"]["n"]) for row in rows])
    assert {row["verified"] for row in rows} == {"e2e"}
    fastest = min(device.fastest for device in place.devices)
    assert fastest >= 4 * DELAY, "the links are not shaped"
    total = sum(map(len, acknowledged.values()))
    print(f"{total} readings acknowledged, none lost, none doubled; the fastest took {fastest:.2f} s")


# On lossy test links


class Uplink(TcpTap):
    """A tap that turns a gateway away at once while the server is."""

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await super()._connected(reader, writer)
        except OSError:
            writer.close()


class Way:
    """A gateway's two legs: a PAN that loses and delays, and an uplink that can be cut."""

    def __init__(self, pan: UdpProxy, uplink: Uplink, seed: int) -> None:
        self.pan = pan
        self.uplink = uplink
        self._losses = Losses(seed, drop=LOSS)
        self.lost = self.seen = 0
        pan.policy = self._pass

    def _pass(self, datagram: Datagram) -> Fates:
        fates = [(DELAY, data) for _, data in self._losses(datagram)]
        self.seen += 1
        self.lost += not fates
        return fates

    async def cut(self) -> None:
        self.pan.policy = lambda datagram: []
        await self.uplink.close()

    async def mend(self) -> None:
        self.pan.policy = self._pass
        await self.uplink.start()


class Traffic:
    """Readings of one PNE, one after the other, until it is stopped."""

    def __init__(self, pne: Pne) -> None:
        self.name = str(pne.config.pne_id)
        self.given = 0
        self.acknowledged: list[int] = []
        self._task = asyncio.create_task(self._run(pne))

    async def _run(self, pne: Pne) -> None:
        while True:
            self.given += 1
            await pne.send(pne.next_reading({"n": self.given}))
            self.acknowledged.append(self.given)
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def recovered(traffic: list[Traffic], begun: float, event: str) -> None:
    """As `Place.recover`."""
    marks = [(one, one.given) for one in traffic]
    await holds(lambda: all(one.acknowledged and one.acknowledged[-1] > mark for one, mark in marks), PATIENCE)
    print(f"{event}: new readings of all {len(marks)} PNEs acknowledged after {time.monotonic() - begun:.1f} s")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        yield one


async def way_of(here: World, name: str, seed: int) -> Way:
    tap = Uplink(here.address)
    tap.keep = False
    host, port = await tap.start()
    here.closes(tap)
    gateway = await here.start_gateway(name, kept=True, server_host=host, server_port=port, suite=2)
    proxy = UdpProxy(here.pan(gateway))
    here.closes(proxy)
    return Way(proxy, tap, seed)


@pytest.mark.long
@pytest.mark.req("FN-1", "FN-8")
@pytest.mark.timeout(600)
async def test_a_lost_gateway_and_a_restarted_server_on_lossy_links(here: World) -> None:
    print(f"\nPANs on test links: {LOSS:.0%} loss and {DELAY:.1f} s each way; uplinks on loopback")
    await here.start_server()
    ways = [await way_of(here, name, seed) for seed, name in enumerate(GATEWAYS)]
    addresses = tuple(way.pan.address for way in ways)
    settings: dict[str, Any] = {"timer": TIMER, "request_timeout": REQUEST_TIMEOUT, "presence": PRESENCE, "suite": 2}
    begun = time.monotonic()
    pnes = []
    for name in PNES:
        both = addresses if name in FIRST else addresses[::-1]
        pnes.append(await here.start_pne(name, both[0], gateways=both, **settings))
    traffic = [Traffic(pne) for pne in pnes]

    def behind(gateway: str) -> list[str]:
        """Return the PNEs that the server reaches through a gateway."""
        sessions = {name: here.server.sessions.with_peer(EntityId(name)) for name in PNES}
        return [name for name, session in sessions.items() if session is not None and session.via == gateway]

    await recovered(traffic, begun, "start of all PNEs")

    first = here.gateways[0]
    at_first = behind("gw-1")
    assert at_first, "nobody chose gw-1"
    await ways[0].cut()
    begun = time.monotonic()
    await holds(lambda: len(behind("gw-2")) == len(PNES), PATIENCE)
    await recovered(traffic, begun, f"gw-1 cut off ({len(at_first)} PNEs behind it)")
    await holds(lambda: first.uplink.standing is None, PATIENCE)
    await ways[0].mend()
    begun = time.monotonic()
    await holds(lambda: first.uplink.standing is not None, PATIENCE)
    print(f"gw-1 mended: its uplink stands after {time.monotonic() - begun:.1f} s")

    await here.stop(here.server)
    begun = time.monotonic()
    await here.start_server()
    await recovered(traffic, begun, "server stopped and started")
    await holds(lambda: all(here.server.pnes.is_connected_here(EntityId(one)) for one in (*GATEWAYS, *PNES)), PATIENCE)

    for one in traffic:
        await one.stop()
    acknowledged = {one.name: one.acknowledged for one in traffic}
    rows = [row for name in PNES for row in await here.store.readings(0, 10_000, EntityId(name))]
    nothing_lost(acknowledged, [(row.pne_id, json.loads(row.body)["n"]) for row in rows])
    lost, seen = sum(way.lost for way in ways), sum(way.seen for way in ways)
    assert lost / seen == pytest.approx(LOSS, abs=0.05)
    total = sum(map(len, acknowledged.values()))
    print(f"{total} readings acknowledged, none lost, none doubled; {lost} of {seen} datagrams lost")
