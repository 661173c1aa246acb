"""PN GW switching at a PN GW: giving a PN to another, and taking one over."""

from collections.abc import Callable, Sequence
from typing import Final

from cpns.errors import Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.members import Members, Way
from cpns.gateway.networks import Networks
from cpns.ids import EntityId, PnId
from cpns.transport.address import reachable
from cpns.wire.pn_messages import (
    GatewayChangeRequest,
    GatewayChangeResponse,
    PnGwSwitchingRequest,
    PnGwSwitchingResponse,
)
from cpns.wire.registry import MAX_ADDRESSES, Mode

CHANGE_SECONDS: Final = 15.0
"""What a device has to become a PN GW: its user may be asked, and it has to authenticate to the server."""


class Switching:
    """Both sides of a switch at one PN GW.

    Args:
        networks: asks the server.
        way_to: tells how to reach a member.
        bound: where our PANs are, once they are.
    """

    def __init__(
        self,
        config: GatewayConfig,
        members: Members,
        networks: Networks,
        way_to: Callable[[EntityId], Way | None],
        bound: Sequence[str],
    ) -> None:
        self._config = config
        self._members = members
        self._networks = networks
        self._way_to = way_to
        self._bound = bound
        self._given: dict[PnId, EntityId] = {}

    def asked(self, request: PnGwSwitchingRequest) -> PnGwSwitchingResponse:
        """Answer the server: we take a PN over if we may, and let one go only to whom we gave it."""
        if request.gateway_id == self._config.gateway_id:
            if not self._config.take_over:
                return PnGwSwitchingResponse(Result.MODE_NOT_SUPPORTED)
            return PnGwSwitchingResponse(Result.SUCCESS, self._own_addresses())
        agreed = self._given.get(request.pn_id) == request.gateway_id
        return PnGwSwitchingResponse(Result.SUCCESS if agreed else Result.NOT_ALLOWED)

    def _own_addresses(self) -> tuple[str, ...]:
        return tuple(reachable(self._bound)[:MAX_ADDRESSES])

    async def hand_over(self, pn_id: PnId, to: EntityId) -> None:
        """Give a PN to another PN GW, if the server and that one agree. Raises `Refused`; we then serve on."""
        await self._networks.request(PnGwSwitchingRequest(pn_id, to), PnGwSwitchingResponse)

    async def take_over(self, pn_id: PnId) -> None:
        """Ask to serve a PN that its PN GW gives us. Raises `Refused`."""
        request = PnGwSwitchingRequest(pn_id, self._config.gateway_id, self._own_addresses() or None)
        await self._networks.request(request, PnGwSwitchingResponse)

    async def make_gateway(self, pn_id: PnId, pne: EntityId) -> EntityId:
        """Ask a member to become the PN GW of a PN (Gateway Change); return its PN GW ID.

        The switch itself is that device's to ask for, once it has authenticated to the server.

        Raises:
            Refused: it is out of reach, can't, or its user does not want to.
        """
        way = self._way_to(pne)
        if way is None or pn_id not in self._members.pns:
            raise Refused(Result.OUT_OF_REACH, "not_in_reach")
        link, session = way
        request = GatewayChangeRequest(self._config.gateway_id, Mode.BOTH, pn_id)
        answer = await link.ask(request, GatewayChangeResponse, timeout=CHANGE_SECONDS, session=session)
        if answer.result != Result.SUCCESS or answer.gateway_id is None:
            why = Result.told(answer.result or Result.MODE_NOT_SUPPORTED, Result.MODE_NOT_SUPPORTED)
            raise Refused(why, "does_not_become_a_gateway")
        self._given[pn_id] = answer.gateway_id
        return answer.gateway_id
