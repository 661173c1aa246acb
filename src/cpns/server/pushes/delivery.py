"""Texts that wait: sent in their order, as soon as their PNE is heard (FN-1)."""

import contextlib
from collections.abc import Sequence

from cpns.domain.inventory import KeptPush
from cpns.errors import Refused
from cpns.ids import EntityId
from cpns.ports import topics
from cpns.server.feature import Here
from cpns.service.deliveries import Deliveries
from cpns.wire.application import INBOX_PATH, Push, encode_push


class PushDelivery:
    """Sends them."""

    def __init__(self, here: Here) -> None:
        self._store = here.store
        self._clock = here.clock
        self._sending = here.sending
        self._cluster = here.cluster
        self._cluster.serve(topics.PUSH_WAITS, self._waits_elsewhere)
        self._deliveries = Deliveries(self._due, self._hand_over)

    async def load(self) -> None:
        """Take up what waits by the store: since before our start, or kept by another process."""
        self._deliveries.take_up(await self._store.awaited())

    async def close(self) -> None:
        """Stop sending; what has not arrived waits on."""
        await self._deliveries.close()

    def wait_for(self, pne: EntityId) -> None:
        """A text that is kept waits for *pne*, at whichever process that is."""
        self._deliveries.wait_for([pne])
        self._cluster.tell(topics.PUSH_WAITS, topics.About(pne))

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

    async def _due(self, pne: EntityId) -> Sequence[KeptPush]:
        return await self._store.pushes_for(pne, self._clock.now())

    async def _hand_over(self, pne: EntityId, kept: KeptPush) -> None:
        with contextlib.suppress(Refused):  # it has it, and does not take it
            await self._sending.send(pne, INBOX_PATH, encode_push(Push(kept.push_id, kept.text)))
        await self._store.drop_push(kept.number)
