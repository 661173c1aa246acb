"""One PNE: what is wired to what, which message goes where, and what an application can have it do."""

import contextlib
from collections.abc import Callable
from functools import cached_property

from cpns.crypto.schedule import Profile
from cpns.errors import NoAnswer, Refused, Result
from cpns.ids import EntityId, PnId
from cpns.pne.arrive import Arrival
from cpns.pne.cm import Changing
from cpns.pne.config import PneConfig, Where
from cpns.pne.find import Finder
from cpns.pne.group_messages import GroupMessages
from cpns.pne.groups import Groups
from cpns.pne.hooks import Becomes, Consent, Told, is_no_gateway, never
from cpns.pne.inbox import Inbox
from cpns.pne.invited import Invited
from cpns.pne.join import Join
from cpns.pne.life import PneLife
from cpns.pne.loyalty import Loyalty
from cpns.pne.outbox import Outbox
from cpns.pne.presence import Presence
from cpns.pne.requests import Requests
from cpns.pne.roam import Roaming
from cpns.pne.states import Expelled, FellAsleep, WentAway, WokeUp
from cpns.pne.staying import Staying
from cpns.pne.way import ToGateway, ToServer
from cpns.ports import Randomness, Time
from cpns.protocol.pne_auth.pne import Joined, NotLetIn
from cpns.service.background import Background
from cpns.session.table import OVERDUE, Session, Sessions
from cpns.transport.address import any_address
from cpns.transport.dispatch import TAKEN, Said, Table, on
from cpns.transport.endpoint import Endpoint, Inbound, Link
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code
from cpns.transport.watch import Watch
from cpns.wire import application, registry
from cpns.wire import cm_messages as cm
from cpns.wire import group_messages as gm
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire.application import Reading
from cpns.wire.declare import Leg
from cpns.wire.registry import Change, Mode


class Pne:
    """A PNE.

    Args:
        config: see `PneConfig`.
        inbox: takes what the server sends to ``/inbox``.
        watch: is told of every message sent.
        on_established: is told of PN GW and PN each time the sessions stand.
        on_not_let_in: is told each time the server says why it does not let us in.
        on_change: is told of what changes in the PN, and in service groups, and of what is said to these.
        consent: decides on invitations; by default it goes nowhere.
        becomes: decides on requests to become a PN GW.
        rotate: is told that the server wants our CM Device to take a fresh key.
    """

    def __init__(
        self,
        config: PneConfig,
        time: Time,
        random: Randomness,
        inbox: Inbox,
        watch: Watch | None = None,
        on_established: Callable[[EntityId, PnId], None] = lambda gateway, pn: None,
        on_change: Told = lambda notice: None,
        consent: Consent = never,
        becomes: Becomes = is_no_gateway,
        rotate: Callable[[EntityId], None] = lambda device: None,
        on_not_let_in: Callable[[NotLetIn], None] = lambda refusal: None,
    ) -> None:
        self.config = config
        self._inbox = inbox
        self._on_change = on_change
        self._becomes = becomes
        boot = random(application.READING_ID_BYTES - 4)
        self.life = PneLife()
        self.sessions = Sessions(OVERDUE * config.session_age)
        self._endpoint = Endpoint(config.pne_id, self.sessions, self._handle, watch=watch)
        self._finder = Finder(config, self._endpoint, time)
        self._join = Join(config, self._finder, self.sessions, time, random, on_not_let_in)
        self._way = ToServer(config.request_timeout, self.life, time)
        self._hop = ToGateway(self.life, self.sessions)
        self._presence = Presence(config, self.life, self._way, self.sessions, self._join, time)
        self.network = Requests(self._way, self.life)
        self.cm = Changing(config.pne_id, self._way, self._hop, random, rotate)
        self.groups = Groups(config.pne_id, self._way, self._hop, consent, on_change, time)
        self.messages = GroupMessages(
            config.pne_id, self.groups, self._way, self._hop, self.life, random, on_change, time
        )
        self._outbox = Outbox(boot, self.life, self._way.exchange, time)
        self._arrival = Arrival(
            self.life,
            self._endpoint,
            self.sessions,
            self._finder,
            self._join,
            self._way,
            self._presence,
            self.groups,
            on_established,
        )
        self._roaming = Roaming(config, self.life, self._finder, self._join, self._arrival, time)
        self._invited = Invited(config, self.life, self._finder, self._join, self._arrival, self._roaming, consent)
        self._loyalty = Loyalty(
            config, self.life, self._way, self._finder, self._join, self._presence, self._roaming, time
        )
        self._staying = Staying(
            config, self.life, self._endpoint, self._finder, self._join, self._arrival, self._presence, time
        )
        self._tables()
        self._work = Background()

    async def start(self) -> str:
        """Bind an own UDP port; return it. Call before `run`."""
        return await self._endpoint.open_pan(any_address(), 0, roams=True)

    async def close(self) -> None:
        """End the sessions and close the socket."""
        await self._roaming.close()
        await self._finder.close()
        await self._invited.close()
        await self._presence.close()
        await self._loyalty.close()
        await self.groups.close()
        await self._work.close()
        await self._endpoint.close()

    # joining, and staying joined

    async def run(self) -> None:
        """Join, and join again whenever the way is lost, until cancelled or `leave`."""
        watching = self._work.start(self._loyalty.watch())
        try:
            await self._staying.stay_joined()
        finally:
            watching.cancel()

    @property
    def joined(self) -> Joined | None:
        """What it joined last, whether its sessions stand or not."""
        return self.life.joined

    @property
    def is_joining(self) -> bool:
        """Whether it sets up at this moment."""
        return self._join.turn.locked()

    async def wait_established(self) -> EntityId:
        """Wait until the sessions stand; return the PN GW, which the server vouched for."""
        return (await self.life.attached()).joined.gateway_id

    async def establish(self) -> None:
        """Set up once, unless sessions stand. Raises `Refused`, OSError."""
        await self._staying.establish()

    # being invited, moved, and put out

    def _from_own_gateway(self, inbound: Inbound) -> bool:
        """Whether our PN GW says so: in the hop session, or from its address on a Secure PAN (DEF-9)."""
        last, source = self.life.last, inbound.source
        if last is None:
            return False
        if last.joined.pan_secure:
            return source is None and inbound.link == last.link
        return source is not None and source.profile is Profile.PNE_GW and source.peer_id == last.joined.gateway_id

    def _changed(self, notice: pm.PnChangeNotify, *, by_server: bool) -> Answer:
        """Take PNChangeNotify, from our PN GW or (where it is about us) from the server."""
        last = self.life.last
        if last is None or notice.pn_id != last.joined.pn_id:
            return TAKEN
        change = Change(notice.change)
        if change is Change.GATEWAY and notice.gateway_id is not None:
            self._roaming.follow(notice.pn_id, notice.gateway_id, notice.addresses or ())
        elif change is Change.RELEASED or (by_server and self.config.pne_id in notice.members):
            self.life.happens(Expelled(last))
        self._on_change(notice)
        return TAKEN

    async def go(self, where: Where) -> None:
        """Go through another PN GW from now on; the older sessions serve until the new ones stand.

        Raises:
            Refused: none of them took us; all is as it was.
        """
        self._staying.interrupt()
        await self._roaming.go(where)

    @property
    def is_carried(self) -> bool:
        """Whether our sessions stand, and nothing says that our PN GW carries nothing; see `Loyalty`."""
        return self.life.stands is not None and self._loyalty.is_carried

    async def leave(self) -> None:
        """Leave the PN for good; `run` then returns.

        Raises:
            Refused: the server did not take it, or does not answer; we are a member still.
        """
        await self.network.leave()
        self.life.happens(WentAway())

    # what the application does

    async def sleep(self) -> None:
        """Say that we sleep, and take nothing until `wake`; the server keeps what it is asked to keep.

        Raises:
            NoAnswer: it could not be said.
        """
        await self._way.say_status("asleep")
        self.life.happens(FellAsleep())

    async def wake(self) -> None:
        """Be there again."""
        self.life.happens(WokeUp())
        with contextlib.suppress(Refused):  # what is lost is found out by what comes next
            await self.present_again()
            await self._way.say_status("connected")

    async def present_again(self) -> None:
        """Tell our PN GW that we are here. Raises `Refused`."""
        await self._presence.look()

    def next_reading(self, body: dict[str, application.Json]) -> Reading:
        """See `Outbox.reading`."""
        return self._outbox.reading(body)

    async def send(self, reading: Reading) -> None:
        """See `Outbox.send`."""
        await self._outbox.send(reading)

    # what others ask

    async def _handle(self, inbound: Inbound) -> Answer | None:
        if self.life.is_asleep:
            return None
        source = inbound.source
        if source is not None and source is self.life.session:
            self._way.heard()
        if inbound.path == registry.CPNS_PATH:
            return await self._on_message(inbound)
        if source is None:
            return UNIFORM_REFUSAL
        by_server = source.peer_id == self.config.server_id
        if inbound.path == application.PING_PATH:
            asked_us = by_server or inbound.link == self.life.link  # else who was asked passes it on
            return Answer(Code.CHANGED, application.encode_text("here")) if asked_us else None
        if not by_server:
            return UNIFORM_REFUSAL
        if inbound.path == application.INBOX_PATH:
            push = application.decode_push(inbound.payload)
            try:
                return Answer(Code.CHANGED, application.encode_text(self._inbox.receive(push)))
            except NoAnswer:  # nobody took it: the server keeps it, or tells its operator
                return None
        raise Refused(Result.NOT_ALLOWED, "no_such_resource")

    async def _on_message(self, inbound: Inbound) -> Answer | None:
        own, source = self._from_own_gateway(inbound), inbound.source
        if source is not None and source.peer_id == self.config.server_id:
            return await self.from_server.take(source, inbound.payload)
        if not own:
            return await self.from_strangers.take(inbound, inbound.payload)
        table = self.from_own_gateway if source is not None else self.on_secure_pan
        return await table.take(inbound, inbound.payload)

    def _tables(self) -> None:
        """Which message goes where, for each leg."""
        self.from_server = Table(
            Leg.SERVER_TO_PNE,
            *self.groups.of_server(),
            on(gm.GroupMessageKept, self.messages.take_kept),
            on(cm.CmRotateNotify, self.cm.told_to_rotate),
            on(pm.PnChangeNotify, self._server_changed),
        )
        self.from_own_gateway = Table(
            Leg.GATEWAY_TO_MEMBER,
            on(cm.CmKeyRequest, self.cm.brought),
            on(gm.GroupKeyRequest, self.groups.keyed),
            on(gm.GkdkRequest, self._gkdk),
            on(gm.GroupMessage, self.messages.take_of_gateway),
            on(m.Invitation, self._invitation),
            on(pm.PnChangeNotify, self._gateway_changed),
            on(pm.GatewayChangeRequest, self._becomes_for_own),
            on(pm.EntityDiscoveryRequest, self._says_who),
        )
        self.from_strangers = Table(
            Leg.PAN_TO_PNE,
            on(m.Challenge, self._join.challenged),
            on(m.LinkChallengeFromGateway, self._join.challenged_by_gateway),
            on(m.PnEstablishmentNotify, self._join.notified),
            on(m.Invitation, self._invitation_of_stranger),
            on(gm.GroupKeyBroadcast, self.groups.broadcast),
            on(gm.GroupMessage, self.messages.take_of_stranger),
            on(pm.GatewayChangeRequest, self._becomes_for_stranger),
            on(pm.EntityDiscoveryRequest, self._says_who_to_stranger),
        )

    @cached_property
    def on_secure_pan(self) -> Table[Inbound]:
        """What our own PN GW may say there, where its word needs no session."""
        return self.from_own_gateway.beside(self.from_strangers)

    async def _server_changed(self, source: Session, notice: pm.PnChangeNotify) -> Answer:
        return self._changed(notice, by_server=True)

    async def _gateway_changed(self, inbound: Inbound, notice: pm.PnChangeNotify) -> Answer:
        return self._changed(notice, by_server=False)

    async def _gkdk(self, inbound: Inbound, message: gm.GkdkRequest) -> Said:
        return self.groups.given_gkdk(message, self.joined.gateway_id)  # type: ignore[union-attr]  # our own one asks

    async def _invitation(self, inbound: Inbound, message: m.Invitation) -> Said:
        own_pn = None if self.joined is None else self.joined.pn_id
        return await self._invited.take(message, inbound.link, own_pn)

    async def _invitation_of_stranger(self, inbound: Inbound, message: m.Invitation) -> Said:
        return await self._invited.take(message, inbound.link, None)

    async def _becomes_for_own(self, inbound: Inbound, message: pm.GatewayChangeRequest) -> pm.GatewayChangeResponse:
        return await self._becomes(message, True)

    async def _becomes_for_stranger(self, inbound: Inbound, message: pm.GatewayChangeRequest) -> Said:
        if self._has_session_with(message.entity_id, inbound.link):
            return UNIFORM_REFUSAL
        return await self._becomes(message, False)

    async def _says_who(self, inbound: Inbound, message: pm.EntityDiscoveryRequest) -> pm.EntityDiscoveryResponse:
        if inbound.link == self.life.link:
            self._presence.asked(message)
        return pm.EntityDiscoveryResponse(self.config.pne_id, Mode.PNE, self._finder.where.pan_secure, ())

    async def _says_who_to_stranger(self, inbound: Inbound, message: pm.EntityDiscoveryRequest) -> Said:
        found = await self._says_who(inbound, message)
        return (
            UNIFORM_REFUSAL if self.life.stands is not None else found
        )  # SES-6: whom we have a session with asks inside it

    def _has_session_with(self, claimed: EntityId, link: Link) -> bool:
        """Whether who asks has the name or the address of our PN GW, which has a session to say so in (SES-6)."""
        return self.joined is not None and (claimed == self.joined.gateway_id or link == self.life.link)
