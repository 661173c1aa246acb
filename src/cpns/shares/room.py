"""A room with a bounded number of places, which no group of askers can take from the others.

The newest place of the group that holds most gives way: a flood throws itself out, and a slow honest run goes on.
"""

import heapq
from collections.abc import Callable, Hashable

from cpns.errors import Refused, Result
from cpns.shares.silence import LONGEST_WAIT, Silence


class NoPlace(Refused):
    """There is no place, for whoever asks; it says nothing of who that is."""

    def __init__(self, reason: str) -> None:
        super().__init__(Result.TOO_MANY, reason)


class AddressUnproven(NoPlace):
    """The room is under load, and few places of it are for who does not show that its address is its own."""

    def __init__(self) -> None:
        super().__init__("address_unproven")


class Slot:
    """One place that is held; `Room.leave` gives it back."""

    __slots__ = ("_gives_way", "group", "held", "part", "proved", "size")

    def __init__(self, group: Hashable, part: "_Part", size: int, gives_way: Callable[[], None]) -> None:
        self.group = group
        self.part = part
        self.size = size
        self.held = True
        self.proved = False
        self._gives_way = gives_way

    def give_way(self) -> None:
        """Tell the holder that the place is another's now."""
        self._gives_way()


class Room:
    """Places for what is under way, such as half-open runs.

    Args:
        total: places in all.
        kept: of these, for known groups alone.
        monotonic: the clock, in seconds.
        longest_wait: seconds that a group waits at most after unproved runs; 0: it need not wait.
        silence: is kept by another, who makes groups wait; among equals the room only looks at it. None: the room
            keeps its own, and makes groups wait itself.
        unshown: places of the unknown groups that are, under load, all that there is for those that do not show that
            their address is their own. It is under load where more than half of what unknown groups may have is taken.
    """

    def __init__(
        self,
        total: int,
        kept: int,
        monotonic: Callable[[], float],
        longest_wait: float = LONGEST_WAIT,
        silence: Silence | None = None,
        unshown: int = 0,
    ) -> None:
        self._total = total
        self._unknown = _Part(total - kept - unshown)
        self._unshown = _Part(unshown)
        self._known = _Part(total)
        self._parts = (self._unknown, self._unshown, self._known)
        self._proved = 0
        self._silence = silence or Silence(monotonic, longest_wait)
        self._makes_wait = silence is None

    def __len__(self) -> int:
        return sum(part.size for part in self._parts) + self._proved

    @property
    def _is_loaded(self) -> bool:
        strangers = (self._unknown, self._unshown)
        return 2 * sum(part.size for part in strangers) > sum(part.total for part in strangers)

    def look_at(self, *, known: bool = False, shown: bool = False) -> None:
        """Raise `AddressUnproven` where it is under load, and all places for those that show nothing are taken."""
        if not known and not shown and self._is_loaded and self._unshown.size >= self._unshown.total:
            raise AddressUnproven

    def share(self, group: Hashable) -> int:
        """Return how many places *group* holds in which it has not proved itself."""
        return sum(part.share(group) for part in self._parts)

    def silence(self, group: Hashable) -> int:
        """Return how many runs of *group* in a row ended unproved."""
        return self._silence.of(group)

    def wait(self, group: Hashable) -> float:
        """Return the seconds until an unknown *group* may have its next place: longer after each unproved run."""
        return self._silence.wait(group) if self._makes_wait else 0.0

    def enter(
        self,
        group: Hashable,
        gives_way: Callable[[], None],
        *,
        known: bool = False,
        shown: bool = True,
        size: int = 1,
    ) -> Slot:
        """Take a place for *group*.

        Args:
            group: who shares with whom, such as a host.
            gives_way: is called when the place goes to another group; the slot is left then.
            known: whether the group proved itself before: it needs not wait, and has the kept places too.
            shown: whether it showed that its address is its own; see `Room`.
            size: of the place.

        Raises:
            NoPlace: the group has its share, or is to wait after runs that it left unproved.
            AddressUnproven: there may be a place for it if it shows that its address is its own.
        """
        if not known and self.wait(group) > 0:
            raise NoPlace("unanswered_runs")
        part = self._known if known else self._unknown if shown or not self._is_loaded else self._unshown
        while part.size + size > part.total or len(self) + size > self._total:
            self._make_way(group, size, part)
        slot = Slot(group, part, size, gives_way)
        part.add(slot, self.silence(group))
        if self._makes_wait and not known:
            self._silence.began(group)
        return slot

    def prove(self, slot: Slot) -> None:
        """The run showed who its group is: it holds its place until it leaves, and gives way to nobody."""
        if not slot.held or slot.proved:
            return
        slot.part.remove(slot, self.silence(slot.group))
        slot.proved = True
        self._proved += slot.size
        self._ended(slot.group, proved=True)

    def leave(self, slot: Slot, *, proved: bool) -> None:
        """Give a place back, once; *proved*: the run showed who its group is."""
        if not slot.held:
            return
        slot.held = False
        if slot.proved:
            self._proved -= slot.size
            return
        slot.part.remove(slot, self.silence(slot.group))
        self._ended(slot.group, proved=proved)

    def _make_way(self, group: Hashable, size: int, own: "_Part") -> None:
        parts = self._parts if own is self._known else (own,)
        found = [(rank, part) for part in parts if (rank := part.most()) is not None]
        asker = (self.share(group) + size, self.silence(group))
        if not found or max(rank for rank, _ in found) <= asker:
            raise AddressUnproven if own is self._unshown else NoPlace("room_full")
        _, part = max(found, key=lambda one: one[0])
        slot = part.newest(self.silence)
        slot.held = False
        self._ended(slot.group, proved=False)
        slot.give_way()

    def _ended(self, group: Hashable, *, proved: bool) -> None:
        if self._makes_wait:
            self._silence.ended(group, proved=proved)


class _Part:
    """The places of the known groups, or of others, and which group holds most of them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.size = 0
        self._groups: dict[Hashable, dict[Slot, None]] = {}  # each group's slots, oldest first
        self._shares: dict[Hashable, int] = {}
        self._ranks: list[tuple[int, int, int, Hashable]] = []  # of each change one; what is out of date is passed over
        self._changes = 0

    def share(self, group: Hashable) -> int:
        return self._shares.get(group, 0)

    def add(self, slot: Slot, silence: int) -> None:
        self._groups.setdefault(slot.group, {})[slot] = None
        self._changed(slot.group, slot.size, silence)

    def remove(self, slot: Slot, silence: int) -> None:
        slots = self._groups[slot.group]
        del slots[slot]
        if not slots:
            del self._groups[slot.group]
        self._changed(slot.group, -slot.size, silence)

    def most(self) -> tuple[int, int] | None:
        """Return share and silence of the group that holds most; among equals, of the one with most silence."""
        while self._ranks:
            share, silence, _, group = self._ranks[0]
            if self._shares.get(group, 0) == -share:
                return -share, -silence
            heapq.heappop(self._ranks)
        return None

    def newest(self, silence: Callable[[Hashable], int]) -> Slot:
        """Take out the newest slot of the group that `most` spoke of."""
        group = self._ranks[0][3]
        slot = next(reversed(self._groups[group]))
        self.remove(slot, silence(group))
        return slot

    def _changed(self, group: Hashable, size: int, silence: int) -> None:
        self.size += size
        share = self._shares.get(group, 0) + size
        if share:
            self._shares[group] = share
            self._changes += 1
            heapq.heappush(self._ranks, (-share, -silence, self._changes, group))
        else:
            self._shares.pop(group, None)
        if len(self._ranks) > 4 * len(self._shares) + 64:
            latest = {one[3]: one for one in sorted(self._ranks, key=lambda one: one[2])}
            self._ranks = [one for one in latest.values() if self._shares.get(one[3]) == -one[0]]
            heapq.heapify(self._ranks)
