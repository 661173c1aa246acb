"""What is written of lines that others can cause: those of the log, and the refusals of the audit log.

A line is written when something changes. What is said again is counted, and told as one line a minute; each party has
its pace, and so have all together that have not proven themselves. So nobody can fill a disk, or bury the lines of
another.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, TypeVar

from cpns.shares.party import Party
from cpns.shares.rate import RateLimit

W = TypeVar("W")

PARTY_LINES: Final = (0.5, 60.0)
"""Lines a second, and at once, of one party."""
STRANGERS_LINES: Final = (5.0, 600.0)
"""Lines a second, and at once, of all together that have not proven themselves."""
AGAIN_SECONDS: Final = 60.0
"""After so long what was said again is told, with how often."""
MAX_PARTIES: Final = 1024
"""Parties that are remembered; the one longest silent is forgotten first."""
MAX_TOPICS: Final = 64
"""Topics that are remembered of one party, as *MAX_PARTIES*."""
MAX_LOOKED_AT: Final = 256
"""Topics that one look for what is due takes."""


@dataclass(frozen=True, slots=True)
class Line(Generic[W]):
    """What is to be written.

    Attributes:
        times: how often it was said since the last line of its topic; 1 where it is new.
        seconds: since that line.
        lost: what the same party said besides since its last line, and what nobody will write any more.
    """

    what: W
    times: int
    seconds: float
    lost: int


@dataclass(slots=True)
class _Topic(Generic[W]):
    what: W
    again: float
    written_at: float | None = None
    times: int = 0


@dataclass(slots=True)
class _Party(Generic[W]):
    proven: bool
    topics: OrderedDict[Hashable, _Topic[W]] = field(default_factory=OrderedDict)
    lost: int = 0


class Noted(Generic[W]):
    """Says what is written, and hands it to *write*.

    Args:
        write: takes a line at once; it must not raise.
        monotonic: the clock.
        party_lines: see `PARTY_LINES`.
        strangers_lines: see `STRANGERS_LINES`.
        again: see `AGAIN_SECONDS`.
    """

    def __init__(
        self,
        write: Callable[[Line[W]], None],
        monotonic: Callable[[], float],
        party_lines: tuple[float, float] = PARTY_LINES,
        strangers_lines: tuple[float, float] = STRANGERS_LINES,
        again: float = AGAIN_SECONDS,
    ) -> None:
        self._write = write
        self._monotonic = monotonic
        self._again = again
        self._pace = RateLimit(*party_lines, monotonic)
        self._strangers = RateLimit(*strangers_lines, monotonic)
        self._parties: OrderedDict[str, _Party[W]] = OrderedDict()
        self._unwritten: dict[tuple[str, Hashable], None] = {}

    def note(self, party: str, topic: Hashable, what: W, *, proven: bool = True, again: float | None = None) -> None:
        """Take *what* a party says, or what is said of it, on a topic.

        Args:
            party: who causes it: an entity that has proven itself, or a host.
            topic: what it is about; *what* is the news of it. It is written at once where that differs from the
                last news of the topic.
            what: compared by equality.
            proven: whether *party* is an entity that has proven itself.
            again: seconds after which this is told again, where they are others than those of all.
        """
        one = self._party(party, proven)
        known = one.topics.get(topic)
        if known is None or known.what != what:
            if known is not None:
                self._tell(party, topic)
                one.lost += known.times
            known = one.topics[topic] = _Topic(what, self._again if again is None else again)
        known.times += 1
        one.topics.move_to_end(topic)
        self._unwritten[party, topic] = None
        if known.written_at is None:
            self._tell(party, topic)
        if len(one.topics) > MAX_TOPICS:
            one.lost += self._drop(party, one)

    def due(self) -> None:
        """Write what was said again since a minute ago or longer, and what its pace held back; to be called often."""
        now = self._monotonic()
        for party, topic in list(islice(self._unwritten, MAX_LOOKED_AT)):
            self._unwritten[party, topic] = self._unwritten.pop((party, topic))  # others have their turn next
            known = self._parties[party].topics[topic]
            if known.written_at is None or now - known.written_at >= known.again:
                self._tell(party, topic)

    def rest(self) -> None:
        """Write what waits, due or not: it is the end."""
        for party, topic in list(self._unwritten):
            self._tell(party, topic)

    def over(self, party: str, topic: Hashable) -> None:
        """The news of a topic are no news any more: what is said next of it is written, even if it is the same."""
        known = self._parties[party].topics.get(topic) if party in self._parties else None
        if known is not None:
            self._tell(party, topic)
            del self._parties[party].topics[topic]
            self._unwritten.pop((party, topic), None)

    def _party(self, name: str, proven: bool) -> _Party[W]:
        one = self._parties.setdefault(name, _Party(proven))
        one.proven = proven
        self._parties.move_to_end(name)
        if len(self._parties) > MAX_PARTIES:
            oldest = next(iter(self._parties))
            while self._parties[oldest].topics:
                self._drop(oldest, self._parties[oldest])
            del self._parties[oldest]
        return one

    def _drop(self, name: str, party: _Party[W]) -> int:
        """Forget the oldest topic of a party; return what of it nobody will write."""
        topic, dropped = party.topics.popitem(last=False)
        self._unwritten.pop((name, topic), None)
        return dropped.times

    def _tell(self, party: str, topic: Hashable) -> None:
        """Write what was said of a topic since its last line, if the pace lets us."""
        one = self._parties[party]
        known = one.topics[topic]
        if not known.times or not self._pace.allows(party) or not (one.proven or self._strangers.allows("")):
            return
        now = self._monotonic()
        seconds = 0.0 if known.written_at is None else now - known.written_at
        line = Line(known.what, known.times, seconds, one.lost)
        known.written_at, known.times, one.lost = now, 0, 0
        self._unwritten.pop((party, topic), None)
        self._write(line)


def by(party: Party | str, about: str = "", state: str = "") -> dict[str, object]:
    """Return what a line of the log says of who caused it: ``_log.info(..., extra=by(inbound.party))``.

    Args:
        party: a name alone is that of an entity that has proven itself.
        about: where lines of one wording have several topics, which of them it is.
        state: where lines of several wordings tell of one state, its name: each change of it is news.
    """
    name, proven = (party, True) if isinstance(party, str) else (party.entity or party.host, party.entity is not None)
    return {"party": name, "about": about, "state": state, "proven": proven}
