"""A PN GW's copy of the SG Inventory: the service groups that its PNEs are in (DEF-4)."""

import logging
from dataclasses import dataclass

from cpns.errors import CpnsError
from cpns.gateway.config import GatewayConfig
from cpns.gateway.uplink import Standing, Uplink
from cpns.ids import EntityId, SgId
from cpns.service.background import Background
from cpns.service.pages import all_pages
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
        self.copies: dict[SgId, GroupCopy] = {}
        self._work = Background()

    async def close(self) -> None:
        """Ask no more."""
        await self._work.close()

    async def learn(self, standing: Standing) -> None:
        """Ask for all of them anew. Raises `Refused`."""
        listed = await all_pages(lambda after: self._ask(standing, SgInventoryRequest(after=after)), _groups)
        served = [one for page in listed for one in page.groups or ()]
        for gone in set(self.copies).difference(served):
            del self.copies[gone]
        for sg_id in served:
            await self._renew(standing, sg_id)

    def notified(self, notice: SgChangeNotify) -> None:
        """Follow SGChangeNotify: ask for what is newer than our copy."""
        if notice.change == Change.RELEASED:
            self.copies.pop(notice.sg_id, None)
        else:
            self._work.start(self._follow(notice.sg_id))

    async def at_epoch(self, sg_id: SgId, epoch: int) -> GroupCopy | None:
        """Return our copy of a group as it is in *epoch* or later; None where no PNE of ours is in it."""
        copy = self.copies.get(sg_id)
        if copy is None or copy.epoch < epoch:
            await self._follow(sg_id)
        return self.copies.get(sg_id)

    async def _follow(self, sg_id: SgId) -> None:
        standing = self._uplink.standing
        if standing is not None:  # else we ask for all when it is back
            await self._renew(standing, sg_id)

    async def _renew(self, standing: Standing, sg_id: SgId) -> None:
        try:
            await self._fetch(standing, sg_id)
        except CpnsError as error:
            _log.info("group %s is none of our PNEs any more: %s", sg_id, error, extra=by(sg_id))
            self.copies.pop(sg_id, None)

    async def _fetch(self, standing: Standing, sg_id: SgId) -> None:
        known = self.copies.get(sg_id)
        version = None if known is None else known.version
        found = await all_pages(lambda after: self._ask(standing, SgInventoryRequest(sg_id, version, after)), _ids)
        page = found[-1]
        if page.alias is None or page.owner is None:
            return  # we have the newest
        self.copies[sg_id] = GroupCopy(
            *(sg_id, page.alias, page.owner, page.version or 0, page.epoch or 0),
            members=tuple(pne for one in found for pne in _ids(one)),
            vouched=bool(page.vouched),
        )

    async def _ask(self, standing: Standing, request: SgInventoryRequest) -> SgInventoryResponse:
        return await standing.link.ask(
            request, SgInventoryResponse, timeout=self._config.setup_timeout, session=standing.session
        )


def _ids(page: SgInventoryResponse) -> list[EntityId]:
    return [one.entity_id for one in page.entries or ()]


def _groups(page: SgInventoryResponse) -> list[SgId]:
    return list(page.groups or ())
