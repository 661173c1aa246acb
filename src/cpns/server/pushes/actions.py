"""Texts for PNEs that can't be reached now: each is kept in one transaction."""

from typing import Final

from cpns.domain.actor import Actor
from cpns.domain.inventory import KeptPush
from cpns.ids import EntityId
from cpns.ports import Clock, Randomness
from cpns.ports.messages import MessageStore
from cpns.server.pushes.delivery import PushDelivery
from cpns.wire.application import PUSH_ID_BYTES, Push

MAX_SECONDS: Final = 7 * 86400.0
"""How long a text may wait."""


class PushActions:
    """The texts of one server process that wait.

    Args:
        delivery: sends them later.
    """

    def __init__(self, store: MessageStore, clock: Clock, random: Randomness, delivery: PushDelivery) -> None:
        self._store = store
        self._clock = clock
        self._random = random
        self._delivery = delivery

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
        self._delivery.wait_for(pne)
        return kept
