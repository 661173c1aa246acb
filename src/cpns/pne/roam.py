"""A PNE that goes elsewhere while its sessions stand: the older ones serve until the new ones do.

It has a home: the PN that it was led or invited into last; else the one that the server says it is a member of. Where
it goes by itself, as its PN GW does not carry it, it may be a guest; from there it comes home.
"""

import asyncio
import logging
import random as jitter
from collections.abc import Sequence
from typing import Final

from cpns.errors import NoAnswer, Refused
from cpns.ids import EntityId, PnId
from cpns.pne import home_states as home
from cpns.pne.arrive import Arrival
from cpns.pne.config import PneConfig, Where
from cpns.pne.find import Finder
from cpns.pne.join import Join, Wanted
from cpns.pne.life import PneLife
from cpns.pne.states import Expelled, HomeNamed, TakenUp
from cpns.ports import Time
from cpns.protocol.pne_auth.pne import Joined, NotLetIn
from cpns.service.background import Background
from cpns.service.life import Life
from cpns.shares.noted import by
from cpns.wire.application import Home
from cpns.wire.registry import Procedure

_log = logging.getLogger("cpns.pne")

PAUSE: Final = (0.3, 0.9)
"""Seconds before it tries again to follow its PN; drawn between the two, which spreads load."""

RETURNS: Final = (300.0, 3600.0)
"""Seconds after which a guest tries to come home, and tries again; up to a tenth more, which spreads load.

A home that it has to leave again sooner than the latter is tried after the latter: it may be one that takes everybody
and carries nobody."""


class Roaming:
    """Leads one PNE to other PN GWs.

    Args:
        life: where it stands; also tells where the server says that it is at home.
        finder: looks for them.
        join: whose turn it is to set up.
        arrival: sets up there, and takes up the new sessions in place of the older ones.
        time: tells how long our home has carried us.
    """

    def __init__(
        self, config: PneConfig, life: PneLife, finder: Finder, join: Join, arrival: Arrival, time: Time
    ) -> None:
        self._pne_id = config.pne_id
        self._life = life
        self._finder = finder
        self._join = join
        self._arrival = arrival
        self._time = time
        self.home: Life[home.State, home.Event] = Life(home.TRANSITIONS, home.Unknown(led=config.join is not None))
        self._returning: asyncio.Task[object] | None = None
        self._work = Background()
        life.follow(TakenUp, self._arrived)
        life.follow(HomeNamed, self._told)
        life.follow(Expelled, self._put_out)

    async def close(self) -> None:
        """Follow nobody any more."""
        await self._work.close()

    async def go(self, where: Where) -> None:
        """Go through another PN GW from now on.

        Raises:
            Refused: none of them took us; all is as it was.
        """
        before = self._finder.where
        self._finder.look_at(where)
        async with self._join.turn:
            while True:
                try:
                    link = await self._finder.link()
                    self.settled(await self._arrival.through(link, Wanted(gateway_id=where.gateway_id)))
                    return
                except (Refused, OSError) as error:
                    if not self._finder.failed():
                        self._finder.look_at(before)
                        raise error if isinstance(error, Refused) else NoAnswer("no_way_there") from error

    async def elsewhere(self) -> None:
        """Go on through another PN GW than the present one, if one takes us; else all is as it was."""
        async with self._join.turn:
            stood, where = self._life.last, self._finder.where
            others = True
            self._finder.prefer_none()
            self._finder.failed()
            while others:
                try:
                    link = await self._finder.link()
                    if link == self._life.link:
                        others = self._finder.failed()
                        continue
                    wanted = Wanted(gateway_id=where.gateway_id)
                    await self._arrival.through(link, wanted, self._finder.patience)
                    return
                except (Refused, OSError) as error:
                    _log.info("no other gateway yet: %s", error, extra=by(self._pne_id))
                    if self._life.last is not stood:
                        return  # it took us, and does not carry us: there is no way back
                    others = self._finder.failed()

    # coming home

    def settled(self, joined: Joined) -> None:
        """The PN that we have just come into is to be our home."""
        self._happens(home.Led(_here(joined)))

    def _arrived(self, event: TakenUp) -> None:
        here, known = _here(event.at.joined), self.home.state
        may_return = isinstance(known, home.Known) and self._may_return(known.home)
        self._happens(home.Came(here, self._time.monotonic(), may_return))

    def _told(self, event: HomeNamed) -> None:
        joined = self._life.joined
        if joined is not None:
            may_return = event.home is not None and self._may_return(event.home)
            self._happens(home.Named(event.home, _here(joined), may_return))

    def _put_out(self, event: Expelled) -> None:
        self._happens(home.Ended(event.at.joined.pn_id))

    def _may_return(self, to: Home) -> bool:
        return self._finder.has_choice and self._finder.where.gateway_id in (None, to[1])

    def _happens(self, event: home.Event) -> None:
        if not self.home.happens(event):
            return
        known = self.home.state
        if not isinstance(known, home.Guest):
            if self._returning is not None and self._returning is not asyncio.current_task():
                self._returning.cancel()
        elif self._may_return(known.home) and (self._returning is None or self._returning.done()):
            left_soon = known.back_at is not None and self._time.monotonic() - known.back_at < RETURNS[1]
            self._returning = self._work.start(self._come_home(RETURNS[left_soon]))

    async def _come_home(self, pause: float) -> None:
        while True:
            await self._time.sleep(pause * jitter.uniform(1.0, 1.1))  # noqa: S311  # spreads load, hides nothing
            pause = RETURNS[1]
            try:
                async with self._join.turn:
                    last, known = self._life.last, self.home.state
                    if last is None or not isinstance(known, home.Known) or last.joined.pn_id == known.home[0]:
                        return
                    pn_id, gateway = known.home
                    there = last.joined.gateway_id == gateway
                    link = last.link if there else await self._finder.way_to(gateway, ())
                    await self._arrival.through(link, Wanted(Procedure.JOIN, pn_id, gateway))
                    return
            except NotLetIn as error:
                _log.info("there is no way home: %s", error, extra=by(self._pne_id))
                return
            except (Refused, OSError) as error:
                _log.info("can't come home yet: %s", error, extra=by(self._pne_id))

    def follow(self, pn_id: PnId, to: EntityId, addresses: Sequence[str]) -> None:
        """Our PN is served by *to* from now on: join it there."""
        self._finder.prefer(to, addresses)
        self._work.start(self._move(pn_id, to, addresses))

    async def _move(self, pn_id: PnId, to: EntityId, addresses: Sequence[str]) -> None:
        async with self._join.turn:
            joined = self._life.joined
            if joined is None or joined.gateway_id == to:
                return
            try:
                link = await self._finder.way_to(to, addresses)
                await self._arrival.through(link, Wanted(Procedure.JOIN, pn_id, to))
            except (Refused, OSError) as error:
                _log.warning("can't go over to %s yet: %s", to, error, extra=by(to))
                self._work.start(self._move_again(pn_id, to, addresses))

    async def _move_again(self, pn_id: PnId, to: EntityId, addresses: Sequence[str]) -> None:
        """Try to go over once more, while the older PN GW still carries us."""
        await self._time.sleep(jitter.uniform(*PAUSE))  # noqa: S311  # spreads load, hides nothing
        if self._finder.preferred == to:
            self._finder.failed()
            await self._move(pn_id, to, addresses)


def _here(joined: Joined) -> Home:
    return joined.pn_id, joined.gateway_id
