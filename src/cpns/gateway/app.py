"""One PN GW process: what is wired to what, and which message goes where."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cpns.crypto.schedule import Profile
from cpns.errors import AuthenticationFailed, Refused, Result, Unavailable
from cpns.gateway.config import GatewayConfig, PanConfig
from cpns.gateway.hop import Hop
from cpns.gateway.members import Member, Members
from cpns.gateway.setup import Setup
from cpns.gateway.uplink import Standing, Uplink
from cpns.ids import EntityId
from cpns.ports import Clock, GatewayStore, Randomness, Vault
from cpns.session.table import Sessions
from cpns.transport import discovery
from cpns.transport.endpoint import Endpoint, Inbound, Link, Watch
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code, read
from cpns.transport.relay import MAX_IN_FLIGHT_DOWN, Carrier, Relay
from cpns.wire import application, codec, registry
from cpns.wire.messages import (
    ActivateRequest,
    GatewayChallenge,
    InventoryRequest,
    InventoryResponse,
    PnChangeNotify,
    SetupRequest,
)

_log = logging.getLogger("cpns.gateway")

SWEEP_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 60.0
"""After so long without a sign of life a PNE is asked for one, in its hop session."""


@dataclass(frozen=True, slots=True)
class _Pan:
    config: PanConfig
    endpoint: Endpoint
    hops: Sessions
    setup: Setup
    hop: Hop


class Gateway:
    """A PN GW.

    Args:
        config: see `GatewayConfig`.
        store: keeps PN and LocalEUKeys over a restart; None: nothing is kept.
        vault: seals the LocalEUKeys.
        watch: is told of every message sent, relayed ones left out.
    """

    def __init__(
        self,
        config: GatewayConfig,
        store: GatewayStore | None,
        vault: Vault,
        clock: Clock,
        random: Randomness,
        watch: Watch | None = None,
    ) -> None:
        self.config = config
        self.members = Members(store, vault)
        self._clock = clock
        uplink_sessions = Sessions()
        self._upward = Endpoint(
            config.gateway_id,
            uplink_sessions,
            self._from_server,
            Relay(self.members.link, MAX_IN_FLIGHT_DOWN),
            on_lost=self._lost,
            watch=watch,
        )
        self.uplink = Uplink(config, self._upward, uplink_sessions, clock, random, self._learn_members)
        self.pans = [self._pan(pan, clock, random, watch) for pan in config.pans]
        self._tasks: list[asyncio.Task[None]] = []
        self._announcement: discovery.Announcement | None = None

    def _pan(self, pan: PanConfig, clock: Clock, random: Randomness, watch: Watch | None) -> _Pan:
        hops = Sessions()
        setup = Setup(self.config, self.uplink, self.members, hops, pan.secure, clock, random)
        hop = Hop(self.config, self.members, hops, clock, random)

        async def handle(inbound: Inbound) -> Answer | None:
            return await self._from_pan(wired, inbound)

        endpoint = Endpoint(self.config.gateway_id, hops, handle, Relay(self._route_up), watch=watch)
        wired = _Pan(pan, endpoint, hops, setup, hop)
        return wired

    async def start(self) -> list[str]:
        """Bind the PANs and begin to reach the server; return the PAN addresses.

        Raises:
            Unavailable: an address can't be had.
        """
        await self.members.load()
        bound = []
        for pan in self.pans:
            try:
                bound.append(await pan.endpoint.open_pan(pan.config.host, pan.config.port))
            except OSError as error:
                where = f"{pan.config.host}:{pan.config.port}"
                raise Unavailable(
                    "address_taken", f"Can't open the PAN at {where} ({error.strerror}): give another --pan."
                ) from error
        self._tasks = [asyncio.create_task(self.uplink.stay()), asyncio.create_task(self._sweep())]
        if self.config.announce:
            open_pans = [(address, pan.config.secure) for address, pan in zip(bound, self.pans, strict=True)]
            self._announcement = await discovery.announce(self.config.gateway_id, open_pans)
        return bound

    async def close(self) -> None:
        """End all sessions and let go of the sockets."""
        if self._announcement is not None:
            await self._announcement.close()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for endpoint in [self._upward, *(pan.endpoint for pan in self.pans)]:
            await endpoint.close()

    def _route_up(self, destination: str) -> Carrier | None:
        standing = self.uplink.standing
        return standing.link if standing is not None and destination == self.config.server_id else None

    def _lost(self, link: Link) -> None:
        self.uplink.lost(link)

    async def _from_server(self, inbound: Inbound) -> Answer | None:
        if inbound.path != registry.CPNS_PATH:
            return UNIFORM_REFUSAL
        if inbound.source is None:
            return self.uplink.challenged(inbound)
        message = codec.decode(inbound.payload, GatewayChallenge, PnChangeNotify)
        if isinstance(message, PnChangeNotify):
            await self._expel(message.members)
            return Answer(Code.CHANGED)
        for pan in self.pans:
            answer = await pan.setup.challenged(inbound.source, message)
            if answer is not None:
                return answer
        raise AuthenticationFailed("txn_not_outstanding")

    async def _learn_members(self, standing: Standing) -> None:
        """Ask for the PN Inventory, and forget who left or was revoked while we were away."""
        if self.members.pn_id is None:
            return
        try:
            found = await standing.link.request(
                registry.CPNS_PATH,
                codec.encode(InventoryRequest(self.members.pn_id)),
                timeout=self.config.answer_timeout,
                session=standing.session,
                accept=lambda answer: read(answer, InventoryResponse),
            )
        except Refused as error:
            if error.result is Result.TOO_MANY:
                return  # more members than one message lists: what changed while we were away stays unknown
            if error.result is not Result.UNKNOWN_PN:
                raise
            self.members.pn_id = None  # the server was set up anew: it names a PN at the next SETUP
            await self._expel(self.members.others_than(()))
        else:
            await self._expel(self.members.others_than(found.members))

    async def _expel(self, pne_ids: Sequence[EntityId]) -> None:
        for pan in self.pans:
            for pne in pne_ids:
                hop = pan.hops.with_peer(pne)
                if hop is not None:
                    pan.hops.remove(hop)
        await self.members.expel(pne_ids)

    async def _from_pan(self, pan: _Pan, inbound: Inbound) -> Answer | None:
        source = inbound.source
        if source is not None:
            if source.profile is Profile.PNE_GW and inbound.path == application.PRESENCE_PATH:
                self.members.heard(source.peer_id, inbound.link, self._clock.monotonic())
                return Answer(Code.CHANGED)
            return UNIFORM_REFUSAL
        if inbound.path == registry.CPNS_PATH:
            return await self._unprotected(pan, inbound)
        if inbound.path == application.PRESENCE_PATH and pan.config.secure:
            return self._present_on_secure_pan(inbound)
        return UNIFORM_REFUSAL

    async def _unprotected(self, pan: _Pan, inbound: Inbound) -> Answer:
        """The two messages that may come before a session stands."""
        message: SetupRequest | ActivateRequest = codec.decode(
            inbound.payload, SetupRequest, ActivateRequest, limit=registry.MAX_PAN_BODY
        )
        pan.endpoint.name(inbound.link, message.entity_id)
        if isinstance(message, SetupRequest):
            response = await pan.setup.request(message, inbound.link)
            return Answer(Code.CHANGED, codec.encode(response))
        if pan.config.secure:
            return UNIFORM_REFUSAL
        return await pan.hop.activate(message, inbound.link)

    def _present_on_secure_pan(self, inbound: Inbound) -> Answer:
        """On a Secure PAN the PAN itself vouches for the source (DEF-9): the address that the PNE set up from."""
        member = self.members.get(EntityId(application.decode_text(inbound.payload)))
        if member is None or member.link != inbound.link:
            return UNIFORM_REFUSAL
        self.members.heard(member.pne_id, inbound.link, self._clock.monotonic())
        return Answer(Code.CHANGED)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, self.config.half_open / 2))
            now = self._clock.monotonic()
            for pan in self.pans:
                for session in pan.hops:
                    if not session.confirmed and now - session.since > self.config.half_open:
                        pan.hops.remove(session)
            await asyncio.gather(*(self._look_after(member) for member in self.members.silent(now - SILENCE_SECONDS)))

    async def _look_after(self, member: Member) -> None:
        """Ask a silent PNE whether it is there, so that a push to one that is not ends at once."""
        for pan in self.pans:
            hop = pan.hops.with_peer(member.pne_id)
            if hop is None or member.link is None:
                continue
            there = await pan.hop.ping(hop, member.link)
            current = self.members.get(member.pne_id)
            if current is not None and current.heard_at == member.heard_at:  # else it was heard meanwhile
                self.members.heard(member.pne_id, member.link if there else None, self._clock.monotonic())
