"""Turns: whose message is next, so that nobody who sends much keeps the others waiting.

Deficit round robin (Shreedhar, Varghese 1995) over uplinks, and inside an uplink over its sessions: each in its turn
may use a quantum of work, and what it used over that is taken from its next turns. An uplink is a PN GW's connection or
a stranger's host, so a gateway with a thousand sessions is one party. All strangers together have half of the work at
most while others wait: an address is all that tells them apart, and on a PAN anybody can make up ten thousand of them.

    put ...... waits in its session's queue ...... take ...... runs ...... done
     |                                                        | too many of its session wait or run: it is refused
     | over twice what may wait of it, over what may of the uplink or of all: the newest of the longest gives way

What is refused has its turn too: its number has to be struck out in the order of its session.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

QUANTUM: Final = 2.0
"""Units of work in one turn; see `cpns.shares.costs`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many of a thing one session, one uplink and all together may have.

    The session of key None is the uplink's own: it may have half of what the uplink may.
    """

    session: int
    uplink: int
    total: int

    def of(self, session: Hashable) -> int:
        """Return how many the session of this key may have."""
        return self.uplink // 2 if session is None else self.session


UNLIMITED: Final = Limits(2**62, 2**62, 2**62)


class _Queue(Generic[T]):
    """What waits and runs of one session."""

    __slots__ = ("deficit", "key", "running", "takes", "turning", "uplink", "visited", "waiting")

    def __init__(self, key: Hashable, uplink: "_Uplink[T]") -> None:
        self.key = key
        self.uplink = uplink
        self.waiting: deque[tuple[T, float, bool]] = deque()  # item, cost, whether it is to be refused
        self.takes = 0  # of these, those that are not to be refused
        self.running = 0
        self.deficit = 0.0
        self.turning = False
        self.visited = False


class _Uplink(Generic[T]):
    """The sessions of one uplink."""

    __slots__ = ("deficit", "key", "longest", "queues", "ring", "running", "stranger", "turning", "visited", "waiting")

    def __init__(self, key: Hashable, stranger: bool) -> None:
        self.key = key
        self.stranger = stranger
        self.queues: dict[Hashable, _Queue[T]] = {}
        self.ring: deque[_Queue[T]] = deque()
        self.longest: _Lengths[_Queue[T]] = _Lengths()
        self.waiting = 0
        self.running = 0
        self.deficit = 0.0
        self.turning = False
        self.visited = False


class Turn(Generic[T]):
    """An item whose turn it is; it runs until `done`.

    Attributes:
        refused: there is too much of its session: it is to be answered so, and no more.
    """

    __slots__ = ("_of", "_queue", "item", "refused")

    def __init__(self, of: "Turns[T]", queue: _Queue[T], item: T, refused: bool) -> None:
        self._of = of
        self._queue: _Queue[T] | None = queue
        self.item = item
        self.refused = refused

    def charge(self, units: float) -> None:
        """Count more work for its party, now that it is known."""
        if self._queue is not None:
            self._queue.deficit -= units
            self._queue.uplink.deficit -= units
            self._of._charge(self._queue.uplink, units)

    def done(self) -> None:
        """It runs no more. May be called again."""
        if self._queue is not None:
            self._of._done(self._queue)
            self._queue = None


class Turns(Generic[T]):
    """See the module.

    Args:
        waiting: how many items may wait.
        running: how many may run at once; what is over that of the uplink, or of all, waits.
        strangers: how many of those that run may be of strangers.
    """

    def __init__(self, waiting: Limits, running: Limits, strangers: int) -> None:
        self._waiting = waiting
        self._running = running
        self._strangers = strangers
        self._uplinks: dict[Hashable, _Uplink[T]] = {}
        self._rings: list[deque[_Uplink[T]]] = [deque(), deque()]  # of the others, of strangers
        self._ahead = 0.0  # units of work that strangers had more than the others, while both wait
        self._kept_back: dict[_Uplink[T], None] = {}  # of strangers, while as many run as may
        self._longest: tuple[_Lengths[_Uplink[T]], ...] = (_Lengths(), _Lengths())  # likewise
        self._size = 0
        self._run = 0
        self._run_of_strangers = 0

    def __len__(self) -> int:
        """How many items wait."""
        return self._size

    @property
    def running(self) -> int:
        """How many run."""
        return self._run

    @property
    def sessions(self) -> int:
        """How many sessions have items that wait."""
        return sum(len(uplink.longest) for uplink in self._uplinks.values())

    def put(self, uplink: Hashable, session: Hashable, item: T, cost: float, *, stranger: bool = False) -> T | None:
        """Let *item* wait for its turn.

        Args:
            uplink: whose it is.
            session: whose it is inside that; items of one session keep their order.
            item: anything.
            cost: units of work that it takes, as far as can be seen; see `Turn.charge`.
            stranger: nobody proved to be this uplink.

        Returns:
            The item that has to give way, maybe this one; or None.
        """
        queue = self._queue_of(uplink, session, stranger)
        group = queue.uplink
        most = self._waiting.of(session)
        refused = queue.takes >= most
        if len(queue.waiting) >= 2 * most:
            return item
        queue.waiting.append((item, cost, refused))
        queue.takes += not refused
        self._count(queue, 1)
        self._enter(queue)
        if group.waiting > self._waiting.uplink:
            return self._newest(group)
        return self._newest(self._longest_of_all()) if self._size > self._waiting.total else None

    def at_once(self, uplink: Hashable, session: Hashable, item: T, *, stranger: bool = False) -> Turn[T] | None:
        """Return the turn of *item*, as `put` and `take` would, where nobody waits; None: it has to be `put`."""
        if self._size or self._run >= self._running.total or (stranger and self._run_of_strangers >= self._strangers):
            return None
        if any(self._rings):
            self._forgive()
        queue = self._queue_of(uplink, session, stranger)
        if queue.uplink.running >= self._running.uplink:
            return None
        return self._run_in(queue, item, refused=False)

    def _queue_of(self, key: Hashable, session: Hashable, stranger: bool) -> _Queue[T]:
        uplink = self._uplinks.get(key)
        if uplink is None:
            uplink = self._uplinks[key] = _Uplink(key, stranger)
        queue = uplink.queues.get(session)
        if queue is None:
            queue = uplink.queues[session] = _Queue(session, uplink)
        return queue

    def take(self) -> Turn[T] | None:
        """Return whose turn it is; None where nobody waits who may run now."""
        if not self._size:
            self._forgive()
            return None
        if self._run >= self._running.total:
            return None
        while ring := self._next_ring():
            uplink = ring[0]
            if self._is_full(uplink):
                self._leave(ring)
                continue
            if not _has_turn(ring, uplink):
                continue
            if uplink.waiting:
                return self._start(self._next_of(uplink))
            self._leave(ring)
            self._drop(uplink)
        return None

    def _next_ring(self) -> "deque[_Uplink[T]]":
        """Return whose turn it is, of strangers or of the others; empty: nobody's."""
        others, strangers = self._rings
        if others and strangers:
            return strangers if self._ahead < 0 else others
        self._ahead = 0.0
        return others or strangers

    def _charge(self, uplink: _Uplink[T], units: float) -> None:
        if all(self._rings):
            self._ahead += units if uplink.stranger else -units

    def _is_full(self, uplink: _Uplink[T]) -> bool:
        """Whether *uplink* has to wait for one of those that run; it turns again when that is done."""
        if uplink.stranger and self._run_of_strangers >= self._strangers:
            self._kept_back[uplink] = None
            return True
        return uplink.running >= self._running.uplink

    def _next_of(self, uplink: _Uplink[T]) -> _Queue[T]:
        """Return the session of *uplink* whose turn it is; one waits."""
        while True:
            queue = uplink.ring[0]
            if not _has_turn(uplink.ring, queue):
                continue
            if queue.waiting:
                return queue
            self._leave(uplink.ring)
            self._drop_queue(queue)

    def _start(self, queue: _Queue[T]) -> Turn[T]:
        item, cost, refused = queue.waiting.popleft()
        queue.takes -= not refused
        self._count(queue, -1)
        turn = self._run_in(queue, item, refused=refused)
        turn.charge(cost)
        return turn

    def _run_in(self, queue: _Queue[T], item: T, *, refused: bool) -> Turn[T]:
        refused = refused or queue.running >= self._running.of(queue.key)
        queue.running += 1
        queue.uplink.running += 1
        self._run += 1
        self._run_of_strangers += queue.uplink.stranger
        return Turn(self, queue, item, refused)

    def _done(self, queue: _Queue[T]) -> None:
        uplink = queue.uplink
        queue.running -= 1
        uplink.running -= 1
        self._run -= 1
        if uplink.stranger:
            self._run_of_strangers -= 1
            for kept_back in self._kept_back:
                self._turn(kept_back)
            self._kept_back.clear()
        if not (queue.waiting or queue.running):
            self._drop_queue(queue)
        if uplink.waiting:
            self._turn(uplink)
        elif not uplink.running:
            self._drop(uplink)

    def _enter(self, queue: _Queue[T]) -> None:
        if not queue.turning:
            queue.turning = True
            queue.uplink.ring.append(queue)
        self._turn(queue.uplink)

    def _turn(self, uplink: _Uplink[T]) -> None:
        if not uplink.turning:
            uplink.turning = True
            self._rings[uplink.stranger].append(uplink)

    @staticmethod
    def _leave(ring: "deque[_Queue[T]] | deque[_Uplink[T]]") -> None:
        """Take the first out of *ring*: it has nothing to do there; what it saved up is not kept, what it owes is."""
        first = ring.popleft()
        first.turning = first.visited = False
        first.deficit = min(first.deficit, 0.0)

    def _forgive(self) -> None:
        """Nobody waits, so nobody was kept waiting: what is owed is owed to no one."""
        for ring in self._rings:
            while ring:
                uplink = ring[0]
                self._leave(ring)
                while uplink.ring:
                    queue = uplink.ring[0]
                    self._leave(uplink.ring)
                    self._drop_queue(queue)
                self._drop(uplink)

    def _drop(self, uplink: _Uplink[T]) -> None:
        if not (uplink.waiting or uplink.running or uplink.turning):
            self._uplinks.pop(uplink.key, None)

    def _drop_queue(self, queue: _Queue[T]) -> None:
        if not (queue.waiting or queue.running or queue.turning):
            queue.uplink.queues.pop(queue.key, None)

    def _count(self, queue: _Queue[T], more: int) -> None:
        uplink = queue.uplink
        uplink.waiting += more
        self._size += more
        uplink.longest.moved(queue, len(queue.waiting) - more, len(queue.waiting))
        self._longest[uplink.stranger].moved(uplink, uplink.waiting - more, uplink.waiting)

    def _longest_of_all(self) -> _Uplink[T]:
        """Return whose newest gives way; of a stranger and another with as many, the stranger."""
        others, strangers = self._longest
        return (strangers if strangers.most >= others.most else others).first()

    def _newest(self, uplink: _Uplink[T]) -> T:
        """Take out the newest item of the longest queue of *uplink*."""
        queue = uplink.longest.first()
        item, _, refused = queue.waiting.pop()
        queue.takes -= not refused
        self._count(queue, -1)
        return item


W = TypeVar("W", bound=Hashable)


class _Lengths(Generic[W]):
    """Which of many queues is longest, kept up as each grows and shrinks by one."""

    __slots__ = ("_many", "_of", "most")

    def __init__(self) -> None:
        self._of: dict[int, dict[W, None]] = {}
        self.most = 0
        self._many = 0

    def __len__(self) -> int:
        """How many are not empty."""
        return self._many

    def moved(self, who: W, was: int, now: int) -> None:
        if was:
            same = self._of[was]
            del same[who]
            self._many -= 1
            if not same:
                del self._of[was]
        if now:
            self._of.setdefault(now, {})[who] = None
            self._many += 1
            self.most = max(self.most, now)
        while self.most and self.most not in self._of:
            self.most -= 1

    def first(self) -> W:
        """Return the longest; of equal ones that which got so long first."""
        return next(iter(self._of[self.most]))


def _has_turn(ring: "deque[_Queue[T]] | deque[_Uplink[T]]", first: "_Queue[T] | _Uplink[T]") -> bool:
    """Whether the *first* of *ring* may go on; else its turn is over, and the next is first."""
    if not first.visited:
        first.visited = True
        first.deficit += QUANTUM
    if first.deficit > 0:
        return True
    first.visited = False
    ring.rotate(-1)
    return False
