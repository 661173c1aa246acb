"""What a PNE may ask the server about its PN, end to end: the PN GW neither reads it nor can ask in its place."""

from collections.abc import Sequence
from typing import Final, TypeVar

from cpns.errors import Refused, Result
from cpns.ids import EntityId, PnId
from cpns.pne.life import PneLife
from cpns.pne.way import ToServer
from cpns.service.pages import all_pages
from cpns.transport.errors import read
from cpns.wire import codec
from cpns.wire.pn_messages import (
    ExpelRequest,
    ExpelResponse,
    InventoryEntry,
    InventoryRequest,
    InventoryResponse,
    InviteRequest,
    InviteResponse,
    LeaveRequest,
    LeaveResponse,
    ReleaseRequest,
    ReleaseResponse,
)
from cpns.wire.registry import CPNS_PATH

M = TypeVar("M")

INVITE_SECONDS: Final = 25.0
"""People are asked: see the server's and the PN GW's own limits."""


class Requests:
    """The requests of one PNE.

    Args:
        way: to the server, end to end.
        life: tells the PN that the PNE is in.
    """

    def __init__(self, way: ToServer, life: PneLife) -> None:
        self._way = way
        self._life = life

    def _pn(self) -> PnId:
        joined = self._life.joined
        if joined is None:
            raise Refused(Result.NOT_A_MEMBER, "not_established")
        return joined.pn_id

    async def _ask(self, message: codec.Message, shape: type[M], timeout: float | None = None) -> M:
        return read(await self._way.exchange(CPNS_PATH, codec.encode(message), timeout), shape)

    async def inventory(self) -> tuple[InventoryResponse, list[InventoryEntry]]:
        """Return what we may see of our PN, page by page. Raises `Refused`, as all of these."""
        pn_id = self._pn()
        found = await all_pages(
            lambda after: self._ask(InventoryRequest(pn_id, after=after), InventoryResponse),
            lambda page: [entry.entity_id for entry in page.entries or ()],
        )
        return found[-1], [entry for page in found for entry in page.entries or ()]

    async def invite(self, whom: Sequence[EntityId]) -> dict[EntityId, Result]:
        """Invite PNEs into our PN; return how it ended for each."""
        request = InviteRequest(self._pn(), tuple(whom))
        answer = await self._ask(request, InviteResponse, INVITE_SECONDS)
        return {entry.entity_id: Result.told(entry.result, Result.SERVER_ERROR) for entry in answer.entries or ()}

    async def expel(self, whom: Sequence[EntityId]) -> None:
        """Put members out of our PN, as its owner."""
        await self._ask(ExpelRequest(self._pn(), tuple(whom)), ExpelResponse)

    async def release(self) -> None:
        """End our PN, as its owner."""
        await self._ask(ReleaseRequest(self._pn()), ReleaseResponse)

    async def leave(self) -> None:
        """End our own membership."""
        await self._ask(LeaveRequest(self._pn()), LeaveResponse)
