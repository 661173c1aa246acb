"""How much a host may send before anything is decoded."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_HOSTS: Final = 4096
"""Hosts whose rate is tracked; the one longest silent is forgotten first."""


class RateLimit:
    """A token bucket for each host.

    Args:
        rate: messages a second that one host may send on end.
        burst: messages that it may send at once after a pause.
        monotonic: the clock.
    """

    def __init__(self, rate: float, burst: float, monotonic: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._hosts: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, host: str) -> bool:
        """Take one message of *host* into account; False when it is over its rate."""
        now = self._monotonic()
        tokens, then = self._hosts.get(host, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        allowed = tokens >= 1
        self._hosts[host] = (tokens - 1 if allowed else tokens, now)
        self._hosts.move_to_end(host)
        if len(self._hosts) > MAX_HOSTS:
            self._hosts.popitem(last=False)
        return allowed
