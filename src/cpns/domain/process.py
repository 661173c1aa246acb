"""The processes of one server, as its store knows them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cpns.ids import EntityId

GONE_SECONDS: Final = 10.0
"""Who has not said for so long that it is there counts as gone, or has lost the store."""
FORGOTTEN_SECONDS: Final = 3600.0
"""After so long nothing is said any more of who went without a word."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a server.

    Attributes:
        process_id: its name among the processes, 16 hex digits; another one after each start.
        host: the machine.
        pid: its number there.
        listening: where gateways reach it.
        bus: where it reaches the other processes; None: it was started alone.
        started_at: seconds since the epoch.
        ahead: seconds that the clock of its machine is ahead of the store's.
        heeded: number of the newest revocation or expulsion in the feed that it has heeded.
        seen_at: when it last said that it is there, by the store's clock.
    """

    process_id: str
    host: str
    pid: int
    listening: str
    bus: str | None
    started_at: float
    ahead: float = 0.0
    heeded: int = 0
    seen_at: float = 0.0

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def is_there(self, now: float) -> bool:
        """Whether it was there lately; *now* is by the store's clock."""
        return now - self.seen_at < GONE_SECONDS


@dataclass(frozen=True, slots=True)
class Work:
    """What a process has at the moment.

    Attributes:
        sessions: how many.
        gateways: those that are connected to it, CM Devices included.
        room: bytes that are free on the disk of its data folder, and all that it has.
    """

    sessions: int
    gateways: tuple[EntityId, ...]
    room: tuple[int, int]


class Condition(StrEnum):
    """How a process stands."""

    UP = "up"
    """It answers."""
    UNASKED = "unasked"
    """It is there, and can't be asked."""
    SILENT = "silent"
    """It has not said for a while that it is there, and not that it ends."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A process as another one, or a command, sees it; *work* is None where it did not tell."""

    process: Process
    condition: Condition
    work: Work | None = None
    here: bool = False


def seen(process: Process, now: float, work: Work | None = None, *, here: bool = False) -> Seen:
    """Return how *process* stands; *now* is by the store's clock."""
    unasked = Condition.UNASKED if process.is_there(now) else Condition.SILENT
    return Seen(process, unasked if work is None else Condition.UP, work, here)
