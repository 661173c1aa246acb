"""Where the numbers of a store go on that was set back to an older copy: beyond all that its lost life can have given.

A copy holds nothing that knows of that life, a clock does. So a number begins with the seconds of now, and no store
gives 2**20 of one kind a second. A second is the first of one life alone: another that begins with it gives the same
numbers. Peers and programs that follow a number go on, as what is new has a greater one.
"""

from typing import Final

PER_SECOND: Final = 2**20
RUNS_SINCE: Final = 1_577_836_800
"""2020-01-01, seconds since the epoch: runs have 32 bits. A PNE registers less than once a second."""
LAST_SECOND: Final = RUNS_SINCE + 2**31
"""In 2088: half of all runs is left then, and a number is exact in JSON."""


def is_possible(at: float) -> bool:
    """Whether numbers can begin with the seconds of *at*."""
    return RUNS_SINCE < at <= LAST_SECOND


def number(own: int, at: float) -> int:
    """Return what comes after *own*, the newest number of a kind, where the store is set back *at*."""
    return max(own + 1, int(at) * PER_SECOND)


def run(own: int, at: float) -> int:
    """Return what comes after *own*, the run of a PNE, where the store is set back *at*."""
    return max(own + 1, int(at) - RUNS_SINCE)
