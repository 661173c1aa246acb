"""Two machines on one link, as Debian sets them up: its hosts file maps the machine's own name to 127.0.1.1.

Each is a network namespace with a hosts file of its own, and each party a process.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.namespaces import End, Net, net, possible
from tests.support.parties import Parties, Process, until

pytestmark = pytest.mark.skipif(not possible(), reason="takes root and network namespaces")

HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 box\n127.0.1.1 dev\n"
INSIDE = 'hostname "$1"; mount --bind "$2" /etc/hosts; shift 2; exec "$@"'
BOX, DEV = End("box", "lan", "10.214.7.1/24"), End("dev", "lan", "10.214.7.2/24")
PORT = 6000

TOLD = """
import asyncio, json
from cpns.ids import EntityId
from cpns.transport import discovery, mdns
from cpns.wire.pn_messages import EntityDiscoveryRequest
from cpns.wire.registry import Mode

def told(*what):
    print(json.dumps(what), flush=True)

async def main():
    await asyncio.gather(
        mdns.browse(lambda gateway, host, port, secure: told("mdns", gateway, host, port)),
        discovery.ask(
            EntityDiscoveryRequest(EntityId("asks"), Mode.PNE),
            lambda found, host, port: told("group", found.entity_id, host, port),
        ),
    )

asyncio.run(main())
"""


class Machines(Parties):
    """A server and a gateway on one machine, devices on the other."""

    def __init__(self, folder: Path, net: Net) -> None:
        super().__init__(folder)
        self.net = net
        (folder / "hosts").write_text(HOSTS)
        net.host("box")
        net.host("dev")

    def run(self, host: str, *arguments: str) -> Process:
        """Start Python with *arguments* on a machine."""
        inside = (*self.net.inside(host), "unshare", "-m", "-u", "sh", "-c", INSIDE, "sh", host, self.path("hosts"))
        process = Process([*inside, sys.executable, *arguments], {})
        self.all.append(process)
        return process

    def serve(self, pan: str) -> Process:
        """Start server and gateway; return the gateway."""
        listen = ("--listen", "127.0.0.1:5683")
        self.run("box", "-m", "cpns", "server", "run", "--data", self.path("server"), *listen).wait_line("listening at")
        gateway = self.run(
            *("box", "-m", "cpns", "gateway", "run", "--key", self.path("gw-1.key")),
            *("--server", "127.0.0.1:5683", "--pan", f"{pan}:{PORT}"),
        )
        gateway.wait_line("gw-1 at")
        return gateway

    def device(self, name: str, *more: str) -> Process:
        """Start a device."""
        fast = ("--timer", "3", "--request-timeout", "2", "--presence", "1")
        key = ("--key", self.path(f"{name}.key"))
        return self.run("dev", "-m", "cpns", "pne", "run", *key, "--output", "json", "--source", "-", *fast, *more)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with net("veth") as links:
        one = Machines(tmp_path, links)
        try:
            yield one
        finally:
            one.close()


def sends(device: Process, number: int) -> None:
    """Give a device a reading, and wait until it is acknowledged."""
    device.write(json.dumps({"n": number}))
    until(
        lambda: any('"acknowledged"' in line and f'"n": {number}' in line for line in device.out), f"reading {number}"
    )


def hosts(asks: Process) -> dict[str, set[str]]:
    """Return the hosts of the gateway that were told of so far, by how."""
    told: dict[str, set[str]] = {"mdns": set(), "group": set()}
    for how, gateway, host, port in map(json.loads, asks.out):
        assert (gateway, port) == ("gw-1", PORT)
        told[how].add(host)
    return told


@pytest.mark.req("FN-8")
@pytest.mark.parametrize("pan", ["0.0.0.0", "[::]"])
def test_a_device_finds_the_gateway_on_another_machine(machines: Machines, pan: str) -> None:
    """By mDNS and by CoAP multicast, at the address on the link, and at none of another interface or of 127.0.0.0/8."""
    v4 = pan == "0.0.0.0"
    ends = (BOX, DEV) if v4 else (End("box", "lan"), End("dev", "lan"))
    machines.net.link(*ends, shaped=False)
    machines.net.host("far")
    machines.net.link(End("box", "other", "10.214.8.1/24"), End("far", "other", "10.214.8.2/24"), shaped=False)
    machines.provision("watch")
    machines.serve(pan)
    asks = machines.run("dev", "-c", TOLD)
    watch = machines.device("watch")
    watch.wait_line('"event": "established"')
    sends(watch, 1)
    until(lambda: all(hosts(asks).values()), f"mDNS and CoAP multicast tell of it: {asks.out} {asks.err}")
    told = hosts(asks)
    assert told["mdns"] == told["group"]
    if v4:
        assert told["mdns"] == {"10.214.7.1"}
    else:
        assert all(host.startswith("fe80:") and host.endswith("%lan") for host in told["mdns"])


@pytest.mark.long
@pytest.mark.req("FN-8")
def test_an_interface_and_addresses_that_come_and_go(machines: Machines) -> None:
    """The gateway runs before there is a link; it is found on it, and answers at an address that it gets later."""
    machines.provision("watch", "scale")
    gateway = machines.serve("0.0.0.0")
    machines.net.link(BOX, DEV, shaped=False)
    watch = machines.device("watch")
    watch.wait_line('"event": "established"')
    machines.net.addresses(BOX, "+10.214.7.9/24")
    scale = machines.device("scale", "--gateway", f"10.214.7.9:{PORT}")
    scale.wait_line('"event": "established"')
    sends(scale, 1)
    machines.net.addresses(BOX, "-10.214.7.9/24")
    until(lambda: "not established at 10.214.7.9:6000: no_answer" in "".join(scale.err), "the address is gone")
    machines.net.addresses(BOX, "+10.214.7.9/24")
    sends(scale, 2)
    sends(watch, 1)
    assert gateway.process.poll() is None
