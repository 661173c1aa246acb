"""PNE, PN GW and server side by side, each of this source, of the commit before or of a made-up later one: processes.

Run by itself it prints what each mix took: ``python -m tests.support.versions``.
"""

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tests.support.parties import PATIENCE, Process, until

COMMIT = "f8790ba347596ad6c483c498d94a2b7978ee6f1c"
"""The commit before: what runs of it somewhere goes on working with what is here."""
ABSENT = f"commit {COMMIT[:7]} is not in this repository: clone it with its history, or git fetch --unshallow"

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
INSTALLED = ROOT / "requirements-dev.lock"
MADE = ROOT / "build" / "versions"

READINGS = 20
READINGS_AFTER = 5
ANSWER = "received"
QUICK = ("--timer", "3", "--request-timeout", "1.5", "--presence", "1")


@dataclass(frozen=True)
class Version:
    """What a process of `cpns` is run from.

    Attributes:
        name: for people.
        python: an interpreter with the packages that the source needs.
        source: goes before all that is installed there.
    """

    name: str
    python: Path
    source: Path

    def python_with(self, *arguments: str) -> Process:
        """Start that Python with this source, which is compiled once: a mix starts more than a dozen."""
        environment = {"PYTHONPATH": str(self.source), "PYTHONDONTWRITEBYTECODE": ""}
        return Process([str(self.python), *arguments], environment)

    def start(self, *arguments: str) -> Process:
        """Start ``cpns ARGUMENTS``."""
        return self.python_with("-m", "cpns", *arguments)

    def several(self, commands: Sequence[Sequence[str]]) -> None:
        """Run several commands."""
        self.python_with("-m", "tests.support.several", json.dumps(commands)).output()


@dataclass(frozen=True)
class Later(Version):
    """A made-up later version: this source, and what a later one may say (`tests.support.later`)."""

    def start(self, *arguments: str) -> Process:
        return self.python_with("-m", "tests.support.later", *arguments)


HERE = Version("new", Path(sys.executable), ROOT / "src")
AFTER = Later("later", HERE.python, HERE.source)


def before(commit: str = COMMIT) -> Version:
    """Return *commit*, named in full: the commit before, which is made once for all who ask."""
    folder = MADE / commit
    MADE.mkdir(parents=True, exist_ok=True)
    with FileLock(MADE / f"{commit}.lock"):
        if not folder.exists():
            _unpack(commit, folder)
        lock = folder / LOCK.name
        here = set(_lines(lock)) <= set(_lines(INSTALLED))  # what it needs is what runs this
        return Version("old", HERE.python if here else install(lock, folder / "venv"), folder / "src")


def _lines(lock: Path) -> list[str]:
    return lock.read_text(encoding="utf-8").split("\n")


def in_history(commit: str = COMMIT) -> bool:
    """Return whether git can give the commit before; a tarball and a shallow clone have none."""
    try:
        return git("cat-file", "-e", f"{commit}^{{commit}}").returncode == 0
    except FileNotFoundError:
        return False


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in this repository; return what came of it."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)


def _unpack(commit: str, folder: Path) -> None:
    part = folder.with_suffix(".part")  # so that nobody takes the half of it for the whole
    shutil.rmtree(part, ignore_errors=True)
    archive = git("archive", "--format=zip", commit, "src", "bench", LOCK.name)
    archive.check_returncode()
    zipfile.ZipFile(io.BytesIO(archive.stdout)).extractall(part)
    part.rename(folder)


def install(lock: Path, venv: Path) -> Path:
    """Return the Python of *venv* with the packages of *lock*; made anew for another Python only."""
    stamp, python = venv / ".made", venv / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != sys.version:
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(venv)], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--require-hashes", "-r", str(lock)], check=True)
        stamp.write_text(sys.version)
    return python


class Mix(NamedTuple):
    """The version of each kind of party."""

    pne: str
    gateway: str
    server: str


MIXES = [Mix(*one) for one in itertools.product((HERE.name, "old"), repeat=3)]
LATER_MIXES = [
    Mix(*one)
    for one in (
        *(("later", "later", "later"), ("later", "new", "new"), ("new", "later", "new"), ("new", "new", "later")),
        *(("later", "old", "later"), ("old", "later", "later")),
        *(("later", "old", "old"), ("later", "new", "old"), ("later", "later", "old"), ("new", "later", "old")),
    )
]


@dataclass
class Outcome:
    """What came of a mix.

    Attributes:
        seconds: by step, of those that ended well.
        failure: what failed, and what the parties said last.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    failure: str | None = None


class Site:
    """A server, two gateways with a network each, and a device behind each; the devices' group goes across.

    Every party, and every command that is given to it, is of that party's version.
    """

    def __init__(self, folder: Path, pne: Version, gateway: Version, server: Version) -> None:
        self._folder = folder
        self._pne, self._gateway, self._server = pne, gateway, server
        self._data = ("--data", self._path("server"))
        self._all: list[Process] = []
        self._sent: list[dict[str, Any]] = []

    def establish(self) -> None:
        """Provision all; then both devices come in."""
        self._provision()
        main = self._keep(self._server.start("server", "run", *self._data, "--listen", "127.0.0.1:0"))
        address = main.wait_line("listening at").rsplit(" ", 1)[-1]
        tail = ("server", "tail", *self._data, "--since", "all", "--output", "json")
        self._tail = self._keep(self._server.start(*tail))
        gateways = [self._start_gateway(*one, address) for one in (("gw-1", "home"), ("gw-2", "office"))]
        pans = [one.wait_line(" at 127.0.0.1").rsplit(" ", 1)[-1] for one in gateways]
        self._pan = pans[0]
        self._ann, self._ben = (self._start_pne(*one) for one in zip(("ann", "ben"), pans, strict=True))
        self._ann.wait_line('"gateway": "gw-1"')
        self._ben.wait_line('"gateway": "gw-2"')
        self._roles = [self._ann, self._ben, *gateways, main]

    def readings(self) -> None:
        """All of them are stored, once, in their order, as they were sent."""
        self._send(self._ann, "ann", "gw-1", READINGS)
        self._all_stored()

    def text(self) -> None:
        """The device has it, and its answer comes back."""
        said = self._call(self._server, "device", "send", "ann", "water the plants", *self._data)
        assert said["answer"] == ANSWER, f"answered {said['answer']!r}"
        self._ann.wait_line('"text": "water the plants"')

    def group_message(self) -> None:
        """One that is signed, from network to network."""
        made = self._call(self._pne, *("pne", "group", "create", "family", "--invite", "ben"), *self._control("ann"))
        assert made["results"] == {"ben": "success"}, made
        self._tell_group("ann", self._ben, "dinner is ready")

    def approval(self) -> None:
        """Who waits is told so where all three parties can, and comes in when it is approved."""
        self._call(self._server, "network", "set", "home", "--policy", "approval", *self._data)
        cat = self._start_pne("cat", self._pan)
        until(lambda: self._call(self._server, "device", "pending", *self._data)["items"], "cat waits")
        if {self._pne.name, self._gateway.name, self._server.name} == {HERE.name}:
            cat.wait_line('"pending_approval"')
        self._call(self._server, "device", "approve", "cat", *self._data)
        cat.wait_line('"established"')
        self._roles.insert(0, cat)

    def switch(self) -> None:
        """The network goes to the other gateway, and all goes on there."""
        self._call(self._server, "network", "switch", "home", "gw-2", *self._data)
        self._ann.wait_line('"gateway": "gw-2"')
        self._send(self._ann, "ann", "gw-2", READINGS_AFTER)
        self._send(self._ben, "ben", "gw-2", READINGS_AFTER)
        self._all_stored()
        self._tell_group("ben", self._ann, "on my way")

    def end(self) -> None:
        """Each party ends in order when it is asked to; nothing came twice, and no party has seen an error."""
        assert [one.end() for one in self._roles] == [0] * len(self._roles)
        self._tail.process.wait(PATIENCE)
        self._tail.end()
        self._all_stored()
        for one in self._roles:
            assert not [line for line in one.err if " ERROR " in line or "Traceback" in line], one.err

    def close(self) -> None:
        """End what still runs."""
        for one in self._all:
            one.end(signal.SIGKILL)

    def said(self) -> str:
        """Return the last words of all parties."""
        return "\n".join(f"{' '.join(one.arguments)}: {one.out[-3:]} {one.err[-6:]}" for one in self._all)

    def _path(self, name: str) -> str:
        return str(self._folder / name)

    def _control(self, name: str) -> tuple[str, str]:
        return ("--control", self._path(f"{name}.sock"))

    def _keep(self, process: Process) -> Process:
        self._all.append(process)
        return process

    def _call(self, version: Version, *arguments: str) -> Any:
        return json.loads(self._keep(version.start(*arguments, "--output", "json")).output())

    def _provision(self) -> None:
        commands = [["server", "init", *self._data, "--id", "server.example"]]
        for kind, name in (
            ("gateway", "gw-1"),
            ("gateway", "gw-2"),
            *(("device", name) for name in ("ann", "ben", "cat")),
        ):
            commands.append([kind, "add", name, *self._data, "--out", self._path(f"{name}.key")])
        self._server.several(commands)

    def _start_gateway(self, name: str, alias: str, server: str) -> Process:
        return self._keep(
            self._gateway.start(
                *("gateway", "run", "--key", self._path(f"{name}.key"), "--data", self._path(name)),
                *("--server", server, "--pan", "127.0.0.1:0", "--no-announce", "--alias", alias),
            )
        )

    def _start_pne(self, name: str, pan: str) -> Process:
        return self._keep(
            self._pne.start(
                *("pne", "run", "--key", self._path(f"{name}.key"), "--gateway", pan, "--accept", "--source", "-"),
                *("--output", "json", *self._control(name), *QUICK),
            )
        )

    def _send(self, process: Process, name: str, gateway: str, count: int) -> None:
        for number in range(len(self._sent), len(self._sent) + count):
            body = {"n": number, "celsius": number / 8, "place": "Küche", "open": number % 2 == 0}
            self._sent.append({"device": name, "gateway": gateway, "body": body})
            process.write(json.dumps(body))

    def _all_stored(self) -> None:
        until(lambda: len(self._tail.out) >= len(self._sent), f"{len(self._sent)} readings are stored")
        check_readings([json.loads(line) for line in self._tail.out], self._sent)

    def _tell_group(self, name: str, other: Process, text: str) -> None:
        said = self._call(self._pne, "pne", "group", "send", "family", text, *self._control(name))
        assert said["sent"] == text, said
        got = json.loads(other.wait_line(f'"text": "{text}"'))
        assert (got["event"], got["name"], got["from"], got["late"]) == ("group_text", "family", name, False), got


def check_readings(stored: list[dict[str, Any]], sent: list[dict[str, Any]]) -> None:
    """Every reading of each device is there, once, in the order and with the values that it was sent with."""
    for device in {one["device"] for one in stored + sent}:
        found, wanted = (
            [(one["gateway"], one["body"]) for one in all_ if one["device"] == device] for all_ in (stored, sent)
        )
        assert found == wanted, f"readings of {device}: {found} are stored, {wanted} were sent"


STEPS: dict[str, Callable[[Site], None]] = {
    "establish": Site.establish,
    f"{READINGS} readings": Site.readings,
    "text": Site.text,
    "group message": Site.group_message,
    "approval": Site.approval,
    "switch": Site.switch,
    "end": Site.end,
}


def run(mix: Mix, folder: Path, versions: Mapping[str, Version]) -> Outcome:
    """Go through all steps with the parties of *mix*, in *folder*, until one fails."""
    outcome = Outcome()
    site = Site(folder, *(versions[name] for name in mix))
    try:
        for name, step in STEPS.items():
            begun = time.monotonic()
            step(site)
            outcome.seconds[name] = time.monotonic() - begun
    except (AssertionError, subprocess.TimeoutExpired) as error:
        outcome.failure = f"{name}: {error}\n{site.said()}"
    finally:
        site.close()
    return outcome


def both() -> dict[str, Version]:
    """Return both versions by name."""
    return {one.name: one for one in (HERE, before())}


def all_of_them() -> dict[str, Version]:
    """Return these and the later one."""
    return {**both(), AFTER.name: AFTER}


def table(outcomes: Mapping[Mix, Outcome]) -> Table:
    """Return a row for each mix, with the seconds of each step."""
    shown = Table(box=SIMPLE, title=f"new: this source; old: {COMMIT[:7]}; later: made up; seconds")
    for name in (*Mix._fields, *STEPS):
        shown.add_column(name, justify="left" if name in Mix._fields else "right")
    for mix, outcome in outcomes.items():
        cells = [f"{seconds:.1f}" for seconds in outcome.seconds.values()]
        failed = [] if outcome.failure is None else ["[red]FAILED[/]"]
        shown.add_row(*mix, *cells, *failed)
    return shown


def main() -> int:
    """Run all mixes, some at a time; print what came of it; return the exit code."""
    console = Console(highlight=False, width=max(Console().width, 110))
    if not in_history(COMMIT):
        console.print(f"left out: {ABSENT}", soft_wrap=True)
        return 1
    begun, versions, mixes = time.monotonic(), all_of_them(), [*MIXES, *LATER_MIXES]
    with tempfile.TemporaryDirectory(prefix="cpns-versions-") as folder, ThreadPoolExecutor(_at_a_time()) as pool:
        folders = [Path(folder, "-".join(mix)) for mix in mixes]
        for one in folders:
            one.mkdir()
        outcomes = dict(zip(mixes, pool.map(run, mixes, folders, itertools.repeat(versions)), strict=True))
    console.print(table(outcomes))
    failures = {mix: outcome.failure for mix, outcome in outcomes.items() if outcome.failure is not None}
    for mix, failure in failures.items():
        console.print(f"{', '.join(mix)}: {failure}", markup=False, soft_wrap=True)
    good = len(mixes) - len(failures)
    console.print(f"{good} of {len(mixes)} mixes work, after {time.monotonic() - begun:.0f} s")
    return 1 if failures else 0


def _at_a_time() -> int:
    """A mix more than there are cores, as a mix waits part of its time."""
    return (os.cpu_count() or 1) + 1


if __name__ == "__main__":
    sys.exit(main())
