"""Readings of devices: taken end to end, within the share of each device, and followed by whoever watches."""

from collections.abc import Mapping

from cpns.server.feature import Feature, Here, Take
from cpns.server.readings.actions import ReadingActions
from cpns.session.table import Session
from cpns.transport.errors import Answer, Code
from cpns.wire.application import READINGS_PATH


class Readings(Feature):
    """The readings of one server process."""

    def __init__(self, here: Here) -> None:
        super().__init__(here)
        config, look_every = here.config, here.look_every
        self.actions = ReadingActions(here.store, here.clock, config.readings_rate, config.readings_volume, look_every)
        self.follow = self.actions.follow

    def resources(self) -> Mapping[str, Take]:
        """See `Feature`."""
        return {READINGS_PATH: self._take}

    async def _take(self, source: Session, payload: bytes) -> Answer:
        await self.actions.take(source, payload)
        self.here.features.heard(source.peer_id)
        return Answer(Code.CHANGED)
