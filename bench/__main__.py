"""``python -m bench``: server CPU, bytes and round trips per PNE, and server CPU per reading.

Saved under bench/results. Batch sizes take turns, so that a disturbance hits all of them; what is told is the median
over the turns. The floor (`bench.floor`) is measured within each turn.
"""

import argparse
import dataclasses
import os
import statistics
from collections import defaultdict
from pathlib import Path

import uvloop
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import floor, report
from bench.cpu import Others, yardstick
from bench.load import SERVER_CPU, Exchanged, Load, Shape, Traffic, load
from cpns.loadgen.figures import percentile

BATCHES = (Shape(1, 1, 32), Shape(1, 8, 16), Shape(1, 64, 4))
SUITES = (Shape(1, 64, 4), Shape(2, 64, 4), Shape(3, 40, 4))
"""Suite 3 has 40 PNEs in a batch: more would pass the 64 KiB of a body, and the PN GW does not gather them."""
GATEWAYS = max(shape.gateways for shape in BATCHES)
IN_FLIGHT = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: PNEs and readings in one turn, and the number of turns."""

    pnes: int
    readings: int
    turns: int

    def rounds(self, shape: Shape) -> int:
        return -(-self.pnes // shape.pnes)

    def devices(self) -> int:
        """Return how many devices a run can use up, with some to spare for rounds that are done again."""
        shapes = (*BATCHES, *SUITES)
        counted = sum(self.rounds(shape) * shape.pnes for shape in shapes) * self.turns
        once = sum(shape.pnes + shape.batch for shape in shapes)
        return counted + once + IN_FLIGHT * (self.turns + 1) + 10 * max(shape.pnes for shape in shapes)


FULL = Plan(pnes=512, readings=960, turns=5)
QUICK = Plan(pnes=64, readings=64, turns=1)


@dataclasses.dataclass(slots=True)
class Measured:
    """What the turns gave, by shape."""

    server: dict[Shape, list[float]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    floor: dict[Shape, list[float]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    traffic: dict[Shape, Traffic] = dataclasses.field(default_factory=dict)
    exchanged: list[Exchanged] = dataclasses.field(default_factory=list)
    yardsticks: list[float] = dataclasses.field(default_factory=list)
    repeated_rounds: int = 0
    gate_timeouts: int = 0
    others: Others = dataclasses.field(default_factory=Others)


async def _turn(one: Load, shape: Shape, plan: Plan, measured: Measured) -> None:
    with measured.others.watched(one.own):
        each = [(await one.establish(shape))[SERVER_CPU] for _ in range(plan.rounds(shape))]
    measured.server[shape].append(statistics.mean(each))


async def measure(plan: Plan, folder: Path, progress: Progress) -> Measured:
    measured = Measured()
    shapes = list(dict.fromkeys((*BATCHES, *SUITES)))
    bar = progress.add_task("starting the server", total=len(shapes) * (plan.turns + 1) + plan.turns + 1)
    async with load(folder, GATEWAYS, plan.devices()) as one:
        for shape in shapes:
            progress.update(bar, description=f"warming up, suite {shape.suite}, batch {shape.batch}", advance=1)
            await one.establish(shape)
            measured.traffic[shape] = await one.traffic(shape.suite, shape.batch)
        await one.exchange(IN_FLIGHT, IN_FLIGHT)
        progress.advance(bar)
        for turn in range(1, plan.turns + 1):
            measured.yardsticks.append(yardstick())
            for shape in shapes:
                text = f"turn {turn}/{plan.turns}: suite {shape.suite}, batch {shape.batch}"
                progress.update(bar, description=text)
                await _turn(one, shape, plan, measured)
                measured.floor[shape].append(floor.run(folder, shape.suite, shape.batch, plan.pnes))
                progress.advance(bar)
            progress.update(bar, description=f"turn {turn}/{plan.turns}: readings")
            measured.exchanged.append(await one.exchange(IN_FLIGHT, plan.readings))
            progress.advance(bar)
        measured.repeated_rounds, measured.gate_timeouts = one.repeated_rounds, one.gate.timeouts
    return measured


def _row(shape: Shape, measured: Measured) -> dict[str, float]:
    traffic = measured.traffic[shape]
    return {
        "batch": shape.batch,
        "server_cpu_us_per_pne": round(statistics.median(measured.server[shape]), 1),
        "floor_us_per_pne": round(statistics.median(measured.floor[shape]), 1),
        "bytes_pan": round(traffic.bytes_pan, 1),
        "bytes_uplink": round(traffic.bytes_uplink, 1),
        "round_trips_pan": traffic.round_trips_pan,
        "round_trips_uplink": traffic.round_trips_uplink,
    }


def _exchange(measured: Measured) -> dict[str, float]:
    latencies = [value for item in measured.exchanged for value in item.latencies_ms]
    return {
        "server_cpu_us_per_reading": round(statistics.median(item.server_cpu_us for item in measured.exchanged), 1),
        "p50_ms": round(percentile(latencies, 0.50), 2),
        "p95_ms": round(percentile(latencies, 0.95), 2),
        "p99_ms": round(percentile(latencies, 0.99), 2),
        "readings": sum(item.readings for item in measured.exchanged),
        "in_flight": IN_FLIGHT,
    }


def _run(plan: Plan, measured: Measured) -> dict[str, object]:
    return {
        **report.circumstances(measured.yardsticks, measured.others.cores),
        "plan": dataclasses.asdict(plan),
        "rounds_done_again": measured.repeated_rounds,
        "bursts_let_go_early": measured.gate_timeouts,
        "establish": [
            {
                **dataclasses.asdict(shape),
                "server_cpu_us_per_pne": [round(value, 1) for value in measured.server[shape]],
                "floor_us_per_pne": [round(value, 1) for value in measured.floor[shape]],
            }
            for shape in measured.server
        ],
        "exchange": [round(item.server_cpu_us, 1) for item in measured.exchanged],
    }


def save(run: dict[str, object], measured: Measured, *, quick: bool) -> None:
    files: dict[str, object] = {
        "establish": [_row(shape, measured) for shape in BATCHES],
        "establish-suites": [{"suite": shape.suite, **_row(shape, measured)} for shape in SUITES],
        "exchange": _exchange(measured),
        "run": run,
    }
    for name, content in files.items():
        report.save(name, content, quick=quick)


def _establish_table(measured: Measured) -> Table:
    table = Table(title="One PNE established through a PN GW: LocalEUKey, durable commit", box=SIMPLE, padding=(0, 1))
    for name in ("suite", "batch", "server\nCPU us", "floor\nus", "ratio", "PNEs /\nCPU-s", "PAN\nB", "uplink\nB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("round trips\nPAN, uplink*", justify="right", no_wrap=True)
    for shape in measured.server:
        row = _row(shape, measured)
        server, bare = row["server_cpu_us_per_pne"], row["floor_us_per_pne"]
        table.add_row(
            str(shape.suite),
            str(shape.batch),
            report.spread(measured.server[shape]),
            report.spread(measured.floor[shape]),
            f"{server / bare:.1f}",
            f"{1e6 / server:,.0f}",
            f"{row['bytes_pan']:.0f}",
            f"{row['bytes_uplink']:.0f}",
            f"{row['round_trips_pan']:.0f}, {row['round_trips_uplink']:.0f}",
        )
    return table


def show(console: Console, plan: Plan, measured: Measured) -> None:
    exchange = _exchange(measured)
    low, high = min(measured.yardsticks), max(measured.yardsticks)
    lines = (
        f"One reading end to end, committed: {report.spread([item.server_cpu_us for item in measured.exchanged])} us "
        f"of server CPU. {IN_FLIGHT} PNEs at once waited {exchange['p50_ms']} / {exchange['p95_ms']} / "
        f"{exchange['p99_ms']} ms (p50 / p95 / p99), all parties on this machine.",
        f"* for a whole batch. Median (min-max) of {plan.turns} turns of {plan.pnes} PNEs. Noise: SHA-256 of 1 KiB "
        f"took {low:.2f}-{high:.2f} us, others kept {measured.others.cores:.2f} of {os.cpu_count()} "
        f"cores busy, {measured.repeated_rounds} rounds were done again. Ratios under 1.3 say nothing.",
    )
    console.print(_establish_table(measured))
    for line in lines:
        console.print(line, highlight=False, markup=False)


def document(measured: Measured, run: dict[str, object]) -> None:
    """Write the first table of docs/performance.md."""
    rows = []
    for shape in measured.server:
        row = _row(shape, measured)
        trips = f"{row['round_trips_pan']:.0f} / {row['round_trips_uplink']:.0f}"
        server, bare = row["server_cpu_us_per_pne"], row["floor_us_per_pne"]
        cells = [report.spread(measured.server[shape]), report.spread(measured.floor[shape]), f"{server / bare:.1f}"]
        wire = [f"{row['bytes_pan']:.0f}", f"{row['bytes_uplink']:.0f}", trips]
        rows.append([str(shape.suite), str(shape.batch), *cells, *wire])
    head = ["suite", "PNEs in a batch", "server CPU, us", "floor, us", "ratio", "PAN, bytes", "uplink, bytes"]
    exchange = _exchange(measured)
    spread = report.spread([item.server_cpu_us for item in measured.exchanged])
    readings = (
        f"One reading, end to end and committed: {spread} us of server CPU. {IN_FLIGHT} PNEs that each send one after "
        f"the other wait {exchange['p50_ms']} ms (p50), {exchange['p95_ms']} ms (p95), {exchange['p99_ms']} ms (p99), "
        "with gateways and PNEs in one Python process on the same machine."
    )
    shown = report.table([*head, "round trips, PAN / uplink"], rows)
    report.put(report.PAGE, "establish", f"{report.told(run)}\n\n{shown}\n\n{readings}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test: one short turn, saved under build/bench")
    quick = parser.parse_args().quick
    plan = QUICK if quick else FULL
    console = Console(width=max(Console().width, 110))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with report.disk() as folder, Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        measured = uvloop.run(measure(plan, folder, progress))
    run = _run(plan, measured)
    save(run, measured, quick=quick)
    if not quick:
        document(measured, run)
    show(console, plan, measured)
    console.print(f"saved in {report.results(quick=quick).relative_to(report.ROOT)}", highlight=False)


if __name__ == "__main__":
    main()
