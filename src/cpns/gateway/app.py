"""One PN GW process: what is wired to what, and which message goes where."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Final

from cpns.crypto.schedule import Profile
from cpns.domain.inventory import HeldMember
from cpns.errors import AuthenticationFailed, NoAnswer, Refused, Result
from cpns.gateway.asking import Asking, WiredPan
from cpns.gateway.claim import Claim
from cpns.gateway.cm import Mediator
from cpns.gateway.config import GatewayConfig, PanConfig
from cpns.gateway.cookies import Asker, Cookies
from cpns.gateway.group_keys import GroupKeys
from cpns.gateway.group_messages import GroupMessages
from cpns.gateway.groups import Groups
from cpns.gateway.hop import Hop
from cpns.gateway.invite import Invitations
from cpns.gateway.members import Member, Members, Pan
from cpns.gateway.networks import Networks
from cpns.gateway.reach import Reach
from cpns.gateway.setup import Setup
from cpns.gateway.switching import Switching
from cpns.gateway.trouble import Trouble
from cpns.gateway.uplink import Uplink
from cpns.gateway.uplink_states import Standing
from cpns.gateway.whereabouts import Whereabouts
from cpns.ids import EntityId, PnId
from cpns.ports import Randomness, Time, Vault
from cpns.ports.gateway import GatewayStore
from cpns.service.background import Background
from cpns.service.places import places
from cpns.session.table import OVERDUE, Session, Sessions
from cpns.shares import bounds
from cpns.shares.noted import by
from cpns.shares.rate import RateLimit
from cpns.shares.room import AddressUnproven
from cpns.transport import discovery, mdns
from cpns.transport import relay as relays
from cpns.transport.address import not_had
from cpns.transport.dispatch import TAKEN, Said, Table, on
from cpns.transport.endpoint import Endpoint, Inbound, Link
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code
from cpns.transport.relay import Carrier, HoldLimits, Relay
from cpns.transport.watch import Watch
from cpns.wire import application, registry
from cpns.wire import cm_messages as cm
from cpns.wire import group_messages as gm
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire import sg_messages as sg
from cpns.wire.declare import Leg
from cpns.wire.registry import Change, Mode, SetupType

_log = logging.getLogger("cpns.gateway")

SWEEP_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 60.0
"""After so long without a sign of life a PNE is asked for one, in its hop session."""
HOP_PATIENCE: Final = 10.0
"""Seconds that a PNE has to bring up its hop session before what waits for it is forgotten."""


class Gateway:
    """A PN GW.

    Args:
        config: see `GatewayConfig`.
        claim: proves it to the server.
        store: keeps PN and LocalEUKeys over a restart; None: nothing is kept.
        vault: seals the LocalEUKeys.
        watch: is told of every message sent, relayed ones left out.
    """

    def __init__(
        self,
        config: GatewayConfig,
        claim: Claim,
        store: GatewayStore | None,
        vault: Vault,
        time: Time,
        random: Randomness,
        watch: Watch | None = None,
    ) -> None:
        self.config = config
        self.members = Members(store, vault)
        self._time = time
        self._cookies = Cookies(time, random)
        uplink_sessions = Sessions(OVERDUE * config.session_age)
        self._upward = Endpoint(
            config.gateway_id,
            uplink_sessions,
            self._from_server,
            Relay(self.members.route, places(relays.MAX_DOWN, time.monotonic, relays.MAX_DOWN_EACH)),
            on_lost=self._lost,
            watch=watch,
            requests=bounds.OF_SERVER,
        )
        self.uplink = Uplink(config, self._upward, uplink_sessions, time, random, claim)
        self.whereabouts = Whereabouts(config, self.members, time)
        self.networks = Networks(config, self.uplink, self.members)
        self.pans = [self._pan(pan, time, random, watch) for pan in config.pans]
        self.trouble = Trouble(config, self.uplink, store)
        self.bound: list[str] = []
        self.switching = Switching(config, self.members, self.networks, self.members.way_to, self.bound)
        self.groups = Groups(config, self.uplink)
        self.group_keys = GroupKeys(config, self.groups, self.members.way_to, self.members.binding, random)
        self.messages = GroupMessages(
            config, self.uplink, self.groups, self.group_keys, self.members, self.members.way_to
        )
        self._mediator = Mediator(config, self.uplink, random)
        self._tables()
        self._work = Background()
        self._announcement: mdns.Announcement | None = None
        self.uplink.prepares(self._learn)
        self.whereabouts.hears(self._heard)
        self.networks.expels(self._expel)

    def _tables(self) -> None:
        """Which message goes where, for each leg."""
        self.from_server = Table(
            Leg.SERVER_TO_GATEWAY,
            on(m.GatewayChallenge, self._challenged),
            on(pm.PnChangeNotify, self._notified),
            on(pm.InviteRequest, self._invite_for_server),
            on(pm.PnGwSwitchingRequest, self._asked_to_take_over),
            on(sg.SgChangeNotify, self._group_notified),
            on(gm.GroupKeyRequest, self._group_key),
            on(gm.GroupMessage, self._group_message),
        )
        self.unproved_server = Table(Leg.UPLINK_TO_GATEWAY, on(m.LinkChallengeFromServer, self.uplink.challenged))
        self.from_member = Table(
            Leg.MEMBER_TO_GATEWAY,
            on(cm.CmWanted, self._wants_to_change_mode),
            on(gm.GroupKeyWanted, self._wants_group_key),
            on(gm.GroupMessage, self._says_to_group),
        )
        self.on_open_pan = Table(
            Leg.PAN_TO_GATEWAY,
            on(m.SetupRequest, self._sets_up),
            on(m.ActivateRequest, self._activates),
            on(pm.EntityDiscoveryRequest, self._asks_who_is_there),
        )
        self.on_secure_pan = self.from_member.beside(self.on_open_pan)

    def _pan(self, pan: PanConfig, time: Time, random: Randomness, watch: Watch | None) -> WiredPan:
        own = Pan(pan.secure, Sessions(OVERDUE * self.config.session_age))
        setup = Setup(self.config, self.uplink, self.members, own, self.networks, time, random)
        self.uplink.carries(setup)
        hop = Hop(self.config, self.members, own, time, random)
        reach, questions = Reach(), RateLimit(*discovery.RATE, time.monotonic)
        invitations = Invitations(self.config, self.members, own, reach, setup, time)
        held = HoldLimits(self.config.server_id, self.config.hold, places(relays.MAX_HELD_BYTES, time.monotonic))

        def opened(source: Hashable, option: bytes) -> None:
            if isinstance(source, Link):
                self.whereabouts.carried(own, source, option)

        relay = Relay(self._route_up, places(relays.MAX_UP, time.monotonic), held, up=True, opened=opened)

        async def handle(inbound: Inbound) -> Answer | None:
            return await self._from_pan(wired, inbound)

        endpoint = Endpoint(self.config.gateway_id, own.hops, handle, relay, watch=watch)
        wired = WiredPan(pan, own, endpoint, own.hops, setup, hop, reach, questions, invitations, relay)
        return wired

    async def start(self) -> list[str]:
        """Bind the PANs and begin to reach the server; return the PAN addresses.

        Raises:
            Unavailable: an address can't be had.
        """
        held = await self.members.load()
        bound = []
        for pan in self.pans:
            try:
                bound.append(await pan.endpoint.open_pan(pan.config.host, pan.config.port))
            except OSError as error:
                raise not_had(pan.config.host, pan.config.port, error, "--pan") from error
        self.bound[:] = bound
        for member in held:
            await self._place(member)
        self._work.start(self.whereabouts.return_to())
        self._work.start(self.uplink.stay())
        self._work.start(self.uplink.come_back())
        self._work.start(self._sweep())
        if self.config.announce:
            for pan in self.pans:
                pan.endpoint.answer_group(
                    lambda request, pan=pan: self._discovered(pan),  # type: ignore[misc]
                    pan.questions,
                )
            open_pans = [(address, pan.config.secure) for address, pan in zip(bound, self.pans, strict=True)]
            self._announcement = mdns.Announcement(self.config.gateway_id, open_pans)
        return bound

    async def _place(self, held: HeldMember) -> None:
        """Say where a member was before our restart, if its PAN is there still, and is of the kind that it was."""
        for pan in self.pans:
            if held.ends is not None and pan.config.secure is (held.sealed_key is None):
                link = await pan.endpoint.link_between(held.ends.own, held.ends.there)
                if link is not None:
                    self.members.was_at(held.pne_id, link, self._time.monotonic())

    async def close(self) -> None:
        """End all sessions and let go of the sockets."""
        if self._announcement is not None:
            await self._announcement.close()
        for pan in self.pans:
            await pan.endpoint.close()  # first: what came later would be held for an uplink that does not come back
        await self._work.close()
        await self.whereabouts.close()
        await self.members.settle()
        await self.networks.close()
        await self.groups.close()
        await self.messages.close()
        await self.group_keys.close()
        for pan in self.pans:
            await pan.setup.close()
        await self._upward.close()

    def _route_up(self, destination: str) -> Carrier | None:
        standing = self.uplink.standing
        return standing.link if standing is not None and destination == self.config.server_id else None

    def _lost(self, link: Link) -> None:
        self.uplink.lost(link)

    async def _from_server(self, inbound: Inbound) -> Answer | None:
        if inbound.path == application.PING_PATH and inbound.source is not None:
            return self.uplink.pinged(inbound)
        if inbound.path != registry.CPNS_PATH:
            raise Refused(Result.NOT_ALLOWED, "no_such_resource")
        table = self.unproved_server if inbound.source is None else self.from_server
        return await table.take(inbound, inbound.payload)

    async def _challenged(self, inbound: Inbound, message: m.GatewayChallenge) -> m.GatewayProofs:
        for pan in self.pans:
            if inbound.source is not None and pan.setup.has(message.txn):
                return await pan.setup.challenged(inbound.source, message)
        raise AuthenticationFailed("txn_not_outstanding")

    async def _notified(self, inbound: Inbound, notice: pm.PnChangeNotify) -> Answer:
        await self.networks.notified(notice)
        return TAKEN

    async def _group_notified(self, inbound: Inbound, notice: sg.SgChangeNotify) -> Answer:
        self.groups.notified(notice)
        return TAKEN

    async def _group_key(self, inbound: Inbound, message: gm.GroupKeyRequest) -> gm.GroupKeyResponse:
        return self.group_keys.taken(message)

    async def _group_message(self, inbound: Inbound, message: gm.GroupMessage) -> gm.GroupMessageResponse:
        return await self.messages.brought(message)

    async def _asked_to_take_over(self, inbound: Inbound, message: pm.PnGwSwitchingRequest) -> pm.PnGwSwitchingResponse:
        return self.switching.asked(message)

    async def _invite_for_server(self, inbound: Inbound, request: pm.InviteRequest) -> pm.InviteResponse:
        results = await self.invite(request.pn_id, request.invite)
        return pm.InviteResponse(Result.SUCCESS, tuple(m.OutcomeEntry(pne, result) for pne, result in results.items()))

    async def invite(self, pn_id: PnId, whom: Iterable[EntityId]) -> dict[EntityId, Result]:
        """Ask PNEs in reach into a PN that we serve; return how it ended for each."""
        asked = list(whom)
        results = dict.fromkeys(asked, Result.OUT_OF_REACH)
        for found in await asyncio.gather(*(pan.invitations.invite(pn_id, asked) for pan in self.pans)):
            results.update({pne: result for pne, result in found.items() if result is not Result.OUT_OF_REACH})
        return results

    async def _learn(self, standing: Standing) -> None:
        """Ask for the PN Inventory before anybody is served; then bring back whom the server has lost."""
        self.group_keys.doubt(standing)
        away = await self.networks.learn(standing)
        self._work.start(self._recover(away))
        self._work.start(self._learn_groups(standing))

    async def _learn_groups(self, standing: Standing) -> None:
        """Ask for what we missed of the service groups: nobody in the PN waits for that."""
        try:
            await self.groups.learn(standing)
            await self.group_keys.learn()
        except Refused as error:
            _log.info("the service groups are not known yet: %s", error, extra=by(self.config.server_id))

    async def _recover(self, away: list[EntityId]) -> None:
        """The uplink is back: what waits goes up, and the members whose sessions are gone are asked to set up again."""
        self.members.astray = set(away)
        await self.uplink.wait(HOP_PATIENCE)
        for pne in away:
            member = self.members.get(pne)
            if member is not None and member.link is not None:
                for pan in self.pans:
                    pan.relay.drop(member.link)  # sealed for a session that is gone
        for pan in self.pans:
            pan.relay.resume()
        await asyncio.gather(*(pan.invitations.bring_back(away) for pan in self.pans))

    def _heard(self, pne: EntityId) -> None:
        """A member is heard: say again what it missed, and ask it again where it did not come when it was asked."""
        self.networks.heard(pne)
        if pne in self.members.astray and self.uplink.standing is not None:
            for pan in self.pans:
                self._work.start(pan.invitations.bring_back([pne]))

    async def _expel(self, pne_ids: Iterable[EntityId]) -> None:
        gone = list(pne_ids)
        for pne in gone:
            member = self.members.get(pne)
            for pan in self.pans:
                hop = pan.hops.with_peer(pne)
                if hop is not None:
                    pan.hops.remove(hop)
                if member is not None and member.link is not None:
                    pan.relay.drop(member.link)
        self.networks.notices.forget(gone)
        await self.members.expel(gone)

    async def _from_pan(self, pan: WiredPan, inbound: Inbound) -> Answer | None:
        source = inbound.source
        if source is not None:
            return await self._in_hop_session(pan, source, inbound)
        if inbound.path == registry.CPNS_PATH:
            return await self._unprotected(pan, inbound)
        if inbound.path == application.PRESENCE_PATH and pan.config.secure:
            return self._present_on_secure_pan(pan, inbound)
        return UNIFORM_REFUSAL

    async def _in_hop_session(self, pan: WiredPan, source: Session, inbound: Inbound) -> Answer | None:
        if source.profile is not Profile.PNE_GW:
            return UNIFORM_REFUSAL
        self.whereabouts.said(source.peer_id, pan.own, inbound.link)
        if inbound.path == application.PRESENCE_PATH:
            return self._uplink_hint()
        if inbound.path != registry.CPNS_PATH:
            raise Refused(Result.NOT_ALLOWED, "no_such_resource")
        return await self.from_member.take(Asking(pan, inbound, source), inbound.payload)

    async def _unprotected(self, pan: WiredPan, inbound: Inbound) -> Answer | None:
        """The messages that may come before a session stands; on a Secure PAN those of members, too (DEF-9)."""
        table = self.on_secure_pan if pan.config.secure else self.on_open_pan
        return await table.take(Asking(pan, inbound, None), inbound.payload)

    def _member(self, asking: Asking, claimed: EntityId | None) -> EntityId:
        """Return who asks: the member that its hop session, or on a Secure PAN its address, proves.

        Raises:
            AuthenticationFailed: it says that it is another one.
        """
        if asking.session is not None:
            proved = claimed == asking.session.peer_id
        else:
            proved = claimed is not None and self._vouched_for(asking.pan, claimed, asking.inbound) is not None
        if not proved or claimed is None:
            raise AuthenticationFailed("not_the_member_that_it_names")
        return claimed

    async def _wants_to_change_mode(self, asking: Asking, message: cm.CmWanted) -> cm.CmGiven:
        pne = self._member(asking, message.pne_id)
        return await self._mediator.mediate(pne, asking.inbound.link, asking.session)

    async def _wants_group_key(self, asking: Asking, message: gm.GroupKeyWanted) -> gm.GroupKeyGiven:
        return await self.group_keys.wanted(self._member(asking, message.member), message)

    async def _says_to_group(self, asking: Asking, message: gm.GroupMessage) -> gm.GroupMessageResponse:
        return await self.messages.sent(self._member(asking, message.sender), message)

    async def _asks_who_is_there(self, asking: Asking, message: pm.EntityDiscoveryRequest) -> Said:
        pan, inbound = asking.pan, asking.inbound
        pan.endpoint.name(inbound.link, message.entity_id)
        if not pan.questions.allows(inbound.party.host):
            return None
        if pan.hop.stands(message.entity_id):
            return UNIFORM_REFUSAL  # SES-6: it has a session to say so in
        if message.mode != Mode.PN_GW:
            pan.reach.met(message.entity_id, inbound.link, self._time.monotonic())
        return self._discovered(pan)

    async def _sets_up(self, asking: Asking, request: m.SetupRequest) -> Said:
        pan, link = asking.pan, asking.inbound.link
        return await self._begun(asking, request, lambda shown: self._setup(pan, request, link, shown))

    async def _activates(self, asking: Asking, request: m.ActivateRequest) -> Said:
        pan, link = asking.pan, asking.inbound.link
        if pan.config.secure:
            return UNIFORM_REFUSAL
        return await self._begun(asking, request, lambda shown: pan.hop.activate(request, link, shown=shown))

    async def _begun(
        self,
        asking: Asking,
        request: m.SetupRequest | m.ActivateRequest,
        take: Callable[[bool], Awaitable[m.SetupResponse | m.ActivateResponse | None]],
    ) -> Said:
        """Take an M1; under load it is sent back for a cookie."""
        inbound = asking.inbound
        asking.pan.endpoint.name(inbound.link, request.entity_id)
        asker = Asker(inbound.party.host, inbound.party.port, request.entity_id, request.rand)
        try:
            return await take(self._cookies.fits(inbound.echo, asker))
        except AddressUnproven:
            return UNIFORM_REFUSAL._replace(echo=self._cookies.made_for(asker))

    def _discovered(self, pan: WiredPan) -> pm.EntityDiscoveryResponse:
        served = tuple(self.members.pns)[: registry.MAX_MEMBERS]
        return pm.EntityDiscoveryResponse(
            self.config.gateway_id, self.config.mode, pan.config.secure, served, self.config.alias
        )

    async def _setup(self, pan: WiredPan, request: m.SetupRequest, link: Link, shown: bool) -> m.SetupResponse | None:
        """Take a SETUP Request; return its answer.

        Raises:
            NoAnswer: nobody decided on it.
            Refused: TOO_MANY: as many invitations are under way as may be.
        """
        try:
            return await self._decided(pan, request, link, shown)
        except Refused as error:
            if error.result is Result.TOO_MANY:
                raise
            if error.result is Result.UNKNOWN_PN and request.pn_id is not None:
                return m.SetupResponse(Result.AUTHENTICATION_FAILED, request.pn_id)
            raise NoAnswer(error.reason) from error

    async def _decided(self, pan: WiredPan, request: m.SetupRequest, link: Link, shown: bool) -> m.SetupResponse | None:
        if request.setup_type in (None, SetupType.GATEWAY_ONLY):
            return await pan.setup.request(request, link, shown=shown)
        response, declined = await pan.invitations.establish(request, link, shown=shown)
        if response is not None:
            self._work.start(self._tell_declined(request.entity_id, response.pn_id, declined))
        return response

    async def _tell_declined(self, originator: EntityId, pn_id: PnId, declined: "asyncio.Task[list[EntityId]]") -> None:
        """Tell an originating PNE who was asked and does not come, as soon as it can hear it.

        We have our end of its session before it has its own, so the first words may find nobody.
        """
        about = tuple(await declined)[: registry.MAX_MEMBERS]
        until = self._time.monotonic() + HOP_PATIENCE
        while about and self._time.monotonic() < until:
            notice = pm.PnChangeNotify(pn_id, about, self.networks.version(pn_id), Change.DECLINED)
            if await self.networks.tell(originator, notice):
                return
            await self._time.sleep(SWEEP_SECONDS / 10)

    def _vouched_for(self, pan: WiredPan, pne: EntityId, inbound: Inbound) -> Member | None:
        """On a Secure PAN the PAN itself vouches for the source (DEF-9): the address that the PNE set up from."""
        member = self.members.get(pne) if pan.config.secure else None
        return member if member is not None and member.proved_at == inbound.link else None

    def _present_on_secure_pan(self, pan: WiredPan, inbound: Inbound) -> Answer:
        member = self._vouched_for(pan, EntityId(application.decode_text(inbound.payload)), inbound)
        if member is None:
            return UNIFORM_REFUSAL
        self.whereabouts.said(member.pne_id, pan.own, inbound.link)
        return self._uplink_hint()

    def _uplink_hint(self) -> Answer:
        """Return what a PNE that is there is told: for how long our uplink is away."""
        return Answer(Code.CHANGED, application.encode_away(self.uplink.away))

    async def _sweep(self) -> None:
        while True:
            await self._time.sleep(min(SWEEP_SECONDS, self.config.half_open / 2))
            now = self._time.monotonic()
            for pan in self.pans:
                for session in pan.hops:
                    half_open = not session.confirmed and now - session.since > self.config.half_open
                    if half_open or now >= session.until:
                        pan.hops.remove(session)
            silent = self.members.silent(now - SILENCE_SECONDS)
            await asyncio.gather(*(self.whereabouts.look_after(member) for member in silent))
            await self.networks.report()
            await self.members.settle()
            await self.trouble.tell()
