"""One PNE: joins, stays joined, and lets an application send and receive end to end."""

import asyncio
import contextlib
import logging
import random as jitter
from collections.abc import Callable
from typing import Final

from cpns.crypto.schedule import Profile
from cpns.errors import NoAnswer, Refused, Result, WireError
from cpns.ids import EntityId, PnId
from cpns.pne.cm import Changing
from cpns.pne.config import PneConfig, Where
from cpns.pne.find import Finder
from cpns.pne.group_messages import GroupMessages
from cpns.pne.groups import Groups
from cpns.pne.hooks import Becomes, Consent, Told, is_no_gateway, never
from cpns.pne.inbox import Inbox
from cpns.pne.invited import Invited
from cpns.pne.join import Join, Wanted
from cpns.pne.loyalty import Loyalty
from cpns.pne.outbox import Outbox
from cpns.pne.presence import Presence
from cpns.pne.requests import Requests
from cpns.pne.roam import Roaming
from cpns.pne.way import ToServer
from cpns.ports import Clock, Randomness
from cpns.protocol.pne_auth.pne import Joined, NotLetIn
from cpns.service.background import Background
from cpns.session.table import OVERDUE, Session, Sessions
from cpns.shares.noted import by
from cpns.transport.address import any_address
from cpns.transport.dispatch import Said, Table, on
from cpns.transport.endpoint import Endpoint, Inbound, Link
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code
from cpns.transport.oscore import MESSAGE_LIMIT, sent
from cpns.transport.watch import Watch
from cpns.wire import application, registry
from cpns.wire import cm_messages as cm
from cpns.wire import group_messages as gm
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire.application import Reading
from cpns.wire.declare import Leg
from cpns.wire.registry import Change, Mode, Procedure

BACKOFF: Final = (0.3, 15.0)
"""First and longest pause, in seconds, between attempts; each is drawn from half of it up to all of it."""
FOUND_SECONDS: Final = 20.0
"""How often a PNE that waits for an invitation says that it is there."""


class _GoesElsewhereError(Exception):
    """An attempt was ended by `Pne.go`."""


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
        clock: Clock,
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
        self._log = logging.LoggerAdapter(logging.getLogger("cpns.pne"), by(config.pne_id))
        self._clock = clock
        self._inbox = inbox
        self._on_established = on_established
        self._on_change = on_change
        self._becomes = becomes
        self.sessions = Sessions(OVERDUE * config.session_age)
        self._join = Join(config, lambda: self._finder.where.pan_secure, self.sessions, clock, random, on_not_let_in)
        self._joining = asyncio.Lock()
        self._presence = Presence(config, self.sessions, self._join, self._joining, lambda: self._doubt.set())
        self._endpoint = Endpoint(config.pne_id, self.sessions, self._handle, watch=watch)
        self._finder = Finder(config, self._endpoint)
        self._roaming = Roaming(
            *(config.pne_id, self._finder, self._join, self._joining, self._adopt),
            joined=lambda: self.joined,
            present=lambda: self._way.link,
            clock=clock,
            led=config.join is not None,
        )
        self._invited = Invited(
            *(config, self._finder, self._join, self._joining, self._roaming.settle, consent),
            stands=lambda: self._ready.is_set(),
            lost=lambda: self.suspect(self._way.session, lost=True),
        )
        self._way = ToServer(config.request_timeout, clock, lambda: self._loyalty.held())
        self._loyalty = Loyalty(config, self._way, self._joining, clock, self._finder, self, self._roaming.elsewhere)
        self.network = Requests(self._way.exchange, lambda: None if self.joined is None else self.joined.pn_id)
        self.groups = Groups(config.pne_id, self._way, self._hop, consent, on_change)
        self.messages = GroupMessages(config.pne_id, self.groups, self._way, self._hop, self, random, on_change)
        self.cm = Changing(config.pne_id, self._way, self._hop, random, rotate)
        self._tables()
        self._attempt: asyncio.Task[None] | None = None
        self.joined: Joined | None = None
        self._ready = asyncio.Event()
        self._lost = asyncio.Event()
        self._doubt = asyncio.Event()
        self._awake = asyncio.Event()
        self._awake.set()
        self._out = self._left = False
        self._outbox = Outbox(random(application.READING_ID_BYTES - 4), self, self._way.exchange)
        self._work = Background()

    async def start(self) -> str:
        """Bind an own UDP port; return it. Call before `run`."""
        return await self._endpoint.open_pan(any_address(), 0, roams=True)

    async def close(self) -> None:
        """End the sessions and close the socket."""
        await self._roaming.close()
        await self._finder.close()
        await self._invited.close()
        await self._loyalty.close()
        await self.groups.close()
        await self._work.close()
        await self._endpoint.close()

    # joining, and staying joined

    async def run(self) -> None:
        """Join, and join again whenever the way is lost, until cancelled or `leave`."""
        watching = self._work.start(self._loyalty.watch())
        try:
            await self._stay_joined()
        finally:
            watching.cancel()

    async def _stay_joined(self) -> None:
        pause = BACKOFF[0]
        while not self._left:
            try:
                if not self._ready.is_set():
                    self._lost.clear()
                    await self._try()
                pause = BACKOFF[0]
                await self._stay()
            except _GoesElsewhereError:
                pass
            except (Refused, OSError) as error:
                self._log.warning("%s: not established%s", self.config.pne_id, self._finder.told(error))
                self._finder.failed()
            finally:
                self._ready.clear()
            if self._out:  # put out, or the PN is no more: it may be let in again, and is in no hurry to ask
                self._out, pause = False, BACKOFF[1]
            await asyncio.sleep(0 if self._left else pause * jitter.uniform(0.5, 1.0))  # noqa: S311  # spreads load
            pause = min(pause * 2, BACKOFF[1])

    async def wait_established(self) -> EntityId:
        """Wait until the sessions stand; return the PN GW, which the server vouched for."""
        await self._ready.wait()
        return self._finder.where.gateway_id if self.joined is None else self.joined.gateway_id  # type: ignore[return-value]

    async def _try(self) -> None:
        """Establish; `go` ends an attempt, as it leads elsewhere."""
        attempt = self._attempt = asyncio.get_running_loop().create_task(self._establish())
        try:
            await asyncio.wait([attempt])
        finally:
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
        if attempt.cancelled():
            raise _GoesElsewhereError
        attempt.result()

    def _wanted(self, link: Link) -> Wanted:
        """Return what we ask for at *link*; elsewhere than where our network was, we name none, and may be a guest."""
        config, joined, gateway = self.config, self.joined, self._finder.where.gateway_id
        if joined is not None and self._finder.preferred is not None:
            return Wanted(Procedure.JOIN, joined.pn_id, self._finder.preferred)
        if config.join is not None and (joined is None or (joined.pn_id == config.join and link == self._way.link)):
            return Wanted(Procedure.JOIN, config.join, gateway)
        if joined is not None:  # it comes back, or roams: the PN GW knows where it belongs
            return Wanted(gateway_id=gateway)
        return Wanted(gateway_id=gateway, setup_type=config.setup_type, invite=config.invite)

    async def _establish(self) -> None:
        if self.config.waits and self.joined is None:
            return await self._be_found()
        async with self._joining:
            if self._ready.is_set():
                return  # invited meanwhile
            link = await self._finder.link()
            self._endpoint.name(link, self._finder.where.gateway_id or "PN GW")
            await self._adopt(link, *await self._join.setup(link, self._wanted(link), self._finder.patience))

    async def _be_found(self) -> None:
        """Say that we are there, until somebody's invitation has brought us in."""
        link = await self._finder.link()
        self._endpoint.name(link, "PN GW")
        while not self._ready.is_set():
            await self._finder.say_we_wait(link)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FOUND_SECONDS):
                    await self._ready.wait()

    async def _adopt(self, link: Link, joined: Joined, server: Session) -> None:
        """Take up sessions that have just come to stand, in place of older ones."""
        self._endpoint.name(link, joined.gateway_id)
        if not joined.pan_secure:
            await self._join.hop(link, joined)
        before, self.joined = self.joined, joined
        self._way.take_up(link, server)
        self._loyalty.arrived()
        self._roaming.arrived(joined)
        await self._finder.found()
        if before is not None and before.gateway_id != joined.gateway_id:
            older = self.sessions.with_peer(before.gateway_id)
            if older is not None:
                self.sessions.remove(older)
        self._loyalty.hinted(await self._presence.tell(link, joined))
        self._lost.clear()
        self._ready.set()
        await self._status("connected")
        self.groups.resume()
        self._on_established(joined.gateway_id, joined.pn_id)

    async def _stay(self) -> None:
        """Return when the sessions are lost or due for renewal; give signs of life until then."""
        while not self._lost.is_set():
            self._doubt.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.presence):
                    await self._doubt.wait()
            await self._awake.wait()
            if self._lost.is_set() or self._way.session is None:
                return
            too_old = self._clock.monotonic() - self._way.session.since > self.config.session_age
            if too_old or sent(self._way.session) > MESSAGE_LIMIT:
                return
            stood = self._way.session
            try:
                if not self._joining.locked():
                    await self.present_again()
            except Refused:
                if stood is self._way.session:
                    raise  # else we have gone elsewhere meanwhile, and it is no loss

    async def present_again(self) -> None:
        """See `cpns.pne.loyalty.Carried`."""
        link = self._way.link
        if link is not None and self.joined is not None:
            seconds = await self._presence.tell_again(link, self.joined, self._way)
            if link == self._way.link:
                self._loyalty.hinted(seconds)

    # being invited, moved, and put out

    def _from_own_gateway(self, inbound: Inbound) -> bool:
        """Whether our PN GW says so: in the hop session, or from its address on a Secure PAN (DEF-9)."""
        if self.joined is None:
            return False
        if self.joined.pan_secure:
            return inbound.source is None and inbound.link == self._way.link
        source = inbound.source
        return source is not None and source.profile is Profile.PNE_GW and source.peer_id == self.joined.gateway_id

    def _changed(self, notice: pm.PnChangeNotify, *, by_server: bool) -> Answer:
        """Take PNChangeNotify, from our PN GW or (where it is about us) from the server."""
        if self.joined is None or notice.pn_id != self.joined.pn_id:
            return Answer(Code.CHANGED)
        change = Change(notice.change)
        if change is Change.GATEWAY and notice.gateway_id is not None:
            self._roaming.follow(notice.pn_id, notice.gateway_id, notice.addresses or ())
        elif change is Change.RELEASED or (by_server and self.config.pne_id in notice.members):
            self._out = True
            self._roaming.put_out(notice.pn_id)
            self._give_up()
        self._on_change(notice)
        return Answer(Code.CHANGED)

    async def go(self, where: Where) -> None:
        """Go through another PN GW from now on; the older sessions serve until the new ones stand.

        Raises:
            Refused: none of them took us; all is as it was.
        """
        if self._attempt is not None:
            self._attempt.cancel()
        await self._roaming.go(where)

    def _hop(self) -> tuple[Link, Session | None] | None:
        """Return the link to our PN GW and the hop session, None on a Secure PAN; None where nothing stands."""
        if self.joined is None or self._way.link is None or not self._ready.is_set():
            return None
        return self._way.link, None if self.joined.pan_secure else self.sessions.with_peer(self.joined.gateway_id)

    @property
    def is_carried(self) -> bool:
        """Whether our sessions stand, and nothing says that our PN GW carries nothing; see `Loyalty`."""
        return self._ready.is_set() and self._loyalty.is_carried

    def _give_up(self) -> None:
        """Our sessions are over."""
        self._lost.set()
        self._ready.clear()
        self._doubt.set()

    async def leave(self) -> None:
        """Leave the PN for good; `run` then returns.

        Raises:
            Refused: the server did not take it, or does not answer; we are a member still.
        """
        await self.network.leave()
        self._left = True
        self._give_up()

    # what the application does

    async def _status(self, text: str) -> None:
        answer = await self._way.exchange(application.STATUS_PATH, application.encode_text(text))
        with contextlib.suppress(WireError):  # an older server says nothing
            self._roaming.told(application.decode_home(answer.payload))

    async def sleep(self) -> None:
        """Say that we sleep, and take nothing until `wake`; the server keeps what it is asked to keep.

        Raises:
            NoAnswer: it could not be said.
        """
        await self._status("asleep")
        self._awake.clear()

    async def wake(self) -> None:
        """Be there again."""
        self._awake.set()
        with contextlib.suppress(Refused):  # what is lost is found out by what comes next
            await self.present_again()
            await self._status("connected")

    async def awake(self) -> None:
        """See `cpns.pne.loyalty.Carried`."""
        await self._ready.wait()
        await self._awake.wait()

    def next_reading(self, body: dict[str, application.Json]) -> Reading:
        """See `Outbox.reading`."""
        return self._outbox.reading(body)

    async def send(self, reading: Reading) -> None:
        """See `Outbox.send`."""
        await self._outbox.send(reading)

    async def established(self) -> Session | None:
        """See `cpns.pne.outbox.Way`."""
        await self._ready.wait()
        return self._way.session

    def suspect(self, used: Session | None, *, lost: bool) -> None:
        """See `cpns.pne.outbox.Way`."""
        if used is not self._way.session:
            return  # joined anew meanwhile
        if lost:
            self._give_up()
        self._doubt.set()

    # what others ask

    async def _handle(self, inbound: Inbound) -> Answer | None:
        if not self._awake.is_set():
            return None
        source = inbound.source
        if source is not None and source is self._way.session:
            self._way.heard()
        if inbound.path == registry.CPNS_PATH:
            return await self._on_message(inbound)
        if source is None:
            return UNIFORM_REFUSAL
        by_server = source.peer_id == self.config.server_id
        if inbound.path == application.PING_PATH:
            asked_us = by_server or inbound.link == self._way.link  # else who was asked passes it on
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
        self.on_secure_pan = self.from_own_gateway.beside(self.from_strangers)

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
        if inbound.link == self._way.link:
            self._presence.asked(message, self.joined)
        return pm.EntityDiscoveryResponse(self.config.pne_id, Mode.PNE, self._finder.where.pan_secure, ())

    async def _says_who_to_stranger(self, inbound: Inbound, message: pm.EntityDiscoveryRequest) -> Said:
        found = await self._says_who(inbound, message)
        return UNIFORM_REFUSAL if self._ready.is_set() else found  # SES-6: whom we have a session with asks inside it

    def _has_session_with(self, claimed: EntityId, link: Link) -> bool:
        """Whether who asks has the name or the address of our PN GW, which has a session to say so in (SES-6)."""
        return self.joined is not None and (claimed == self.joined.gateway_id or link == self._way.link)
