"""What becomes of measurements: JSON under bench/results, and tables and plots in docs.

In docs/performance.md each block between ``<!-- NAME -->`` and ``<!-- end -->`` is written by a run.
"""

import contextlib
import json
import re
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from cpns.loadgen.machine import here_and_now, placed

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
DISK = ROOT / "build" / "bench"
"""Where what is measured keeps its files: not /tmp, which may be memory, for commits must be durable."""


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float]) -> str:
    """Return the median, and least and most, for people."""
    return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})"


def put(page: Path, name: str, text: str) -> None:
    """Replace the block *name* of *page* by *text*.

    Raises:
        ValueError: the page has no such block.
    """
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    content, count = pattern.subn(lambda found: f"{found[1]}{text}\n{found[2]}", page.read_text())
    if count != 1:
        raise ValueError(f"{page} has {count} blocks {name!r}")
    page.write_text(content)


def draw(name: str, svg: str) -> None:
    """Write a plot beside the page."""
    PAGE.with_name(f"{name}.svg").write_text(svg)


def show(console: Console, title: str, head: list[str], rows: list[list[str]]) -> None:
    """Print a table; all columns but the first hold numbers."""
    shown = Table(title=title, box=SIMPLE, padding=(0, 1))
    for number, name in enumerate(head):
        shown.add_column(name, justify="right" if number else "left")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


def results(*, quick: bool) -> Path:
    """Return the folder of results; a *quick* run, which says little, has another."""
    folder = DISK / "results" if quick else ROOT / "bench" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save(name: str, content: object, *, quick: bool = False) -> None:
    """Write the results *name*."""
    (results(quick=quick) / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def disk() -> Iterator[Path]:
    """A folder on a disk, until the run is over."""
    DISK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DISK) as folder:
        yield Path(folder)


def circumstances(yardsticks: Sequence[float], busy: float) -> dict[str, Any]:
    """Return what a reader needs to place the figures of a run, for a file.

    Args:
        yardsticks: microseconds, see `bench.cpu.yardstick`.
        busy: cores that others kept busy meanwhile.
    """
    return {
        **here_and_now(),
        "file_system": _file_system(DISK),
        "yardstick_us_per_sha256_of_1_kib": [round(value, 3) for value in yardsticks],
        "cores_busy_with_others": round(busy, 2),
    }


def told(run: Mapping[str, Any]) -> str:
    """Return the `circumstances` in *run* as a sentence."""
    yardsticks = run["yardstick_us_per_sha256_of_1_kib"]
    return (
        f"{placed(run)}, store on {run['file_system']}; others kept {run['cores_busy_with_others']} cores "
        f"busy; SHA-256 of 1 KiB took {min(yardsticks):.2f}-{max(yardsticks):.2f} us."
    )


def _file_system(folder: Path) -> str:
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    inside = [(len(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(inside)[1] if inside else "unknown"
