"""When a PNE that could go elsewhere leaves its PN GW: one that says that it has no uplink, or that carries nothing.

The word of a PN GW is a hint, also in its hop session: a lie costs what refusing service costs. What the server
answers end to end is a proof.
"""

import asyncio
import contextlib
import logging
import random as jitter
from typing import Final

from cpns.errors import NoAnswer, Refused
from cpns.pne.config import PneConfig
from cpns.pne.find import Finder
from cpns.pne.join import Join
from cpns.pne.life import PneLife
from cpns.pne.presence import Presence
from cpns.pne.roam import Roaming
from cpns.pne.states import Held, Looked, TakenUp, Welcomed
from cpns.pne.way import ToServer
from cpns.ports import Time
from cpns.service.background import Background
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.transport.errors import Code, Hinted
from cpns.wire import application

LOYALTY_SECONDS: Final = 4.0
"""How long a PNE stays with a PN GW whose uplink is away: this long, and up to as long again, drawn at random, so that
a whole PAN does not leave at once. It doubles while nobody carries it."""
LONGEST_LOYALTY: Final = 64.0
SIGNS: Final = 2
"""Signs of life without an answer of the server after which it looks elsewhere."""
SIGN_SECONDS: Final = 10.0
"""From one of those to the next."""


class Loyalty:
    """Watches whether one PNE is carried.

    Args:
        life: of the PNE.
        way: to the server.
        finder: knows whether there may be another PN GW.
        join: whose turn it is to set up.
        presence: asks the PN GW.
        roaming: goes on through another PN GW, if one takes us; else all is as it was.
    """

    def __init__(
        self,
        config: PneConfig,
        life: PneLife,
        way: ToServer,
        finder: Finder,
        join: Join,
        presence: Presence,
        roaming: Roaming,
        time: Time,
    ) -> None:
        self._config = config
        self._log = logging.LoggerAdapter(logging.getLogger("cpns.pne"), by(config.pne_id))
        self._life = life
        self._way = way
        self._finder = finder
        self._join = join
        self._presence = presence
        self._roaming = roaming
        self._time = time
        self._hinted = False
        self._missed_at: float | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._work = Background()
        life.follow(TakenUp, lambda _: self._arrived())
        life.follow(Held, lambda _: self._held())
        life.follow(Welcomed, lambda event: self._told(event.away))
        life.follow(Looked, lambda event: self._told(event.away))

    async def close(self) -> None:
        """Watch no more."""
        await self._work.close()

    @property
    def is_carried(self) -> bool:
        """Whether nothing says that our PN GW has no uplink, or does not carry what we say."""
        unheard = self._missed_at is not None and self._way.heard_at < self._missed_at
        return not (self._way.held_up or self._hinted or unheard)

    def _arrived(self) -> None:
        """We are behind another PN GW, or the same one anew."""
        self._hinted, self._missed_at = False, None

    def _held(self) -> None:
        """Our PN GW holds a message, as its uplink is away: do not wait for ever."""
        self._work.start(self._wait_no_longer(self._way.session))
        self._doubt()

    def _told(self, away: int | None) -> None:
        """Our PN GW says for how many seconds its uplink is away; None: it was not asked."""
        if away is None:
            return
        self._hinted = away > 0
        if self._hinted:
            self._doubt()

    def _doubt(self) -> None:
        if self._finder.has_choice and (self._leaving is None or self._leaving.done()):
            self._leaving = self._work.start(self._leave())

    async def _leave(self) -> None:
        session, seconds = self._way.session, LOYALTY_SECONDS
        while True:
            await self._time.sleep(seconds * jitter.uniform(1.0, 2.0))  # noqa: S311  # spreads load
            if self._hinted and not self._join.turn.locked():
                with contextlib.suppress(Refused):  # the PNE itself finds out where its PN GW is gone
                    await self._presence.look()
            if self.is_carried:
                return
            seconds = min(seconds * 2, LONGEST_LOYALTY)
            if session is not self._way.session:  # who took us does not carry us either
                session = self._way.session
            elif not self._join.turn.locked():  # else it is bringing us back at this moment
                self._log.warning("%s: our gateway does not carry us; looking for another", self._config.pne_id)
                await self._roaming.elsewhere()

    async def _wait_no_longer(self, session: Session | None) -> None:
        """Give up on the first message to a PN GW that holds it, so that another one can be tried."""
        await self._time.sleep(LOYALTY_SECONDS * jitter.uniform(1.0, 2.0))  # noqa: S311  # spreads load
        first = session is self._way.session and self._join.turn.locked()
        if first and self._way.held_up and self._finder.has_choice:
            self._way.let_go("held_without_answer")

    # signs of life

    async def watch(self) -> None:
        """Give the server a sign of life where nothing was heard of it for a while, until cancelled."""
        every = self._config.sign_of_life
        while every > 0:
            await self._life.awake()
            pause = self._way.heard_at + every * jitter.uniform(0.9, 1.0) - self._time.monotonic()  # noqa: S311
            if pause > 0:
                await self._time.sleep(pause)
            elif not await self._is_heard():
                self._missed_at = self._time.monotonic()
                self._doubt()
                await self._time.sleep(every)

    async def _is_heard(self) -> bool:
        """Whether the server answers one of our signs of life, end to end."""
        for left in reversed(range(SIGNS)):
            until, session = self._time.monotonic() + SIGN_SECONDS, self._way.session
            try:
                await self._way.exchange(application.STATUS_PATH, application.encode_text("idle"))
            except Hinted as hint:
                self._life.suspect(session, lost=hint.answer.code == Code.UNAUTHORIZED)
            except NoAnswer:
                pass
            else:
                return True
            if session is not self._way.session:
                return True  # set up anew meanwhile
            if left:
                await self._time.sleep(max(0.0, until - self._time.monotonic()))
                await self._life.awake()
        return False
