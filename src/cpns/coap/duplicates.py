"""Messages of the last EXCHANGE_LIFETIME and our answers, so that a repetition does nothing twice (RFC 7252 4.5).

Bounded in time and in bytes. Full, the oldest of a host that holds more than its share is forgotten: nobody makes us
forget what others sent. A request that is forgotten too early may be handled twice; the handler has to bear that.

There are two generations, each a lifetime long, and the older is dropped as a whole: nothing is searched for.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Final

ENTRY_BYTES: Final = 256
"""What an entry counts, besides what was said."""

Key = tuple[Hashable, int]
"""Remote, and the hash of the datagram, which holds the message ID.

Of a message that only has the ID of another, its peer began anew, or somebody took its address: it is no repetition,
and must not keep that of another from being heard.
"""
Entry = tuple[float, bytes | None]
"""Until when it is remembered, and what was said."""


class _Generation:
    __slots__ = ("born", "entries", "held", "order")

    def __init__(self, born: float) -> None:
        self.born = born
        self.entries: dict[Key, Entry] = {}
        self.order: dict[Hashable, deque[Key]] = {}
        self.held: dict[Hashable, int] = {}


class Duplicates:
    """The messages of one socket.

    Args:
        lifetime: seconds for which a message is remembered.
        most: bytes that all of them may take, as they are counted here.
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
        for group, held in dropped.held.items():
            self._count(group, -held)

    def find(self, key: Key, now: float) -> Entry | None:
        """Return what is remembered of *key*; None: it is new, and remembered from now on."""
        if now >= self._young.born + self._lifetime:
            self.forget(now)
        entry = self._young.entries.get(key) or self._old.entries.get(key)
        if entry is not None and now < entry[0]:
            return entry
        group, young = self._group(key[0]), self._young
        young.entries[key] = (now + self._lifetime, None)
        young.order.setdefault(group, deque()).append(key)
        self._hold(young, group, ENTRY_BYTES)
        return None

    def answered(self, key: Key, said: bytes) -> None:
        """Remember that *said* is what a repetition of *key* hears, if *key* is remembered."""
        for generation in (self._young, self._old):
            entry = generation.entries.get(key)
            if entry is not None:
                generation.entries[key] = (entry[0], said)
                return self._hold(generation, self._group(key[0]), len(said) - len(entry[1] or b""))
        return None

    def _hold(self, generation: _Generation, group: Hashable, size: int) -> None:
        generation.held[group] = generation.held.get(group, 0) + size
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
        generation = self._old if group in self._old.order else self._young
        keys = generation.order[group]
        key = keys.popleft()
        _, said = generation.entries.pop(key)
        freed = ENTRY_BYTES + len(said or b"")
        if keys:
            generation.held[group] -= freed
        else:
            del generation.order[group], generation.held[group]
        self._count(group, -freed)
