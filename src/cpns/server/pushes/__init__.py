"""Texts for PNEs: sent end to end, or kept for those that can't be reached now."""

from cpns.server.feature import Delivering, Here
from cpns.server.pushes.actions import PushActions
from cpns.server.pushes.delivery import PushDelivery


class Pushes(Delivering):
    """The texts of one server process."""

    delivery: PushDelivery

    def __init__(self, here: Here) -> None:
        super().__init__(here)
        self.delivery = PushDelivery(here)
        self.actions = PushActions(here.store, here.clock, here.random, self.delivery)
