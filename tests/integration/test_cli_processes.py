"""A server of several processes as people run it: workers at one address, over PostgreSQL and NATS."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.nats import Nats
from tests.support.parties import PATIENCE, Parties, Process, acknowledged, until
from tests.support.stores import databases

QUICK = ("--timer", "3", "--request-timeout", "1.5", "--presence", "1", "--output", "json")
GATEWAYS = ("gw-1", "gw-2", "gw-3")


class Site(Parties):
    """A server with workers, and a gateway with a device for each connection that the kernel may put elsewhere."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.nats = Nats()
        self.data = ("--data", self.path("server"))
        self.listen = ("--listen", f"127.0.0.1:{self.server_port}")

    def set_up(self) -> None:
        self.prepare("server", "init", *self.data, "--id", "server.example", "--store", databases().new())
        for name in GATEWAYS:
            self.prepare("gateway", "add", name, *self.data, "--out", self.path(f"{name}.key"))
            self.prepare("device", "add", f"pne-{name}", *self.data, "--out", self.path(f"pne-{name}.key"))

    def workers(self, count: int) -> Process:
        one = self.start("server", "run", *self.data, *self.listen, "--nats", self.nats.url, "--workers", f"{count}")
        one.wait_line(f"{count} workers")
        return one

    def gateway_and_device(self, name: str) -> tuple[Process, Process]:
        gateway = self.start(
            *("gateway", "run", "--key", self.path(f"{name}.key"), "--server", f"127.0.0.1:{self.server_port}"),
            *("--pan", "127.0.0.1:0", "--data", self.path(name), "--no-announce", "--keepalive", "1"),
        )
        pan = gateway.wait_line(f"{name} at").rsplit(" ", 1)[-1]
        device = self.start(
            *("pne", "run", "--key", self.path(f"pne-{name}.key"), "--gateway", pan, "--source", "-", *QUICK)
        )
        device.wait_line('"established"')
        return gateway, device

    def ask(self, *arguments: str) -> Any:
        return json.loads(self.call(*arguments, *self.data, "--output", "json"))

    def close(self) -> None:
        for process in self.all:  # whose children would outlive them
            if process.process.poll() is None:
                for child in psutil.Process(process.process.pid).children():
                    child.kill()
        super().close()
        self.nats.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path)
    try:
        yield one
    finally:
        one.close()


@pytest.mark.long
@pytest.mark.req("FN-1", "FN-9")
def test_workers_serve_as_one(site: Site) -> None:
    """Any device is reached by one command, whichever worker has it; one that is killed is replaced."""
    site.set_up()
    server = site.workers(3)
    devices = [site.gateway_and_device(name)[1] for name in GATEWAYS]
    workers = psutil.Process(server.process.pid).children()
    assert len(workers) == 3
    for name in GATEWAYS:
        assert site.ask("device", "send", f"pne-{name}", "hello")["answer"] == "received"
    assert {one["id"]: one["connected"] for one in site.ask("gateway", "list")["items"]} == dict.fromkeys(
        GATEWAYS, True
    )
    up = site.ask("server", "status")
    assert [one["condition"] for one in up["processes"]] == ["up"] * 3
    assert {one["pid"] for one in up["processes"]} == {one.pid for one in workers}
    assert sorted(name for one in up["processes"] for name in one["gateways"]) == sorted(GATEWAYS)
    assert (up["sessions"], up["gateways"], up["devices"], up["last_reading"]) == (6, 3, 3, 0)
    assert (up["bus"], up["store"]["trouble"]) == ({"url": site.nats.url, "connected": True}, None)
    assert all(0 < one["disk_free"] < one["disk_size"] for one in up["processes"])
    assert all(abs(one["clock_ahead"]) < 5 for one in up["processes"])
    shown = site.call("server", "status", *site.data)
    assert "3 provisioned, 3 connected" in shown
    assert all(str(one.pid) in shown for one in workers)
    busy = [one for one in workers if len(one.net_connections("tcp")) > 0]
    busy[-1].kill()
    for number in range(5):
        for device in devices:
            device.write(f'{{"n": {number}}}')
    for device in devices:
        until(lambda device=device: len(acknowledged(device)) == 5, "all are acknowledged")  # type: ignore[misc]
    until(lambda: len(psutil.Process(server.process.pid).children()) == 3, "it is replaced")
    for name in GATEWAYS:
        until(lambda name=name: said(site, name), f"{name}'s device is reached again")  # type: ignore[misc]
    stored = site.call("server", "tail", *site.data, "--since", "all", "--count", "15", "--output", "json")
    rows = [json.loads(line) for line in stored.splitlines()]
    assert sorted((row["device"], row["body"]["n"]) for row in rows) == sorted(
        (f"pne-{name}", number) for name in GATEWAYS for number in range(5)
    )
    assert site.ask("device", "revoke", "pne-gw-2", "--yes")["ended"] == 1
    workers = psutil.Process(server.process.pid).children()
    assert server.end() == 0
    assert not any(one.is_running() for one in workers)


def test_workers_end_with_their_parent(site: Site) -> None:
    """Also where nobody could tell them: a server that is started anew finds address and folder free."""
    site.set_up()
    server = site.workers(2)
    workers = psutil.Process(server.process.pid).children()
    second = site.start("server", "run", *site.data, *site.listen, "--nats", site.nats.url)
    second.wait_line(f"(process {server.process.pid})")
    assert second.process.wait(PATIENCE) == 1
    server.process.kill()
    _, left = psutil.wait_procs(workers, timeout=20)
    assert not left
    again = site.workers(2)
    assert again.end() == 0


def said(site: Site, name: str) -> bool:
    one = site.start("device", "send", f"pne-{name}", "again", *site.data, "--output", "json")
    return one.process.wait(PATIENCE) == 0


def test_what_several_processes_need_is_said(site: Site) -> None:
    site.prepare("server", "init", *site.data, "--id", "server.example")
    run = ("server", "run", *site.data, *site.listen)
    for more, code in (
        (("--workers", "2"), "workers_need_nats"),
        (("--workers", "2", "--nats", site.nats.url), "workers_need_postgres"),
        (("--nats", site.nats.url), "workers_need_postgres"),
    ):
        site.call(*run, *more, code=1)
        assert any(line.startswith(f"error[{code}]") for line in site.all[-1].err), site.all[-1].err
    site.prepare("server", "init", "--data", site.path("other"), "--store", databases().new())
    run = ("server", "run", "--data", site.path("other"), *site.listen)
    site.call(*run, "--nats", "nats://me:sesame@127.0.0.1:1", code=1)
    assert any(line.startswith("error[password_in_url]") for line in site.all[-1].err)
    assert not any("sesame" in line for line in site.all[-1].err)
    site.nats.stop()
    alone = site.start(*run, "--nats", site.nats.url)
    alone.wait_line(f"NATS at {site.nats.url} is away")
    alone.wait_line("listening at")  # what is its own it serves
    assert alone.end() == 0
