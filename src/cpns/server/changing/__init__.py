"""Changing Mode: devices that are assigned a CM Device ID and key, and connect without a PN GW (S2)."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, TypeVar

from fastapi import APIRouter

from cpns.crypto.schedule import Profile
from cpns.domain.event import Event
from cpns.errors import Refused, Result
from cpns.ids import EntityId
from cpns.server.changing import routes
from cpns.server.changing.admin import CmAdmin
from cpns.server.changing.devices import Activation, CmDevices
from cpns.server.changing.rotations import Rotations
from cpns.server.feature import Desk, Feature, Here
from cpns.server.peers.expected import First
from cpns.server.peers.follower import Looks
from cpns.server.peers.gateways import FromGateway
from cpns.server.peers.peer import GatewayPeer
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.shares.party import Party
from cpns.transport.dispatch import Row, on
from cpns.transport.endpoint import Inbound, Link
from cpns.wire import cm_messages as cm
from cpns.wire import codec
from cpns.wire.messages import CmActivateRequest, CmActivateResponse

_log = logging.getLogger("cpns.server")

M = TypeVar("M")

EXPIRY_SECONDS: Final = 600.0
"""How often unused CM Devices are looked for."""


class Changing(Feature):
    """The CM Devices of one server process."""

    def __init__(self, here: Here) -> None:
        super().__init__(here)
        config = here.config
        self.devices = CmDevices(
            own_id=config.server_id,
            lowest_suite=config.lowest_suite,
            store=here.store,
            vault=here.vault,
            sessions=here.sessions,
            clock=here.clock,
            random=here.random,
            refusals=here.refusals,
            is_barred=here.is_barred,
            waits=here.clones.waits,
            electives=config.electives,
        )
        self.rotations = Rotations(here)
        self._looks = Looks()
        self._looked_at = -EXPIRY_SECONDS

    @staticmethod
    def admin(desk: Desk) -> CmAdmin:
        """Return what an operator can do with CM Devices."""
        running = desk.running(Changing)
        return CmAdmin(desk, None if running is None else running.rotations.rotate)

    @staticmethod
    def add_routes(router: APIRouter, desk: Desk) -> None:
        """See `Feature`; so all of these."""
        routes.add(router, desk, Changing.admin(desk))

    def of_uplink(self) -> Iterable[Row[Inbound]]:
        """See `Feature`."""
        return (on(CmActivateRequest, self._activate),)

    def of_gateway(self) -> Iterable[Row[FromGateway]]:
        """Return what a PN GW may ask as mediator."""
        return (
            on(cm.CmAssignRequest, _as_mediator(self.devices.offer)),
            on(cm.CmIdRequest, _as_mediator(self.devices.identify)),
            on(cm.CmConfirmRequest, _as_mediator(self._confirm)),
            on(cm.CmReleaseRequest, _as_mediator(self.devices.release)),
        )

    def of_pne(self) -> Iterable[Row[Session]]:
        """See `Feature`."""
        return (on(cm.CmRekeyRequest, self.devices.rekey),)

    async def load(self) -> None:
        """See `Feature`."""
        await self.rotations.load()

    async def sweep(self, *, ends: bool) -> None:
        """Where the clock *ends* things, forget CM Devices that were never used."""
        now, unused = self.here.clock.monotonic(), self.here.config.cm_unused
        if ends and now - self._looked_at > min(EXPIRY_SECONDS, unused):
            self._looked_at = now
            for device in await self.here.store.expire_cm(self.here.clock.now() - unused, self.here.clock.now()):
                _log.info("CM Device %s was never used, and has expired", device, extra=by(device))

    def says_it_is_there(self, pne: EntityId) -> None:
        """See `Feature`."""
        self.rotations.heard(pne)

    async def close(self) -> None:
        """See `Feature`."""
        await self._looks.close()
        await self.rotations.close()

    def follows(self) -> bool:
        """See `Feature`."""
        return self.here.cluster.others

    def happened(self, event: Event) -> None:
        """See `Feature`."""
        if event.kind == "cm_rotation_asked":
            self._looks.soon(self.rotations.load)

    async def _confirm(self, peer: GatewayPeer, request: cm.CmConfirmRequest) -> cm.CmConfirmResponse:
        response, ended = await self.devices.confirm(peer, request)
        for older in ended:
            await self.here.end(older, ())
        return response

    async def _activate(self, inbound: Inbound, request: CmActivateRequest) -> CmActivateResponse:
        """Answer step 12. Until the first message under its session nothing changes."""
        self.here.name(inbound.link, request.cm_device_id)

        async def activate(party: Party) -> tuple[First, CmActivateResponse]:
            activation, response = await self.devices.activate(request, party)
            return First(activation.session, activation.since, partial(self._begin, activation)), response

        known = inbound.party.host in self.here.hosts
        return await self.here.expected.wait(inbound.link, activate, known=known)

    async def _begin(self, activation: Activation, link: Link) -> GatewayPeer | None:
        """Let a session stand; return its embedded PN GW. Raises `Refused`: it was revoked meanwhile."""
        session = activation.session
        known = partial(self.here.hosts.proved, link.party(None).host, session.peer_id)
        peer, ended = await self.devices.begin(activation, known)
        if not self.here.gateways.add(peer, link):
            self.here.sessions.remove(session)
            return None
        if activation.fresh:
            await self.rotations.done(peer.gateway_id)
        for older in ended:
            await self.here.end(older, ())
        said = "CM Device %s is authenticated, with its key of generation %d"
        _log.info(said, peer.gateway_id, activation.generation, extra=by(peer.gateway_id))
        return peer


def _as_mediator(
    step: Callable[[GatewayPeer, M], Awaitable[codec.Message]],
) -> Callable[[FromGateway, M], Awaitable[codec.Message]]:
    """Return the handler that takes *step* for a PN GW, unless that is a CM Device.

    Those are not mediators (S2: an external PN GW is). They are refused: NOT_ALLOWED.
    """

    async def handle(asker: FromGateway, request: M) -> codec.Message:
        if asker.peer.session.profile is not Profile.GW_SERVER:
            raise Refused(Result.NOT_ALLOWED, "a_cm_device_mediates_none")
        return await step(asker.peer, request)

    return handle
