"""One CPNS Server process: what is wired to what, and which message goes to which service."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from cpns.crypto.schedule import Profile
from cpns.domain.group import ChangedGroup
from cpns.domain.network import Admitted, Network
from cpns.domain.presence import Fact
from cpns.errors import NoAnswer, Refused, Result, StoreFails, Unavailable, UserError
from cpns.ids import EntityId
from cpns.ports import Randomness, Store, Vault
from cpns.ports.siblings import Bus
from cpns.server.access import Access
from cpns.server.clones import Clones
from cpns.server.cm import ChangingMode
from cpns.server.config import ServerConfig
from cpns.server.followers import Followers
from cpns.server.gateways import FromGateway, Gateways
from cpns.server.group_messages import GroupMessages
from cpns.server.group_pages import GroupPages
from cpns.server.group_requests import GroupRequests
from cpns.server.groups import Groups
from cpns.server.network_requests import NetworkRequests
from cpns.server.networks import Networks
from cpns.server.overview import Overview
from cpns.server.pnes import Pnes
from cpns.server.revocations import LOOK_SECONDS, Revocations
from cpns.server.unreached import Unreached
from cpns.service.authentication import Authentication
from cpns.service.background import Background
from cpns.service.cm import CmDevices
from cpns.service.events import Events
from cpns.service.hosts import KnownHosts
from cpns.service.kept import Kept
from cpns.service.keyring import Keyring
from cpns.service.presence import Presences
from cpns.service.processes import Processes
from cpns.service.pushes import Pushes
from cpns.service.readings import Readings
from cpns.service.refusals import Refusals
from cpns.service.siblings import Alone
from cpns.service.system import StoreClock
from cpns.session.table import Session, Sessions
from cpns.shares.bounds import AT_SERVER
from cpns.shares.exceeded import Exceeded
from cpns.shares.noted import by
from cpns.shares.party import Party
from cpns.transport.address import at, not_had
from cpns.transport.certificate import Certificate
from cpns.transport.dispatch import TAKEN, Table, on
from cpns.transport.endpoint import Endpoint, Inbound, Link
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code, Hinted
from cpns.transport.oscore import MESSAGE_LIMIT, sent
from cpns.transport.watch import Watch
from cpns.wire import application
from cpns.wire import cm_messages as cm
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire.declare import Leg
from cpns.wire.registry import CPNS_PATH, Presence

_log = logging.getLogger("cpns.server")

SWEEP_SECONDS: Final = 2.0
CERTIFICATE_LOOK_SECONDS: Final = 60.0
OWNER_LOOK_SECONDS: Final = 600.0
RETRY_SECONDS: Final = 5.0
"""After so long what waits for a PNE that is there is tried again: an attempt can get lost on the PAN."""
PUSH_TIMEOUT: Final = 10.0


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
        self._siblings = Processes(store, clock, bus or Alone(), random)
        self.config, self.store, self.vault = config, store, vault
        self.sessions = Sessions(config.session_age)
        look_every = LOOK_SECONDS if self._siblings.others else None
        self.readings = Readings(store, clock, config.readings_rate, config.readings_volume, look_every)
        self.events, self._clock = Events(store, look_every), clock
        self.gateways = Gateways(clock, self._siblings, lambda gateway, hosts: self.clones.seen(gateway, hosts))
        self.pnes = Pnes(self.sessions, self.gateways, self._siblings)
        self.refusals = Refusals(store, clock)
        self.clones = Clones(self.gateways, self.pnes, self.refusals, clock, self._siblings)
        self._presences = Presences(clock)
        here = (self.sessions, self.gateways)
        self.networks = Networks(store, *here, self._presences, clock, self._siblings, self.clones.ask)
        self.groups = Groups(store, *here, self.pnes, clock, random, vault, self._siblings, config.max_groups)
        self.group_pages, self._unreached = GroupPages(store, self.sessions), Unreached(store, *here)
        self.messages = GroupMessages(store, self.groups, *here, self.pnes, clock, self._siblings)
        self.pushes = Pushes(store, clock, random, self._push, self._siblings)
        self._hosts, self._kept = KnownHosts(store, clock), Kept(store, clock)
        self._authentication = Authentication(
            *(config.server_id, config.lowest_suite, store, Keyring(store, vault, random), self.sessions, clock),
            *(random, config.policy, self._admitted, self.refusals, self._hosts, self.clones.waits),
            electives=config.electives,
        )
        self.exceeded = Exceeded()
        self.overview = Overview(*here, self.pnes, self.exceeded, clock, self._siblings, config.data)
        self.revocations = Revocations(
            *(store, *here, self.networks, self._presences, clock, self._authentication.revoked, self._siblings)
        )
        cm_devices = CmDevices(
            *(config.server_id, config.lowest_suite, store, vault, self.sessions, clock, random),
            *(self.refusals, self._authentication.is_revoked, self.clones.waits),
            electives=config.electives,
        )
        self.cm = ChangingMode(
            *(cm_devices, store, *here, self.pnes, clock, config.cm_unused, self.end, self._siblings, self._hosts)
        )
        of = (config.server_id, self.sessions, self._handle)
        self._endpoint = Endpoint(*of, on_lost=self._gone, on_excess=self._went_over, watch=watch, requests=AT_SERVER)
        self.access = Access(
            *(self._authentication, self.cm, self.gateways, self.sessions, self._hosts, clock, config.answer_timeout),
            *(self._endpoint.name, self.groups.copies.connected),
        )
        self._tables(random)
        looks = (self.networks.changed_anywhere, self.groups.changed_anywhere, self.cm.load)
        self.followers = Followers(store, self.events, *looks, self.revocations.begin_anew)
        self._certificate: Certificate | None = None
        self._work, self._owners_looked_at = Background(), -OWNER_LOOK_SECONDS
        self._certificate_looked_at = self._retried_at = 0.0
        self._sweeper: asyncio.Task[None] | None = None
        self.listening: tuple[str, int] | None = None

    def _tables(self, random: Randomness) -> None:
        """Which message goes to whom, for each leg; those of `Access` beside."""
        of_networks = NetworkRequests(self.networks)
        of_groups = GroupRequests(
            *(self.store, self.groups, self.group_pages, self.messages, self._clock, random, self.config.max_groups)
        )
        self.from_pne = Table(
            Leg.PNE_TO_SERVER, *of_networks.of_pne(), *of_groups.of_pne(), on(cm.CmRekeyRequest, self.cm.rekey)
        )
        self.from_gateway = Table(
            Leg.GATEWAY_TO_SERVER,
            *of_networks.of_gateway(),
            *of_groups.of_gateway(),
            *self.cm.of_gateway(),
            on(m.GatewaySetupRequest, self._setup),
            on(pm.PnStatusNotify, self._reported),
        )

    async def start(self) -> tuple[str, int]:
        """Listen; return the address. Raises `Unavailable` where it can't be had."""
        await self._hosts.load()
        await self.pushes.load()
        await self.messages.load()
        await self.cm.load()
        await self.groups.sweep()
        await self._siblings.begin(at(self.config.host, self.config.port))  # before anybody gets in
        if self._siblings.others:
            await self.revocations.look()
        if self.config.tls_certificate is not None:
            self._certificate = Certificate(self.config.tls_certificate, self.config.tls_key)
        self.look_at_certificate()
        try:
            self.listening = await self._endpoint.listen(
                *(self.config.host, self.config.port, None if self._certificate is None else self._certificate.context),
                shared=self.config.workers > 1,
                is_known=self._hosts.__contains__,
            )
        except OSError as error:
            raise not_had(self.config.host, self.config.port, error, "--listen") from error
        await self._siblings.begin(at(*self.listening))
        self._sweeper = asyncio.create_task(self._sweep())
        if self._siblings.others:
            self._work.start(self.revocations.watch())
            self._work.start(self.followers.run())
        return self.listening

    def look_at_certificate(self) -> None:
        """Take a certificate that was renewed, for connections from now on."""
        self._certificate_looked_at = self._clock.monotonic()
        if self._certificate is not None:
            self._certificate.look(self._clock.now())

    async def close(self) -> None:
        """Stop listening and end all sessions; the store stays open."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        await self._work.close()
        await self.followers.close()
        await self.pushes.close()
        await self.messages.close()
        await self.networks.close()
        await self.gateways.finish()
        await self.cm.close()
        await self.groups.close()
        await self._endpoint.close()
        await self.refusals.close()
        await self._siblings.close()

    # incoming

    def _went_over(self, party: Party, what: str) -> None:
        if party.entity is not None:
            self.exceeded.note(party.entity, what, self._clock.monotonic())

    async def _handle(self, inbound: Inbound) -> Answer | None:
        source = inbound.source
        if source is None:
            return await self.access.activate(inbound) if inbound.path == CPNS_PATH else UNIFORM_REFUSAL
        if source.profile in (Profile.GW_SERVER, Profile.CM_SERVER):
            return await self._from_gateway(source, inbound)
        return await self._from_pne(source, inbound)

    async def _from_gateway(self, source: Session, inbound: Inbound) -> Answer | None:
        peer = self.gateways.peer(source, inbound.link) or await self.cm.begin(source, inbound.link)
        if peer is None:
            return UNIFORM_REFUSAL
        if inbound.path != CPNS_PATH:
            return self.gateways.answer(peer, inbound)
        return await self.from_gateway.take(FromGateway(peer, inbound.link), inbound.payload)

    async def _setup(self, asker: FromGateway, request: m.GatewaySetupRequest) -> m.GatewaySetupResponse:
        response = await self.access.setup(request, asker.peer, asker.link)
        for entry in response.entries:
            if entry.result == Result.SUCCESS:
                self._presences.heard(entry.entity_id)
        return response

    def _admitted(self, found: Admitted, older: Mapping[EntityId, Session]) -> None:
        self.networks.admitted(found, older)
        if found.network is not None:
            self.groups.copies.came(found.network.gateway_id, found.groups)

    async def _reported(self, asker: FromGateway, notice: pm.PnStatusNotify) -> Answer:
        """Take a PN GW's word for how it finds its PNEs; for those behind it, and no others."""
        for entry in notice.entries:
            session = self.sessions.with_peer(entry.entity_id)
            if session is not None and session.via == asker.peer.gateway_id:
                self._presences.reported(entry.entity_id, Presence(entry.presence))
                if entry.presence != Presence.ASLEEP:
                    self._heard(entry.entity_id)
        return TAKEN

    async def _from_pne(self, source: Session, inbound: Inbound) -> Answer | None:
        if self.gateways.link(source.via) != inbound.link:  # th0 names one PN GW: the session moves to no other
            return UNIFORM_REFUSAL
        self._presences.heard(source.peer_id)
        if inbound.path == application.READINGS_PATH:
            await self.readings.take(source, inbound.payload)
            self._heard(source.peer_id)
            return Answer(Code.CHANGED)
        if inbound.path == application.STATUS_PATH:
            said = self._said(source.peer_id, application.decode_text(inbound.payload))
            if said is not Presence.CONNECTED:
                return Answer(Code.CHANGED)  # a sign of life does not wait for the store
            return Answer(Code.CHANGED, application.encode_home(await self.store.home(source.peer_id)))
        if inbound.path == CPNS_PATH:
            return await self.from_pne.take(source, inbound.payload)
        raise Refused(Result.NOT_ALLOWED, "no_such_resource")

    def _said(self, pne: EntityId, status: str) -> Presence:
        said = {one.name.lower(): one for one in (Presence.IDLE, Presence.ASLEEP)}.get(status, Presence.CONNECTED)
        routine = said is Presence.IDLE  # each device says so every few minutes
        _log.log(logging.DEBUG if routine else logging.INFO, "PNE %s says it is %r", pne, status, extra=by(pne))
        self._presences.said(pne, said)
        if said is not Presence.ASLEEP:
            self._heard(pne)
            self.cm.heard(pne)
        return said

    def _heard(self, pne: EntityId) -> None:
        """Give a PNE that can be reached what waits for it."""
        self.pushes.heard(pne)
        self.messages.heard(pne)

    # outgoing

    async def send(self, pne_id: EntityId, path: str, payload: bytes) -> str:
        """Send ``POST /path`` to a PNE through its PN GW, end to end; return the text that it answers.

        Raises:
            NotFound: ``unknown_entity``.
            Unavailable: ``not_established``, ``gateway_away``, ``uplink_silent`` or ``asleep``, with what to do.
        """
        try:
            answer = await self.pnes.request(pne_id, path, payload, PUSH_TIMEOUT)
        except Hinted as error:
            raise Unavailable(
                "asleep", f"{pne_id} does not answer its gateway ({error.reason}): asleep or out of reach."
            ) from error
        except NoAnswer as error:
            raise await self._unreached.told(pne_id, error.reason) from error
        if self.pnes.here(pne_id) is not None:
            self._presences.heard(pne_id)
        return _text_of(answer)

    async def _push(self, pne_id: EntityId, push: application.Push) -> str:
        return await self.send(pne_id, application.INBOX_PATH, application.encode_push(push))

    def is_connected(self, entity: EntityId) -> bool:
        """See `Pnes.is_connected_here`."""
        return self.pnes.is_connected_here(entity)

    def presence(self, pne: EntityId) -> Fact:
        """Return how a PNE can be reached from this process, since when that is known, and from whom."""
        return self._presences.of(pne, stands=self.networks.is_reachable(pne))

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
        """Tell the members of service groups that a revoked PNE was in; return when their PN GWs know."""
        await self.groups.told(changes)

    # upkeep

    def _gone(self, link: Link) -> None:
        self.cm.lost(link)
        peer = self.gateways.lost(link)
        if peer is None:
            return
        self.sessions.remove(peer.session)
        self.groups.copies.connected(peer.gateway_id)
        for session in self.sessions:
            if session.via == peer.gateway_id:
                self._presences.lost(session.peer_id)
        _log.info("gateway %s is gone", peer.gateway_id, extra=by(peer.gateway_id, state="uplink"))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, self.config.half_open / 2))
            now = self._clock.monotonic()
            for session in self.sessions:
                age = now - session.since
                worn_out = age > self.config.session_age or sent(session) > MESSAGE_LIMIT
                if worn_out or (not session.confirmed and age > self.config.half_open):
                    self.sessions.remove(session)
                    self._presences.lost(session.peer_id)
            self.refusals.due()
            self.clones.sweep()
            try:
                ends = await self._kept.sweep()
                await self.cm.sweep(self.config.half_open, ends=ends)
                await self.groups.sweep(ends=ends)
                await self.networks.sweep(ends=ends)
                if now >= self._certificate_looked_at + CERTIFICATE_LOOK_SECONDS:
                    self.look_at_certificate()
                if now >= self._retried_at + RETRY_SECONDS:
                    self._retried_at = now
                    await self._retry()
                if ends and now >= self._owners_looked_at + OWNER_LOOK_SECONDS:
                    self._owners_looked_at = now
                    if self._siblings.others:
                        await self._hosts.load()
                    await self.groups.replace_silent_owners(self.config.owner_away)
            except StoreFails:
                continue
            except UserError as error:
                _log.warning("will look again: %s", error)

    async def _retry(self) -> None:
        """Give PNEs that are there by all we know, and say nothing by themselves, what waits for them."""
        if self._siblings.others:  # what another process kept may be for a PNE that is behind us
            await self.pushes.load()
            await self.messages.load()
        for pne in self.pushes.waiting | self.messages.waiting:
            if self.pnes.here(pne) and self.presence(pne).presence in (Presence.CONNECTED, Presence.IDLE):
                self._heard(pne)


def _text_of(answer: Answer) -> str:
    if not answer.ok:
        raise Refused(Result.NOT_ALLOWED, "refused_by_the_device")
    return application.decode_text(answer.payload)
