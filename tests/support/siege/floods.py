"""Floods of one host without a key: what others notice at 1 MB/s, and the rate from which they notice too much.

``python -m tests.support.siege.floods`` prints the table and writes it into docs/performance.md (``make floods``).
Words on the command line that a flood must hold to be tried. Server, gateways and flooders are processes.
"""

import asyncio
import logging
import math
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from bench import report
from cpns.loadgen.machine import here_and_now, placed
from cpns.service.system import settle_collector
from tests.support.siege.flooder import DATAGRAMS, STREAMS, Flood, Flooder, files
from tests.support.siege.measure import (
    BEGUN,
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
from tests.support.siege.rows import GOALS
from tests.support.siege.site import Site, besieged

RATE: Final = 1e6
"""Bytes a second that all of them have to stand."""
FASTER: Final = (4e6, 16e6, 64e6)
SECONDS: Final = 5.0
STEP_SECONDS: Final = 2.5
NEWCOMERS: Final = 100
"""That come while one flood is measured, twice where it has to be."""
ESTABLISHED: Final = 8
"""Devices behind each gateway that send ten readings a second each: in 5 s, 4 of 400 readings make p99."""


@dataclass(frozen=True)
class Kind:
    """One flood: on the uplink or on the PAN, and what is sent."""

    tcp: bool
    what: str

    @property
    def title(self) -> str:
        return f"{'uplink' if self.tcp else 'PAN'}: {self.what}"

    @property
    def attacked(self) -> str:
        """The process that it goes to."""
        return "server" if self.tcp else HOME

    def at(self, site: Site, rate: float) -> Flooder:
        """Return it at *rate* bytes a second."""
        return Flooder(Flood(self.what, site.uplink if self.tcp else site.pans[HOME], rate, tcp=self.tcp))

    def readings(self, noticed: Noticed) -> list[float]:
        """Return the latencies that it counts for: behind the attacked gateway, or everywhere."""
        return noticed.readings[HOME] + (noticed.readings[NEXT_DOOR] if self.tcp else [])

    def halted(self, rate: float) -> str:
        """Say why it was no faster than *rate*."""
        stream = STREAMS[self.what] if self.tcp else None
        if stream is not None and stream.unit and not stream.anew:
            return f"none: it is not read faster than {rate / 1e6:.1f} MB/s"
        return f"none up to {rate / 1e6:.1f} MB/s, all that one process sends here"


def kinds(words: list[str]) -> list[Kind]:
    """Return the floods whose titles hold all *words*."""
    every = [Kind(True, what) for what in STREAMS] + [Kind(False, what) for what in DATAGRAMS]
    return [one for one in every if all(word in one.title for word in words)]


class Trial:
    """Floods one site with one kind after the other; quiet is what was noticed before."""

    def __init__(self, siege: Siege, quiet: Noticed) -> None:
        self._siege = siege
        self._quiet = quiet

    def limit(self, kind: Kind) -> float:
        """Return the seconds that p99 of the readings may take."""
        return readings_goal(kind.readings(self._quiet))

    def missed(self, kind: Kind, noticed: Noticed) -> list[str]:
        """Return the goals that were missed."""
        found = {
            "readings, p99": (percentile(kind.readings(noticed), 0.99), self.limit(kind)),
            "new device elsewhere": (worst(noticed.elsewhere), GOALS["elsewhere"]),
            "new device here": (worst(noticed.here), GOALS["here"]),
            "new gateway": (worst(noticed.gateways), GOALS["gateway"]),
        }
        return [f"{kind.title}: {name} {seconds_told(took)}" for name, (took, goal) in found.items() if took > goal]

    async def at_the_rate(self, kind: Kind) -> Noticed:
        """Return what is noticed at `RATE`; of two times, where the first one misses a goal: it may be the machine."""
        noticed = await self._siege.measure([kind.at(self._siege.site, RATE)], SECONDS, slow=False)
        if self.missed(kind, noticed):
            noticed = await self._siege.measure([kind.at(self._siege.site, RATE)], 2 * SECONDS, slow=False)
        return noticed

    async def end(self, kind: Kind) -> str:
        """Return the rate from which the readings miss their goal."""
        held = RATE
        for rate in FASTER:
            slow, sent = await self._step(kind, rate)
            if slow and (await self._step(kind, rate))[0]:  # not by accident
                between = math.sqrt(held * rate)
                slow, _ = await self._step(kind, between)
                held, rate = (held, between) if slow else (between, rate)
                return f"{held / 1e6:.0f} to {rate / 1e6:.0f} MB/s"
            if sent < 0.7 * rate:
                return kind.halted(sent)
            held = rate
        return f"none up to {held / 1e6:.0f} MB/s"

    async def _step(self, kind: Kind, rate: float) -> tuple[bool, float]:
        """Return whether readings are too slow at *rate*, and the rate that was reached."""
        noticed = Noticed()
        async with kind.at(self._siege.site, rate) as flooder:
            await asyncio.sleep(BEGUN)
            with self._siege.watched(noticed):
                await asyncio.sleep(STEP_SECONDS)
        return percentile(kind.readings(noticed), 0.99) > self.limit(kind), flooder.sent.rate


def cells(kind: Kind, noticed: Noticed) -> list[str]:
    """Return what was noticed, a cell for each column."""
    return [
        middle_and_most(kind.readings(noticed)),
        *map(worst_of_how_many, (noticed.here, noticed.elsewhere, noticed.gateways)),
        f"{noticed.cpu[kind.attacked]:.2f}",
    ]


HEAD: Final = ["flood, 1 MB/s", "readings, p50 / p99", "new device, same PAN", "elsewhere", "new gateway"]
HEAD_END: Final = ["cores of the attacked process", "rate at which it would end"]


async def main(words: list[str]) -> list[str]:
    """Flood; print the table; return the goals that were missed at 1 MB/s."""
    logging.disable(logging.WARNING)
    console = Console(width=220)
    load = os.getloadavg()[0]
    chosen, lines, failures = kinds(words), [], []
    with tempfile.TemporaryDirectory(prefix="cpns-floods-") as folder:
        async with besieged(Path(folder), NEWCOMERS * (len(chosen) + 1), established=ESTABLISHED) as site:
            siege = Siege(site)
            settle_collector()
            quiet = await siege.measure([], SECONDS, slow=False)
            trial = Trial(siege, quiet)
            for tcp in dict.fromkeys(one.tcp for one in chosen):
                lines.append([f"none, {'uplink' if tcp else 'PAN'}", *cells(Kind(tcp, ""), quiet), "-"])
            for kind in chosen:
                console.print(f"{kind.title} ...")
                noticed = await trial.at_the_rate(kind)
                missed = trial.missed(kind, noticed)
                failures += missed
                lines.append([kind.title, *cells(kind, noticed), "below 1 MB/s" if missed else await trial.end(kind)])
                console.print(f"    {' | '.join(lines[-1][1:])}")
    report.show(console, "floods of one host without a key", [*HEAD, *HEAD_END], lines)
    if not words:
        where = f"{placed(here_and_now())}; load of the machine at the start {load:.1f}; {files()} files a process."
        ends = "\n".join(f"- {one}" for one in failures or ["none"])
        text = [where, report.table([*HEAD, *HEAD_END], lines), f"Goals missed:\n\n{ends}"]
        report.put(report.PAGE, "floods", "\n\n".join(text))
    return failures


if __name__ == "__main__":
    found = asyncio.run(main(sys.argv[1:]))
    print("\n".join(["goals missed:", *found] if found else ["all goals met"]))
    sys.exit(bool(found))
