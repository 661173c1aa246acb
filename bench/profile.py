"""Where the server's time goes: ``python -m bench.profile [establish-64 establish-8 establish-1 readings]``.

cProfile runs in the loop's thread of the server process and counts CPU time; it makes calls dearer than they are, so
read the order more than the figures. The thread that commits is not in it.
"""

import argparse
import asyncio
import pstats
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import uvloop

from bench import report
from bench.load import Load, Shape, load

ESTABLISH = {
    "establish-64": (Shape(1, 64, 4), 6),
    "establish-8": (Shape(1, 8, 16), 12),
    "establish-1": (Shape(1, 1, 32), 40),
}
SCENARIOS = (*ESTABLISH, "readings")

Function = tuple[str, int, str]
AREAS = (
    ("CoAP, OSCORE, sockets", ("/cpns/transport/", "/cpns/coap/", "/cpns/crypto/aead", "/cpns/crypto/oscore")),
    ("key schedule, wraps, vault", ("/cpns/crypto/", "/cpns/store/vault", "/cryptography/")),
    ("CBOR codec", ("/cpns/wire/", "/cpns/transport/errors")),
    ("store, without the commit itself", ("/cpns/store/", "/sqlalchemy/")),
    ("procedures, sessions, audit", ("/cpns/",)),
)
REST = "event loop, rest of Python"
DEEPEST = 6


async def _run(one: Load, scenario: str) -> int:
    if scenario == "readings":
        return (await one.exchange(32, 1600)).readings
    shape, rounds = ESTABLISH[scenario]
    for _ in range(rounds):
        await one.establish(shape)
    return shape.pnes * rounds


def areas(stats: pstats.Stats) -> dict[str, float]:
    """Return the share of each area; what libraries do counts for the area that called them."""
    table: dict[Function, tuple[int, int, float, float, dict[Function, Any]]] = stats.stats  # type: ignore[attr-defined]
    shares: dict[str, float] = defaultdict(float)

    def charge(function: Function, seconds: float, depth: int) -> None:
        for name, parts in AREAS:
            if any(part in function[0] for part in parts):
                shares[name] += seconds
                return
        callers = table[function][4] if function in table else {}
        known = {caller: figures[3] for caller, figures in callers.items() if caller != function}
        whole = sum(known.values())
        if depth == DEEPEST or not whole:
            shares[REST] += seconds
            return
        for caller, part in known.items():
            charge(caller, seconds * part / whole, depth + 1)

    for function, (_, _, own, _, _) in table.items():
        charge(function, own, 0)
    total = sum(shares.values())
    return {name: seconds / total for name, seconds in shares.items()}


async def profile(scenario: str, lines: int, keep: Path | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="cpns-profile-") as folder:
        written = Path(folder) / "profile"
        async with load(Path(folder), 32, 6000, profile=written) as one:
            await _run(one, scenario)  # warm
            with one.profiled():
                count = await _run(one, scenario)
            while not written.exists():
                await asyncio.sleep(0.05)
        stats = pstats.Stats(str(written))
        if keep is not None:
            stats.dump_stats(keep / scenario)
        shares = areas(stats)
        print(f"== {scenario}: {count} done; by own time, then with callees")
        stats.strip_dirs().sort_stats("tottime").print_stats(lines)
        stats.sort_stats("cumulative").print_stats(lines)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], default=[])
    parser.add_argument("--lines", type=int, default=40)
    parser.add_argument("--keep", type=Path, help="folder for the raw profiles")
    arguments = parser.parse_args()
    scenarios = arguments.scenarios or list(SCENARIOS)
    shares = {scenario: uvloop.run(profile(scenario, arguments.lines, arguments.keep)) for scenario in scenarios}
    names = [*(name for name, _ in AREAS), REST]
    rows = [[name, *(f"{shares[scenario].get(name, 0):.0%}" for scenario in scenarios)] for name in names]
    text = report.table(["share of the loop's thread", *scenarios], rows)
    print(text)
    if not arguments.scenarios:
        report.put(report.PAGE, "profile", text)


if __name__ == "__main__":
    main()
