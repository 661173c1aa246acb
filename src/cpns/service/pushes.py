"""Texts for PNEs that can't be reached now: kept, and sent in their order as soon as their PNE is heard (FN-1)."""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from cpns.domain.actor import Actor
from cpns.domain.inventory import KeptPush
from cpns.errors import Refused
from cpns.ids import EntityId
from cpns.ports import Clock, Randomness, topics
from cpns.ports.messages import MessageStore
from cpns.ports.siblings import Siblings
from cpns.service.deliveries import Deliveries
from cpns.wire.application import PUSH_ID_BYTES, Push

MAX_SECONDS: Final = 7 * 86400.0
"""How long a text may wait."""

Send = Callable[[EntityId, Push], Awaitable[str]]


class Pushes:
    """The texts of one server process that wait.

    Args:
        siblings: the other processes of the server: what is kept here may be for a PNE that is behind another.
        send: sends one end to end and returns the answer; raises Unavailable where the PNE can't be reached, and
            Refused where it does not take it.
    """

    def __init__(self, store: MessageStore, clock: Clock, random: Randomness, send: Send, siblings: Siblings) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        self._send = send
        self._siblings = siblings
        siblings.serve(topics.PUSH_WAITS, self._waits_elsewhere)
        self._deliveries = Deliveries(lambda pne: store.pushes_for(pne, clock.now()), self._hand_over)

    async def load(self) -> None:
        """Take up what waits by the store: since before our start, or kept by another process."""
        self._deliveries.take_up(await self._store.awaited())

    async def close(self) -> None:
        """Stop sending; what has not arrived waits on."""
        await self._deliveries.close()

    def new(self, text: str) -> Push:
        """Return *text* as a push that no other has the ID of."""
        return Push(self._random(PUSH_ID_BYTES), text)

    async def keep(self, actor: Actor, pne: EntityId, push: Push, seconds: float) -> KeptPush:
        """Keep a push of somebody for up to *seconds*; durable when this returns.

        Raises:
            Conflict: ``too_many_pushes``.
        """
        now = self._clock.now()
        kept = KeptPush(0, push.push_id, pne, push.text, now, now + min(seconds, MAX_SECONDS))
        await self._store.keep_push(kept, actor)
        self._deliveries.wait_for([pne])
        self._siblings.tell(topics.PUSH_WAITS, topics.About(pne))
        return kept

    async def _waits_elsewhere(self, about: topics.About) -> None:
        self._deliveries.wait_for([about.entity])

    def waits_for(self, pne: EntityId) -> bool:
        """Whether something waits for *pne*, so that what comes new has to wait behind it."""
        return self._deliveries.waits_for(pne)

    @property
    def waiting(self) -> frozenset[EntityId]:
        """The PNEs for which something waits."""
        return self._deliveries.waiting

    def heard(self, pne: EntityId) -> None:
        """*pne* can be reached: send what waits for it."""
        self._deliveries.heard(pne)

    async def _hand_over(self, pne: EntityId, kept: KeptPush) -> None:
        with contextlib.suppress(Refused):  # it has it, and does not take it
            await self._send(pne, Push(kept.push_id, kept.text))
        await self._store.drop_push(kept.number)
