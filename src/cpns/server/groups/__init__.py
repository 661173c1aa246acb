"""Service groups: who may join one, who is in it, in which epoch, under which Group Key (DEF-4, DEF-5, FN-7)."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from fastapi import APIRouter

from cpns.domain.event import Event, SgChanged
from cpns.domain.group import ChangedGroup
from cpns.domain.network import Admitted
from cpns.ids import EntityId
from cpns.server.feature import Desk, Feature, Here
from cpns.server.groups import routes
from cpns.server.groups.actions import GroupActions, Nobody
from cpns.server.groups.admin import GroupAdmin
from cpns.server.groups.delivery import GroupDelivery
from cpns.server.groups.queries import GroupQueries
from cpns.server.groups.requests import GroupRequests
from cpns.server.peers.follower import Looks
from cpns.server.peers.gateways import FromGateway
from cpns.session.table import Session
from cpns.transport.dispatch import Row

OWNER_LOOK_SECONDS: Final = 600.0


class Groups(Feature):
    """The service groups of one server process."""

    def __init__(self, here: Here) -> None:
        super().__init__(here)
        self.delivery = GroupDelivery(here)
        self.actions = GroupActions(here.store, here.clock, self.delivery, here.config.max_groups)
        self.queries = GroupQueries(here.store, here.sessions)
        self._requests = GroupRequests(self.actions, self.queries, self.delivery.key_for, here.clock, here.random)
        self._looks = Looks()
        self._owners_looked_at = -OWNER_LOOK_SECONDS

    @staticmethod
    def admin(desk: Desk) -> GroupAdmin:
        """Return what an operator can do with service groups."""
        running = desk.running(Groups)
        nobody = GroupActions(desk.store, desk.clock, Nobody())
        return GroupAdmin(desk, nobody if running is None else running.actions)

    @staticmethod
    def add_routes(router: APIRouter, desk: Desk) -> None:
        """See `Feature`; so all of these."""
        routes.add(router, Groups.admin(desk))

    def of_gateway(self) -> Iterable[Row[FromGateway]]:
        """See `Feature`."""
        return self._requests.of_gateway()

    def of_pne(self) -> Iterable[Row[Session]]:
        """See `Feature`."""
        return self._requests.of_pne()

    async def load(self) -> None:
        """Begin the epochs that are due since before our start."""
        await self.actions.sweep(ends=False)

    async def sweep(self, *, ends: bool) -> None:
        """See `Feature`; and replace owners that have vanished."""
        await self.actions.sweep(ends=ends)
        now = self.here.clock.monotonic()
        if ends and now >= self._owners_looked_at + OWNER_LOOK_SECONDS:
            self._owners_looked_at = now
            await self.actions.replace_silent_owners(self.here.config.owner_away)

    async def close(self) -> None:
        """See `Feature`."""
        await self._looks.close()
        await self.actions.close()
        await self.delivery.close()

    def gateway_came(self, gateway: EntityId) -> None:
        """See `Feature`."""
        self.delivery.copies.connected(gateway)

    def gateway_gone(self, gateway: EntityId) -> None:
        """See `Feature`."""
        self.delivery.copies.connected(gateway)

    def admitted(self, found: Admitted, replaced: Mapping[EntityId, Session]) -> None:
        """See `Feature`."""
        if found.network is not None:
            self.delivery.copies.came(found.network.gateway_id, found.groups)

    def follows(self) -> bool:
        """See `Feature`."""
        return self.here.cluster.others

    def happened(self, event: Event) -> None:
        """See `Feature`."""
        if event.kind == "sg_changed":
            self._looks.soon(partial(self.delivery.changed_anywhere, SgChanged.of(event)))

    async def left_groups(self, changes: Sequence[ChangedGroup]) -> None:
        """See `Feature`."""
        await self.actions.told(changes)
