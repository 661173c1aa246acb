"""What a load gave: counted second by second, and summed up."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

SHARES = (0.50, 0.95, 0.99)


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that *share* (0 to 1) of *values* do not pass. Raises IndexError where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def percentiles(values: Sequence[float]) -> list[float | None]:
    """Return those of `SHARES`, and None for each where there are no values."""
    ordered = sorted(values)
    return [percentile(ordered, share) if ordered else None for share in SHARES]


@dataclass(slots=True)
class Second:
    """What the PNEs counted in one second, or what all of them did.

    Attributes:
        seconds: how long it was.
        established: PNEs whose sessions stood at its end.
        offered: readings that came due.
        latencies_ms: of each reading that was acknowledged, from when it was due.
        refused: readings that the server refused, by reason.
        churned: PNEs that came back.
    """

    seconds: float
    established: int
    offered: int
    latencies_ms: list[float]
    refused: dict[str, int]
    churned: int


def together(parts: Sequence[Second]) -> Second:
    """Return the same second of several processes as one."""
    refused: Counter[str] = Counter()
    for part in parts:
        refused.update(part.refused)
    return Second(
        sum(part.seconds for part in parts) / len(parts),
        sum(part.established for part in parts),
        sum(part.offered for part in parts),
        [value for part in parts for value in part.latencies_ms],
        dict(refused),
        sum(part.churned for part in parts),
    )


@dataclass(frozen=True, slots=True)
class Use:
    """What the processes of one role use: cores kept busy, and bytes of memory (RSS)."""

    cores: float
    rss: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One second, as it is shown and drawn.

    Attributes:
        at: seconds since readings were first offered; before that, since the load was begun.
        offered: readings a second; `acknowledged` too.
        latency_ms: p50, p95 and p99 of those that were acknowledged in it; null where none was.
        uses: by role: server, gateways, PNEs.
        others: cores that the rest of the machine kept busy.
    """

    at: float
    established: int
    offered: float
    acknowledged: float
    latency_ms: list[float | None]
    refused: int
    uses: dict[str, Use]
    others: float

    @classmethod
    def of(cls, second: Second, at: float, uses: dict[str, Use], others: float) -> "Sample":
        """Return *second* as it is shown."""
        return cls(
            round(at, 2),
            second.established,
            round(second.offered / second.seconds, 1),
            round(len(second.latencies_ms) / second.seconds, 1),
            percentiles(second.latencies_ms),
            sum(second.refused.values()),
            uses,
            others,
        )


@dataclass(slots=True)
class Figures:
    """All that was measured; null is what it did not come to.

    Attributes:
        established: PNEs when the load ended.
        establish_s: seconds that it took to establish them.
        bytes_per_pne: by role: growth of its memory (RSS) while the PNEs were established, for each of them.
        offered_s: seconds from the first reading that was due to the last.
        throughput: readings a second that were acknowledged meanwhile.
        unanswered: readings that were not acknowledged in the end.
        stored: readings that the server committed meanwhile, those of others included.
        max_ms: the longest latency.
        cores: kept busy by each role, and by others, on average while readings were offered.
        samples: second by second, while readings were offered.
    """

    established: int = 0
    establish_s: float | None = None
    bytes_per_pne: dict[str, int] = field(default_factory=dict)
    offered: int = 0
    offered_s: float = 0.0
    throughput: float = 0.0
    acknowledged: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    unanswered: int = 0
    stored: int | None = None
    latency_ms: list[float | None] = field(default_factory=lambda: [None] * len(SHARES))
    max_ms: float | None = None
    churned: int = 0
    cores: dict[str, float] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)

    def sum_up(self, seconds: Sequence[Second]) -> None:
        """Take up what the PNEs counted from the first reading to the end, the samples of it being there already."""
        if not seconds:
            return
        whole = together(seconds)
        self.offered = whole.offered
        self.acknowledged = len(whole.latencies_ms)
        self.refused = whole.refused
        self.churned = whole.churned
        self.latency_ms = percentiles(whole.latencies_ms)
        self.max_ms = max(whole.latencies_ms, default=None)
        busy = [one for one in seconds if one.offered]
        self.offered_s = round(sum(one.seconds for one in busy), 2)
        if busy:
            self.throughput = round(sum(len(one.latencies_ms) for one in busy) / self.offered_s, 1)
        loaded = [sample for sample in self.samples if sample.offered]
        if loaded:
            by_role = {role: fmean(one.uses[role].cores for one in loaded) for role in loaded[0].uses}
            everybody = {**by_role, "others": fmean(one.others for one in loaded)}
            self.cores = {role: round(value, 3) for role, value in everybody.items()}

    def held(self, wanted: int) -> bool:
        """Whether *wanted* PNEs stood in the end, and each reading was acknowledged."""
        return self.established == wanted and not self.unanswered and not self.refused
