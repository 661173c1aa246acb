"""docs/restore.md, line by line, on both databases: a copy while the server runs, and what it takes to put it back."""

import asyncio
import json
import os
import re
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cpns.cli.main import app
from cpns.ids import EntityId
from cpns.store.server_store import ServerStore
from tests.support.pages import DOCS, SHIMS, Machines, blocks
from tests.support.parties import Process, acknowledged, free_port, until
from tests.support.stores import started

PAGE = "restore.md"
HUB = EntityId("hub")
RUN = "cpns server run --data srv --listen one.example:5683      # runs on"
SQLITE3 = """python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute(sys.argv[2])' "$@" """
"""For who has no sqlite3."""


def prepare(*words: str | Path) -> None:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (words, done.output, done.exception)


@pytest.fixture(params=["sqlite", "postgres"])
def machines(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    """A machine with a server that is set up, as the page has it, and `kind`, its name."""
    kind = request.param
    names = {
        "one.example:5683": f"127.0.0.1:{free_port(socket.SOCK_STREAM)}",
        "hub.example:5684": f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}",
        "db.example": "127.0.0.1",
    }
    shims = SHIMS if shutil.which("sqlite3") else SHIMS | {"sqlite3": SQLITE3}
    programs, variables, store, ends = [], {}, [], []
    if kind == "postgres":
        postgres = started(port=free_port(socket.SOCK_STREAM), superuser="postgres")
        ends.append(postgres.stop)
        programs = [postgres.programs]
        variables["postgres"] = {"PGHOST": str(postgres.folder), "PGPORT": str(postgres.port)}
        store = ["--store", f"postgresql://cpns@127.0.0.1:{postgres.port}/cpns"]
    one = Machines(tmp_path, names, programs, variables, shims)
    ends.append(one.close)
    try:
        home = one.home(kind)
        if kind == "postgres":
            for line in next(block for machine, block in blocks("several-machines.md") if machine == "db"):
                one.run(kind, line)
            (home / ".pgpass").write_text("127.0.0.1:*:cpns:cpns:correct horse\n")
            (home / ".pgpass").chmod(0o600)
            monkeypatch.setenv("PGPASSFILE", str(home / ".pgpass"))
        prepare("server", "init", "--data", home / "srv", "--id", "server.example", *store)
        for noun, name in (("gateway", "hub"), ("device", "watch"), ("device", "ghost")):
            prepare(noun, "add", name, "--data", home / "srv", "--out", home / f"{name}.key")
        one.run(kind, RUN)
        yield one
    finally:
        for end in reversed(ends):
            end()


def typed(machines: Machines, kind: str, block: list[str]) -> None:
    """Type lines into one shell after the other, with what `umask` leaves behind."""
    umask = "umask 022"
    for line in block:
        if line.startswith("umask"):
            umask = line
        elif line == RUN:
            machines.run(kind, line)
        else:
            machines.run(kind, f"{umask}; {line}")


def watched(machines: Machines, kind: str) -> Process:
    server = "--server one.example:5683 --pan hub.example:5684 --no-announce"
    machines.start(kind, f"exec cpns gateway run --key hub.key --data hub {server}").wait_line("hub at")
    watch = machines.start(
        kind,
        "exec cpns pne run --key watch.key --gateway hub.example:5684 --source - --output json --timer 3",
    )
    watch.wait_line('"established"')
    return watch


def send(watch: Process, *numbers: int) -> None:
    before = len(acknowledged(watch))
    for number in numbers:
        watch.write(json.dumps({"n": number}))
    until(lambda: len(acknowledged(watch)) == before + len(numbers), "all are stored")


def exported(machines: Machines, kind: str) -> list[tuple[int, int]]:
    """Return number and content of each reading."""
    found = map(json.loads, machines.run(kind, "cpns readings export --data srv").splitlines())
    return [(one["number"], one["body"]["n"]) for one in found]


def test_the_page_as_an_operator_types_it(machines: Machines, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["machines"]
    copy, put_back = [block for machine, block in blocks(PAGE) if machine == kind]
    watch = watched(machines, kind)
    send(watch, 1, 2)
    typed(machines, kind, copy)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (machines.home(kind) / "copy").iterdir())
    send(watch, 3, 4, 5)
    machines.run(kind, "cpns device revoke ghost --data srv --yes")
    lost = exported(machines, kind)
    assert [content for _, content in lost] == [1, 2, 3, 4, 5]
    machines.running[f"{kind}: cpns server run"].end()

    typed(machines, kind, put_back)
    send(watch, 6)
    after = exported(machines, kind)
    assert [content for _, content in after] == [1, 2, 6]
    assert after[-1][0] > lost[-1][0]
    tail = machines.run(kind, f"cpns server tail --data srv --since {lost[-1][0]} --count 1 --output json")
    assert json.loads(tail)["body"] == {"n": 6}
    shown = json.loads(machines.run(kind, "cpns device list --all --data srv --output json"))["items"]
    assert {one["id"]: one["state"] for one in shown} == {"ghost": "revoked", "watch": "active"}


def test_the_page_is_found_and_has_lines_for_both() -> None:
    """A walk that finds nothing is no test."""
    assert sorted(machine for machine, _ in blocks(PAGE)) == ["postgres", "postgres", "sqlite", "sqlite"]
    assert all(len(block) >= 3 for _, block in blocks(PAGE))
    assert f"docs/{PAGE}" in (DOCS.parent / "README.md").read_text(encoding="utf-8")


async def test_a_reading_takes_as_much_as_the_page_says(tmp_path: Path) -> None:
    path, body = tmp_path / "server.db", json.dumps({"n": "x" * 61})
    assert len(body) == 70

    def size() -> int:
        with sqlite3.connect(path) as store:
            store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.close()
        return path.stat().st_size

    store = ServerStore.open(path)
    boots = [os.urandom(8) for _ in range(50)]
    before, count = size(), 5000
    for start in range(0, count, 250):
        some = (
            (EntityId(f"watch-{n % 50:02}"), boots[n % 50] + n.to_bytes(4, "big")) for n in range(start, start + 250)
        )
        await asyncio.gather(*(store.add_reading(pne, HUB, one, body, "e2e", 1.8e9) for pne, one in some))
    each = (size() - before) / count
    await store.close()
    (said,) = re.findall(r"70 characters takes (\d+) bytes on SQLite", (DOCS / PAGE).read_text(encoding="utf-8"))
    assert 0.8 * int(said) < each < 1.2 * int(said)
