"""What a PNE knows of the groups that it is in: asked for end to end, and never set back by an answer that is late."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cpns.errors import Refused, Result
from cpns.ids import EntityId, SgId
from cpns.pne.way import ToServer
from cpns.service.copies import Copies, OneAtATime
from cpns.service.pages import one_version
from cpns.wire import sg_messages as m


@dataclass(slots=True)
class View:
    """What this PNE knows of a group that it is in."""

    sg_id: SgId
    name: str
    owner: EntityId
    version: int
    epoch: int
    vouched: bool
    keep: int
    since: int
    """The epoch that we came to know it in: of an older one we have no key."""
    places: dict[EntityId, int] = field(default_factory=dict)
    senders: dict[EntityId, m.SgMemberEntry] = field(default_factory=dict)
    """Those that have sent, with key, number of the key, and number of the newest message."""


class GroupViews:
    """The views of one PNE.

    Args:
        way: to the server, end to end.
        on_view: is told of each answer, with the view as it was before it, None where there was none.
        on_out: is told of groups that we are in no more.
    """

    def __init__(
        self,
        way: ToServer,
        on_view: Callable[[View, View | None], None],
        on_out: Callable[[SgId], None],
    ) -> None:
        self._way = way
        self._copies: Copies[SgId, View] = Copies(
            self._read, Result.UNKNOWN_SG, lambda sg_id, before: on_view(self.of[sg_id], before), on_out
        )
        self.of = self._copies.of
        self.fetch = self._copies.fetch
        """Brings the view of a group up to date. Raises `Refused`; UNKNOWN_SG: we are not in it."""
        self.told_out = self._copies.told_gone
        self.left = self._copies.left
        self._senders: OneAtATime[tuple[SgId, EntityId]] = OneAtATime(self._fetch_sender)

    async def fetch_all(self) -> None:
        """Bring all views up to date. A group that is not listed is asked for: it may have come meanwhile."""
        listed = (await self._way.ask(m.SgInventoryRequest(), m.SgInventoryResponse)).groups or ()
        for sg_id in dict.fromkeys([*listed, *self.of]):
            try:
                await self.fetch(sg_id)
            except Refused as error:
                if error.result is not Result.UNKNOWN_SG:
                    raise

    async def _read(self, sg_id: SgId, asks: Callable[[], None]) -> tuple[int, View] | None:
        known = self.of.get(sg_id)

        def ask(after: EntityId | None) -> Awaitable[m.SgInventoryResponse]:
            if after is None:
                asks()
            request = m.SgInventoryRequest(sg_id, None if known is None else known.version, after)
            return self._way.ask(request, m.SgInventoryResponse)

        found = await one_version(ask, _ids)
        if found[0].name is None:
            return None
        view = _view(sg_id, found, self.of.get(sg_id))
        return view.version, view

    async def sender(self, sg_id: SgId, pne: EntityId) -> m.SgMemberEntry | None:
        """Ask for one member, and the key that it registered to send; None: it is none. Raises `Refused`."""
        await self._senders.fetch((sg_id, pne))
        view = self.of.get(sg_id)
        return None if view is None else view.senders.get(pne)

    async def _fetch_sender(self, whom: tuple[SgId, EntityId]) -> None:
        sg_id, pne = whom
        page = await self._way.ask(m.SgInventoryRequest(sg_id, member=pne), m.SgInventoryResponse)
        view = self.of.get(sg_id)
        if view is None:
            return
        if page.version != view.version:
            await self.fetch(sg_id)  # one of the two is not the newest
            return
        found = page.entries[0] if page.entries else None
        if found is None:
            view.places.pop(pne, None)
            view.senders.pop(pne, None)
        else:
            view.places[pne] = found.standing
            view.senders[pne] = found


def _ids(page: m.SgInventoryResponse) -> list[EntityId]:
    return [one.entity_id for one in page.entries or ()]


def _view(sg_id: SgId, pages: list[m.SgInventoryResponse], before: View | None) -> View:
    page, epoch = pages[0], pages[0].epoch or 0
    listed = [one for some in pages for one in some.entries or ()]
    return View(
        *(sg_id, page.name or "", page.owner or EntityId(""), page.version or 0, epoch),
        vouched=bool(page.vouched),
        keep=page.keep or 0,
        since=epoch if before is None else before.since,
        places={one.entity_id: one.standing for one in listed},
        senders={one.entity_id: one for one in listed if one.run is not None},
    )
