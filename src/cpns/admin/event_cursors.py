"""What an operator can do with the cursors of those that follow the events by a name."""

import re
from typing import Final

from cpns.domain.actor import Actor
from cpns.domain.event import Cursor
from cpns.errors import BadInput
from cpns.ports import Clock
from cpns.ports.events import EventStore

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class CursorAdmin:
    """The cursors of one server."""

    def __init__(self, store: EventStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def all(self) -> list[Cursor]:
        """Return all of them, by name."""
        return await self._store.cursors()

    async def move(self, actor: Actor, name: str, number: int | None) -> Cursor:
        """Note that who follows as *name* was told the events up to *number*; see `EventStore.move_cursor`.

        Raises:
            BadInput: ``bad_name``.
            NotFound: ``no_such_event``.
        """
        if not _NAME.fullmatch(name):
            raise BadInput("bad_name", "The name of a cursor has 1 to 64 letters, digits, '-' and '_'.")
        return await self._store.move_cursor(name, number, self._clock.now(), actor)

    async def drop(self, actor: Actor, name: str) -> None:
        """Forget a cursor. Raises `NotFound`, ``unknown_cursor``."""
        await self._store.drop_cursor(name, self._clock.now(), actor)
