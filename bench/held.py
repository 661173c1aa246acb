"""What one machine holds: ``python -m bench.held FOLDER...`` writes the reports of `cpns bench --out FOLDER` into docs.

The runs are of one shape and differ in their rate and duration; the plots are those of the longest.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from bench import report
from cpns.loadgen.figures import Sample
from cpns.loadgen.machine import placed
from cpns.loadgen.report import latency, throughput

OF_A_RUN = ("rate", "duration")
ROLES = ("server", "gateways", "pnes")


def command(plan: dict[str, Any]) -> str:
    """Return the command of a run, without what differs between the runs."""
    flags = {name: value for name, value in plan.items() if name not in OF_A_RUN and value}
    words = (f"--{name}" if value is True else f"--{name} {value:g}" for name, value in flags.items())
    return f"cpns bench {' '.join(words)}"


def row(run: dict[str, Any]) -> list[str]:
    latencies = [*run["latency_ms"], run["max_ms"]]
    return [
        f"{run['plan']['rate']:g}",
        f"{run['plan']['duration']:g}",
        f"{run['throughput']:g}",
        *("-" if value is None else f"{value:.1f}" for value in latencies),
        *(f"{run['cores'][role]:.2f}" for role in (*ROLES, "others")),
        "yes" if run["held"] else f"{run['unanswered'] + sum(run['refused'].values())} missing",
    ]


def summary(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run without its seconds, but for the most memory that each role had in one."""
    most = {role: max(sample["uses"][role]["rss"] for sample in run["samples"]) for role in ROLES}
    return {name: value for name, value in run.items() if name != "samples"} | {"rss": most}


def text(runs: list[dict[str, Any]]) -> str:
    """Return the block of the page."""
    first, longest = runs[0], max(runs, key=lambda run: run["plan"]["duration"])
    plan = first["plan"]
    head = ["offered a second", "seconds", "acknowledged a second", "p50, ms", "p95, ms", "p99, ms", "longest, ms"]
    head += [f"cores, {role}" for role in ("server", "gateways", "PNEs", "others")]
    memory = [f"{longest['bytes_per_pne'][role] / 1024:.1f}" for role in ROLES]
    rss = [f"{longest['rss'][role] / 1024 / 1024:.0f}" for role in ROLES]
    return "\n\n".join(
        [
            f"{placed(first)}; `{command(plan)}`: {plan['gateways'] * plan['pnes']:,} PNEs on {plan['gateways']} "
            f"gateways, established in {min(run['establish_s'] for run in runs):.0f} s.",
            report.table([*head, "each acknowledged"], [row(run) for run in runs]),
            f"Memory (RSS) for each established PNE: {memory[0]} KiB at the server, {memory[1]} KiB at the gateways, "
            f"{memory[2]} KiB in the processes of the PNEs. In all, at most {rss[0]} MiB, {rss[1]} MiB and {rss[2]} "
            "MiB in the longest run.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.held", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    folders = parser.parse_args().folders
    found = [json.loads((folder / "report.json").read_text()) for folder in folders]
    found.sort(key=lambda run: run["plan"]["rate"])
    runs = [summary(run) for run in found]
    report.save("held", runs)
    longest = max(found, key=lambda run: run["plan"]["duration"])
    samples = [Sample(**one) for one in longest["samples"]]
    for name, draw in (("latency", latency), ("throughput", throughput)):
        report.draw(name, draw(samples))
    report.put(report.PAGE, "held", text(runs))


if __name__ == "__main__":
    main()
