"""A server whose store is on PostgreSQL, as people use it: set up, run, and over a time without PostgreSQL."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_cli import Running, data_of, fails, good
from tests.support.postgres import Postgres
from tests.support.stores import databases, started


@pytest.fixture
def server() -> Iterator[Postgres]:
    one = started()
    try:
        yield one
    finally:
        one.stop()


def test_init_remembers_the_store_and_commands_use_it(tmp_path: Path) -> None:
    data, url = tmp_path / "srv", databases().new()
    good("server", "init", "--data", data, "--store", url)
    assert sorted(path.name for path in data.iterdir()) == ["kek", "server.toml"]
    good("gateway", "add", "gw-1", "--data", data, "--out", tmp_path / "gw-1.key")
    assert [one["id"] for one in data_of("gateway", "list", "--data", data)["items"]] == ["gw-1"]
    assert "server.db" not in {path.name for path in data.iterdir()}

    fails("store_in_use", "server", "init", "--data", tmp_path / "other", "--store", url)
    fails("exists", "server", "init", "--data", data, "--store", databases().new())
    good("server", "init", "--data", tmp_path / "other", "--store", databases().new())


def test_init_refuses_what_is_no_store_and_makes_none(tmp_path: Path) -> None:
    data = tmp_path / "srv"
    said = fails("password_in_url", "server", "init", "--data", data, "--store", "postgresql://me:sesame@host/cpns")
    assert "PGPASSWORD" in said
    assert "sesame" not in said
    fails("bad_store", "server", "init", "--data", data, "--store", "mysql://host/cpns")
    absent = databases().new().replace("/cpns_test", "/absent_cpns_test")
    fails("store_unavailable", "server", "init", "--data", data, "--store", absent)
    good("server", "init", "--data", data)
    (data / "server.toml").write_text('id = "server.example"\nstore = 1\n')
    fails("bad_settings", "device", "list", "--data", data)
    settings = tmp_path / "settings.toml"
    settings.write_text('store = "postgresql:///cpns"\n')  # of the folder, and nowhere else
    fails("unknown_setting", "server", "run", "--data", data, "--config", settings)


def test_a_time_without_postgresql_loses_nothing(server: Postgres, tmp_path: Path) -> None:
    """One line tells that it goes, and one that it is back; devices are told to wait, and say that they do."""
    data = tmp_path / "srv"
    good("server", "init", "--data", data, "--store", server.url("postgres"))
    for noun, name in (("gateway", "gw"), ("device", "pne"), ("device", "late")):
        good(noun, "add", name, "--data", data, "--out", tmp_path / f"{name}.key")
    with contextlib.ExitStack() as running:

        def start(name: str, *arguments: str | Path) -> Running:
            one = Running(tmp_path, name, *arguments)
            running.callback(one.end)
            return one

        cpns = start("server", "server", "run", "--data", data, "--listen", "127.0.0.1:0")
        address = cpns.wait("listening at")[0].rsplit(" ", 1)[-1]
        gateway = start(
            *("gateway", "gateway", "run", "--server", address, "--key", tmp_path / "gw.key"),
            *("--pan", "127.0.0.1:0", "--no-announce"),
        )
        pan = gateway.wait("cpns gateway gw at ")[0].rsplit(" ", 1)[-1]
        more = ("--gateway", pan, "--suite", "1", "--output", "json", "--request-timeout", "1.5")
        pne = start("pne", "pne", "run", "--key", tmp_path / "pne.key", "--source", "-", *more)
        pne.wait('"established"')
        assert pne.process.stdin is not None

        def send(number: int) -> None:
            print(json.dumps({"number": number}), file=pne.process.stdin, flush=True)

        send(1)
        pne.wait('"acknowledged"')
        server.halt()
        send(2)
        said = fails("store_unavailable", "device", "list", "--data", data)
        assert "check that PostgreSQL runs there" in said
        pne.wait("the server can store nothing now: our readings wait", error=True)
        late = start("late", "pne", "run", "--key", tmp_path / "late.key", "--source", "none", "--timer", "2", *more)
        gateway.wait("server.example can take nobody in", error=True)
        late.wait("not established", error=True)
        assert len([line for line in pne.lines() if '"acknowledged"' in line]) == 1
        server.start()
        assert [one["id"] for one in data_of("device", "list", "--data", data)["items"]] == ["late", "pne"]
        pne.wait('"acknowledged"', 2)
        pne.wait("the server stores our readings again", error=True)
        late.wait('"established"')
        gateway.wait("server.example takes PNEs in again", error=True)
        cpns.wait("works again, after", error=True)
        warnings = [line for line in cpns.err.read_text().splitlines() if "WARNING" in line]
        assert [("failed" in line, "works again" in line) for line in warnings] == [(True, False), (False, True)]
        assert "authentication_failed" not in late.err.read_text() + gateway.err.read_text()
        tail = good("server", "tail", "--data", data, "--since", "all", "--count", "2", "--output", "json")
        assert [json.loads(line)["body"] for line in tail.splitlines()] == [{"number": 1}, {"number": 2}]
