"""Who left runs unproved: remembered for a while, and made to wait longer each time."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

MAX_SILENT: Final = 4096
"""Groups whose unanswered runs are remembered; the one longest quiet is forgotten first."""
LONGEST_WAIT: Final = 60.0
"""Seconds that a group with many unanswered runs waits for its next place, where nothing else is said."""


class Silence:
    """How many runs in a row each group left unproved.

    Args:
        monotonic: the clock, in seconds.
        longest_wait: seconds that a group waits at most for its next run.
    """

    def __init__(self, monotonic: Callable[[], float], longest_wait: float = LONGEST_WAIT) -> None:
        self._monotonic = monotonic
        self._longest_wait = longest_wait
        self._groups: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def of(self, group: Hashable) -> int:
        """Return how many runs of *group* in a row ended unproved."""
        return self._groups.get(group, (0, 0.0))[0]

    def since(self, group: Hashable) -> float:
        """Return when a run of *group* last ended unproved; 0 where none did."""
        return self._groups.get(group, (0, 0.0))[1]

    def wait(self, group: Hashable) -> float:
        """Return the seconds until *group* may have its next run: longer after each unproved one."""
        count, last = self._groups.get(group, (0, 0.0))
        if not count:
            return 0.0
        pause = min(2.0 ** min(count - 1, 16), self._longest_wait)
        return max(0.0, last + pause - self._monotonic())

    def began(self, group: Hashable) -> None:
        """A run of *group* begins: its next one waits from now on."""
        if group in self._groups:
            self._groups[group] = (self._groups[group][0], self._monotonic())

    def ended(self, group: Hashable, *, proved: bool) -> None:
        """A run of *group* is over; *proved*: it showed who its group is, and all before is forgotten."""
        count, _ = self._groups.pop(group, (0, 0.0))
        if proved:
            return
        self._groups[group] = (count + 1, self._monotonic())
        if len(self._groups) > MAX_SILENT:
            self._groups.popitem(last=False)
