"""Two processes of one server, as people run them, with something between them: no NATS, or clocks that are apart."""

import json
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cpns.cli.main import app
from cpns.errors import UserError
from tests.support.nats import Nats
from tests.support.parties import Parties, Process, acknowledged, free_port, until
from tests.support.stores import databases

WRONG = """
import runpy, sys, time
right = time.time
time.time = lambda: right() + 60
sys.argv[0] = "cpns"
runpy.run_module("cpns", run_name="__main__")
"""
"""Runs the command on a machine whose clock is a minute ahead."""


class Site(Parties):
    """Two processes, each with a data folder, and a gateway with a device at the first."""

    def set_up(self) -> None:
        data = ("--data", self.path("one"))
        self.prepare("server", "init", *data, "--id", "server.example", "--store", databases().new())
        self.prepare("gateway", "add", "gw-1", *data, "--out", self.path("gw-1.key"))
        self.prepare("device", "add", "alice", *data, "--out", self.path("alice.key"))
        (self.folder / "two").mkdir(mode=0o700)
        for name in ("server.toml", "kek"):
            shutil.copy(self.folder / "one" / name, self.folder / "two" / name)

    def run(self, name: str, *more: str, wrong: bool = False) -> Process:
        port = self.server_port if name == "one" else free_port(socket.SOCK_STREAM)
        words = ("server", "run", "--data", self.path(name), "--listen", f"127.0.0.1:{port}", *more)
        if wrong:
            one = Process([sys.executable, "-c", WRONG, *words], {})
            self.all.append(one)
        else:
            one = self.start(*words)
        one.wait_line("listening at")
        return one

    def device(self) -> Process:
        self.gateway()
        one = self.pne("alice")
        one.wait_line('"established"')
        return one

    def at(self, name: str, *arguments: str) -> tuple[Any, list[str]]:
        """Ask a process; return its answer, and what it says besides, an error included."""
        done = CliRunner().invoke(app, [*arguments, "--data", self.path(name), "--output", "json"])
        if isinstance(done.exception, UserError):
            return None, [*done.stderr.splitlines(), done.exception.code]
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        return json.loads(done.stdout), done.stderr.splitlines()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    one = Site(tmp_path)
    try:
        one.set_up()
        yield one
    finally:
        one.close()


@pytest.mark.req("FN-1")
def test_processes_that_were_started_without_nats_say_so(site: Site) -> None:
    """In the log of both, and with each answer that needed the other."""
    both = [site.run(name) for name in ("one", "two")]
    site.device()
    for one, other in (both, reversed(both)):
        line = one.wait_line("can't be reached")
        assert f"process {other.process.pid} on" in line
        assert "--nats" in line
    _, said = site.at("two", "device", "send", "alice", "hello")
    assert said[-1] == "other_processes_away"
    assert said[0].startswith(f"warning: process {both[0].process.pid} on")
    found, said = site.at("two", "explain", "alice")
    assert {one["step"]: one["good"] for one in found["items"]}["gateway"] is None
    assert said[0].startswith("warning: ")
    found, said = site.at("two", "gateway", "list")
    assert found["items"][0]["connected"] is None
    assert said[0].startswith("warning: ")
    up, _ = site.at("two", "server", "status")
    assert [one["condition"] for one in up["processes"]] == ["up", "unasked"]
    _, said = site.at("one", "device", "send", "alice", "hello")
    assert not said  # it needed nobody


@pytest.mark.req("FN-1", "FN-9")
def test_processes_whose_clocks_are_apart_serve_as_one(site: Site) -> None:
    """Both times are named by both; and when a revocation returns, no reading of the device is taken."""
    nats = Nats()
    try:
        both = [site.run(name, "--nats", nats.url, wrong=name == "two") for name in ("one", "two")]
        alice = site.device()
        for one in both:
            line = one.wait_line("clocks are apart")
            times = [word.strip(":;,") for word in line.split() if word.strip(":;,").endswith("Z")]
            assert len(times) == 2, line
            assert f"process {both[1].process.pid} on" in line
        answer, said = site.at("two", "device", "send", "alice", "hello")
        assert (answer["answer"], said) == ("received", [])
        found, _ = site.at("two", "explain", "alice")
        good = {one["step"]: one["good"] for one in found["items"]}
        assert (good["gateway"], good["session"], good["reach"]) == (True, True, True)
        up, _ = site.at("one", "server", "status")
        assert [round(one["clock_ahead"], -1) for one in up["processes"]] == [0, 60]
        for number in range(3):
            alice.write(f'{{"n": {number}}}')
        until(lambda: len(acknowledged(alice)) == 3, "the readings are taken")
        done, said = site.at("two", "device", "revoke", "alice", "--yes")
        assert (done["ended"], said) == (1, [])
        for number in range(3, 6):
            alice.write(f'{{"n": {number}}}')
        time.sleep(1.0)  # for what should not happen
        rows = site.call("readings", "export", "--data", site.path("two")).splitlines()
        assert [json.loads(row)["body"]["n"] for row in rows] == [0, 1, 2]
        at = [json.loads(row)["received_at"] for row in rows]
        assert at == sorted(at)
    finally:
        nats.stop()
