"""What a load gave, as JSON and as plots."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from cpns.errors import BadInput
from cpns.loadgen.figures import SHARES, Figures, Sample
from cpns.loadgen.machine import here_and_now
from cpns.loadgen.plan import Plan
from cpns.loadgen.plot import COLORS, DASHED, Axis, Line, draw, linear, logarithmic

LEAST_MS = 0.1


def document(plan: Plan, figures: Figures) -> dict[str, Any]:
    """Return all of it, for JSON."""
    return {
        **here_and_now(),
        "plan": dataclasses.asdict(plan),
        "held": figures.held(plan.total),
        **dataclasses.asdict(figures),
    }


def latency(samples: list[Sample]) -> str:
    """Return the plot of the percentiles of each second, in milliseconds, logarithmic."""
    lines = []
    for index, share in enumerate(SHARES):
        found = [(sample.at, sample.latency_ms[index]) for sample in samples]
        points = [(at, max(value, LEAST_MS)) for at, value in found if value is not None]
        lines.append(Line(f"p{share * 100:.0f}", points, COLORS[index]))
    values = [value for line in lines for _, value in line.points] or [1.0]
    return draw(_time(samples), logarithmic("latency, ms", min(values), max(values)), lines)


def throughput(samples: list[Sample]) -> str:
    """Return the plot of the readings a second that came due, and that were acknowledged meanwhile."""
    loaded = [sample for sample in samples if sample.offered]
    offered = [(sample.at, sample.offered) for sample in loaded]
    acknowledged = [(sample.at, sample.acknowledged) for sample in loaded]
    most = max((value for _, value in offered + acknowledged), default=0.0)
    lines = [
        Line("offered", offered, COLORS[3], DASHED),
        Line("acknowledged", acknowledged, COLORS[0]),
    ]
    return draw(_time(samples), linear("readings a second", max(most, 1.0)), lines)


def _time(samples: list[Sample]) -> Axis:
    return linear("seconds", max((sample.at for sample in samples), default=1.0))


def save(folder: Path, told: dict[str, Any], samples: list[Sample]) -> list[Path]:
    """Write ``report.json``, ``latency.svg`` and ``throughput.svg`` into *folder*; return them.

    Raises:
        BadInput: ``file_not_written``.
    """
    files = {
        "report.json": json.dumps(told, indent=1) + "\n",
        "latency.svg": latency(samples),
        "throughput.svg": throughput(samples),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content)
    except OSError as error:
        raise BadInput("file_not_written", f"{folder} can't be written: {error.strerror}.") from error
    return [folder / name for name in files]
