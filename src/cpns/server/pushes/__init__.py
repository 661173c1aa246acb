"""Texts for PNEs: sent end to end, or kept for those that can't be reached now."""

from cpns.ids import EntityId
from cpns.server.feature import Feature, Here
from cpns.server.pushes.actions import PushActions
from cpns.server.pushes.delivery import PushDelivery


class Pushes(Feature):
    """The texts of one server process."""

    def __init__(self, here: Here) -> None:
        super().__init__(here)
        self.delivery = PushDelivery(here)
        self.actions = PushActions(here.store, here.clock, here.random, self.delivery)

    async def load(self) -> None:
        """See `Feature`; so all of these."""
        await self.delivery.load()

    async def retry(self) -> None:
        """See `Feature`."""
        if self.here.cluster.others:  # what another process kept may be for a PNE that is behind us
            await self.delivery.load()
        for pne in self.delivery.waiting:
            if self.here.reach.is_there(pne):
                self.delivery.heard(pne)

    def heard(self, pne: EntityId) -> None:
        """See `Feature`."""
        self.delivery.heard(pne)

    async def close(self) -> None:
        """See `Feature`."""
        await self.delivery.close()
