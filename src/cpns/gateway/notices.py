"""What members are told of changes of their PN: each is given one notice at a time, and none while it is silent.

    told ......... given ......... taken ......... the next one, if any
                   | no answer: silent, until it is heard

What happens meanwhile is kept, changes of one kind in one notice. So a member that vanished without a word costs as
much as one notice, however many others come and go.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Final

from cpns.ids import EntityId, PnId
from cpns.service.background import Background
from cpns.wire.pn_messages import PnChangeNotify
from cpns.wire.registry import MAX_MEMBERS

GIVEN_AT_ONCE: Final = 32

Missed = dict[tuple[PnId, int], PnChangeNotify]
"""What one member is not told yet, by PN and kind of change, the oldest first."""


class Notices:
    """See the module.

    Args:
        give: gives a member one notice; returns whether it took that.
    """

    def __init__(self, give: Callable[[EntityId, PnChangeNotify], Awaitable[bool]]) -> None:
        self._give = give
        self._missed: dict[EntityId, Missed] = {}
        """Of those that are being told, or silent."""
        self._told: dict[EntityId, asyncio.Task[None]] = {}
        self._at_once = asyncio.Semaphore(GIVEN_AT_ONCE)
        self._work = Background()

    def tell(self, pne: EntityId, notice: PnChangeNotify, *, urgent: bool = False) -> None:
        """Tell a member of a change; what is *urgent* goes before all else, and to a silent one too."""
        silent = pne in self._missed and pne not in self._told
        _add(self._missed.setdefault(pne, {}), notice, first=urgent)
        if urgent or not silent:
            self._start(pne)

    def heard(self, pne: EntityId) -> None:
        """A member is there: what it missed can be told."""
        if pne in self._missed:
            self._start(pne)

    def forget(self, pnes: Iterable[EntityId]) -> None:
        """Tell those no more."""
        for pne in pnes:
            self._missed.pop(pne, None)

    async def settle(self) -> None:
        """Return when all that was to be told is told, or has found nobody."""
        await asyncio.gather(*self._told.values(), return_exceptions=True)

    async def close(self) -> None:
        """Tell nobody any more."""
        await self._work.close()

    def _start(self, pne: EntityId) -> None:
        if pne not in self._told:
            self._told[pne] = self._work.start(self._run(pne))

    async def _run(self, pne: EntityId) -> None:
        try:
            while missed := self._missed.get(pne):
                async with self._at_once:
                    kind, notice = next(iter(missed.items()))
                    del missed[kind]
                    taken = await self._give(pne, notice)
                if not taken:
                    newer = list(missed.values())
                    missed.clear()
                    for one in (notice, *newer):
                        _add(missed, one)
                    return
            self._missed.pop(pne, None)
        finally:
            del self._told[pne]


def _add(missed: Missed, notice: PnChangeNotify, *, first: bool = False) -> None:
    """Put *notice* to what was missed before, behind that or *first*: what it says of somebody is the last word."""
    kind, named = (notice.pn_id, notice.change), set(notice.members)
    if not missed:  # most miss nothing
        missed[kind] = notice
        return
    before = missed.pop(kind, None)
    for other, one in list(missed.items()):
        if one.pn_id == notice.pn_id and named.intersection(one.members):
            left = tuple(pne for pne in one.members if pne not in named)
            missed[other] = replace(one, members=left)
            if not left:
                del missed[other]
    if before is not None:
        earlier = [pne for pne in before.members if pne not in named]
        room = MAX_MEMBERS - len(notice.members)
        notice = replace(notice, members=(*earlier[len(earlier) - min(room, len(earlier)) :], *notice.members))
    others = dict(missed)
    missed.clear()
    missed.update({kind: notice, **others} if first else {**others, kind: notice})
