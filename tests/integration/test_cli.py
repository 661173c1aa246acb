"""The command line as people and scripts use it: real processes, real sockets, real files.

Starting Python costs more than all that most commands do, so what is about their text and files alone is called in this
process (`here`); whatever runs, and whatever talks to what runs, is a process of its own (`cpns`, `Running`).
"""

import contextlib
import csv
import io
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cpns.cli.main import main
from tests.support.forked import Forked

COMMAND = [sys.executable, "-m", "cpns"]
PATIENCE = 30.0
Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CPNS_")}
    return clean | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"} | (more or {})


def cpns(
    *arguments: str | Path, stdin: str | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a process of its own."""
    with contextlib.ExitStack() as files:
        given, out, err = (files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3))
        given.write(stdin or "")
        given.seek(0)
        process = Forked([*COMMAND, *map(str, arguments)], stdin=given, stdout=out, stderr=err, env=environment(env))
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


def here(
    *arguments: str | Path, stdin: str | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["cpns", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        mock.patch.dict(os.environ, environment(env), clear=True),
        mock.patch("logging.basicConfig"),  # the log of this process is pytest's
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def good(*arguments: str | Path, run: Run = here, **more: Any) -> str:
    """Run a command that must succeed; return what it printed."""
    done = run(*arguments, **more)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def data_of(*arguments: str | Path, **more: Any) -> Any:
    """Run a command that must succeed; return the JSON that it printed."""
    return json.loads(good(*arguments, "--output", "json", **more))


def fails(code: str, *arguments: str | Path, run: Run = here, **more: Any) -> str:
    """Run a command that must end with the error *code*; return the line."""
    done = run(*arguments, **more)
    assert done.returncode == 1, (done.stdout, done.stderr)
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error[{code}]: "), line
    return line


def misused(*arguments: str | Path, run: Run = here) -> str:
    """Run a command that must end as wrong usage; return what it said."""
    done = run(*arguments)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


class Running:
    """A command that goes on."""

    def __init__(self, folder: Path, name: str, *arguments: str | Path, env: dict[str, str] | None = None) -> None:
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = Forked(
                [*COMMAND, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                text=True,
                env=environment(env),
            )

    def lines(self) -> list[str]:
        return self.out.read_text().splitlines()

    def wait(self, text: str, count: int = 1, *, error: bool = False) -> list[str]:
        """Wait until *text* stands in *count* lines of its output, or of its standard error, and return those."""
        deadline = time.monotonic() + PATIENCE
        file = self.err if error else self.out
        while len(found := [line for line in file.read_text().splitlines() if text in line]) < count:
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() < deadline, (self.lines(), self.err.read_text())
            time.sleep(0.02)
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        if self.process.stdin is not None:
            self.process.stdin.close()
        return code


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class Site:
    """A server and a gateway that run, and the credentials of some devices."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "srv"
        good("server", "init", "--data", self.data, "--id", "server.test")
        self.server = Running(
            *(folder, "server", "server", "run", "--data", self.data, "--listen", "127.0.0.1:0"),
            *("--trace", folder / "server.trace"),
        )
        self.address = self.server.wait("listening at")[0].rsplit(" ", 1)[-1]
        names = [("gateway", "gw-1"), *(("device", f"pne-{number}") for number in range(1, 7))]
        for noun, name in names:
            good(noun, "add", name, "--data", self.data, "--out", self.key(name))
        self.gateway = Running(
            *(folder, "gateway", "gateway", "run", "--server", self.address, "--key", self.key("gw-1")),
            *("--pan", "127.0.0.1:0", "--data", folder / "gw", "--no-announce"),
        )
        [line] = self.gateway.wait("cpns gateway gw-1 at ")
        self.pan = line.rsplit(" ", 1)[-1]
        self.started: list[Running] = [self.server, self.gateway]

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def device(self, name: str, *more: str | Path) -> Running:
        """Start a device and wait until it is established."""
        run = ("pne", "run", "--key", self.key(name), "--gateway", self.pan, "--output", "json", "--suite", "1")
        device = Running(self.folder, name, *run, *more)
        self.started.append(device)
        device.wait('"established"')
        return device

    def ask(self, *arguments: str) -> tuple[str, ...]:
        return (*arguments, "--data", str(self.data))

    def close(self) -> None:
        for running in reversed(self.started):
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.end()
            running.process.kill()
            running.process.wait()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    one = Site(tmp_path_factory.mktemp("site"))
    yield one
    one.close()


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """The data folder of a server that does not run."""
    data = tmp_path / "srv"
    good("server", "init", "--data", data)
    return data


# help and usage


def test_help_is_quick_and_every_command_has_an_example() -> None:
    from typer.main import get_command

    from cpns.cli.main import app

    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cpns", "--help"], capture_output=True, text=True, env=environment()
    )
    assert "gateway" in done.stdout
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert not loaded & {"sqlalchemy", "fastapi", "pydantic", "aiocoap", "cbor2", "httpx", "alembic", "uvloop"}
    assert "typer" in loaded

    found = 0
    unseen: list[tuple[list[str], Any]] = [([], get_command(app))]
    while unseen:
        path, command = unseen.pop()
        inside = getattr(command, "commands", {})
        unseen += [([*path, name], one) for name, one in inside.items()]
        if not inside:
            assert f"Example: cpns {path[0]}" in command.help, path
            found += 1
    assert found >= 18


def test_wrong_usage_ends_with_2(tmp_path: Path) -> None:
    calls: list[tuple[str, tuple[str, ...]]] = [
        ("No such command", ("server", "dance")),
        ("No such option", ("server", "run", "--dance")),
        ("Missing argument", ("device", "add")),
        ("Missing option", ("pne", "run")),
        ("--pan", ("gateway", "run", "--server", "x:1", "--key", "none")),
        ("HOST:PORT", ("server", "run", "--data", str(tmp_path), "--id", "a", "--listen", "1.2.3.4:x")),
        ("--out", ("device", "import", "some.csv", "--data", str(tmp_path))),
        ("--since", ("server", "tail", "--since", "monday", "--data", str(tmp_path))),
        ("suite", ("pne", "run", "--key", "none", "--suite", "4")),
        ("--tls-key", ("server", "run", "--data", str(tmp_path), "--tls-certificate", "x.pem")),
    ]
    for expected, call in calls:
        assert expected in misused(*call)
    misused("server", "dance", run=cpns)


# a server that does not run


def test_lists_in_the_environment_have_commas(tmp_path: Path) -> None:
    """As one variable has to hold them all; a flag may hold several too."""
    key = tmp_path / "absent.key"
    for env, flags in (({"CPNS_PNE_GATEWAY": "[::1]:1,b:2"}, ()), ({}, ("--gateway", "a:1, [::1]:2"))):
        fails("key_file_missing", "pne", "run", "--key", key, *flags, env=env)
    assert "no HOST:PORT" in misused("pne", "run", "--key", key, "--gateway", "a:1,b:x")


def test_without_a_home_a_folder_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a user ID that has no line in passwd, and no HOME."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    for command in (("device", "list"), ("server", "run"), ("server", "init"), ("server", "tail")):
        assert "give --data" in misused(*command)


def test_init_makes_a_private_folder_once(tmp_path: Path) -> None:
    data = tmp_path / "srv"
    said = good("server", "init", "--data", data, "--id", "server.test", run=cpns)
    assert "cpns server run" in said
    assert mode(data) == 0o700
    modes = {path.name: mode(path) for path in data.iterdir()}
    assert modes == dict.fromkeys(["kek", "server.db", "server.toml"], 0o600)
    fails("exists", "server", "init", "--data", data, run=cpns)
    fails("no_server", "device", "list", "--data", tmp_path / "nowhere")


def test_provisioning_without_a_running_server(alone: Path, tmp_path: Path) -> None:
    add = ("device", "add", "pne-1", "--gateway", "gw-1", "--data", alone)
    assert "Nothing was provisioned" not in fails("unknown_gateway", *add)
    shown = cpns(*add, "--allow-unknown-gateway", "--qr")
    credential = shown.stdout.splitlines()[0]
    assert credential.startswith("cpns1/pne/pne-1/server.example/")
    assert "█" in shown.stdout
    assert credential not in shown.stderr

    out = tmp_path / "gw-1.key"
    said = good("gateway", "add", "gw-1", "--note", "[red]hall\x1b[31m", "--data", alone, "--out", out)
    assert mode(out) == 0o600
    assert out.read_text().strip() not in said
    fails("file_exists", "gateway", "add", "gw-2", "--data", alone, "--out", out)
    fails("id_exists", "gateway", "add", "gw-1", "--data", alone, "--out", tmp_path / "again.key")
    assert not (tmp_path / "again.key").exists()

    table = good("gateway", "list", "--data", alone)
    assert "[red]hall\\x1b[31m" in table
    assert "gw-2" not in table
    [device] = data_of("device", "list", "--data", alone)["items"]
    assert (device["id"], device["gateway"], device["connected"]) == ("pne-1", "gw-1", None)
    assert credential.split("/")[4] not in good("device", "show", "pne-1", "--data", alone)


def test_revoking_asks_first(alone: Path) -> None:
    good("device", "add", "pne-1", "--data", alone)
    assert "--yes" in fails("not_confirmed", "device", "revoke", "pne-1", "--data", alone)
    assert data_of("device", "revoke", "pne-1", "--data", alone, "--yes") == {"id": "pne-1", "ended": 0}
    assert "revoked" in good("device", "show", "pne-1", "--data", alone)
    fails("unknown_entity", "gateway", "revoke", "pne-1", "--data", alone, "--yes")


def test_import_is_all_or_nothing(alone: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "devices.csv", tmp_path / "credentials.csv"
    file.write_text("id,gateway,note\npne-1,,hall\nno id,,\npne-1,,\n")
    done = here("device", "import", file, "--data", alone, "--out", out)
    assert done.returncode == 1
    assert "bad_id" in done.stdout
    assert "id_twice" in done.stdout
    assert "nothing is imported" in done.stdout
    assert not out.exists()

    file.write_text("id,gateway,note\npne-1,,hall\npne-2,,\n")
    found = data_of("device", "import", file, "--data", alone, "--dry-run")
    assert found == {"rows": 2, "separator": ",", "imported": 0, "unchanged": 0, "bad": [], "respelled": {}}
    said = good("device", "import", file, "--data", alone, "--out", out)
    assert mode(out) == 0o600
    with out.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["id"] for row in rows] == ["pne-1", "pne-2"]
    assert all(row["credential"].startswith(f"cpns1/pne/{row['id']}/") for row in rows)
    assert "cpns1/" not in said
    fails("file_missing", "device", "import", tmp_path / "none.csv", "--data", alone, "--dry-run")


def test_what_needs_a_running_server_says_so(alone: Path) -> None:
    good("device", "add", "pne-1", "--data", alone)
    calls = [("device", "send", "pne-1", "hi"), ("device", "ping", "pne-1"), ("server", "tail")]
    for call in calls:
        assert "cpns server run" in fails("server_not_running", *call, "--data", alone)


def test_a_vault_with_a_passphrase(tmp_path: Path) -> None:
    data, file = tmp_path / "srv", tmp_path / "passphrase"
    file.write_text("correct horse\n")
    line = fails("passphrase_file_readable_by_others", "server", "init", "--data", data, "--passphrase-file", file)
    assert "correct horse" not in line
    file.chmod(0o600)
    good("server", "init", "--data", data, "--passphrase-file", file)
    fails("passphrase_needed", "device", "add", "pne-1", "--data", data)
    good("device", "add", "pne-1", "--data", data, "--passphrase-file", file)
    assert "pne-1" in good("device", "list", "--data", data)
    file.write_text("wrong\n")
    fails("wrong_passphrase", "server", "run", "--data", data, "--passphrase-file", file)


# settings


def test_settings_come_from_flag_environment_file_and_default_in_this_order(alone: Path, tmp_path: Path) -> None:
    settings = alone / "server.toml"
    file = settings.read_text()
    settings.write_text(file + 'listen = "256.0.0.1:1"\n')
    run = ("server", "run", "--data", alone)
    env = {"CPNS_SERVER_LISTEN": "256.0.0.2:2"}
    assert "256.0.0.1:1" in settled(*run)
    assert "256.0.0.2:2" in settled(*run, env=env)
    assert "256.0.0.3:3" in settled(*run, "--listen", "256.0.0.3:3", env=env)
    other = tmp_path / "other.toml"
    other.write_text(f'data = "{alone}"\nlisten = "256.0.0.4:4"\n')
    assert "256.0.0.4:4" in settled("server", "run", "--config", other)
    assert "256.0.0.4:4" in settled("server", "run", env={"CPNS_SERVER_CONFIG": str(other)})


def settled(*arguments: str | Path, env: dict[str, str] | None = None) -> str:
    """Return where a server would listen: it can't, as there is no such address."""
    return fails("bad_address", *arguments, env=env)


def test_bad_settings(alone: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    run = ("gateway", "run", "--config", settings)
    fails("config_missing", *run)
    settings.write_text("server =")
    fails("bad_config", *run)
    settings.write_text('sever = "x"\n')
    line = fails("unknown_setting", *run)
    assert "'sever'" in line
    assert "lowest_suite" in line
    settings.write_text('server = "x:1"\nkey = "none"\npan = ["127.0.0.1:0"]\nsuite = 2\nannounce = false\n')
    fails("key_file_missing", *run)
    settings.write_text('suite = "high"\n')
    assert "--suite" in misused(*run, "--server", "x", "--key", "none")
    settings.write_text("")
    fails("key_file_missing", "pne", "run", "--config", settings, env={"CPNS_PNE_KEY": "none"})


def test_key_files_are_checked(alone: Path, tmp_path: Path) -> None:
    key = tmp_path / "pne-1.key"
    good("device", "add", "pne-1", "--data", alone, "--out", key)
    secret = key.read_text().split("/")[4]
    run = ("gateway", "run", "--server", "127.0.0.1:1", "--pan", "127.0.0.1:0", "--key", key)
    assert secret not in fails("bad_credential", *run)
    key.chmod(0o640)
    assert secret not in fails("key_file_readable_by_others", "pne", "run", "--key", key)


# a server that runs


def test_a_hangup_ends_nothing_and_opens_the_trace_anew(site: Site) -> None:
    """As logrotate wants it: the file was renamed, and the role goes on in a new one."""
    device = site.device("pne-5", "--trace", site.folder / "hangup.trace")
    traces = {site.server: site.folder / "server.trace", device: site.folder / "hangup.trace"}
    for trace in traces.values():
        trace.rename(f"{trace}.1")
    for one in (*traces, site.gateway):
        one.process.send_signal(signal.SIGHUP)
    for one, trace in traces.items():
        deadline = time.monotonic() + PATIENCE
        while not trace.exists():
            assert one.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    for one in traces:
        one.wait("SIGHUP: files are opened anew", error=True)
    site.gateway.wait("SIGHUP: there is no --trace to open anew", error=True)
    old = {trace: Path(f"{trace}.1").read_text() for trace in traces.values()}
    good("device", "send", "pne-5", "hello", "--data", site.data)
    assert "/inbox" in (site.folder / "server.trace").read_text()
    assert old == {trace: Path(f"{trace}.1").read_text() for trace in traces.values()}
    assert all(one.process.poll() is None for one in (*traces, site.gateway))
    device.end()


def test_a_second_server_is_refused_and_the_socket_is_private(site: Site) -> None:
    fails("server_running", "server", "run", "--data", site.data, "--listen", "127.0.0.1:0", run=cpns)
    assert mode(site.data / "admin.sock") == 0o600
    assert mode(site.folder / "gw") == 0o700
    assert mode(site.folder / "gw" / "gateway.db") == 0o600
    done = cpns("server", "tail", "--data", site.data, "--device", "nobody")
    assert (done.returncode, done.stderr[:22]) == (1, "error[unknown_entity]:")


def test_readings_arrive_live(site: Site) -> None:
    following = site.ask("server", "tail", "--device", "pne-1", "--since", "0", "--count", "3", "--output", "json")
    tail = Running(site.folder, "tail", *following)
    trace = site.folder / "pne-1.trace"
    device = site.device("pne-1", "--source", "host", "--interval", "0.2", "--trace", trace)
    assert tail.process.wait(PATIENCE) == 0
    tail.end()
    readings = [json.loads(line) for line in tail.lines()]
    assert len(readings) == 3
    for reading in readings:
        assert (reading["device"], reading["gateway"], reading["verified"]) == ("pne-1", "gw-1", "e2e")
        assert {"load_1m", "memory_percent", "network_sent_bytes"} <= set(reading["body"])
    acknowledged = [json.loads(line) for line in device.wait('"acknowledged"', 3)]
    assert [one["id"] for one in acknowledged[:3]] == [one["id"] for one in readings]

    shown = data_of(*site.ask("device", "show", "pne-1"))
    assert (shown["state"], shown["connected"], shown["last_result"]) == ("active", True, "success")
    assert shown["audit"][0]["event"] == "pne_established"
    [network] = data_of(*site.ask("network", "list"))["items"]
    assert (network["id"], network["gateway"]) == (shown["pn_id"], "gw-1")
    assert "pne-1" in [member["id"] for member in network["members"]]
    assert shown["pn_id"] in good(*site.ask("device", "show", "pne-1"))

    assert device.end() == 0
    passed = [json.loads(line) for line in trace.read_text().splitlines()]
    assert {"at", "sender", "peer", "what", "session"} == set(passed[0])
    assert (passed[0]["sender"], passed[0]["what"], passed[0]["session"]) == ("pne-1", "SETUP Request", "-")
    assert "/readings" in {one["what"] for one in passed}
    assert (site.folder / "server.trace").stat().st_size > 0


def test_events_are_followed_by_a_name_and_each_is_printed(site: Site) -> None:
    def followed(*more: str) -> list[int]:
        done = good(*site.ask("server", "events", "--cursor", "backup", *more, "--output", "json"))
        return [json.loads(line)["number"] for line in done.splitlines()]

    first = followed("--since", "all", "--count", "2")
    assert followed("--count", "2") == [first[-1] + 1, first[-1] + 2]
    assert followed("--since", "1", "--count", "1") == [first[-1] + 3]  # it never goes back
    [cursor] = data_of(*site.ask("cursor", "list"))["items"]
    assert (cursor["name"], cursor["number"], cursor["by"]) == ("backup", first[-1] + 3, "local")
    asked = site.ask("server", "events", "--cursor", "a-new-one", "--count", "1", "--output", "json")
    following = Running(site.folder, "follow", *asked)
    deadline = time.monotonic() + PATIENCE
    while not (begun := [one for one in data_of(*site.ask("cursor", "list"))["items"] if one["name"] == "a-new-one"]):
        assert time.monotonic() < deadline
    good("device", "add", "followed", "--data", site.data)
    assert following.process.wait(PATIENCE) == 0
    following.end()
    assert [json.loads(line)["number"] for line in following.lines()] == [begun[0]["number"] + 1]
    good(*site.ask("cursor", "drop", "a-new-one", "--yes"))
    assert [one["name"] for one in data_of(*site.ask("cursor", "list"))["items"]] == ["backup"]


def test_the_audit_log_is_listed_taken_out_and_pruned(alone: Path) -> None:
    for name in ("one", "two"):
        assert here("device", "add", name, "--data", alone).returncode == 0
    listed = json.loads(here("audit", "list", "--data", alone, "--about", "two", "--output", "json").stdout)
    assert [(one["event"], one["by"]) for one in listed["items"]] == [("provisioned", "local")]
    done = here("audit", "export", "--data", alone)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr.startswith(f"{len(rows)} rows, the last with number {rows[-1]['number']}")
    assert here("audit", "prune", "--data", alone, "--older", "0", "--dry-run").stdout.startswith(f"{len(rows)} rows")
    fails("not_confirmed", "audit", "prune", "--data", alone, "--older", "0")
    assert here("audit", "prune", "--data", alone, "--older", "0", "--yes").stdout.startswith(f"{len(rows)} rows")
    left = json.loads(here("audit", "list", "--data", alone, "--output", "json").stdout)
    assert [one["event"] for one in left["items"]] == ["audit_pruned"]
    fails("server_not_running", "server", "events", "--data", alone)


def test_all_readings_are_exported_once(alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, page by page; a server that runs gives the same."""
    monkeypatch.setattr("cpns.cli.talk.EXPORTED_AT_ONCE", 7)
    with sqlite3.connect(alone / "server.db") as store:
        store.executemany(
            "INSERT INTO readings (pne_id, reading_id, gateway_id, verified, received_at, body) VALUES (?,?,?,?,?,?)",
            [(f"pne-{n % 2}", n.to_bytes(12), "gw-1", "e2e", 1.5, json.dumps({"n": n})) for n in range(30)],
        )
    store.close()

    def numbers(*more: str) -> list[int]:
        done = here("readings", "export", "--data", alone, *more)
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.stderr.startswith(f"{len(rows)} readings, the last with number" if rows else "No readings.")
        return [row["body"]["n"] for row in rows]

    assert numbers() == list(range(30))
    assert numbers("--since", "21") == list(range(21, 30))
    assert numbers("--since", "30") == []
    fails("unknown_entity", "readings", "export", "--data", alone, "--device", "nobody")
    server = Running(tmp_path, "server", "server", "run", "--data", alone, "--listen", "127.0.0.1:0")
    server.wait("listening at")
    assert numbers() == list(range(30))
    assert len(cpns("server", "tail", "--data", alone, "--since", "all", "--count", "30").stdout.splitlines()) == 30
    server.end()


def test_a_device_is_reached_and_each_silence_is_explained(site: Site) -> None:
    device = site.device("pne-2")
    answer = data_of(*site.ask("device", "send", "pne-2", "water\x1b[31m the plants"), run=cpns)
    assert answer == {"answer": "received", "kept_until": None}
    assert json.loads(device.wait('"received"')[0])["text"] == "water\x1b[31m the plants"
    assert " ms" in good(*site.ask("device", "ping", "pne-2"), run=cpns)
    device.process.kill()  # it does not say goodbye
    device.end()
    calls = {
        "asleep": ("device", "ping", "pne-2"),
        "not_established": ("device", "ping", "pne-6"),
        "unknown_entity": ("device", "send", "nobody", "hi"),
        "bad_text": ("device", "send", "pne-2", "x" * 2000),
    }
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda call: fails(call[0], *site.ask(*call[1]), run=cpns), calls.items()))


def test_a_live_device_is_cut_off_at_once(site: Site) -> None:
    device = site.device("pne-3", "--source", "host", "--interval", "0.1")
    device.wait('"acknowledged"', 2)
    assert data_of(*site.ask("device", "revoke", "pne-3", "--yes"), run=cpns) == {"id": "pne-3", "ended": 1}
    told = data_of(*site.ask("device", "show", "pne-3"))
    before = len(device.lines())
    time.sleep(0.5)
    assert len(device.lines()) - before <= 1  # one may have been acknowledged when the command ended
    stored = sum('"acknowledged"' in line for line in device.lines())
    good(*site.ask("server", "tail", "--device", "pne-3", "--since", "all", "--count", str(stored)))
    assert (told["state"], told["connected"]) == ("revoked", False)
    assert device.process.poll() is None  # it goes on asking, in vain
    assert device.end() == 0


def test_lines_from_stdin_are_all_acknowledged(site: Site) -> None:
    run = ("pne", "run", "--key", site.key("pne-4"), "--gateway", site.pan, "--source", "-")
    lines = ['{"n": 1}', "no json", "", "[2]", '{"n": NaN}', '{"n": 2, "text": "grün"}', '{"n": 3}', '{"n": 4, "n": 5}']
    done = cpns(*run, stdin="\n".join(lines))
    assert done.returncode == 1, done.stderr
    said = done.stdout.splitlines()
    assert "established through gw-1 in pn-" in said[0]
    assert (done.stdout + done.stderr).count("established") == 1
    acknowledged = ['acknowledged {"n": 1}', 'acknowledged {"n": 2, "text": "grün"}', 'acknowledged {"n": 3}']
    assert said[1:] == [*acknowledged, "3 acknowledged, 4 refused"]
    bad = [line for line in done.stderr.splitlines() if line.startswith("error[bad_line]")]
    assert [line.split(" is ")[0] for line in bad] == [f"error[bad_line]: Line {number}" for number in (2, 4, 5, 8)]
    printed = cpns(*site.ask("server", "tail", "--device", "pne-4", "--since", "all", "--count", "3")).stdout
    assert [line[line.index("{") :] for line in printed.splitlines()] == [
        '{"n": 1}',
        '{"n": 2, "text": "grün"}',
        '{"n": 3}',
    ]


def test_ctrl_c_and_closed_pipes_are_quiet(site: Site) -> None:
    tail = Running(site.folder, "tail-4", *site.ask("server", "tail"))
    device = site.device("pne-5", "--source", "host", "--interval", "0.1")
    tail.wait("pne-5")
    assert tail.end(signal.SIGINT) == 130
    assert tail.err.read_text() == ""
    assert device.end(signal.SIGINT) == 0

    with subprocess.Popen(
        [*COMMAND, *site.ask("device", "list")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        listing.stdout.close()
        assert listing.stderr.read() == b""
        assert listing.wait(PATIENCE) == 1


def test_a_server_ends_cleanly_and_tells_who_follows(alone: Path, tmp_path: Path) -> None:
    server = Running(tmp_path, "server", "server", "run", "--data", alone, "--listen", "127.0.0.1:0")
    server.wait("listening at")
    tail = Running(tmp_path, "tail", "server", "tail", "--data", alone)
    time.sleep(1)  # it follows by now, or finds out later that there is no server: it must say so either way
    assert server.end() == 0
    assert not (alone / "admin.sock").exists()
    assert tail.process.wait(PATIENCE) == 1
    tail.end()
    assert tail.err.read_text().startswith("error[server_")
    assert "Traceback" not in server.err.read_text()
