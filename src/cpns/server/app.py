"""One CPNS Server process: its peers and its features are composed, and each message goes to who takes it."""

import logging
from collections.abc import Sequence

from cpns.crypto.schedule import Profile
from cpns.domain.group import ChangedGroup
from cpns.domain.network import Network
from cpns.errors import Refused, Result
from cpns.ids import EntityId
from cpns.ports import Randomness, Store, Vault
from cpns.ports.cluster import Bus
from cpns.server.config import ServerConfig
from cpns.server.feature import Features, Here
from cpns.server.features import FEATURES, Access, Changing, Groups, Messages, Networks, Pushes, Readings
from cpns.server.peers.clones import Clones, Replaced
from cpns.server.peers.expected import Expected
from cpns.server.peers.follower import Follower
from cpns.server.peers.gateways import FromGateway, Gateways
from cpns.server.peers.overview import Overview
from cpns.server.peers.pnes import Pnes
from cpns.server.peers.presence import Presences
from cpns.server.peers.reach import Reach
from cpns.server.peers.revocations import LOOK_SECONDS, Revocations
from cpns.server.peers.sending import Sending
from cpns.server.peers.unreached import Unreached
from cpns.server.upkeep import Upkeep
from cpns.service.background import Background
from cpns.service.cluster import Alone
from cpns.service.events import Events
from cpns.service.hosts import KnownHosts
from cpns.service.processes import Processes
from cpns.service.refusals import Refusals
from cpns.service.system import StoreClock
from cpns.session.table import Session, Sessions
from cpns.shares.bounds import AT_SERVER
from cpns.shares.exceeded import Exceeded
from cpns.shares.noted import by
from cpns.shares.party import Party
from cpns.transport.address import at, not_had
from cpns.transport.certificate import Certificate
from cpns.transport.dispatch import Table
from cpns.transport.endpoint import Endpoint, Inbound, Link
from cpns.transport.errors import UNIFORM_REFUSAL, Answer
from cpns.transport.watch import Watch
from cpns.wire.declare import Leg
from cpns.wire.registry import CPNS_PATH

_log = logging.getLogger("cpns.server")


class Server:
    """A CPNS Server.

    Args:
        config: see `ServerConfig`.
        store: opened, migrated.
        vault: opened.
        watch: is told of every message sent.
        bus: carries what the processes of the server say to each other, started; by default there is none.
    """

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        vault: Vault,
        clock: StoreClock,
        random: Randomness,
        watch: Watch | None = None,
        bus: Bus | None = None,
    ) -> None:
        self.config, self.store, self._clock = config, store, clock
        self._cluster = Processes(store, clock, bus or Alone(), random)
        look_every = LOOK_SECONDS if self._cluster.others else None
        self.events = Events(store, look_every)
        self.sessions = Sessions(config.session_age)
        self.refusals, self._hosts, self.exceeded = Refusals(store, clock), KnownHosts(store, clock), Exceeded()
        of = (config.server_id, self.sessions, self._handle)
        self._endpoint = Endpoint(*of, on_lost=self._gone, on_excess=self._went_over, watch=watch, requests=AT_SERVER)
        self.clones = Clones(self.refusals, clock, self._cluster)
        self.gateways = Gateways(clock, self._cluster, self.clones.seen)
        self.pnes = Pnes(self.sessions, self.gateways, self._cluster)
        self.replaced = Replaced(self.clones, self.gateways, self.pnes, clock)
        self._presences = Presences(clock)
        self.reach = Reach(self.pnes, self._presences, self._cluster)
        self.expected = Expected(self.sessions, clock.monotonic)
        unreached = Unreached(store, self.sessions, self.gateways)
        self.sending = Sending(self.pnes, self._presences, unreached)
        self.overview = Overview(
            *(self.sessions, self.gateways, self.pnes, self.exceeded, clock, self._cluster, config.data)
        )
        self.features = Features()
        self.revocations = Revocations(
            *(store, self.sessions, self.gateways, self._presences, clock, self._cluster, self.features.left)
        )
        self.here = self._compose(vault, random, look_every)
        self._make_features(self.here)
        self.upkeep = Upkeep(self.here)
        self._work = Background()
        self.listening: tuple[str, int] | None = None

    def _compose(self, vault: Vault, random: Randomness, look_every: float | None) -> Here:
        return Here(
            config=self.config,
            store=self.store,
            vault=vault,
            clock=self._clock,
            random=random,
            cluster=self._cluster,
            sessions=self.sessions,
            gateways=self.gateways,
            pnes=self.pnes,
            presences=self._presences,
            reach=self.reach,
            sending=self.sending,
            expected=self.expected,
            refusals=self.refusals,
            hosts=self._hosts,
            clones=self.clones,
            replaced=self.replaced,
            name=self._endpoint.name,
            is_barred=self.revocations.is_barred,
            end=self.revocations.end,
            features=self.features,
            look_every=look_every,
        )

    def _make_features(self, here: Here) -> None:
        made = self.features.all = tuple(make(here) for make in FEATURES)
        the = self.features.of
        self.access, self.changing = the(Access), the(Changing)
        self.networks, self.groups, self.messages = the(Networks), the(Groups), the(Messages)
        self.readings, self.pushes = the(Readings), the(Pushes)
        self.from_uplink = Table(Leg.UPLINK_TO_SERVER, *(row for one in made for row in one.of_uplink()))
        self.from_gateway = Table(Leg.GATEWAY_TO_SERVER, *(row for one in made for row in one.of_gateway()))
        self.from_pne = Table(Leg.PNE_TO_SERVER, *(row for one in made for row in one.of_pne()))
        self._resources = {path: take for one in made for path, take in one.resources().items()}

    async def start(self) -> tuple[str, int]:
        """Listen; return the address. Raises `Unavailable` where it can't be had."""
        for feature in self.features.all:
            await feature.load()
        await self._cluster.begin(at(self.config.host, self.config.port))  # before anybody gets in
        if self._cluster.others:
            await self.revocations.look()
        if self.config.tls_certificate is not None:
            self.upkeep.certificate = Certificate(self.config.tls_certificate, self.config.tls_key)
        self.upkeep.look_at_certificate()
        certificate = self.upkeep.certificate
        try:
            self.listening = await self._endpoint.listen(
                *(self.config.host, self.config.port, None if certificate is None else certificate.context),
                shared=self.config.workers > 1,
                is_known=self._hosts.__contains__,
            )
        except OSError as error:
            raise not_had(self.config.host, self.config.port, error, "--listen") from error
        await self._cluster.begin(at(*self.listening))
        self.upkeep.start()
        if self._cluster.others:
            self._work.start(self.revocations.watch())
        if any(feature.follows() for feature in self.features.all):
            follower = Follower(self.store, self.events, self.features.happened, self.revocations.begin_anew)
            self._work.start(follower.run())
        return self.listening

    async def close(self) -> None:
        """Stop listening and end all sessions; the store stays open."""
        await self.upkeep.close()
        await self._work.close()
        for feature in self.features.all:
            await feature.close()
        await self.gateways.finish()
        await self._endpoint.close()
        await self.refusals.close()
        await self._cluster.close()

    # incoming

    async def _handle(self, inbound: Inbound) -> Answer | None:
        source = inbound.source
        if source is None:
            if inbound.path != CPNS_PATH:
                return UNIFORM_REFUSAL
            return await self.access.admission.activate(inbound, self.from_uplink)
        if source.profile in (Profile.GW_SERVER, Profile.CM_SERVER):
            return await self._from_gateway(source, inbound)
        return await self._from_pne(source, inbound)

    async def _from_gateway(self, source: Session, inbound: Inbound) -> Answer | None:
        peer = self.gateways.peer(source, inbound.link) or await self.expected.begin(source, inbound.link)
        if peer is None:
            return UNIFORM_REFUSAL
        if inbound.path != CPNS_PATH:
            return self.gateways.answer(peer, inbound)
        return await self.from_gateway.take(FromGateway(peer, inbound.link), inbound.payload)

    async def _from_pne(self, source: Session, inbound: Inbound) -> Answer | None:
        if self.gateways.link(source.via) != inbound.link:  # th0 names one PN GW: the session moves to no other
            return UNIFORM_REFUSAL
        self._presences.heard(source.peer_id)
        if inbound.path == CPNS_PATH:
            return await self.from_pne.take(source, inbound.payload)
        take = self._resources.get(inbound.path)
        if take is None:
            raise Refused(Result.NOT_ALLOWED, "no_such_resource")
        return await take(source, inbound.payload)

    def _gone(self, link: Link) -> None:
        self.expected.forget(link)
        peer = self.gateways.lost(link)
        if peer is None:
            return
        self.sessions.remove(peer.session)
        self.features.gateway_gone(peer.gateway_id)
        for session in self.sessions:
            if session.via == peer.gateway_id:
                self._presences.lost(session.peer_id)
        _log.info("gateway %s is gone", peer.gateway_id, extra=by(peer.gateway_id, state="uplink"))

    def _went_over(self, party: Party, what: str) -> None:
        if party.entity is not None:
            self.exceeded.note(party.entity, what, self._clock.monotonic())

    # what an operator does, `cpns.service.provisioning.Sessions`

    async def bar(self, entity: EntityId) -> None:
        """See `Revocations.bar`."""
        await self.revocations.bar(entity)

    async def end(self, entity: EntityId, left: Sequence[Network]) -> int:
        """See `Revocations.end`."""
        return await self.revocations.end(entity, left)

    async def bound(self, pne: EntityId, via: EntityId, left: Sequence[Network]) -> int:
        """See `Revocations.bound`."""
        return await self.revocations.bound(pne, via, left)

    async def left_groups(self, changes: Sequence[ChangedGroup]) -> None:
        """See `Feature.left_groups`."""
        await self.features.left_groups(changes)
