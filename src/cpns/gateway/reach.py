"""PNEs in reach that are no members: they asked who is there (Entity Discovery), and may be invited (FN-8)."""

from collections import OrderedDict
from typing import Final

from cpns.ids import EntityId
from cpns.transport.endpoint import Link

MAX_KNOWN: Final = 256
KNOWN_SECONDS: Final = 120.0
"""How long one that was not heard again counts as in reach."""


class Reach:
    """Who was heard on one PAN, and where. Nothing of it is proven: whoever is invited proves itself to the server.

    Hosts share the room: where it is full, the host with most IDs loses the one that it named longest ago.
    """

    def __init__(self) -> None:
        self._heard: dict[EntityId, tuple[Link, float]] = {}
        self._hosts: dict[str, OrderedDict[EntityId, None]] = {}

    def met(self, entity: EntityId, link: Link, now: float) -> None:
        """*entity*, or one that says it is, asked from *link*."""
        self._forget(entity)
        self._heard[entity] = (link, now)
        self._hosts.setdefault(link.party(None).host, OrderedDict())[entity] = None
        if len(self._heard) > MAX_KNOWN:
            most = max(self._hosts.values(), key=lambda named: len(named))
            self._forget(next(iter(most)))

    def known(self, now: float) -> list[EntityId]:
        """Return who is in reach."""
        return [entity for entity in self._heard if self.link(entity, now) is not None]

    def link(self, entity: EntityId, now: float) -> Link | None:
        """Return where *entity* was heard, or None."""
        link, heard = self._heard.get(entity, (None, 0.0))
        return link if now - heard <= KNOWN_SECONDS else None

    def _forget(self, entity: EntityId) -> None:
        link, _ = self._heard.pop(entity, (None, 0.0))
        if link is not None:
            host = link.party(None).host
            del self._hosts[host][entity]
            if not self._hosts[host]:
                del self._hosts[host]
