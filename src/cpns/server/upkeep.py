"""What a server process does every few seconds: sessions end, features do what is due, what waits is tried again."""

import asyncio
import contextlib
import logging
from typing import Final

from cpns.errors import StoreFails, UserError
from cpns.server.feature import Here
from cpns.service.kept import Kept
from cpns.transport.certificate import Certificate
from cpns.transport.oscore import MESSAGE_LIMIT, sent

_log = logging.getLogger("cpns.server")

SWEEP_SECONDS: Final = 2.0
CERTIFICATE_LOOK_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0
"""After so long what waits for a PNE that is there is tried again: an attempt can get lost on the PAN."""


class Upkeep:
    """The upkeep of one server process."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self._kept = Kept(here.store, here.clock)
        self.certificate: Certificate | None = None
        self._certificate_looked_at = self._retried_at = 0.0
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    def look_at_certificate(self) -> None:
        """Take a certificate that was renewed, for connections from now on."""
        self._certificate_looked_at = self._here.clock.monotonic()
        if self.certificate is not None:
            self.certificate.look(self._here.clock.now())

    async def _run(self) -> None:
        here = self._here
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, here.config.half_open / 2))
            now = here.clock.monotonic()
            self._end_sessions(now)
            here.refusals.due()
            here.clones.sweep()
            here.replaced.sweep()
            here.expected.sweep(here.config.half_open)
            try:
                ends = await self._kept.sweep()
                for feature in here.features.all:
                    await feature.sweep(ends=ends)
                if now >= self._certificate_looked_at + CERTIFICATE_LOOK_SECONDS:
                    self.look_at_certificate()
                if now >= self._retried_at + RETRY_SECONDS:
                    self._retried_at = now
                    for feature in here.features.all:
                        await feature.retry()
            except StoreFails:
                continue
            except UserError as error:
                _log.warning("will look again: %s", error)

    def _end_sessions(self, now: float) -> None:
        here = self._here
        for session in here.sessions:
            age = now - session.since
            worn_out = age > here.config.session_age or sent(session) > MESSAGE_LIMIT
            if worn_out or (not session.confirmed and age > here.config.half_open):
                here.sessions.remove(session)
                here.presences.lost(session.peer_id)
