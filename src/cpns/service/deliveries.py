"""What waits for PNEs: given to each in its order, as soon as the PNE is heard."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

from cpns.errors import CpnsError, StoreFails
from cpns.ids import EntityId
from cpns.shares.noted import by

_log = logging.getLogger("cpns.server")

T = TypeVar("T")


class Deliveries(Generic[T]):
    """The PNEs of one server process for which something waits.

    Args:
        due: returns what waits for a PNE, oldest first.
        hand_over: gives a PNE one of these, after which it waits no more; raises where the PNE can't be reached.
    """

    def __init__(
        self,
        due: Callable[[EntityId], Awaitable[Sequence[T]]],
        hand_over: Callable[[EntityId, T], Awaitable[None]],
    ) -> None:
        self._due = due
        self._hand_over = hand_over
        self._awaited: set[EntityId] = set()
        self._delivering: dict[EntityId, asyncio.Task[None]] = {}
        self._heard_again: set[EntityId] = set()
        """While an attempt was under way, which may have begun before the PNE could be reached."""

    async def close(self) -> None:
        """Stop; what has not arrived waits on."""
        tasks = list(self._delivering.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wait_for(self, pnes: Iterable[EntityId]) -> None:
        """Something waits for *pnes*."""
        self._awaited.update(pnes)

    def take_up(self, pnes: Iterable[EntityId]) -> None:
        """Something waits for *pnes*, by the store, and for nobody else."""
        self._awaited = {*pnes, *self._delivering}

    @property
    def waiting(self) -> frozenset[EntityId]:
        """The PNEs for which something waits."""
        return frozenset(self._awaited)

    def waits_for(self, pne: EntityId) -> bool:
        """Whether something waits for *pne*."""
        return pne in self._awaited

    def heard(self, pne: EntityId) -> None:
        """*pne* can be reached: give it what waits for it."""
        if pne in self._delivering:
            self._heard_again.add(pne)
        elif pne in self._awaited:
            task = asyncio.get_running_loop().create_task(self._deliver(pne))
            self._delivering[pne] = task
            task.add_done_callback(lambda _: self._delivering.pop(pne, None))

    async def _deliver(self, pne: EntityId) -> None:
        """Give one after the other; the first that does not arrive leaves the rest waiting."""
        while True:
            self._heard_again.discard(pne)
            try:
                for one in await self._due(pne):
                    await self._hand_over(pne, one)
                self._awaited.discard(pne)
                if not await self._due(pne) and pne not in self._awaited:  # else more came while we looked
                    return
            except StoreFails:
                self._awaited.add(pne)
                return
            except CpnsError as error:
                self._awaited.add(pne)
                if pne not in self._heard_again:
                    _log.info("what waits for %s waits on: %s", pne, error, extra=by(pne))
                    return
