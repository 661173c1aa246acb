"""Where the server's time goes: ``python -m bench.profile [establish-64 establish-8 establish-1 readings]``.

cProfile runs in the loop's thread of the server process and counts CPU time; it makes calls dearer than they are, so
read the order more than the figures. The thread that commits is not in it.
"""

import argparse
import asyncio
import pstats
import tempfile
from pathlib import Path

import uvloop

from bench.load import Load, Shape, load

ESTABLISH = {
    "establish-64": (Shape(1, 64, 4), 6),
    "establish-8": (Shape(1, 8, 16), 12),
    "establish-1": (Shape(1, 1, 32), 40),
}
SCENARIOS = (*ESTABLISH, "readings")


async def _run(one: Load, scenario: str) -> int:
    if scenario == "readings":
        return (await one.exchange(32, 1600)).readings
    shape, rounds = ESTABLISH[scenario]
    for _ in range(rounds):
        await one.establish(shape)
    return shape.pnes * rounds


async def profile(scenario: str, lines: int, keep: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="cpns-profile-") as folder:
        written = Path(folder) / "profile"
        async with load(Path(folder), 32, 6000, written) as one:
            await _run(one, scenario)  # warm
            with one.profiled():
                count = await _run(one, scenario)
            while not written.exists():
                await asyncio.sleep(0.05)
        stats = pstats.Stats(str(written))
        if keep is not None:
            stats.dump_stats(keep / scenario)
        print(f"== {scenario}: {count} done; by own time, then with callees")
        stats.strip_dirs().sort_stats("tottime").print_stats(lines)
        stats.sort_stats("cumulative").print_stats(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], default=[])
    parser.add_argument("--lines", type=int, default=40)
    parser.add_argument("--keep", type=Path, help="folder for the raw profiles")
    arguments = parser.parse_args()
    for scenario in arguments.scenarios or SCENARIOS:
        uvloop.run(profile(scenario, arguments.lines, arguments.keep))


if __name__ == "__main__":
    main()
