"""The events of a server, as this process follows them."""

from collections.abc import AsyncIterator

from cpns.domain.event import Numbered
from cpns.ports.events import EventStore
from cpns.service.following import Following


class Events:
    """What whoever tells of events follows.

    Args:
        look_every: see `Following`.
    """

    def __init__(self, store: EventStore, look_every: float | None = None) -> None:
        self._store = store
        self._following: Following[Numbered] = Following(look_every)
        store.on_events(self._following.wake)

    def follow(self, after: int) -> AsyncIterator[Numbered]:
        """Return every event with a number over *after*, first the stored ones, then as they are committed.

        Raises:
            Gone: while iterating: who follows has fallen behind what is kept.
        """
        return self._following.follow(self._store.events, after)
