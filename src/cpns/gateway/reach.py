"""PNEs in reach that are no members: they asked who is there (Entity Discovery), and may be invited (FN-8)."""

from collections import OrderedDict
from typing import Final

from cpns.ids import EntityId
from cpns.transport.endpoint import Link

MAX_KNOWN: Final = 256
KNOWN_SECONDS: Final = 120.0
"""How long one that was not heard again counts as in reach."""


class Reach:
    """Who was heard on one PAN, and where. Nothing of it is proven: whoever is invited proves itself to the server."""

    def __init__(self) -> None:
        self._heard: OrderedDict[EntityId, tuple[Link, float]] = OrderedDict()

    def met(self, entity: EntityId, link: Link, now: float) -> None:
        """*entity*, or one that says it is, asked from *link*."""
        self._heard[entity] = (link, now)
        self._heard.move_to_end(entity)
        if len(self._heard) > MAX_KNOWN:
            self._heard.popitem(last=False)

    def known(self, now: float) -> list[EntityId]:
        """Return who is in reach."""
        return [entity for entity, (_, heard) in self._heard.items() if now - heard <= KNOWN_SECONDS]

    def link(self, entity: EntityId, now: float) -> Link | None:
        """Return where *entity* was heard, or None."""
        link, heard = self._heard.get(entity, (None, 0.0))
        return link if now - heard <= KNOWN_SECONDS else None
