"""The PNs that a PN GW serves: its copy of the PN Inventory, who is told of changes, what is reported (DEF-3, FN-4)."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from cpns.errors import CpnsError, NoAnswer, Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.members import Members
from cpns.gateway.notices import Notices
from cpns.gateway.uplink import Uplink
from cpns.gateway.uplink_states import Standing
from cpns.ids import EntityId, PnId
from cpns.service.background import Background
from cpns.service.copies import Copies
from cpns.service.pages import all_pages, one_version
from cpns.shares.noted import by
from cpns.transport.errors import Code
from cpns.wire import codec
from cpns.wire.messages import GatewaySetupResponse
from cpns.wire.pn_messages import (
    ExpelRequest,
    ExpelResponse,
    InventoryEntry,
    InventoryRequest,
    InventoryResponse,
    PnChangeNotify,
    PnStatusNotify,
    ReleaseRequest,
    ReleaseResponse,
    StatusEntry,
)
from cpns.wire.registry import MAX_BATCH, MAX_MEMBERS, NO_COPY, Change, Presence, Source

_log = logging.getLogger("cpns.gateway")

NOTICE_SECONDS: Final = 0.3
"""Changes of the same kind that come so close together are told in one."""

M = TypeVar("M")

Expel = Callable[[list[EntityId]], Awaitable[None]]
"""Forgets members."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Our copy of one entry of the PN Inventory, kept up to date by what changes.

    Attributes:
        members: who is in the PN.
        away: who stands as member, and is not in it.
    """

    pn_id: PnId
    version: int
    alias: str | None
    owner: EntityId | None
    members: Mapping[EntityId, InventoryEntry]
    away: frozenset[EntityId]

    def after(
        self, version: int, came: Iterable[InventoryEntry] = (), gone: Iterable[EntityId] = (), *, moved: bool = False
    ) -> "Copy | None":
        """Return it as a change makes it; None where one before that was missed, or it may have changed more.

        Of who is *gone* a member that *moved* stands as member still.
        """
        left, new = set(gone), {entry.entity_id: entry for entry in came}
        if version - self.version not in (0, 1) or (self.owner is not None and self.owner in left):
            return None
        members = {pne: entry for pne, entry in self.members.items() if pne not in left} | new
        stand = {pne for pne in left if moved and pne in self.members and not self.members[pne].guest}
        return replace(self, version=version, members=members, away=(self.away | stand).difference(new))

    def holds(self, pne: EntityId) -> int:
        """Return how much this PN is that of *pne*: more than 0 where it is in it, or its member."""
        entry = self.members.get(pne)
        if entry is None:
            return 2 if pne in self.away else 0
        return 1 if entry.guest else 3


@dataclass(slots=True)
class _Pending:
    """Changes of one kind in one PN that are about to be told."""

    version: int = 0
    about: set[EntityId] = field(default_factory=set)
    fetch: bool = False


class Networks:
    """The PNs of one PN GW."""

    def __init__(
        self,
        config: GatewayConfig,
        uplink: Uplink,
        members: Members,
    ) -> None:
        self._config = config
        self._uplink = uplink
        self._members = members
        self._expels: list[Expel] = []
        self._standing: Standing | None = None
        """The newest uplink."""
        self._copies: Copies[PnId, Copy] = Copies(self._read, Result.UNKNOWN_PN)
        self.copies = self._copies.of
        self._pending: dict[tuple[PnId, Change], _Pending] = {}
        self._given: dict[PnId, PnChangeNotify] = {}
        """What the members were told of PNs that others serve now, as long as any of them is behind us."""
        self.notices = Notices(self.tell)
        self._work = Background()

    def expels(self, expel: Expel) -> None:
        """Have *expel* forget members that are none any more: hop sessions, LocalEUKeys, what is held for them."""
        self._expels.append(expel)

    async def _expel(self, gone: Iterable[EntityId]) -> None:
        pne_ids = list(gone)
        for expel in self._expels:
            await expel(pne_ids)

    async def close(self) -> None:
        """Stop telling and asking."""
        await self._work.close()
        await self.notices.close()

    # what the server says

    async def learn(self, standing: Standing) -> list[EntityId]:
        """Ask for the PN Inventory of all that we serve; return the members that the server has no session with.

        Who left or was revoked while we were away is forgotten, and so are PNs that are no longer ours.
        """
        self._standing = standing
        listed = await all_pages(lambda after: self._ask(standing, InventoryRequest(after=after)), _networks)
        served = [one for page in listed for one in page.networks or ()]
        ours = [*self._members.pns, *(member.pn_id for member in self._members)]
        away: list[EntityId] = []
        for pn_id in dict.fromkeys([*served, *ours]):  # one that is not listed may have come meanwhile
            copy = await self._fetch(pn_id)
            if copy is None:
                await self._lost(pn_id)
            else:
                away += [pne for pne, entry in copy.members.items() if entry.presence == Presence.AWAY]
        others = [pn for pn in self._members.pns if pn not in served]
        self._members.pns = [pn for pn in served if pn in self._members.pns] + others
        self._members.turned.update({m.pne_id: Presence.IDLE for m in self._members if m.link is not None})
        return away

    async def _ask(self, standing: Standing, request: InventoryRequest) -> InventoryResponse:
        return await standing.link.ask(
            request, InventoryResponse, timeout=self._config.answer_timeout, session=standing.session
        )

    async def _fetch(self, pn_id: PnId) -> Copy | None:
        """Bring our copy of a PN up to date. None: the PN is not ours any more.

        What that means for its members the server's notice tells, which is on its way: they may be about to be sent
        to the PN GW that serves them now.
        """
        try:
            await self._copies.fetch(pn_id)
        except Refused as error:
            if error.result is not Result.UNKNOWN_PN:
                raise
        copy = self.copies.get(pn_id)
        if copy is not None:
            await self._members.serve(pn_id)
            gone = [member.pne_id for member in self._members.of(pn_id) if member.pne_id not in copy.members]
            await self._expel(gone)
        return copy

    async def _read(self, pn_id: PnId, asks: Callable[[], None]) -> tuple[int, Copy]:
        """Ask for a PN, page by page."""
        standing = self._standing
        if standing is None:
            raise NoAnswer("uplink_away")

        def ask(after: EntityId | None) -> Awaitable[InventoryResponse]:
            if after is None:
                asks()
            return self._ask(standing, InventoryRequest(pn_id, NO_COPY, after))

        found = await one_version(ask, _ids)
        listed = [entry for page in found for entry in page.entries or ()]
        here = {entry.entity_id: entry for entry in listed if entry.guest is not None}
        away = frozenset(entry.entity_id for entry in listed if entry.guest is None)
        version = found[0].version or 0
        return version, Copy(pn_id, version, found[0].name, found[0].owner, here, away)

    async def _lost(self, pn_id: PnId) -> None:
        """A PN is not ours any more."""
        await self._forget(pn_id)
        await self._expel([member.pne_id for member in self._members.of(pn_id)])

    async def _forget(self, pn_id: PnId) -> None:
        """We serve a PN no longer; its members may still have to be told."""
        await self._members.release(pn_id)
        self._copies.left(pn_id)

    async def notified(self, notice: PnChangeNotify) -> None:
        """Take the server's PNChangeNotify: forget whom it says, and tell the others."""
        change = Change(notice.change)
        if change is Change.GATEWAY:
            await self._switched(notice)
        elif change is not Change.RELEASED:
            await self._changed(notice, change)
        elif self._copies.told_gone(notice.pn_id, notice.version):
            await self._forget(notice.pn_id)
            self._work.start(self._released(notice))
        else:
            await self._look_into(notice.pn_id)

    async def _changed(self, notice: PnChangeNotify, change: Change) -> None:
        copy = self.copies.get(notice.pn_id)
        gone = notice.members
        if copy is not None and notice.version < copy.version:  # who is named in it may be back by now
            with contextlib.suppress(NoAnswer):
                copy = await self._look_into(notice.pn_id)
                gone = tuple(pne for pne in gone if copy is None or pne not in copy.members)
        await self._expel(pne for pne in gone if not self._is_in_another(pne, notice.pn_id))
        changed = None
        if copy is not None and change is not Change.SETTLED:
            changed = copy.after(notice.version, gone=gone, moved=change is Change.MOVED)
        known = changed is not None and self._copies.told(notice.pn_id, notice.version, changed)
        listed = change is not Change.EXPELLED  # who is put out may stand as member still, or have been away
        self._soon(notice.pn_id, change, notice.version, gone, fetch=not (known and listed))

    def _is_in_another(self, pne: EntityId, pn_id: PnId) -> bool:
        """Whether a PNE has come into another PN of ours, so that to leave *pn_id* is no end of its membership."""
        member = self._members.get(pne)
        return member is not None and member.pn_id != pn_id and member.pn_id in self._members.pns

    async def _look_into(self, pn_id: PnId) -> Copy | None:
        """Ask about a PN at once, as what we are told of it is older than what we know; it may not be ours any more."""
        copy = await self._fetch(pn_id)
        if copy is None:
            await self._lost(pn_id)
        return copy

    def admitted(self, response: GatewaySetupResponse) -> None:
        """Take up whom the server let in through us, and tell the others of those that are new."""
        copy, version = self.copies.get(response.pn_id), response.version or 0
        came = [
            InventoryEntry(entry.entity_id, Presence.CONNECTED, 0, Source.SERVER, bool(entry.guest))
            for entry in response.entries
            if entry.result == Result.SUCCESS
        ]
        about = [one.entity_id for one in came if copy is None or one.entity_id not in copy.members]
        if about or (copy is not None and copy.version != version):
            changed = None if copy is None else copy.after(version, came)
            known = changed is not None and self._copies.told(response.pn_id, version, changed)
            self._soon(response.pn_id, Change.JOINED, version, about, fetch=not known)

    def pn_for(self, pne_id: EntityId, wanted: PnId | None) -> PnId | None:
        """Return the PN for a PNE's SETUP: the one that it names, else the one of ours that is most its own.

        That is where it stands as member, else where it is guest, else our first. None: the server names one.
        """
        if wanted is not None:
            return wanted
        return max(self._members.pns, key=partial(self._holds, pne_id), default=None)  # the first of equals

    def _holds(self, pne_id: EntityId, pn_id: PnId) -> int:
        copy, member = self.copies.get(pn_id), self._members.get(pne_id)
        as_copied = 0 if copy is None else copy.holds(pne_id)
        return max(as_copied, member is not None and member.pn_id == pn_id)

    def version(self, pn_id: PnId) -> int:
        """Return the version of our copy of a PN, 0 where we have none."""
        copy = self.copies.get(pn_id)
        return 0 if copy is None else copy.version

    def _soon(self, pn_id: PnId, change: Change, version: int, about: Iterable[EntityId], *, fetch: bool) -> None:
        """Tell of a change together with others of its kind; *fetch*: ask for the whole inventory first."""
        pending = self._pending.get((pn_id, change))
        if pending is None:
            pending = self._pending[pn_id, change] = _Pending()
            self._work.start(self._tell_pending(pn_id, change))
        pending.version = version
        pending.about.update(about)
        pending.fetch = pending.fetch or fetch

    async def _tell_pending(self, pn_id: PnId, change: Change) -> None:
        await asyncio.sleep(NOTICE_SECONDS)
        pending = self._pending.pop((pn_id, change))
        if pending.fetch and self._uplink.standing is not None and pn_id in self._members.pns:
            with contextlib.suppress(CpnsError):
                await self._fetch(pn_id)
        if pending.about or change is Change.SETTLED:
            about = tuple(sorted(pending.about))[:MAX_MEMBERS]
            self._tell(PnChangeNotify(pn_id, about, pending.version, change))

    async def _released(self, notice: PnChangeNotify) -> None:
        """Tell everybody, then forget everybody: hop sessions and LocalEUKeys die with membership."""
        here = self._members.of(notice.pn_id)
        self._tell(PnChangeNotify(notice.pn_id, (), notice.version, Change.RELEASED), urgent=True)
        await self.notices.settle()
        await self._expel([member.pne_id for member in here])

    async def _switched(self, notice: PnChangeNotify) -> None:
        """PN GW switching: the PN is ours from now on, or another PN GW's, to which its members then go."""
        if notice.gateway_id == self._config.gateway_id:
            await self._members.serve(notice.pn_id)
            if await self._look_into(notice.pn_id) is not None:
                _log.info("PN %s is served by us from now on", notice.pn_id, extra=by(notice.pn_id))
            return
        if not self._copies.told_gone(notice.pn_id, notice.version) and await self._look_into(notice.pn_id):
            return  # it has come back to us since then
        await self._forget(notice.pn_id)
        _log.info("PN %s is served by %s from now on", notice.pn_id, notice.gateway_id, extra=by(notice.pn_id))
        self._given[notice.pn_id] = notice
        self._given = {pn_id: said for pn_id, said in self._given.items() if self._members.of(pn_id)}
        self._tell(notice, urgent=True)

    def heard(self, pne: EntityId) -> None:
        """A member is heard: it is told what it missed, and again that another PN GW serves its PN."""
        self.notices.heard(pne)
        member = self._members.get(pne)
        if member is not None and member.pn_id in self._given and member.pn_id not in self._members.pns:
            self.notices.tell(pne, self._given[member.pn_id], urgent=True)

    # what members are told, and the server

    def _tell(self, notice: PnChangeNotify, *, urgent: bool = False) -> None:
        """Tell the members of a PN; nobody of what only it itself did."""
        for member in self._members.of(notice.pn_id):
            one = notice
            if member.pne_id in notice.members:
                one = replace(notice, members=tuple(pne for pne in notice.members if pne != member.pne_id))
            if one.members or not notice.members:
                self.notices.tell(member.pne_id, one, urgent=urgent)

    async def tell(self, pne: EntityId, notice: PnChangeNotify) -> bool:
        """Give one PNE a notice, in its hop session or on its Secure PAN; return whether it took it."""
        try:
            answer = await self._members.exchange(pne, notice, self._config.answer_timeout)
        except NoAnswer:
            return False
        return answer.code == Code.CHANGED

    async def report(self) -> None:
        """Tell the server who fell silent, and who is heard again."""
        standing = self._uplink.standing
        if standing is None or not self._members.turned:
            return
        turned = [StatusEntry(pne, presence) for pne, presence in self._members.turned.items()][:MAX_BATCH]
        with contextlib.suppress(Refused):
            notice = PnStatusNotify(tuple(turned))
            await standing.link.tell(notice, timeout=self._config.answer_timeout, session=standing.session)
            for entry in turned:
                if self._members.turned.get(entry.entity_id) == entry.presence:
                    del self._members.turned[entry.entity_id]

    # what we may ask for

    async def release(self, pn_id: PnId) -> None:
        """End a PN that we serve. Raises `Refused`."""
        await self.request(ReleaseRequest(pn_id), ReleaseResponse)

    async def expel(self, pn_id: PnId, whom: Iterable[EntityId]) -> None:
        """Put members out of a PN that we serve. Raises `Refused`."""
        await self.request(ExpelRequest(pn_id, tuple(whom)), ExpelResponse)

    async def request(self, message: codec.Message, shape: type[M]) -> M:
        """Ask the server in our session. Raises `Refused`, as it answers."""
        standing = await self._uplink.wait(self._config.uplink_patience)
        return await standing.link.ask(message, shape, timeout=self._config.setup_timeout, session=standing.session)


def _ids(page: InventoryResponse) -> list[EntityId]:
    return [entry.entity_id for entry in page.entries or ()]


def _networks(page: InventoryResponse) -> list[PnId]:
    return sorted(page.networks or ())
