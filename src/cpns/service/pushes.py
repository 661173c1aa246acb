"""Texts for PNEs that can't be reached now: kept, and sent in their order as soon as their PNE is heard (FN-1)."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from cpns.domain.inventory import KeptPush
from cpns.errors import CpnsError, Refused
from cpns.ids import EntityId
from cpns.ports import Clock, Randomness, Store
from cpns.wire.application import PUSH_ID_BYTES, Push

_log = logging.getLogger("cpns.server")

MAX_SECONDS: Final = 7 * 86400.0
"""How long a text may wait."""

Send = Callable[[EntityId, Push], Awaitable[str]]


class Pushes:
    """The texts of one server process that wait.

    Args:
        send: sends one end to end and returns the answer; raises Unavailable where the PNE can't be reached, and
            Refused where it does not take it.
    """

    def __init__(self, store: Store, clock: Clock, random: Randomness, send: Send) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        self._send = send
        self._awaited: set[EntityId] = set()
        self._delivering: dict[EntityId, asyncio.Task[None]] = {}

    async def load(self) -> None:
        """Take up what waits since before our start."""
        self._awaited.update(await self._store.awaited())

    async def close(self) -> None:
        """Stop sending; what has not arrived waits on."""
        tasks = list(self._delivering.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def new(self, text: str) -> Push:
        """Return *text* as a push that no other has the ID of."""
        return Push(self._random(PUSH_ID_BYTES), text)

    async def keep(self, pne: EntityId, push: Push, seconds: float) -> KeptPush:
        """Keep a push for up to *seconds*; durable when this returns.

        Raises:
            Conflict: ``too_many_pushes``.
        """
        now = self._clock.now()
        kept = KeptPush(0, push.push_id, pne, push.text, now, now + min(seconds, MAX_SECONDS))
        await self._store.keep_push(kept)
        self._awaited.add(pne)
        return kept

    def waits_for(self, pne: EntityId) -> bool:
        """Whether something waits for *pne*, so that what comes new has to wait behind it."""
        return pne in self._awaited

    def heard(self, pne: EntityId) -> None:
        """*pne* can be reached: send what waits for it."""
        if pne in self._awaited and pne not in self._delivering:
            task = asyncio.get_running_loop().create_task(self._deliver(pne))
            self._delivering[pne] = task
            task.add_done_callback(lambda _: self._delivering.pop(pne, None))

    async def _deliver(self, pne: EntityId) -> None:
        """Send one after the other; the first that does not arrive leaves the rest waiting."""
        try:
            while True:
                for kept in await self._store.pushes_for(pne, self._clock.now()):
                    with contextlib.suppress(Refused):  # it has it, and does not take it
                        await self._send(pne, Push(kept.push_id, kept.text))
                    await self._store.drop_push(kept.number)
                if not await self._store.pushes_for(pne, self._clock.now()):
                    self._awaited.discard(pne)
                    return
        except CpnsError as error:
            _log.info("texts for %s wait on: %s", pne, error)
