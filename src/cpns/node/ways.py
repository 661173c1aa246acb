"""Which way a device goes when nobody tells it: over its own broadband, or through an external PN GW."""

import logging
from typing import Final

from cpns.errors import CpnsError
from cpns.node.config import NodeConfig, Prefer
from cpns.node.life import DeviceLife
from cpns.node.modes import Modes
from cpns.node.readings import Readings
from cpns.ports import Time
from cpns.shares.noted import by
from cpns.transport.uplink import is_reachable
from cpns.wire.registry import Mode

_log = logging.getLogger("cpns.node")

GRACE: Final = 2.0
"""Looks that a way which is away has to come back before another is taken."""
LONGEST_PAUSE: Final = 32.0
"""Looks between attempts to take a way that did not do; the pause doubles up to that."""
REACH_SECONDS: Final = 2.0


class Ways:
    """Changes the mode of one device as it prefers. Pauses are counted in looks.

    Args:
        life: tells how it goes now.
        modes: changes that.
        readings: tells whether anything waits.
    """

    def __init__(self, config: NodeConfig, life: DeviceLife, modes: Modes, readings: Readings, time: Time) -> None:
        self._config = config
        self._life = life
        self._modes = modes
        self._readings = readings
        self._time = time

    async def choose(self, prefer: Prefer) -> None:
        """Look and change, until cancelled."""
        look, pause = self._config.look, 1.0
        fine_at, not_before = self._time.monotonic(), 0.0
        while True:
            await self._time.sleep(look)
            now = self._time.monotonic()
            if self._is_carried():
                fine_at = now
            to = await self._wanted(prefer, lost=now - fine_at > GRACE * look) if now >= not_before else None
            if to is None:
                continue
            try:
                await self._modes.change(to)
                pause = 1.0
            except CpnsError as error:
                _log.info("stays as %s: %s", self._life.mode, error, extra=by("ways"))
                pause = min(pause * 2, LONGEST_PAUSE)
            not_before = self._time.monotonic() + pause * look

    def _is_carried(self) -> bool:
        pne, gateway = self._life.pne, self._life.gateway
        if self._life.mode is Mode.BOTH:
            return gateway is not None and gateway.uplink.standing is not None
        return pne is not None and pne.is_carried

    async def _wanted(self, prefer: Prefer, *, lost: bool) -> Mode | None:
        """Return the mode to change to, or None."""
        mode = self._life.mode
        if mode is Mode.BOTH:
            return Mode.PNE if lost or prefer is not Prefer.DIRECT else None
        if mode is not Mode.PNE or not self._modes.can_go_direct:
            return None
        if prefer is Prefer.METERED:
            return Mode.BOTH if lost and self._readings.waiting else None
        if prefer is Prefer.GATEWAY and not lost:
            return None
        return Mode.BOTH if await is_reachable(*self._config.server, REACH_SECONDS) else None
