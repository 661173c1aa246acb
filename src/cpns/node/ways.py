"""Which way a device goes when nobody tells it: over its own broadband, or through an external PN GW."""

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from cpns.errors import CpnsError
from cpns.node.config import Prefer
from cpns.shares.noted import by
from cpns.transport.uplink import is_reachable
from cpns.wire.registry import Mode

if TYPE_CHECKING:
    from cpns.node.app import Node

_log = logging.getLogger("cpns.node")

GRACE: Final = 2.0
"""Looks that a way which is away has to come back before another is taken."""
LONGEST_PAUSE: Final = 32.0
"""Looks between attempts to take a way that did not do; the pause doubles up to that."""
REACH_SECONDS: Final = 2.0


class Ways:
    """Changes the mode of *node* as it prefers.

    Args:
        prefer: see `Prefer`.
        look: seconds between looks; pauses are counted in looks.
    """

    def __init__(self, node: "Node", prefer: Prefer, look: float) -> None:
        self._node = node
        self._prefer = prefer
        self._look = look
        self._fine_at = time.monotonic()
        self._pause = 1.0
        self._not_before = 0.0

    async def choose(self) -> None:
        """Look and change, until cancelled."""
        while True:
            await asyncio.sleep(self._look)
            now = time.monotonic()
            if self._is_carried():
                self._fine_at = now
            to = await self._wanted(now) if now >= self._not_before else None
            if to is None:
                continue
            try:
                await self._node.change(to)
                self._pause = 1.0
            except CpnsError as error:
                _log.info("stays as %s: %s", self._node.mode, error, extra=by("ways"))
                self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._not_before = time.monotonic() + self._pause * self._look

    def _is_carried(self) -> bool:
        node = self._node
        if node.mode is Mode.BOTH:
            return node.gateway is not None and node.gateway.uplink.standing is not None
        return node.pne is not None and node.pne.is_carried

    async def _wanted(self, now: float) -> Mode | None:
        """Return the mode to change to, or None."""
        node = self._node
        lost = now - self._fine_at > GRACE * self._look
        if node.mode is Mode.BOTH:
            return Mode.PNE if lost or self._prefer is not Prefer.DIRECT else None
        if node.mode is not Mode.PNE or not node.can_go_direct:
            return None
        if self._prefer is Prefer.METERED:
            return Mode.BOTH if lost and node.waiting else None
        if self._prefer is Prefer.GATEWAY and not lost:
            return None
        return Mode.BOTH if await is_reachable(*node.config.server, REACH_SECONDS) else None
