"""One credential in two places: when that is certain, and how long the next one that proves itself waits then.

Two devices with one key push each other out, as the newest proof wins; so do two gateways. What tells them from one
that comes again is in `cpns.server.peers.clones`.
"""

from dataclasses import dataclass
from typing import Final

TIMES: Final = 2
"""So often must both have answered."""
WITHIN_SECONDS: Final = 3600.0
"""No longer after the time before; after so long without another time all is forgotten."""
LONGEST_WAIT: Final = 60.0
"""Seconds that the next one waits at most; 2 s to begin with, and twice as long each time."""


@dataclass(frozen=True, slots=True)
class Clones:
    """That two answered for one entity at once.

    Attributes:
        times: that they did, each within `WITHIN_SECONDS` of the one before.
        at: the newest, monotonic seconds.
        places: where the two were then: PN GWs of a PNE, hosts of a PN GW.
    """

    times: int
    at: float
    places: tuple[str, ...]


def again(before: Clones | None, at: float, places: tuple[str, ...]) -> Clones:
    """Return what is known after two have answered once more."""
    times = 0 if before is None or is_over(before, at) else before.times
    return Clones(times + 1, at, tuple(sorted(set(places))))


def is_over(clones: Clones, now: float) -> bool:
    """Whether it is too long ago to count."""
    return now - clones.at >= WITHIN_SECONDS


def is_certain(clones: Clones | None, now: float) -> bool:
    """Whether it is told, and has consequences."""
    return clones is not None and clones.times >= TIMES and not is_over(clones, now)


def wait(clones: Clones | None, now: float) -> float:
    """Return the seconds for which nobody who proves to be that entity gets a session."""
    if clones is None or not is_certain(clones, now):
        return 0.0
    seconds = min(2.0 ** min(clones.times - TIMES + 1, 16), LONGEST_WAIT)
    return max(0.0, clones.at + seconds - now)
