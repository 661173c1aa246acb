"""A PNE that goes elsewhere while its sessions stand: the older ones serve until the new ones do.

It has a home: the PN that it was led or invited into last; else the one that the server says it is a member of. Where
it goes by itself, as its PN GW does not carry it, it may be a guest; from there it comes home.
"""

import asyncio
import logging
import random as jitter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from cpns.errors import NoAnswer, Refused
from cpns.ids import EntityId, PnId
from cpns.pne.config import Where
from cpns.pne.find import Finder
from cpns.pne.join import Join, Wanted
from cpns.ports import Clock
from cpns.protocol.pne_auth.pne import Joined, NotLetIn
from cpns.service.background import Background
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.transport.endpoint import Link
from cpns.wire.application import Home
from cpns.wire.registry import Procedure

_log = logging.getLogger("cpns.pne")

PAUSE: Final = (0.3, 0.9)
"""Seconds before it tries again to follow its PN; drawn between the two, which spreads load."""

RETURNS: Final = (300.0, 3600.0)
"""Seconds after which a guest tries to come home, and tries again; up to a tenth more, which spreads load.

A home that it has to leave again sooner than the latter is tried after the latter: it may be one that takes everybody
and carries nobody."""

Adopt = Callable[[Link, Joined, Session], Awaitable[None]]


class Roaming:
    """Leads one PNE to other PN GWs.

    Args:
        finder: looks for them.
        join: sets up there.
        joining: is held by whoever uses *join*.
        adopt: takes up the new sessions in place of the older ones.
        joined: tells what stands now.
        present: tells the way to our PN GW.
        clock: tells how long our home has carried us.
        led: whether somebody named the PN that it is to come into; that is its home.
    """

    def __init__(
        self,
        pne_id: EntityId,
        finder: Finder,
        join: Join,
        joining: asyncio.Lock,
        adopt: Adopt,
        joined: Callable[[], Joined | None],
        present: Callable[[], Link | None],
        clock: Clock,
        *,
        led: bool,
    ) -> None:
        self._pne_id = pne_id
        self._present = present
        self._finder = finder
        self._join = join
        self._joining = joining
        self._adopt = adopt
        self._joined = joined
        self._clock = clock
        self._led = led
        self._home: Home | None = None
        self._is_guest = False
        self._came_home_at: float | None = None
        self._returning: asyncio.Task[object] | None = None
        self._work = Background()

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
        async with self._joining:
            while True:
                try:
                    link = await self._finder.link()
                    await self.settle(link, *await self._join.setup(link, Wanted(gateway_id=where.gateway_id)))
                    return
                except (Refused, OSError) as error:
                    if not self._finder.failed():
                        self._finder.look_at(before)
                        raise error if isinstance(error, Refused) else NoAnswer("no_way_there") from error

    async def elsewhere(self) -> None:
        """Go on through another PN GW than the present one, if one takes us; else all is as it was."""
        async with self._joining:
            stood, where = self._joined(), self._finder.where
            others = True
            self._finder.prefer_none()
            self._finder.failed()
            while others:
                try:
                    link = await self._finder.link()
                    if link == self._present():
                        others = self._finder.failed()
                        continue
                    wanted = Wanted(gateway_id=where.gateway_id)
                    await self._adopt(link, *await self._join.setup(link, wanted, self._finder.patience))
                    return
                except (Refused, OSError) as error:
                    _log.info("no other gateway yet: %s", error, extra=by(self._pne_id))
                    if self._joined() is not stood:
                        return  # it took us, and does not carry us: there is no way back
                    others = self._finder.failed()

    # coming home

    async def settle(self, link: Link, joined: Joined, server: Session) -> None:
        """Take up sessions in a PN that is to be our home, in place of older ones."""
        await self._adopt(link, joined, server)
        self._led, self._home, self._came_home_at = True, (joined.pn_id, joined.gateway_id), None
        self._stay()

    def arrived(self, joined: Joined) -> None:
        """Sessions stand, wherever that is."""
        if self._home is None or joined.pn_id == self._home[0]:
            if self._is_guest:
                self._came_home_at = self._clock.monotonic()
            self._home = joined.pn_id, joined.gateway_id
            self._stay()
        else:
            self._return()

    def told(self, home: Home | None) -> None:
        """The server says where a guest like us is at home; None: we are none."""
        joined = self._joined()
        if self._led or joined is None:
            return
        self._home = home or (joined.pn_id, joined.gateway_id)
        if home is None:
            self._stay()
        else:
            self._return()

    def put_out(self, pn_id: PnId) -> None:
        """We are in *pn_id* no longer, or it is no more."""
        if self._home is not None and self._home[0] == pn_id:
            self._led, self._home = False, None
            self._stay()

    def _return(self) -> None:
        here = self._finder.where
        if self._home is None or not self._finder.has_choice or here.gateway_id not in (None, self._home[1]):
            return
        self._is_guest = True
        if self._returning is None or self._returning.done():
            home_at = self._came_home_at
            left_soon = home_at is not None and self._clock.monotonic() - home_at < RETURNS[1]
            self._returning = self._work.start(self._come_home(RETURNS[left_soon]))

    def _stay(self) -> None:
        self._is_guest = False
        if self._returning is not None and self._returning is not asyncio.current_task():
            self._returning.cancel()

    async def _come_home(self, pause: float) -> None:
        while True:
            await asyncio.sleep(pause * jitter.uniform(1.0, 1.1))  # noqa: S311  # spreads load, hides nothing
            pause = RETURNS[1]
            try:
                async with self._joining:
                    joined, home, link = self._joined(), self._home, self._present()
                    if joined is None or home is None or joined.pn_id == home[0]:
                        return
                    if link is None or joined.gateway_id != home[1]:
                        link = await self._finder.way_to(home[1], ())
                    wanted = Wanted(Procedure.JOIN, *home)
                    await self._adopt(link, *await self._join.setup(link, wanted))
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
        async with self._joining:
            joined = self._joined()
            if joined is None or joined.gateway_id == to:
                return
            try:
                link = await self._finder.way_to(to, addresses)
                wanted = Wanted(Procedure.JOIN, pn_id, to)
                await self._adopt(link, *await self._join.setup(link, wanted))
            except (Refused, OSError) as error:
                _log.warning("can't go over to %s yet: %s", to, error, extra=by(to))
                self._work.start(self._move_again(pn_id, to, addresses))

    async def _move_again(self, pn_id: PnId, to: EntityId, addresses: Sequence[str]) -> None:
        """Try to go over once more, while the older PN GW still carries us."""
        await asyncio.sleep(jitter.uniform(*PAUSE))  # noqa: S311  # spreads load, hides nothing
        if self._finder.preferred == to:
            self._finder.failed()
            await self._move(pn_id, to, addresses)
