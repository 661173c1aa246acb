"""How often a PNE may do what others pay for: a rule, without I/O. What it did is kept in the store, so no restart ends
a wait.
"""

from dataclasses import dataclass
from typing import Final

from cpns.errors import Refused, Result


@dataclass(frozen=True, slots=True)
class Limit:
    """So many times, at once or not, in so many seconds; then it waits as long."""

    times: int
    seconds: float


JOINS: Final = Limit(3, 60.0)
"""Of one PNE to one group: each costs all its members an epoch and two messages."""
CREATIONS: Final = Limit(8, 60.0)
"""Groups that one PNE makes."""
CM_OF_PNE: Final = (Limit(16, 60.0), Limit(64, 86400.0))
"""CM Devices that one PNE is assigned."""
CM_OF_GATEWAY: Final = (Limit(64, 60.0), Limit(1024, 86400.0))
"""CM Devices that one PN GW mediates: it can make any PNE behind it ask."""
ASKS: Final = Limit(3, 60.0)
"""Questions to one PNE that another one causes: whether it comes into a group, or takes ownership of one."""
ASKED: Final = Limit(16, 60.0)
"""Questions of that kind to one PNE, whoever causes them."""
DECLINED: Final = Limit(1, 3600.0)
"""A PNE that does not want to come is not asked that again by who asked, nor for whom the group or PN belongs to."""
LONGEST_SECONDS: Final = max(
    one.seconds for one in (JOINS, CREATIONS, *CM_OF_PNE, *CM_OF_GATEWAY, ASKS, ASKED, DECLINED)
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a PNE did one thing lately.

    Attributes:
        times: since then.
        since: the first of them, or the last that was allowed; seconds since the epoch.
    """

    times: int
    since: float


def is_running(pace: Pace, limit: Limit, at: float) -> bool:
    """Whether it counts still; a clock that was set back makes nobody wait longer."""
    return 0 <= at - pace.since < limit.seconds


def paced(pace: Pace | None, limit: Limit, at: float) -> Pace:
    """Return the pace with one time more.

    Raises:
        Refused: TOO_MANY: it has to wait.
    """
    if pace is None or not is_running(pace, limit, at):
        return Pace(1, at)
    if pace.times >= limit.times:
        raise Refused(Result.TOO_MANY, "too_often")
    times = pace.times + 1
    return Pace(times, at if times == limit.times else pace.since)
