"""``python -m bench.versus [COMMIT]``: what the server costs in this source, beside what it costs in a commit before.

Two servers are up, one of each, and take turns under the same load: PN GWs and PNEs of this source. Memory is that of
whole sites, all parties of one source, as `cpns bench` tells it. It takes some ten minutes.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop
from rich.console import Console

from bench import report
from bench.__main__ import BATCHES, GATEWAYS, IN_FLIGHT, SUITES
from bench.cpu import Others, yardstick
from bench.load import SERVER_CPU, Load, Shape, load
from tests.support.versions import ABSENT, HERE, Version, before, in_history

COMMIT = "56d2bec5aadbd7ffcbcaf0cf0782feb5ab962e17"
"""The commit before the CoAP engine, which stood on aiocoap."""
SHAPES = tuple(dict.fromkeys((*BATCHES, *SUITES)))
READING = "a reading"
MOST = {READING: 0.7, "a PNE, suite 1, 1 in its batch": 0.8}
"""Ratios that were set as goals; all else is not to be dearer."""
NOISE = 1.05
"""Ratios up to here say nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured in one turn, PNEs of each shape and readings; the turns; and the sites for the memory."""

    pnes: int
    readings: int
    turns: int
    gateways: int
    members: int
    sites: int

    def rounds(self, shape: Shape) -> int:
        """Return how often PNEs come in that shape in one turn."""
        return -(-self.pnes // shape.pnes)

    def devices(self) -> int:
        """Return how many devices a server can use up, with some to spare for rounds that are done again."""
        once = sum(shape.pnes for shape in SHAPES) + IN_FLIGHT
        counted = sum(self.rounds(shape) * shape.pnes for shape in SHAPES) + IN_FLIGHT
        return self.turns * counted + 5 * once


FULL = Plan(pnes=256, readings=960, turns=15, gateways=200, members=50, sites=2)
QUICK = Plan(pnes=64, readings=64, turns=1, gateways=2, members=10, sites=1)

Pair = tuple[float, float]
"""A figure of the commit before, and of this source."""


@dataclass(slots=True)
class Measured:
    """What the turns gave: server CPU in microseconds by what it was spent for, memory in KiB by role."""

    cpu_us: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    memory_kib: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    yardsticks: list[float] = field(default_factory=list)
    others: Others = field(default_factory=Others)


def name(shape: Shape) -> str:
    """Return a shape for people."""
    return f"a PNE, suite {shape.suite}, {shape.batch} in its batch"


async def work(one: Load, what: Shape | None, plan: Plan) -> float:
    """Return the server's CPU microseconds for one PNE of a shape, or (None) for one reading."""
    if what is None:
        return (await one.exchange(IN_FLIGHT, plan.readings)).server_cpu_us
    return statistics.mean([(await one.establish(what))[SERVER_CPU] for _ in range(plan.rounds(what))])


async def measure_cpu(versions: Sequence[Version], plan: Plan, folder: Path, status: Console) -> Measured:
    """Let both servers take turns, the first of them in each turn by turns too."""
    measured = Measured()
    async with contextlib.AsyncExitStack() as opened:
        loads = []
        for version in versions:
            own = folder / version.name
            own.mkdir()
            one = await opened.enter_async_context(load(own, GATEWAYS, plan.devices(), version=version))
            loads.append(one)
            for shape in SHAPES:
                await one.establish(shape)  # warm
            await one.exchange(IN_FLIGHT, IN_FLIGHT)
        own_pids = {pid for one in loads for pid in one.own}
        for turn in range(plan.turns):
            measured.yardsticks.append(yardstick())
            with measured.others.watched(own_pids), status.status(f"turn {turn + 1} of {plan.turns}"):
                for what in (*SHAPES, None):
                    order = (0, 1) if turn % 2 else (1, 0)
                    spent = {which: await work(loads[which], what, plan) for which in order}
                    measured.cpu_us[READING if what is None else name(what)].append((spent[0], spent[1]))
    return measured


async def site(version: Version, plan: Plan) -> dict[str, float]:
    """Return KiB of memory for each established PNE of a whole site of *version*, by role."""
    shape = ("--gateways", plan.gateways, "--pnes", plan.members, "--processes", 1, "--suite", 2, "--presence", 50)
    process = await asyncio.create_subprocess_exec(
        *(str(version.python), "-m", "cpns", "bench", *map(str, shape)),
        *("--rate", "10", "--duration", "1", "--output", "json"),
        env={**os.environ, "PYTHONPATH": str(version.source)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    said, _ = await process.communicate()
    return {role: size / 1024 for role, size in json.loads(said)["bytes_per_pne"].items()}


async def measure(versions: Sequence[Version], plan: Plan, folder: Path, status: Console) -> Measured:
    """Measure all."""
    measured = await measure_cpu(versions, plan, folder, status)
    for number in range(plan.sites):
        with status.status(f"sites for the memory, {number + 1} of {plan.sites}"):
            old, new = [await site(version, plan) for version in versions]
            for role in old:
                measured.memory_kib[role].append((old[role], new[role]))
    return measured


def ratios(pairs: Sequence[Pair]) -> list[float]:
    """Return what this source takes, as a multiple of what the commit before takes beside it."""
    return [new / old for old, new in pairs]


def verdict(what: str, ratio: float) -> str:
    """Return how a ratio stands to what was set as goal."""
    most = MOST.get(what, NOISE)
    return f"{'yes' if ratio <= most else 'NO'} (at most {most:.2f})"


HEAD = ["what", "before", "now", "ratio", "as wanted"]


def rows(table: dict[str, list[Pair]], unit: str) -> list[list[str]]:
    """Return a line for each figure, under `HEAD`."""
    found = []
    for what, pairs in table.items():
        each = ratios(pairs)
        middle = statistics.median(each)
        old, new = ([pair[which] for pair in pairs] for which in (0, 1))
        spread = f"{middle:.2f} ({min(each):.2f}-{max(each):.2f})"
        found.append([f"{what}, {unit}", _spread(old), _spread(new), spread, verdict(what, middle)])
    return found


def _spread(values: Sequence[float]) -> str:
    if max(values) >= 100:
        return report.spread(values)
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def main() -> int:
    """Measure, print, save, and write docs/performance.md; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.versus", description=__doc__)
    parser.add_argument("commit", nargs="?", default=COMMIT, help="named in full")
    parser.add_argument("--quick", action="store_true", help="a smoke test, saved under build/bench")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    console = Console(highlight=False, width=max(Console().width, 120))
    if not in_history(arguments.commit):
        console.print(f"left out: {ABSENT}")
        return 1
    versions = (before(arguments.commit), HERE)
    with report.disk() as folder:
        measured = uvloop.run(measure(versions, plan, folder, console))
    run = report.circumstances(measured.yardsticks, measured.others.cores)
    lines = [*rows(measured.cpu_us, "us"), *rows(measured.memory_kib, "KiB")]
    report.show(console, f"Server CPU beside commit {arguments.commit[:7]}, and memory for a PNE", HEAD, lines)
    told = f"{report.told(run)} Commit before: {arguments.commit[:7]}."
    console.print(told)
    content = {"before": arguments.commit, "cpu_us": measured.cpu_us, "memory_kib": measured.memory_kib}
    report.save("versus", {**run, "plan": asdict(plan), **content}, quick=arguments.quick)
    if not arguments.quick:
        report.put(report.PAGE, "versus", f"{told}\n\n{report.table(HEAD, lines)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
