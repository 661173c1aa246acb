"""Who was refused as it went over a share, which one, and when: for the operator."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from cpns.ids import EntityId

MAX_PARTIES: Final = 4096
"""Entities that are remembered; the one that was refused longest ago is forgotten first."""


@dataclass(frozen=True, slots=True)
class Excess:
    """How an entity went over a share.

    Attributes:
        what: the reason of the newest refusal, see `cpns.domain.explanation`.
        times: that it was refused for this in a row.
        at: monotonic seconds of the newest.
    """

    what: str
    times: int
    at: float


class Exceeded:
    """The newest excess of each entity."""

    def __init__(self) -> None:
        self._newest: OrderedDict[EntityId, Excess] = OrderedDict()

    def note(self, entity: EntityId, what: str, now: float) -> None:
        """Remember that *entity* was refused."""
        before = self._newest.pop(entity, None)
        times = before.times if before is not None and before.what == what else 0
        self._newest[entity] = Excess(what, times + 1, now)
        if len(self._newest) > MAX_PARTIES:
            self._newest.popitem(last=False)

    def of(self, entity: EntityId) -> Excess | None:
        """Return the newest excess of *entity*, or None."""
        return self._newest.get(entity)
