"""Messages of the last EXCHANGE_LIFETIME and our answers, so that a repetition does nothing twice (RFC 7252 4.5).

Bounded in time and in bytes. Full, the oldest of a host that holds more than its share is forgotten: nobody makes us
forget what others sent. A request that is forgotten too early may be handled twice; the handler has to bear that.

There are two generations, each a lifetime long, and the older is dropped as a whole: nothing is searched for. In each,
the messages of a host are a chain, so that one that sent a single message takes no more than it has to.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

ENTRY_BYTES: Final = 256
"""What a message takes that is remembered, besides what was said: its entry, and its place in a table."""
SHARE_BYTES: Final = 512
"""What a host takes that has any: its name, its share, and its places in two tables."""

Key = tuple[Hashable, int]
"""Remote, and the hash of the datagram, which holds the message ID.

Of a message that only has the ID of another, its peer began anew, or somebody took its address: it is no repetition,
and must not keep that of another from being heard.
"""
Seen = tuple[float, bytes | None]
"""Until when it is remembered, and what was said."""


class _Entry:
    """A message.

    Attributes:
        until: it is remembered.
        said: what a repetition hears.
        next: the number of the next of its host.
    """

    __slots__ = ("next", "said", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.said: bytes | None = None
        self.next = 0


class _Share:
    """The messages of one host: the numbers of the first and the last, and the bytes of all."""

    __slots__ = ("first", "held", "last")

    def __init__(self, number: int) -> None:
        self.first = self.last = number
        self.held = 0


class _Generation:
    __slots__ = ("born", "entries", "shares")

    def __init__(self, born: float) -> None:
        self.born = born
        self.entries: dict[int, _Entry] = {}
        """By the hash of the key: the name of a remote is large, and half of it is its host."""
        self.shares: dict[Hashable, _Share] = {}


class Duplicates:
    """The messages of one socket.

    Args:
        lifetime: seconds for which a message is remembered.
        most: bytes that all of them may take.
        group: whose share a remote counts to, such as its host.
    """

    def __init__(self, lifetime: float, most: int, group: Callable[[Hashable], Hashable]) -> None:
        self._lifetime = lifetime
        self._most = most
        self._group = group
        self._old = self._young = _Generation(float("-inf"))
        self._held: OrderedDict[Hashable, int] = OrderedDict()
        self._total = 0

    def __len__(self) -> int:
        return len(self._young.entries) + len(self._old.entries)

    @property
    def next_timeout(self) -> float | None:
        """When there is something to `forget`; None: nothing is remembered."""
        return self._young.born + self._lifetime if self._total else None

    def forget(self, now: float) -> None:
        """Drop the older generation if its time is over."""
        if now < self._young.born + self._lifetime:
            return
        dropped, self._old, self._young = self._old, self._young, _Generation(now)
        for group, share in dropped.shares.items():
            self._count(group, -share.held)

    def find(self, key: Key, now: float) -> Seen | None:
        """Return what is remembered of *key*; None: it is new, and remembered from now on."""
        if now >= self._young.born + self._lifetime:
            self.forget(now)
        number, young = hash(key), self._young
        entry = young.entries.get(number) or self._old.entries.get(number)
        if entry is not None and now < entry.until:
            return entry.until, entry.said
        young.entries[number] = _Entry(now + self._lifetime)
        group, size = self._group(key[0]), ENTRY_BYTES
        share = young.shares.get(group)
        if share is None:
            share = young.shares[group] = _Share(number)
            size += SHARE_BYTES
        else:
            young.entries[share.last].next = share.last = number
        self._hold(share, group, size)
        return None

    def answered(self, key: Key, said: bytes) -> None:
        """Remember that *said* is what a repetition of *key* hears, if *key* is remembered."""
        number = hash(key)
        for generation in (self._young, self._old):
            entry = generation.entries.get(number)
            if entry is not None:
                before, entry.said = entry.said, said
                group = self._group(key[0])
                return self._hold(generation.shares[group], group, len(said) - len(before or b""))
        return None

    def _hold(self, share: _Share, group: Hashable, size: int) -> None:
        share.held += size
        self._count(group, size)
        while self._total > self._most:
            self._drop_oldest_of_a_greedy_one()

    def _count(self, group: Hashable, size: int) -> None:
        self._total += size
        held = self._held.get(group, 0) + size
        if held:
            self._held[group] = held
        else:
            del self._held[group]

    def _drop_oldest_of_a_greedy_one(self) -> None:
        while True:  # as there is more than all shares together, one has more than its own
            group, held = next(iter(self._held.items()))
            if held * len(self._held) > self._most:
                break
            self._held.move_to_end(group)
        generation = self._old if group in self._old.shares else self._young
        share = generation.shares[group]
        entry = generation.entries.pop(share.first)
        freed = ENTRY_BYTES + len(entry.said or b"")
        if share.first == share.last:
            freed += SHARE_BYTES
            del generation.shares[group]
        else:
            share.first = entry.next
            share.held -= freed
        self._count(group, -freed)
