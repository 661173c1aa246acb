"""Message IDs: each serves once in EXCHANGE_LIFETIME towards one peer (RFC 7252 4.4).

There are 65,536 of them. With one counter for all peers, an endpoint that sends more in a lifetime would give an ID to
the same peer again, and that peer would drop the message as a duplicate. So each peer has a counter of its own. An ID
is found in constant time. Where all are taken the caller is told at once: nobody waits, and nothing is searched for.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from cpns.coap.errors import CannotSend

MAX_PEERS: Final = 4096
"""Peers whose counter is kept; the one longest not written to is forgotten first, and begins elsewhere then."""
_BLOCK: Final = 4096
_BLOCKS: Final = 0x10000 // _BLOCK
_STEP: Final = 40503
"""From where one peer begins to where the next does: odd, so that all places come by, and far."""


class _Counter:
    __slots__ = ("last", "left", "next")

    def __init__(self, first: int) -> None:
        self.next = first
        self.left: dict[int, float] = {}
        """When each block of IDs was left, of those that were."""


class MessageIds:
    """The IDs of one socket.

    Args:
        first: where the first peer begins; drawn at random (RFC 7252 4.4).
        lifetime: seconds for which an ID must not serve again.
        peers: whose counter is kept at most.
    """

    def __init__(self, first: int, lifetime: float, peers: int = MAX_PEERS) -> None:
        self._first = first & 0xFFFF
        self._lifetime = lifetime
        self._most = peers
        self._counters: OrderedDict[Hashable, _Counter] = OrderedDict()

    def next(self, peer: Hashable, now: float) -> int:
        """Return an ID for a message to *peer*.

        Raises:
            CannotSend: ``message_ids_used_up``: some 61,000 went there within a lifetime.
        """
        counter = self._counters.get(peer)
        if counter is None:
            counter = self._counters[peer] = _Counter(self._first)
            self._first = (self._first + _STEP) & 0xFFFF
            if len(self._counters) > self._most:
                self._counters.popitem(last=False)
        else:
            self._counters.move_to_end(peer)
            if not counter.next % _BLOCK:
                self._enter(counter, counter.next // _BLOCK, now)
        mid = counter.next
        counter.next = (mid + 1) & 0xFFFF
        return mid

    def _enter(self, counter: _Counter, block: int, now: float) -> None:
        left = counter.left.get(block)
        if left is not None and now < left + self._lifetime:
            raise CannotSend("message_ids_used_up")
        counter.left[(block - 1) % _BLOCKS] = now
