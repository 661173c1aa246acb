"""A PNE that joins, stays joined, and joins again whenever the way is lost."""

import asyncio
import contextlib
import logging
import random as jitter
from typing import Final

from cpns.errors import Refused
from cpns.pne.arrive import Arrival
from cpns.pne.config import PneConfig
from cpns.pne.find import Finder
from cpns.pne.join import Join, Wanted
from cpns.pne.life import PneLife
from cpns.pne.presence import Presence
from cpns.pne.states import Asleep, Attached, Failed, Looked, PutOut, Rested, WornOut
from cpns.ports import Time
from cpns.service.life import within
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.transport.endpoint import Endpoint, Link
from cpns.transport.oscore import MESSAGE_LIMIT, sent
from cpns.wire.registry import Procedure

BACKOFF: Final = (0.3, 15.0)
"""First and longest pause, in seconds, between attempts; each is drawn from half of it up to all of it."""
FOUND_SECONDS: Final = 20.0
"""How often a PNE that waits for an invitation says that it is there."""


class _GoesElsewhereError(Exception):
    """An attempt was ended by `Staying.interrupt`."""


class Staying:
    """Keeps one PNE joined, as its life tells.

    Args:
        life: where it stands.
        arrival: sets up, and takes up what came of it.
        presence: looks after the PN GW.
    """

    def __init__(
        self,
        config: PneConfig,
        life: PneLife,
        endpoint: Endpoint,
        finder: Finder,
        join: Join,
        arrival: Arrival,
        presence: Presence,
        time: Time,
    ) -> None:
        self._config = config
        self._life = life
        self._endpoint = endpoint
        self._finder = finder
        self._join = join
        self._arrival = arrival
        self._presence = presence
        self._time = time
        self._attempt: asyncio.Task[None] | None = None
        self._log = logging.LoggerAdapter(logging.getLogger("cpns.pne"), by(config.pne_id))

    async def stay_joined(self) -> None:
        """Join, and join again, until cancelled or until it has left."""
        pause = BACKOFF[0]
        while not self._life.has_left:
            try:
                await self._life.until_not(Asleep)
                if self._life.stands is None and not self._life.has_left:
                    await self._try()
                pause = BACKOFF[0]
                await self._stay()
            except _GoesElsewhereError:
                pass
            except (Refused, OSError) as error:
                self._log.warning("%s: not established%s", self._config.pne_id, self._finder.told(error))
                self._finder.failed()
            finally:
                self._life.happens(Failed())
            if isinstance(self._life.state, PutOut):
                pause = BACKOFF[1]
            seconds = pause * jitter.uniform(0.5, 1.0)  # noqa: S311  # spreads load
            await self._time.sleep(0 if self._life.has_left else seconds)
            self._life.happens(Rested())
            pause = min(pause * 2, BACKOFF[1])

    def interrupt(self) -> None:
        """End an attempt that is under way: it leads where we do not go any more."""
        if self._attempt is not None:
            self._attempt.cancel()

    async def _try(self) -> None:
        attempt = self._attempt = asyncio.get_running_loop().create_task(self.establish())
        try:
            await asyncio.wait([attempt])
        finally:
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
        if attempt.cancelled():
            raise _GoesElsewhereError
        attempt.result()

    def wanted(self, link: Link) -> Wanted:
        """Return what we ask for at *link*; elsewhere than where our network was, we name none, and may be a guest."""
        config, joined, gateway = self._config, self._life.joined, self._finder.where.gateway_id
        if joined is not None and self._finder.preferred is not None:
            return Wanted(Procedure.JOIN, joined.pn_id, self._finder.preferred)
        if config.join is not None and (joined is None or (joined.pn_id == config.join and link == self._life.link)):
            return Wanted(Procedure.JOIN, config.join, gateway)
        if joined is not None:  # it comes back, or roams: the PN GW knows where it belongs
            return Wanted(gateway_id=gateway)
        return Wanted(gateway_id=gateway, setup_type=config.setup_type, invite=config.invite)

    async def establish(self) -> None:
        """Set up once, unless sessions stand; who waits to be invited waits for that. Raises `Refused`, OSError."""
        if self._config.waits and self._life.last is None:
            return await self._be_found()
        async with self._join.turn:
            if self._life.stands is not None:
                return  # invited meanwhile
            link = await self._finder.link()
            self._endpoint.name(link, self._finder.where.gateway_id or "PN GW")
            await self._arrival.through(link, self.wanted(link), self._finder.patience)

    async def _be_found(self) -> None:
        """Say that we are there, until somebody's invitation has brought us in."""
        link = await self._finder.link()
        self._endpoint.name(link, "PN GW")
        while self._life.stands is None:
            await self._finder.say_we_wait(link)
            with contextlib.suppress(TimeoutError):
                await within(self._time, FOUND_SECONDS, self._life.attached())

    async def _stay(self) -> None:
        """Return when the sessions are lost or due for renewal; give signs of life until then."""
        while self._life.stands is not None:
            with contextlib.suppress(TimeoutError):
                await within(self._time, self._config.presence, self._life.until_not(Attached | Asleep))
            await self._life.until_not(Asleep)
            at = self._life.stands
            if at is None:
                return
            if self._is_worn_out(at.session):
                self._life.happens(WornOut())
                return
            try:
                if self._join.turn.locked():
                    self._life.happens(Looked(None))
                else:
                    await self._presence.look()
            except Refused:
                if at.session is self._life.session:
                    raise  # else we have gone elsewhere meanwhile, and it is no loss

    def _is_worn_out(self, session: Session) -> bool:
        too_old = self._time.monotonic() - session.since > self._config.session_age
        return too_old or sent(session) > MESSAGE_LIMIT
