"""What a PNE may ask the server about its PN, end to end: the PN GW neither reads it nor can ask in its place."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from cpns.errors import Refused, Result
from cpns.ids import EntityId, PnId
from cpns.service.pages import all_pages
from cpns.transport.errors import Answer, read
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


class Exchange(Protocol):
    """Sends ``POST /path`` to the server end to end."""

    def __call__(self, path: str, payload: bytes, timeout: float | None = None) -> Awaitable[Answer]:
        """Return the answer. Raises NoAnswer."""
        ...


class Requests:
    """The requests of one PNE.

    Args:
        exchange: sends them.
        pn_id: tells the PN that the PNE is in.
    """

    def __init__(self, exchange: Exchange, pn_id: Callable[[], PnId | None]) -> None:
        self._exchange = exchange
        self._pn_id = pn_id

    def _pn(self) -> PnId:
        pn_id = self._pn_id()
        if pn_id is None:
            raise Refused(Result.NOT_A_MEMBER, "not_established")
        return pn_id

    async def _ask(self, message: codec.Message, shape: type[M], timeout: float | None = None) -> M:
        return read(await self._exchange(CPNS_PATH, codec.encode(message), timeout), shape)

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
