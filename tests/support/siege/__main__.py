"""Print the table of the siege; see the package. A run of all rows writes docs/performance.md.

Args on the command line: seconds for each row (default 10), then words that a row must hold to be run.
"""

import asyncio
import contextlib
import logging
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import report
from cpns.loadgen.machine import here_and_now, placed
from cpns.service.system import settle_collector
from tests.support import namespaces
from tests.support.siege.flooder import files
from tests.support.siege.measure import (
    HOME,
    NEXT_DOOR,
    Noticed,
    Siege,
    middle_and_most,
    percentile,
    readings_goal,
    seconds_told,
    worst,
    worst_of_how_many,
)
from tests.support.siege.rows import CONNECTIONS, GOALS, Row, rows
from tests.support.siege.site import besieged

NEWCOMERS_A_SECOND = 6
OTHER_FILES = 100
"""Files of an attacker besides its connections."""
LONGER = 3
"""So much longer a row is measured once more that missed a goal: in seconds, one pause of the machine is 1 %."""


def cells(noticed: Noticed) -> list[str]:
    """Return what was noticed, a cell for each column."""
    return [
        *map(worst_of_how_many, (noticed.elsewhere, noticed.here, noticed.gateways)),
        seconds_told(worst(noticed.slow)),
        *(middle_and_most(noticed.readings[name]) for name in (NEXT_DOOR, HOME)),
        " / ".join(f"{bytes_ / 2**20:.0f}" for bytes_ in noticed.memory.values()),
    ]


def missed(noticed: Noticed, quiet: Noticed, row: Row) -> list[str]:
    """Return the goals that were missed."""
    limit = {name: readings_goal(quiet.readings[name]) for name in (NEXT_DOOR, HOME)}
    found = {
        "new device elsewhere": (worst(noticed.elsewhere), GOALS["elsewhere"]),
        "new device here": (worst(noticed.here), GOALS["here"]),
        "new gateway": (worst(noticed.gateways), GOALS["gateway"]),
        "slow device": (worst(noticed.slow), GOALS["slow"]),
        "readings elsewhere": (percentile(noticed.readings[NEXT_DOOR], 0.99), limit[NEXT_DOOR]),
        "readings here": (percentile(noticed.readings[HOME], 0.99), limit[HOME]),
    }
    return [f"{row.title}: {name} {seconds_told(took)}" for name, (took, goal) in found.items() if took > goal]


def worst_of(found: list[Noticed]) -> Noticed:
    """Return what was noticed under several attacks, as if it had been one; readings are those of the worst of them."""
    readings = {
        name: max((one.readings[name] for one in found), key=lambda some: percentile(some, 0.99))
        for name in (NEXT_DOOR, HOME)
    }
    return Noticed(
        [took for one in found for took in one.elsewhere],
        [took for one in found for took in one.here],
        [took for one in found for took in one.gateways],
        [took for one in found for took in one.slow],
        readings,
        found[-1].memory,
    )


def write(
    length: float, quiet: Noticed, noticed: dict[str, list[Noticed]], failures: list[str], again: list[str]
) -> None:
    """Write docs/performance.md: a line for each attack, the worst of all rates and sources."""
    head = ["attack (times that it was tried)", "new device elsewhere", "same PAN", "new gateway", "slow device"]
    head += ["readings elsewhere, p50 / p99", "readings same PAN, p50 / p99", "MiB server / gateway"]
    lines = [["none", *cells(quiet)]]
    lines += [[f"{what} ({len(found)})", *cells(worst_of(found))] for what, found in noticed.items()]
    where = f"{placed(here_and_now())}; {length:.0f} s each; the worst, of how many."
    ends = [f"Goals missed in {length:.0f} s:\n\n{as_list(failures)}"]
    if failures:
        ends.append(f"Those rows once more, for {LONGER * length:.0f} s each; goals missed:\n\n{as_list(again)}")
    report.put(report.PAGE, "siege", "\n\n".join([where, report.table(head, lines), *ends]))


def as_list(lines: list[str]) -> str:
    """Return a Markdown list."""
    return "\n".join(f"- {one}" for one in lines or ["none"])


async def main(length: float, words: list[str], every: list[Row]) -> list[str]:
    """Besiege; print the table; return the goals that were missed, also when measured for longer."""
    logging.disable(logging.WARNING)  # newcomers in vain say so each time
    console = Console(width=200)
    table = Table(title=f"siege, {length:.0f} s each; worst (of how many), readings p50 / p99")
    for name in ("attack", "new device elsewhere", "same PAN", "new gateway", "slow device", "readings elsewhere"):
        table.add_column(name)
    table.add_column("readings same PAN")
    table.add_column("MiB server / gateway")
    failures: list[str] = []
    by_attack: dict[str, list[Noticed]] = {}
    with tempfile.TemporaryDirectory(prefix="cpns-siege-") as folder:
        chosen = [one for one in every if all(word in one.title for word in words)]
        newcomers = int(NEWCOMERS_A_SECOND * (length + 1)) * (2 * len(chosen) + 1 + LONGER)
        async with besieged(Path(folder), newcomers) as site:
            siege = Siege(site)
            settle_collector()  # a pause of this process is none of the parties'
            quiet = await siege.measure([], length)
            table.add_row("none", *cells(quiet))
            for one in chosen:
                console.print(f"{one.title} ...")
                noticed = await siege.measure(one.attacks(site, length + 60), length)
                table.add_row(one.title, *cells(noticed))
                failures += missed(noticed, quiet, one)
                by_attack.setdefault(one.attack, []).append(noticed)
            console.print(table)
            again: list[str] = []
            short = [row for row in chosen if any(said.startswith(f"{row.title}: ") for said in failures)]
            for one in short[: 1 + len(chosen) // LONGER]:  # more of them are no accident, and have missed it again
                console.print(f"{one.title}, once more ...")
                longer = await siege.measure(one.attacks(site, LONGER * length + 60), LONGER * length)
                again += missed(longer, quiet, one)
            again += [f"{one.title}: not measured again" for one in short[1 + len(chosen) // LONGER :]]
    if not words:
        write(length, quiet, by_attack, failures, again)
    return again


def possible(stack: contextlib.ExitStack) -> list[Row]:
    """Return the rows that this machine lets us have; for forged sources this process goes to a host of its own."""
    forged = namespaces.possible()
    if forged:
        host = stack.enter_context(namespaces.net("veth"))
        host.host("siege")
        host.own("siege", "198.18.0.0/15")
        host.enter("siege")
    else:
        print("left out: forged sources, as this user may not make network namespaces")
    connections = files() >= CONNECTIONS + OTHER_FILES
    if not connections:
        print(f"left out: {CONNECTIONS:,} connections, as a process may have {files():,} files (ulimit -Hn)")
    return rows(forged=forged, connections=connections)


if __name__ == "__main__":
    with contextlib.ExitStack() as alone:
        length = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
        found = asyncio.run(main(length, sys.argv[2:], possible(alone)))
    print("\n".join(["goals missed:", *found] if found else ["all goals met"]))
    sys.exit(bool(found))
