"""What PNEs and PN GWs ask about personal networks, each in its own session, and who answers.

The session settles who asks; who may do what is decided by the rules of `cpns.domain.membership`.
"""

from cpns.domain import actor as actors
from cpns.domain.actor import Actor
from cpns.errors import Result
from cpns.server.networks.actions import NetworkActions
from cpns.server.networks.queries import NetworkQueries
from cpns.server.peers.gateways import FromGateway
from cpns.session.table import Session
from cpns.transport.dispatch import Row, on
from cpns.wire import pn_messages as pm
from cpns.wire.messages import OutcomeEntry

Asker = FromGateway | Session


def _actor(asker: Asker) -> Actor:
    if isinstance(asker, FromGateway):
        return actors.gateway(asker.peer.gateway_id)
    return actors.pne(asker.peer_id)


class NetworkRequests:
    """The handlers."""

    def __init__(self, actions: NetworkActions, queries: NetworkQueries) -> None:
        self._actions = actions
        self._queries = queries

    def of_pne(self) -> tuple[Row[Session], ...]:
        """Return what a PNE may ask."""
        return (
            on(pm.InventoryRequest, self._inventory),
            on(pm.InviteRequest, self._invite),
            on(pm.LeaveRequest, self._leave),
            on(pm.ExpelRequest, self._expel),
            on(pm.ReleaseRequest, self._release),
        )

    def of_gateway(self) -> tuple[Row[FromGateway], ...]:
        """Return what a PN GW may ask."""
        return (
            on(pm.InventoryRequest, self._inventory_of_gateway),
            on(pm.ExpelRequest, self._expel),
            on(pm.ReleaseRequest, self._release),
            on(pm.PnGwSwitchingRequest, self._switch),
        )

    async def _inventory(self, asker: Session, request: pm.InventoryRequest) -> pm.InventoryResponse:
        return await self._queries.inventory(asker, request)

    async def _inventory_of_gateway(self, asker: FromGateway, request: pm.InventoryRequest) -> pm.InventoryResponse:
        return await self._queries.inventory(asker.peer.session, request)

    async def _invite(self, asker: Session, request: pm.InviteRequest) -> pm.InviteResponse:
        results = await self._actions.invite(request.pn_id, _actor(asker), request.invite)
        return pm.InviteResponse(Result.SUCCESS, tuple(OutcomeEntry(pne, result) for pne, result in results.items()))

    async def _leave(self, asker: Session, request: pm.LeaveRequest) -> pm.LeaveResponse:
        await self._actions.leave(request.pn_id, _actor(asker))
        return pm.LeaveResponse(Result.SUCCESS)

    async def _expel(self, asker: Asker, request: pm.ExpelRequest) -> pm.ExpelResponse:
        await self._actions.expel(request.pn_id, _actor(asker), request.members)
        return pm.ExpelResponse(Result.SUCCESS)

    async def _release(self, asker: Asker, request: pm.ReleaseRequest) -> pm.ReleaseResponse:
        await self._actions.release(request.pn_id, _actor(asker))
        return pm.ReleaseResponse(Result.SUCCESS)

    async def _switch(self, asker: FromGateway, request: pm.PnGwSwitchingRequest) -> pm.PnGwSwitchingResponse:
        await self._actions.switch(request.pn_id, request.gateway_id, _actor(asker), request.addresses or ())
        return pm.PnGwSwitchingResponse(Result.SUCCESS)
