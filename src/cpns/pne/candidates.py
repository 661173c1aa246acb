"""The PN GWs that answered a search, and which of them to try next. An answer proves nothing; the handshake does."""

from collections import OrderedDict
from typing import Final

from cpns.transport.discovery import Found

MAX_CANDIDATES: Final = 64
MAX_OF_HOST: Final = 4
MAX_REMEMBERED: Final = 256
"""Hosts whose failures are remembered; the one that failed longest ago is forgotten first."""


class Candidates:
    """Who answered, and did not fail since.

    What a PN GW calls itself is free, so what failed is remembered of its host: whoever answers first each time, under
    a new ID each time, is tried once before the others, and after them from then on.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, int], Found] = {}
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._tried: Found | None = None

    def heard(self, found: Found) -> None:
        """*found* has answered. Where there are too many, one of a host that failed more gives way, or *found* does."""
        of_host = sum(one.host == found.host for one in self._waiting.values())
        if (found.host, found.port) in self._waiting or of_host >= MAX_OF_HOST or self._is_tried(found):
            return
        if len(self._waiting) >= MAX_CANDIDATES:
            worst = max(self._waiting.values(), key=lambda one: self.failures(one.host))
            if self.failures(worst.host) <= self.failures(found.host):
                return
            del self._waiting[worst.host, worst.port]
        self._waiting[found.host, found.port] = found

    def _is_tried(self, found: Found) -> bool:
        return self._tried is not None and (self._tried.host, self._tried.port) == (found.host, found.port)

    def failures(self, host: str) -> int:
        """Return how often in a row a PN GW at *host* did not do."""
        return self._failures.get(host, 0)

    def in_order(self) -> list[Found]:
        """Return all in the order in which they are to be tried: by failures, then who answered first."""
        return sorted(self._waiting.values(), key=lambda one: self.failures(one.host))

    def take(self, found: Found) -> None:
        """*found* is tried now."""
        self._tried = self._waiting.pop((found.host, found.port))

    def failed(self) -> None:
        """What was tried last did not do; it may answer again, and comes after the others then."""
        if self._tried is None:
            return
        host, self._tried = self._tried.host, None
        self._failures[host] = self._failures.pop(host, 0) + 1
        if len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)

    def did(self) -> None:
        """What was tried last did."""
        if self._tried is not None:
            self._failures.pop(self._tried.host, None)
