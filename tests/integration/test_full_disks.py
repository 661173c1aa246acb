"""Full disks of a server, a gateway and a node: real processes, and disks that are really full."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.disk import Disk, small_disk
from tests.support.parties import Parties, Process, acknowledged, until

QUICK = ("--timer", "3", "--request-timeout", "1.5", "--output", "json")


class OnDisk(Parties):
    """Parties, some of which have their files on a small disk."""

    disk: Disk

    def on_disk(self, *arguments: str) -> Process:
        """Start ``cpns ARGUMENTS`` where the small disk is."""
        process = Process([*self.disk.prefix, sys.executable, "-m", "cpns", *arguments], self._environment)
        self.all.append(process)
        return process

    def fields(self, *arguments: str) -> Any:
        return json.loads(self.call(*arguments, "--output", "json"))

    def findings(self, device: str) -> dict[str, Any]:
        found = self.fields("explain", device, "--data", self.path("server"))
        return {one["step"]: one for one in found["items"]}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OnDisk]:
    one = OnDisk(tmp_path)
    with small_disk(tmp_path / "disk") as one.disk:
        try:
            yield one
        finally:
            one.close()


def lines(process: Process, containing: str) -> list[str]:
    return [line for line in process.err if containing in line]


def test_a_gateway_whose_disk_is_full_lets_in_and_says_so(site: OnDisk) -> None:
    site.provision("lamp", "watch")
    site.server()
    gateway = site.on_disk(
        *("gateway", "run", "--key", site.path("gw-1.key"), "--server", f"127.0.0.1:{site.server_port}"),
        *("--pan", f"127.0.0.1:{site.pan_port}", "--data", site.path("disk/gateway"), "--no-announce"),
    )
    gateway.wait_line("gw-1 at")
    gateway.wait_line("uplink to server.example stands")
    site.disk.fill()
    lamp = site.pne("lamp")
    lamp.wait_line('"established"')
    lamp.write('{"n": 1}')
    lamp.wait_line('"acknowledged"')
    gateway.wait_line("the disk is full: free some space")

    finding = until(lambda: site.findings("lamp").get("store of gateway"), "the server is told")
    assert finding["good"] is False
    assert "gw-1 says that it can keep nothing" in finding["what"]
    assert "free some space at gw-1" in finding["next_step"]

    site.disk.empty()
    gateway.wait_line("works again, after")
    until(lambda: "store of gateway" not in site.findings("lamp"), "the server is told that it works")
    gateway.end()
    again = site.on_disk(*gateway.arguments[gateway.arguments.index("cpns") + 1 :])
    again.wait_line("gw-1 at")
    lamp.write('{"n": 2}')
    until(lambda: len(acknowledged(lamp)) == 2, "it goes on")
    assert len([line for line in lamp.out if '"established"' in line]) == 1  # what it could not keep, it kept after
    assert not lines(gateway, "never retrieved")


def test_a_server_whose_disk_is_full_says_so_and_devices_wait(site: OnDisk) -> None:
    site.provision("lamp")
    shutil.copytree(site.path("server"), site.disk.outside / "server")
    data = site.path("disk/server")
    server = site.on_disk("server", "run", "--data", data, "--listen", f"127.0.0.1:{site.server_port}")
    server.wait_line("listening at")
    site.gateway()
    lamp = site.pne("lamp")
    lamp.wait_line('"established"')
    lamp.write('{"n": 1}')
    lamp.wait_line('"acknowledged"')
    site.disk.fill()
    lamp.write('{"n": 2}')
    lamp.write('{"n": 3}')
    server.wait_line("the disk is full: free some space")
    lamp.wait_line("the server can store nothing now: our readings wait")
    found = json.loads(site.on_disk("explain", "lamp", "--data", data, "--output", "json").output())
    assert [one["good"] for one in found["items"] if one["step"] == "store"] == [False]

    site.disk.empty()
    until(lambda: len(acknowledged(lamp)) == 3, "nothing was lost")
    server.wait_line("works again, after")
    lamp.wait_line("the server stores our readings again")
    assert len(lines(server, "the disk is full")) == 1
    server.end()
    shutil.copytree(site.disk.outside / "server", site.path("server"), dirs_exist_ok=True)
    assert [one["body"]["n"] for one in site.readings()] == [1, 2, 3]


def test_a_node_whose_disk_is_full_takes_no_key_and_says_so(site: OnDisk) -> None:
    site.provision("tablet")
    site.server()
    site.gateway()
    control = site.path("tablet.sock")
    node = site.on_disk(
        *("node", "run", "--pne-key", site.path("tablet.key"), "--gateway", f"127.0.0.1:{site.pan_port}"),
        *("--server", f"127.0.0.1:{site.server_port}", "--pan", "127.0.0.1:0", "--data", site.path("disk/node")),
        *("--control", control, "--source", "none", "--prefer", "gateway", *QUICK),
    )
    node.wait_line('"key"')

    def generation() -> int:
        return int(site.fields("node", "status", "--control", control)["generation"])

    def rekey(code: int) -> Process:
        one = site.start("node", "rekey", "--control", control)
        one.output(code)
        return one

    site.disk.fill()
    refused = rekey(1)
    assert "error[store_unavailable]" in refused.err[-1]
    assert "the disk is full: free some space" in refused.err[-1]
    assert generation() == 0
    node.wait_line("the disk is full: free some space")

    site.disk.empty()
    node.wait_line("works again, after")
    until(lambda: generation() == 1, "it goes on trying")
    assert not lines(node, "never retrieved")
