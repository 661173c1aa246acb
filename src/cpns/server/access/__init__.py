"""Who is it: PN GWs and PNEs prove themselves (7.5.5, 7.5.4), and get in as far as there is room."""

from collections.abc import Iterable
from typing import Final

from cpns.errors import Result
from cpns.server.access.admission import Admission
from cpns.server.access.authentication import Authentication
from cpns.server.feature import Feature, Here
from cpns.server.peers.gateways import FromGateway
from cpns.service.keyring import Keyring
from cpns.transport.dispatch import Row, on
from cpns.transport.endpoint import Inbound
from cpns.wire import messages as m

HOSTS_LOOK_SECONDS: Final = 600.0


class Access(Feature):
    """Who gets in at one server process."""

    def __init__(self, here: Here) -> None:
        super().__init__(here)
        config = here.config
        self.authentication = Authentication(
            own_id=config.server_id,
            lowest_suite=config.lowest_suite,
            store=here.store,
            keyring=Keyring(here.store, here.vault, here.random),
            sessions=here.sessions,
            clock=here.clock,
            random=here.random,
            policy=config.policy,
            admitted=here.features.admitted,
            refusals=here.refusals,
            hosts=here.hosts,
            is_barred=here.is_barred,
            waits=here.clones.waits,
            electives=config.electives,
        )
        self.admission = Admission(here, self.authentication)
        self._hosts_looked_at = -HOSTS_LOOK_SECONDS

    def of_uplink(self) -> Iterable[Row[Inbound]]:
        """See `Feature`; so all of these."""
        return (on(m.ActivateRequest, self.admission.gateway),)

    def of_gateway(self) -> Iterable[Row[FromGateway]]:
        """See `Feature`."""
        return (on(m.GatewaySetupRequest, self._setup),)

    async def load(self) -> None:
        """See `Feature`."""
        await self.here.hosts.load()

    async def sweep(self, *, ends: bool) -> None:
        """See which hosts other processes know."""
        now = self.here.clock.monotonic()
        if ends and now >= self._hosts_looked_at + HOSTS_LOOK_SECONDS:
            self._hosts_looked_at = now
            if self.here.cluster.others:
                await self.here.hosts.load()

    async def _setup(self, asker: FromGateway, request: m.GatewaySetupRequest) -> m.GatewaySetupResponse:
        response = await self.admission.setup(request, asker.peer, asker.link)
        for entry in response.entries:
            if entry.result == Result.SUCCESS:
                self.here.presences.heard(entry.entity_id)
        return response
