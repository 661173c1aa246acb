"""``python -m bench.peers``: what one device costs this server, and servers that a user would name, side by side.

All take turns in one run, each as a process of its own on 127.0.0.1. A peer that is not installed is left out with a
word.
"""

import argparse
import dataclasses
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import uvloop
from rich.console import Console

from bench import floor, plot, report
from bench.cpu import Others, yardstick
from bench.load import SERVER_CPU, Load, Shape, Traffic, load
from bench.peers import eap, edhoc, kerberos, oscore, tls
from bench.peers.peer import IN_FLIGHT, Absent, Cost, Peer
from cpns.loadgen.plot import COLORS

SHAPES = tuple(Shape(suite, batch, gateways) for suite in (1, 2) for batch, gateways in ((1, 32), (8, 16), (64, 4)))
YARDSTICK = SHAPES[-1]
"""What all others are put in relation to: the suite that devices propose, and the largest batch."""

HANDSHAKES = (*eap.PEERS, *kerberos.PEERS, *tls.PEERS, *edhoc.PEERS)
EXCHANGES = oscore.PEERS
FLEET = 64
"""Devices for which round trips are told."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: devices in one turn, and the number of turns."""

    count: int
    turns: int

    def devices(self) -> int:
        """Return how many PNEs a run can use up, with some to spare for rounds that are done again."""
        rounded = sum(-(-self.count // shape.pnes) * shape.pnes for shape in SHAPES) * self.turns
        return rounded + sum(2 * shape.pnes + shape.batch for shape in SHAPES) + IN_FLIGHT * (self.turns + 2)


FULL = Plan(count=256, turns=5)
QUICK = Plan(count=IN_FLIGHT, turns=1)


@dataclasses.dataclass(slots=True)
class Measured:
    """What the turns gave."""

    cpns: dict[Shape, list[Cost]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    traffic: dict[Shape, Traffic] = dataclasses.field(default_factory=dict)
    floor: dict[Shape, list[float]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    peers: dict[Peer, list[Cost]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    readings: list[Cost] = dataclasses.field(default_factory=list)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    yardsticks: list[float] = dataclasses.field(default_factory=list)
    others: Others = dataclasses.field(default_factory=Others)


async def _peer(peer: Peer, folder: Path, count: int, measured: Measured) -> None:
    """Measure with a server of its own for each turn: some grow slower with all that they have seen."""
    if peer.name in measured.absent:
        return
    with tempfile.TemporaryDirectory(dir=folder) as own:
        try:
            async with peer.start(Path(own)) as measure:
                await measure(IN_FLIGHT)  # warm
                measured.peers[peer].append(await measure(count))
        except Absent as absent:
            measured.absent[peer.name] = str(absent)


async def _turn(one: Load, plan: Plan, measured: Measured) -> None:
    with measured.others.watched(one.own):
        for shape in SHAPES:
            each = [(await one.establish(shape))[SERVER_CPU] for _ in range(-(-plan.count // shape.pnes))]
            traffic = measured.traffic[shape]
            cost = Cost(statistics.mean(each), traffic.bytes_uplink, traffic.round_trips_uplink)
            measured.cpns[shape].append(cost)
        exchanged = await one.exchange(IN_FLIGHT, plan.count * 2)
        measured.readings.append(Cost(exchanged.server_cpu_us, exchanged.bytes_uplink, 1))


async def measure(plan: Plan, folder: Path, console: Console) -> Measured:
    """Return what all cost, those that are installed."""
    measured = Measured()
    async with load(folder, max(shape.gateways for shape in SHAPES), plan.devices()) as one:
        for shape in SHAPES:
            await one.establish(shape)  # warm
            measured.traffic[shape] = await one.traffic(shape.suite, shape.batch)
        for number in range(plan.turns):
            with console.status(f"turn {number + 1} of {plan.turns}"):
                measured.yardsticks.append(yardstick())
                await _turn(one, plan, measured)
                for shape in SHAPES:
                    measured.floor[shape].append(floor.run(folder, shape.suite, shape.batch, plan.count))
                for peer in (*HANDSHAKES, *EXCHANGES):
                    await _peer(peer, folder, plan.count, measured)
    return measured


def _median(costs: Sequence[Cost]) -> float:
    return statistics.median(cost.server_cpu_us for cost in costs)


def _cells(name: str, forward_secret: bool, batch: int, costs: Sequence[Cost], unit: float) -> list[str]:
    trips = statistics.median(cost.round_trips for cost in costs)
    return [
        name,
        "yes" if forward_secret else "no",
        report.spread([cost.server_cpu_us for cost in costs]),
        f"{_median(costs) / unit:.1f}",
        f"{statistics.median(cost.bytes for cost in costs):.0f}",
        f"{trips:.0f}",
        f"{trips * -(-FLEET // batch):.0f}",
    ]


def _name(shape: Shape) -> str:
    return f"cpns, suite {shape.suite}, {shape.batch} in a batch"


HEAD = ["server", "forward secrecy", "server CPU, us", "ratio", "bytes", "round trips", f"for {FLEET} devices"]


def rows(measured: Measured) -> list[list[str]]:
    """Return one line for each way to authenticate a device, under `HEAD`."""
    unit = _median(measured.cpns[YARDSTICK])
    found = [_cells(_name(shape), shape.suite > 1, shape.batch, costs, unit) for shape, costs in measured.cpns.items()]
    handshakes = [peer for peer in HANDSHAKES if peer in measured.peers]
    found += [_cells(peer.name, peer.forward_secret, 1, measured.peers[peer], unit) for peer in handshakes]
    for shape in [shape for shape in SHAPES if shape.batch == FLEET]:
        least = measured.floor[shape]
        name = f"floor of {_name(shape)}"
        found.append([name, "", report.spread(least), f"{statistics.median(least) / unit:.1f}", "", "", ""])
    return found


def exchange_rows(measured: Measured) -> list[list[str]]:
    """Return one line for each server that answers a protected request."""
    named = [("cpns, a reading, committed", measured.readings)]
    named += [(peer.name, measured.peers[peer]) for peer in EXCHANGES if peer in measured.peers]
    return [
        [name, report.spread([cost.server_cpu_us for cost in costs]), f"{costs[-1].bytes:.0f}"] for name, costs in named
    ]


def absences(measured: Measured) -> str:
    """Return a word on each peer that was left out; empty where all were there."""
    return "\n".join(f"Left out: {name} ({why})." for name, why in measured.absent.items())


def drawing(measured: Measured) -> str:
    """Return the plot of CPU per device."""
    named = [(_name(shape), costs, COLORS[0]) for shape, costs in measured.cpns.items()]
    named += [(peer.name, measured.peers[peer], COLORS[1]) for peer in HANDSHAKES if peer in measured.peers]
    drawn = []
    for name, costs, color in named:
        each = [cost.server_cpu_us for cost in costs]
        drawn.append(plot.Bar(name, statistics.median(each), min(each), max(each), color))
    return plot.bars(drawn, "server CPU for one device, us: median, and least to most")


def results(plan: Plan, measured: Measured) -> dict[str, object]:
    """Return all that was measured, for a file."""
    named = {_name(shape): costs for shape, costs in measured.cpns.items()}
    named |= {peer.name: costs for peer, costs in measured.peers.items()}
    named["cpns, a reading, committed"] = measured.readings
    return {
        **report.circumstances(measured.yardsticks, measured.others.cores),
        "plan": dataclasses.asdict(plan),
        "costs": {name: [dataclasses.asdict(cost) for cost in costs] for name, costs in named.items()},
        "floor_us": {_name(shape): values for shape, values in measured.floor.items()},
        "absent": measured.absent,
    }


def main() -> None:
    """Measure, print, save, and write docs/performance.md and docs/peers.svg."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test: one short turn, saved under build/bench")
    quick = parser.parse_args().quick
    plan = QUICK if quick else FULL
    console = Console(highlight=False, width=max(Console().width, 132))
    with report.disk() as folder:
        measured = uvloop.run(measure(plan, folder, console))
    found = results(plan, measured)
    report.show(console, "One device authenticated", HEAD, rows(measured))
    exchange_head = ["server", "server CPU, us", "bytes"]
    report.show(console, "One protected exchange", exchange_head, exchange_rows(measured))
    where = report.told(found)
    console.print(absences(measured), where, sep="\n", markup=False)
    report.save("peers", found, quick=quick)
    if not quick:
        parts = [where, report.table(HEAD, rows(measured)), report.table(exchange_head, exchange_rows(measured))]
        report.put(report.PAGE, "peers", "\n\n".join([*parts, *filter(None, [absences(measured)])]))
        report.draw("peers", drawing(measured))


if __name__ == "__main__":
    main()
