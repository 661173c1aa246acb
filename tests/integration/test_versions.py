"""This source beside that of the commit before: what is new reaches what is old, and the other way round."""

import hashlib
import json
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import versions
from tests.support.parties import Process, until
from tests.support.versions import HERE, LATER_MIXES, MIXES, Mix, Outcome, Version, check_readings

if not versions.in_history():
    pytest.skip(versions.ABSENT, allow_module_level=True)  # told in one line

MODULES = """
import importlib, json, pkgutil, sys, cpns
for found in pkgutil.walk_packages(cpns.__path__, "cpns."):
    if not found.name.startswith("cpns.store.migrations."):  # these run as they are imported
        importlib.import_module(found.name)
print(json.dumps([one.__file__ for name, one in sys.modules.items() if name.split(".")[0] == "cpns"]))
"""


@pytest.mark.parametrize("mix", MIXES, ids="-".join)
def test_a_mix_of_old_and_new(mix: Mix, tmp_path: Path) -> None:
    outcome = versions.run(mix, tmp_path, versions.both())
    assert outcome.failure is None, outcome.failure
    assert list(outcome.seconds) == list(versions.STEPS)


@pytest.mark.parametrize(
    ("server", "gateway", "reason"),
    [("new", "old", "refused_with_21"), ("old", "new", "peer_answered_authentication_failed")],
    ids=["new server", "old server"],
)
def test_a_refusal_is_understood_in_either_form(server: str, gateway: str, reason: str, tmp_path: Path) -> None:
    """A gateway with another key than the server has: it says why, and tries on."""
    of, commands = versions.both(), []
    for one in ("own", "other"):
        data = ("--data", str(tmp_path / one))
        commands += [["server", "init", *data, "--id", "server.example"]]
        commands += [["gateway", "add", "gw-1", *data, "--out", str(tmp_path / f"{one}.key")]]
    of[server].several(commands)
    started = [of[server].start("server", "run", "--data", str(tmp_path / "own"), "--listen", "127.0.0.1:0")]
    try:
        address = started[0].wait_line("listening at").rsplit(" ", 1)[-1]
        key, place = ("--key", str(tmp_path / "other.key")), ("--pan", "127.0.0.1:0", "--no-announce")
        started.append(of[gateway].start("gateway", "run", *key, "--server", address, *place))
        until(lambda: any(f": {reason}; trying on" in line for line in started[1].err), reason)
        assert [process.end() for process in started] == [0, 0]
    finally:
        for process in started:
            process.end(signal.SIGKILL)


@pytest.mark.parametrize("name", ["old", "new"])
def test_what_runs_is_the_source_of_that_version(name: str) -> None:
    version = versions.both()[name]
    process = version.python_with("-c", MODULES)
    files = [Path(file) for file in json.loads(process.output())]
    assert len(files) > 150
    assert [file for file in files if not file.is_relative_to(version.source)] == []


@pytest.mark.parametrize("name", ["old", "new"])
def test_what_is_forked_is_the_source_of_that_version_too(name: str) -> None:
    version = versions.both()[name]
    process = version.python_with("-m", "timeit", "-n", "1", "-r", "1", "import cpns; print(cpns.__file__)")
    assert Path(process.output().splitlines()[0]).is_relative_to(version.source)


def test_the_old_source_is_that_of_the_commit() -> None:
    listed = versions.git("ls-tree", "-r", versions.COMMIT, "src").stdout.decode().splitlines()
    assert len(listed) > 150
    for line in listed:
        (_, _, blob), path = line.split("\t")[0].split(), line.split("\t")[1]
        data = (versions.before().source.parent / path).read_bytes()
        assert hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == blob, path


def test_a_peer_that_does_otherwise_is_found(tmp_path: Path) -> None:
    """Its steps up to there are good; what fails is named, with what the parties said."""
    source = tmp_path / "src"
    shutil.copytree(versions.before().source, source, ignore=shutil.ignore_patterns("__pycache__"))
    changed = source / "cpns" / "cli" / "run_pne.py"
    changed.write_text(changed.read_text().replace(f'ANSWER = "{versions.ANSWER}"', 'ANSWER = "what?"'))
    other = Version("other", versions.before().python, source)
    outcome = versions.run(Mix("other", "new", "new"), tmp_path, {"new": HERE, "other": other})
    assert list(outcome.seconds) == list(versions.STEPS)[:2]
    assert outcome.failure is not None
    assert outcome.failure.startswith("text: answered 'what?'")
    assert "gateway run" in outcome.failure


def reading(number: int, gateway: str = "gw-1") -> dict[str, Any]:
    return {"device": "ann", "gateway": gateway, "body": {"n": number}}


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param([reading(0)], id="lost"),
        pytest.param([reading(0), reading(1), reading(1)], id="twice"),
        pytest.param([reading(1), reading(0)], id="out of order"),
        pytest.param([reading(0), reading(2)], id="another value"),
        pytest.param([reading(0), reading(1, "gw-2")], id="another way"),
        pytest.param([reading(0), reading(1), reading(0) | {"device": "eve"}], id="of another"),
    ],
)
def test_readings_that_are_not_as_sent_are_found(stored: list[dict[str, Any]]) -> None:
    check_readings([reading(0), reading(1)], [reading(0), reading(1)])
    with pytest.raises(AssertionError, match="were sent"):
        check_readings(stored, [reading(0), reading(1)])


@pytest.mark.parametrize("broken", [None, MIXES[3]])
def test_the_command_fails_when_a_mix_does(
    broken: Mix | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(mix: Mix, *_: Any) -> Outcome:
        return Outcome({"establish": 1.0}, "text: no answer" if mix == broken else None)

    monkeypatch.setattr(versions, "run", run)
    assert versions.main() == (0 if broken is None else 1)
    said = capsys.readouterr().out
    assert ("new, old, old: text: no answer" in said) == ("FAILED" in said) == (broken is not None)
    mixes = len(MIXES) + len(LATER_MIXES)
    assert f"{mixes - (broken is not None)} of {mixes} mixes work" in said


def test_the_command_fails_where_there_is_no_such_commit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versions, "COMMIT", "0" * 40)
    assert not versions.in_history(versions.COMMIT)
    assert versions.main() == 1
    assert "git fetch --unshallow" in capsys.readouterr().out


# What is made once


def test_the_commit_before_is_made_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where a first try was cut short; and with packages of its own where it needs others than these."""
    monkeypatch.setattr(versions, "MADE", tmp_path)
    half = tmp_path / f"{versions.COMMIT}.part" / "src"
    half.mkdir(parents=True)
    (half / "stale.py").touch()
    monkeypatch.setattr(versions, "install", lambda _, venv: venv / "bin" / "python")
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(lambda _: versions.before(), range(4))
    assert others == [first] * 3
    assert not (first.source / "stale.py").exists()
    (first.source.parent / versions.LOCK.name).write_text("# others")
    assert versions.before().python == first.source.parent / "venv" / "bin" / "python"


def test_packages_of_its_own_are_installed_once(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.touch()
    python = versions.install(lock, tmp_path / "venv")
    process = Process([str(python), "-c", "import sys; print(sys.prefix); import cpns"], {})
    assert process.output(code=1) == str(tmp_path / "venv")
    stamp = (tmp_path / "venv" / ".made").stat().st_mtime_ns
    assert versions.install(lock, tmp_path / "venv") == python
    assert (tmp_path / "venv" / ".made").stat().st_mtime_ns == stamp
