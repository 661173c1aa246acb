"""Who of the waiting PNEs goes into the next SETUP Request of a PAN. Pure: time is handed in, nothing waits here.

Whoever asks for a SETUP proved nothing yet, may name any ID, and may stay silent when it is asked. So batches go in
lanes: members at their own address, and others; and of each those apart that stayed silent before. What is done in one
lane holds up no other.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Generic, Protocol, TypeVar

from cpns.ids import EntityId
from cpns.shares.room import Room, Slot
from cpns.shares.silence import Silence
from cpns.wire.registry import MAX_BATCH

MAX_WAITING: Final = 512
"""PNEs that wait at once, on one PAN."""
UNSHOWN: Final = 16
"""Of these, all that there are under load for those that do not show that their address is their own."""
KEPT_FOR_MEMBERS: Final = 512
"""As many besides, for members."""
PATIENCE: Final = 10.0
"""Seconds that a PNE waits for its AUTHENTICATE Request; then it begins anew."""
SLOW_RATE: Final = 64.0
"""Of those that were silent before, how many of a lane may go in a second: whoever proves nothing costs little."""
HOST_BATCHES: Final = 2
"""Open batches that one host may be in at once, so that none of its silence holds up all."""
BATCH_SIZE: Final = 5 * MAX_BATCH
SMALL, LARGE = 5, 8
"""Of a PNE with suite 1 or 2, and 3: 64 of the one or 40 of the other fit into a body, both ways."""


class Lane(Enum):
    """What a batch is made of: who it is for, whether they were silent before, and how many such run at once."""

    MEMBERS = (True, False, 16)
    SLOW_MEMBERS = (True, True, 4)
    OPEN = (False, False, 4)
    SLOW = (False, True, 1)

    def __init__(self, known: bool, slow: bool, batches: int) -> None:
        self.known = known
        self.slow = slow
        self.batches = batches


class Asker(Protocol):
    """One PNE that waits."""

    @property
    def entity(self) -> EntityId:
        """The ID that it names."""

    @property
    def host(self) -> str:
        """Where it asks from."""

    @property
    def port(self) -> int:
        """Of that host."""

    @property
    def known(self) -> bool:
        """Whether that ID proved itself from that host before."""

    @property
    def shown(self) -> bool:
        """Whether it showed that its address is its own."""

    @property
    def since(self) -> float:
        """When it came, in monotonic seconds."""

    @property
    def size(self) -> int:
        """Of `BATCH_SIZE`."""


A = TypeVar("A", bound=Asker)


@dataclass(frozen=True, slots=True, eq=False)
class Batch(Generic[A]):
    """What goes to the server as one, each ID once."""

    lane: Lane
    askers: Sequence[A]


def source(asker: Asker) -> Hashable:
    """Return whose share *asker* takes: a member's own, else that of its host."""
    return ("member", asker.entity) if asker.known else asker.host


class Queue(Generic[A]):
    """The PNEs that wait on one PAN.

    Args:
        alike: tells what all of one batch have in common, such as their PN.
        gave_way: is told of those that lost their place.
        monotonic: the clock, in seconds.
    """

    def __init__(
        self, alike: Callable[[A], Hashable], gave_way: Callable[[A], None], monotonic: Callable[[], float]
    ) -> None:
        self._alike = alike
        self._gave_way = gave_way
        self._monotonic = monotonic
        self._silence = Silence(monotonic)
        total = MAX_WAITING + KEPT_FOR_MEMBERS
        self._room = Room(total, KEPT_FOR_MEMBERS, monotonic, silence=self._silence, unshown=UNSHOWN)
        self._waiting: dict[A, Slot] = {}  # in the order in which they came
        self._running: Counter[Lane] = Counter()
        self._in_flight: Counter[tuple[EntityId, bool]] = Counter()
        self._hosts: Counter[str] = Counter()
        self._slow_again: dict[Lane, float] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def look_at(self, *, known: bool, shown: bool) -> None:
        """As `Room.look_at`."""
        self._room.look_at(known=known, shown=shown)

    def put(self, asker: A) -> None:
        """Let *asker* wait. Where there is no place the newest of the host with most gives way.

        Raises:
            NoPlace: that is *asker* itself.
            AddressUnproven: it may have one when it shows that its address is its own.
        """

        def gives_way() -> None:
            del self._waiting[asker]
            self._gave_way(asker)

        self._waiting[asker] = self._room.enter(source(asker), gives_way, known=asker.known, shown=asker.shown)

    def take(self, askers: Iterable[A]) -> list[A]:
        """Take *askers* out, those of them that wait still; return these."""
        taken = [asker for asker in askers if asker in self._waiting]
        for asker in taken:
            self._room.leave(self._waiting.pop(asker), proved=True)
        return taken

    def take_all(self) -> list[A]:
        """Take everybody out."""
        return self.take(list(self._waiting))

    def take_old(self) -> list[A]:
        """Take out whoever has given up by now."""
        before = self._monotonic() - PATIENCE
        return self.take([asker for asker in self._waiting if asker.since < before])

    def next(self) -> Batch[A] | None:
        """Return the next batch that may run; None: nobody's turn has come. `ended` is to follow."""
        now = self._monotonic()
        free = {lane for lane in Lane if self._running[lane] < lane.batches and now >= self._slow_again.get(lane, 0.0)}
        if not free:
            return None
        firsts = [asker for asker in self._first_of_each_id() if self._lane(asker) in free and self._may_go(asker)]
        if not firsts:
            return None
        ordered = self._by_turns(firsts)
        lane, kind = self._lane(ordered[0]), self._alike(ordered[0])
        chosen: list[A] = []
        size = 0
        for asker in ordered:
            if self._lane(asker) is lane and self._alike(asker) == kind and size + asker.size <= BATCH_SIZE:
                chosen.append(asker)
                size += asker.size
        self.take(chosen)
        self._running[lane] += 1
        self._in_flight.update((asker.entity, asker.known) for asker in chosen)
        if lane is Lane.OPEN:
            self._hosts.update({asker.host for asker in chosen})
        if lane.slow:
            self._slow_again[lane] = now + len(chosen) / SLOW_RATE
        return Batch(lane, chosen)

    def ended(self, batch: Batch[A], proved: Collection[EntityId] | None) -> None:
        """*batch* is over; *proved*: who of it are who they say. None: nobody could show it."""
        self._running[batch.lane] -= 1
        self._in_flight -= Counter((asker.entity, asker.known) for asker in batch.askers)
        if batch.lane is Lane.OPEN:
            self._hosts -= Counter({asker.host for asker in batch.askers})
        if proved is None:
            return
        sources = {source(asker): False for asker in batch.askers}
        sources.update({source(asker): True for asker in batch.askers if asker.entity in proved})
        for one, has in sources.items():
            self._silence.ended(one, proved=has)

    def _lane(self, asker: A) -> Lane:
        slow = self._silence.of(source(asker)) > 0
        if asker.known:
            return Lane.SLOW_MEMBERS if slow else Lane.MEMBERS
        return Lane.SLOW if slow else Lane.OPEN

    def _is_in_flight(self, asker: A) -> bool:
        """Whether its ID is: one at a time, but a member at its address does not wait for those who claim its ID."""
        return (asker.entity, True) in self._in_flight or (not asker.known and (asker.entity, False) in self._in_flight)

    def _may_go(self, asker: A) -> bool:
        return asker.known or self._hosts[asker.host] < HOST_BATCHES

    def _first_of_each_id(self) -> Iterable[A]:
        """Return who is next of those that name one ID: a member at its address, then who was not silent.

        Among equals, who showed its address; then of the host that has fewest waiting: an honest one has one, whoever
        claims an ID often has many.
        """
        ranks: dict[EntityId, tuple[bool, int, bool, int, float]] = {}
        firsts: dict[EntityId, A] = {}
        for asker in self._waiting:
            if self._is_in_flight(asker):
                continue
            group = source(asker)
            silence = self._silence.of(group)
            rank = (not asker.known, silence, not asker.shown, self._room.share(group), asker.since)
            if asker.entity not in ranks or rank < ranks[asker.entity]:
                ranks[asker.entity], firsts[asker.entity] = rank, asker
        return firsts.values()

    def _by_turns(self, askers: Iterable[A]) -> list[A]:
        """Order *askers*: members; then by turns of hosts, in a host by turns of its ports.

        Who was not silent begins, then whose silence is longest ago; among equals, who came first, by turns of those
        that showed their address, which they have to under load alone, and others.
        """
        ports: Counter[tuple[Hashable, int]] = Counter()
        by_port = []
        for asker in sorted(askers, key=lambda one: one.since):
            ports[source(asker), asker.port] += 1
            by_port.append((ports[source(asker), asker.port], asker))
        hosts: Counter[Hashable] = Counter()
        shown: Counter[bool] = Counter()
        by_host = []
        for _, asker in sorted(by_port, key=lambda one: one[0]):
            group = source(asker)
            hosts[group] += 1
            shown[asker.shown] += 1
            by_host.append((not asker.known, hosts[group], self._silence.since(group), shown[asker.shown], asker))
        return [one[-1] for one in sorted(by_host, key=lambda one: one[:-1])]
