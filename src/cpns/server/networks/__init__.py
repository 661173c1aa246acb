"""Personal networks: who owns one, who is in it, which PN GW serves it (DEF-1, DEF-3)."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from fastapi import APIRouter

from cpns.domain.event import Event, PnChanged
from cpns.domain.network import Admitted, Network
from cpns.ids import EntityId
from cpns.server.feature import Desk, Feature, Here
from cpns.server.networks import routes
from cpns.server.networks.actions import NetworkActions, Nobody
from cpns.server.networks.admin import PnAdmin
from cpns.server.networks.delivery import NetworkDelivery
from cpns.server.networks.queries import NetworkQueries
from cpns.server.networks.requests import NetworkRequests
from cpns.server.peers.follower import Looks
from cpns.server.peers.gateways import FromGateway
from cpns.session.table import Session
from cpns.transport.dispatch import Row
from cpns.wire.registry import Change

EXPIRY_LOOK_SECONDS: Final = 60.0


class Networks(Feature):
    """The PNs of one server process."""

    def __init__(self, here: Here) -> None:
        super().__init__(here)
        self.delivery = NetworkDelivery(here)
        self.actions = NetworkActions(here.store, here.clock, self.delivery)
        self.queries = NetworkQueries(here.store, here.reach, here.clock)
        self._requests = NetworkRequests(self.actions, self.queries)
        self._looks = Looks()
        self._expired_at = -EXPIRY_LOOK_SECONDS

    @staticmethod
    def admin(desk: Desk) -> PnAdmin:
        """Return what an operator can do with PNs."""
        running = desk.running(Networks)
        nobody = NetworkActions(desk.store, desk.clock, Nobody())
        return PnAdmin(desk, nobody if running is None else running.actions)

    @staticmethod
    def add_routes(router: APIRouter, desk: Desk) -> None:
        """See `Feature`; so all of these."""
        routes.add(router, desk, Networks.admin(desk))

    def of_gateway(self) -> Iterable[Row[FromGateway]]:
        """See `Feature`."""
        return self._requests.of_gateway()

    def of_pne(self) -> Iterable[Row[Session]]:
        """See `Feature`."""
        return self._requests.of_pne()

    async def sweep(self, *, ends: bool) -> None:
        """End invitations that are over."""
        now = self.here.clock.monotonic()
        if not ends or now < self._expired_at + EXPIRY_LOOK_SECONDS:
            return
        self._expired_at = now
        for network in await self.actions.expire():
            self.delivery.updated_soon(network)

    def admitted(self, found: Admitted, replaced: Mapping[EntityId, Session]) -> None:
        """See `Feature`."""
        self.delivery.admitted(found, replaced)

    async def left(self, networks: Sequence[Network], pne: EntityId, via: EntityId | None, change: Change) -> None:
        """See `Feature`."""
        await self.delivery.left(networks, pne, via, change)

    async def close(self) -> None:
        """See `Feature`."""
        await self._looks.close()
        await self.delivery.close()

    def follows(self) -> bool:
        """See `Feature`."""
        return self.here.cluster.others

    def happened(self, event: Event) -> None:
        """See `Feature`."""
        if event.kind == "pn_changed":
            self._looks.soon(partial(self.delivery.changed_anywhere, PnChanged.of(event)))
