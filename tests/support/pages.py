"""Pages of docs/ whose lines are typed as they stand there: each machine of a page is a folder of its own."""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.parties import Process

DOCS = Path(__file__).parents[2] / "docs"
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


def blocks(page: str) -> list[tuple[str, list[str]]]:
    """Return each block of lines that a page has somebody type, after the machine it is for."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^```sh (\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(machine, block.splitlines()) for machine, block in found]


class Machines:
    """The machines of a page.

    Args:
        folder: of their folders.
        names: words of the page, each with what stands in its place here.
        programs: folders of programs, besides that of `cpns`.
        variables: of the environment, for each machine; those of "" are for all.
        shims: programs that are not as they are elsewhere, each a text for bash.
    """

    def __init__(
        self,
        folder: Path,
        names: Mapping[str, str],
        programs: Sequence[Path],
        variables: Mapping[str, Mapping[str, str]],
        shims: Mapping[str, str] = SHIMS,
    ) -> None:
        self._folder = folder
        self._names = names
        self._variables = variables
        bin_ = folder / "bin"
        bin_.mkdir()
        for name, text in shims.items():
            (bin_ / name).write_text(f"#!/bin/bash\n{text}\n")
            (bin_ / name).chmod(0o755)
        self._path = os.pathsep.join([*map(str, (bin_, Path(sys.executable).parent, *programs)), os.environ["PATH"]])
        self.all: list[Process] = []
        self.running: dict[str, Process] = {}

    def home(self, machine: str) -> Path:
        """Return the folder of a machine."""
        home = self._folder / machine
        home.mkdir(exist_ok=True)
        return home

    def start(self, machine: str, line: str) -> Process:
        """Type a line, and leave it at that."""
        for name, ours in self._names.items():
            line = line.replace(name, ours)
        home = shlex.quote(str(self.home(machine)))
        variables = {"PATH": self._path, **self._variables.get("", {}), **self._variables.get(machine, {})}
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
        process = Process(["setsid", "bash", "-c", f"cd {home}; export HOME={home} {words}; {line}"], {})
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

    def close(self) -> None:
        """End what was started."""
        for process in reversed(self.all):
            process.end()
