"""How often a party may do a thing."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

MAX_PARTIES: Final = 4096
"""Parties whose rate is tracked, where no other number is given."""


class RateLimit:
    """A token bucket for each party.

    Args:
        rate: times a second, on end.
        burst: times at once, after a pause.
        monotonic: the clock.
        parties: whose rate is tracked; the one longest silent is forgotten first.
    """

    def __init__(self, rate: float, burst: float, monotonic: Callable[[], float], parties: int = MAX_PARTIES) -> None:
        self._most = parties
        self._rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._parties: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def allows(self, party: Hashable, times: float = 1, leaving: float = 0) -> bool:
        """Count some times of *party*; False, and nothing is counted, when that is over its rate.

        Args:
            party: whose rate it is.
            times: how many.
            leaving: times that must be left after it.
        """
        now = self._monotonic()
        parties = self._parties
        tokens, then = parties.get(party) or (self._burst, now)
        tokens += (now - then) * self._rate
        if tokens > self._burst:
            tokens = self._burst
        allowed = tokens >= times + leaving
        parties[party] = (tokens - times if allowed else tokens, now)
        parties.move_to_end(party)
        if len(parties) > self._most:
            parties.popitem(last=False)
        return allowed

    def wait(self, party: Hashable, times: float = 1) -> float:
        """Return the seconds until *party* may do it so many times more."""
        now = self._monotonic()
        tokens, then = self._parties.get(party, (self._burst, now))
        return max(0.0, (min(times, self._burst) - tokens) / self._rate - (now - then))

    def give_back(self, party: Hashable, times: float) -> None:
        """Count some times less: they were none of those that the rate is for."""
        if party in self._parties:
            tokens, then = self._parties[party]
            self._parties[party] = (min(self._burst, tokens + times), then)
