"""The readings of a device, through every change of its mode."""

import asyncio

from cpns.node.life import DeviceLife
from cpns.wire import application


class Readings:
    """Sends readings by the PNE that runs.

    Attributes:
        waiting: how many are not acknowledged yet.
    """

    def __init__(self, life: DeviceLife) -> None:
        self._life = life
        self.waiting = 0

    async def send(self, body: dict[str, application.Json]) -> None:
        """Send a reading until it is acknowledged, through every change of mode; it is stored once.

        Raises:
            Refused: as `Pne.send`.
        """
        reading: application.Reading | None = None
        self.waiting += 1
        try:
            while True:
                pne = await self._life.runs_pne()
                reading = reading or pne.next_reading(body)
                sending = asyncio.ensure_future(pne.send(reading))
                changed = asyncio.ensure_future(self._life.runs_another(pne))
                try:
                    await asyncio.wait([sending, changed], return_when=asyncio.FIRST_COMPLETED)
                    if sending.done():
                        return sending.result()
                finally:
                    sending.cancel()
                    changed.cancel()
        finally:
            self.waiting -= 1
