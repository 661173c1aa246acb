"""A PN GW's copy of the SG Inventory: the service groups that its PNEs are in (DEF-4)."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cpns.errors import CpnsError, NoAnswer, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.uplink import Uplink
from cpns.gateway.uplink_states import Standing
from cpns.ids import EntityId, SgId
from cpns.service.background import Background
from cpns.service.copies import Copies
from cpns.service.pages import all_pages, one_version
from cpns.shares.noted import by
from cpns.wire.registry import Change
from cpns.wire.sg_messages import SgChangeNotify, SgInventoryRequest, SgInventoryResponse

_log = logging.getLogger("cpns.gateway")


@dataclass(frozen=True, slots=True)
class GroupCopy:
    """Our copy of one group."""

    sg_id: SgId
    name: str
    owner: EntityId
    version: int
    epoch: int
    members: tuple[EntityId, ...]
    vouched: bool


class Groups:
    """The groups that PNEs of one PN GW are in; who asks for a change does so end to end, past us."""

    def __init__(self, config: GatewayConfig, uplink: Uplink) -> None:
        self._config = config
        self._uplink = uplink
        self._standing: Standing | None = None
        """The newest uplink."""
        self._copies: Copies[SgId, GroupCopy] = Copies(self._read, Result.UNKNOWN_SG)
        self.copies = self._copies.of
        self._named: dict[SgId, int] = {}
        """The epoch of each copy that the server named last: our copy may be of an older one still."""
        self._work = Background()

    async def close(self) -> None:
        """Ask no more."""
        await self._work.close()

    async def learn(self, standing: Standing) -> None:
        """Ask for all of them anew. Those that are not listed may have come meanwhile. Raises `Refused`."""
        self._standing = standing
        self._named.clear()
        listed = await all_pages(lambda after: self._ask(standing, SgInventoryRequest(after=after)), _groups)
        for sg_id in dict.fromkeys([*(one for page in listed for one in page.groups or ()), *self.copies]):
            await self._renew(sg_id)

    def notified(self, notice: SgChangeNotify) -> None:
        """Follow SGChangeNotify: ask for what is newer than our copy."""
        ended = notice.change == Change.RELEASED and self._copies.told_gone(notice.sg_id, notice.version)
        if not ended and notice.sg_id in self.copies:
            self._named[notice.sg_id] = max(notice.epoch, self._named.get(notice.sg_id, 0))
        if not ended and self._uplink.standing is not None:  # else we ask for all when it is back
            self._work.start(self._renew(notice.sg_id))

    async def at_epoch(self, sg_id: SgId, epoch: int) -> GroupCopy | None:
        """Return our copy of a group as it is in *epoch* or later; None where no PNE of ours is in it."""
        copy = self.copies.get(sg_id)
        named = self._named.get(sg_id, 0)
        if (copy is None or copy.epoch < max(epoch, named)) and self._uplink.standing is not None:
            await self._renew(sg_id)
        return self.copies.get(sg_id)

    async def with_member(self, sg_id: SgId, pne: EntityId) -> GroupCopy | None:
        """Return our copy of a group that a PNE behind us is in; None where it is in none of that ID."""
        copy = self.copies.get(sg_id)
        if (copy is None or pne not in copy.members) and self._uplink.standing is not None:
            await self._renew(sg_id)  # it may have come to us, or into it, before we heard of that
        copy = self.copies.get(sg_id)
        return copy if copy is not None and pne in copy.members else None

    def is_over(self, copy: GroupCopy, epoch: int) -> bool:
        """Whether an epoch of a group is over, by our copy or by what the server has named since."""
        return epoch < max(copy.epoch, self._named.get(copy.sg_id, 0))

    async def _renew(self, sg_id: SgId) -> None:
        try:
            await self._copies.fetch(sg_id)
        except CpnsError as error:
            _log.info("our copy of the group %s is as it was, or gone: %s", sg_id, error, extra=by(sg_id))
        copy = self.copies.get(sg_id)
        if copy is None or copy.epoch >= self._named.get(sg_id, 0):
            self._named.pop(sg_id, None)

    async def _read(self, sg_id: SgId, asks: Callable[[], None]) -> tuple[int, GroupCopy] | None:
        standing, known = self._standing, self.copies.get(sg_id)
        if standing is None:
            raise NoAnswer("uplink_away")

        def ask(after: EntityId | None) -> Awaitable[SgInventoryResponse]:
            if after is None:
                asks()
            return self._ask(standing, SgInventoryRequest(sg_id, None if known is None else known.version, after))

        found = await one_version(ask, _ids)
        page = found[0]
        if page.name is None or page.owner is None:
            return None
        copy = GroupCopy(
            *(sg_id, page.name, page.owner, page.version or 0, page.epoch or 0),
            members=tuple(pne for one in found for pne in _ids(one)),
            vouched=bool(page.vouched),
        )
        return copy.version, copy

    async def _ask(self, standing: Standing, request: SgInventoryRequest) -> SgInventoryResponse:
        return await standing.link.ask(
            request, SgInventoryResponse, timeout=self._config.setup_timeout, session=standing.session
        )


def _ids(page: SgInventoryResponse) -> list[EntityId]:
    return [one.entity_id for one in page.entries or ()]


def _groups(page: SgInventoryResponse) -> list[SgId]:
    return list(page.groups or ())
