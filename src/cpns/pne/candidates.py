"""Which PN GW to try next, of those that answered a search or were named. The handshake shows whether it is one."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from cpns.transport.discovery import Found
from cpns.transport.endpoint import Link

MAX_CANDIDATES: Final = 64
MAX_OF_HOST: Final = 4
MAX_ADDRESSES: Final = 16
"""Addresses of one name that are tried."""
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


class Named:
    """PN GWs that a PNE was told of by name, in turn, and each address that a name has.

    What a name stands for may change, so it is looked up for each attempt, and what failed is remembered by address.
    The one that did is the first of its name from then on.
    """

    def __init__(self) -> None:
        self._turn = self._began = self._led_to = 0
        self._failed: list[Link] = []
        self._more = False
        self._at: Link | None = None
        self._did: Link | None = None

    def turn(self, gateways: Sequence[tuple[str, int]]) -> tuple[str, int]:
        """Return host and port of the one whose turn it is."""
        return gateways[self._turn % len(gateways)]

    def next(self, addresses: Sequence[Link]) -> Link:
        """Return which of the *addresses* of that one to try: one that did not fail, else the first again."""
        addresses = addresses[:MAX_ADDRESSES]
        self._led_to = self._turn
        left = [one for one in addresses if one not in self._failed] or list(addresses)
        self._at = self._did if self._did in left else left[0]
        self._more = len(left) > 1
        return self._at

    def led(self, turn: int, address: Link) -> Link:
        """Return *address*, of the one at *turn*, which is tried out of turn."""
        self._led_to, self._at, self._more = turn, address, False
        return address

    def failed(self, gateways: int) -> bool:
        """What was tried last did not do: go on to the next address, after the last one to the next of *gateways*.

        Return whether one was not tried since one did.
        """
        if self._more and self._at is not None:
            self._failed.append(self._at)
        else:
            self._failed.clear()
            self._turn += 1
        more, self._more, self._at = self._more, False, None
        return gateways > 0 and (more or (self._turn - self._began) % gateways != 0)

    def did(self) -> None:
        """What was tried last did; where it is lost, it is tried again before the other addresses of its name."""
        if self._at is not None:
            self._did, self._turn, self._began = self._at, self._led_to, self._led_to
        self._more, self._at = False, None
        self._failed.clear()
