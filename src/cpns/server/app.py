"""One CPNS Server process: what is wired to what, and which message goes to which service."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterator
from typing import Final

from cpns.crypto.schedule import Profile
from cpns.domain.inventory import Kind, State
from cpns.errors import NoAnswer, NotFound, Refused, Result, Unavailable
from cpns.ids import EntityId
from cpns.ports import Clock, Randomness, Store, Vault
from cpns.server.config import ServerConfig
from cpns.service.authentication import Authentication, GatewayPeer
from cpns.service.keyring import Keyring
from cpns.service.readings import Readings
from cpns.session.table import Session, Sessions
from cpns.transport.endpoint import Endpoint, Hinted, Inbound, Link, Watch
from cpns.transport.errors import UNIFORM_REFUSAL, Answer, Code, read
from cpns.transport.oscore import MESSAGE_LIMIT, sent
from cpns.wire import application, codec
from cpns.wire.messages import (
    ActivateRequest,
    GatewayChallenge,
    GatewayProofs,
    GatewaySetupRequest,
    InventoryRequest,
    InventoryResponse,
    LinkChallengeFromGateway,
    LinkChallengeFromServer,
    PnChangeNotify,
    Proof,
)
from cpns.wire.registry import CPNS_PATH, MAX_MEMBERS

_log = logging.getLogger("cpns.server")

MAX_HALF_OPEN: Final = 256
"""ACTIVATE and SETUP runs under way at once; one more is answered with 61, TOO_MANY."""
SWEEP_SECONDS: Final = 2.0
PUSH_TIMEOUT: Final = 10.0
NOTIFY_TIMEOUT: Final = 2.0


class Server:
    """A CPNS Server.

    Args:
        config: see `ServerConfig`.
        store: opened, migrated.
        vault: opened.
        watch: is told of every message sent.
    """

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        vault: Vault,
        clock: Clock,
        random: Randomness,
        watch: Watch | None = None,
    ) -> None:
        self.config = config
        self.store = store
        self.vault = vault
        self.sessions = Sessions()
        self.readings = Readings(store, clock)
        self._clock = clock
        self._authentication = Authentication(
            config.server_id,
            config.lowest_suite,
            store,
            Keyring(store, vault, random),
            self.sessions,
            clock,
            random,
            self._moved,
        )
        self._endpoint = Endpoint(config.server_id, self.sessions, self._handle, on_lost=self._gone, watch=watch)
        self._gateways: dict[EntityId, tuple[GatewayPeer, Link]] = {}
        self._runs = 0
        self._sweeper: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()

    async def start(self) -> tuple[str, int]:
        """Listen; return the address. Raises `Unavailable` where it can't be had."""
        tls = None
        if self.config.tls_certificate is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(self.config.tls_certificate, self.config.tls_key)
        try:
            address = await self._endpoint.listen(self.config.host, self.config.port, tls)
        except OSError as error:
            where = f"{self.config.host}:{self.config.port}"
            raise Unavailable(
                "address_taken", f"Can't listen at {where} ({error.strerror}): stop what does, or give --listen."
            ) from error
        self._sweeper = asyncio.create_task(self._sweep())
        return address

    async def close(self) -> None:
        """Stop listening and end all sessions; the store stays open."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        await self._endpoint.close()

    # incoming

    async def _handle(self, inbound: Inbound) -> Answer | None:
        source = inbound.source
        if source is None:
            return await self._activate(inbound) if inbound.path == CPNS_PATH else UNIFORM_REFUSAL
        if source.profile is Profile.GW_SERVER:
            return await self._from_gateway(source, inbound)
        return await self._from_pne(source, inbound)

    async def _activate(self, inbound: Inbound) -> Answer:
        request = codec.decode(inbound.payload, ActivateRequest)
        self._endpoint.name(inbound.link, request.entity_id)

        async def ask(challenge: LinkChallengeFromServer | LinkChallengeFromGateway) -> Proof:
            return await inbound.link.request(
                CPNS_PATH,
                codec.encode(challenge),
                timeout=self.config.answer_timeout,
                accept=lambda answer: read(answer, Proof),
            )

        with self._half_open():
            peer, response = await self._authentication.gateway(request, ask)
        older = self._gateways.get(peer.gateway_id)
        self._gateways[peer.gateway_id] = (peer, inbound.link)
        inbound.link.keep()
        if older is not None and older[1] != inbound.link:
            older[1].close()
        _log.info("gateway %s is authenticated", peer.gateway_id)
        return Answer(Code.CHANGED, codec.encode(response))

    async def _from_gateway(self, source: Session, inbound: Inbound) -> Answer:
        peer, link = self._gateways.get(source.peer_id, (None, None))
        if peer is None or peer.session is not source or link != inbound.link:
            return UNIFORM_REFUSAL
        if inbound.path == application.PING_PATH:
            return Answer(Code.CHANGED)
        if inbound.path != CPNS_PATH:
            raise Refused(Result.NOT_ALLOWED, "no_such_resource")
        request = codec.decode(inbound.payload, GatewaySetupRequest, InventoryRequest)
        if isinstance(request, InventoryRequest):
            return await self._inventory(request, peer)

        async def ask(challenge: GatewayChallenge) -> GatewayProofs:
            return await inbound.link.request(
                CPNS_PATH,
                codec.encode(challenge),
                timeout=self.config.answer_timeout,
                session=source,
                accept=lambda answer: read(answer, GatewayProofs),
            )

        with self._half_open():
            response = await self._authentication.pnes(request, peer, ask)
        return Answer(Code.CHANGED, codec.encode(response))

    async def _inventory(self, request: InventoryRequest, peer: GatewayPeer) -> Answer:
        if request.pn_id != peer.pn_id:
            raise Refused(Result.UNKNOWN_PN, "pn_of_another_gateway_or_none")
        members = await self.store.members_of(peer.gateway_id)
        if len(members) > MAX_MEMBERS:
            raise Refused(Result.TOO_MANY, "inventory_too_long")
        return Answer(Code.CHANGED, codec.encode(InventoryResponse(Result.SUCCESS, tuple(members))))

    async def _from_pne(self, source: Session, inbound: Inbound) -> Answer:
        _, link = self._gateways.get(source.via, (None, None)) if source.via is not None else (None, None)
        if link != inbound.link:  # th0 names one PN GW: the session does not move to another
            return UNIFORM_REFUSAL
        if inbound.path == application.READINGS_PATH:
            await self.readings.take(source, application.decode_reading(inbound.payload))
            return Answer(Code.CHANGED)
        if inbound.path == application.STATUS_PATH:
            _log.info("PNE %s says it is %r", source.peer_id, application.decode_text(inbound.payload))
            return Answer(Code.CHANGED)
        raise Refused(Result.NOT_ALLOWED, "no_such_resource")

    @contextlib.contextmanager
    def _half_open(self) -> Iterator[None]:
        if self._runs >= MAX_HALF_OPEN:
            raise Refused(Result.TOO_MANY, "too_many_runs")
        self._runs += 1
        try:
            yield
        finally:
            self._runs -= 1

    # outgoing

    async def send(self, pne_id: EntityId, path: str, payload: bytes) -> str:
        """Send ``POST /path`` to a PNE through its PN GW, end to end; return the text that it answers.

        Raises:
            NotFound: ``unknown_entity``.
            Unavailable: ``not_established``, ``gateway_away`` or ``asleep``, with what to do.
        """
        session = self.sessions.with_peer(pne_id)
        if session is None or session.profile is not Profile.PNE_SERVER or session.via is None:
            entity = await self.store.entity(pne_id)
            if entity is None or entity.kind is not Kind.PNE:
                raise NotFound("unknown_entity", f"There is no device {pne_id}: see `cpns device list`.")
            if entity.state is State.REVOKED:
                raise Unavailable("not_established", f"{pne_id} is revoked: it has no session, and gets none.")
            why = f"last: {entity.last_reason or 'never seen'}"
            raise Unavailable(
                "not_established", f"{pne_id} has no session with this server ({why}): start it, then try again."
            )
        _, link = self._gateways.get(session.via, (None, None))
        if link is None or link.closed:
            raise Unavailable("gateway_away", f"The gateway {session.via} of {pne_id} is not connected.")
        try:
            return await link.request(path, payload, timeout=PUSH_TIMEOUT, session=session, accept=_text_of)
        except Hinted as error:
            raise Unavailable(
                "asleep",
                f"{pne_id} does not answer its gateway {session.via} ({error.reason}): asleep or out of reach.",
            ) from error
        except NoAnswer as error:
            code = "gateway_away" if error.reason == "connection_gone" else "asleep"
            raise Unavailable(code, f"No answer from {pne_id} through {session.via} ({error.reason}).") from error

    def is_connected(self, entity: EntityId) -> bool:
        """Whether *entity* has a session here, and (a PNE) its PN GW is connected."""
        session = self.sessions.with_peer(entity)
        return session is not None and (session.via is None or session.via in self._gateways)

    def session_state(self, entity: EntityId) -> tuple[float, bool] | None:
        """Return age in seconds and whether it is confirmed, of the session with *entity*; None where there is none."""
        session = self.sessions.with_peer(entity)
        return None if session is None else (self._clock.monotonic() - session.since, session.confirmed)

    async def end(self, entity: EntityId) -> int:
        """End every session of a revoked entity, and of those behind a revoked PN GW; return how many.

        The PN GW of a revoked PNE has forgotten its hop key when this returns, if it is connected and answers; one
        that does not asks for the PN Inventory before it serves again.
        """
        self._authentication.revoked(entity)
        ended = [session for session in self.sessions if entity in (session.peer_id, session.via)]
        for session in ended:
            self.sessions.remove(session)
        peer, link = self._gateways.pop(entity, (None, None))
        if peer is not None and link is not None:
            link.close()
        await asyncio.gather(*(self._tell_gone(entity, one.via) for one in ended if one.via not in (None, entity)))
        return len(ended)

    def _moved(self, pne: EntityId, gateway: EntityId) -> None:
        task = asyncio.get_running_loop().create_task(self._tell_gone(pne, gateway))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_gone(self, pne: EntityId, gateway: EntityId | None) -> None:
        """Tell a PN GW that *pne* is no longer its member."""
        peer, link = self._gateways.get(gateway, (None, None)) if gateway is not None else (None, None)
        if peer is None or link is None or peer.pn_id is None:
            return
        notify = codec.encode(PnChangeNotify(peer.pn_id, (pne,)))
        with contextlib.suppress(Refused):
            await link.request(
                CPNS_PATH, notify, timeout=NOTIFY_TIMEOUT, session=peer.session, accept=lambda answer: None
            )

    # upkeep

    def _gone(self, link: Link) -> None:
        for gateway, (peer, current) in list(self._gateways.items()):
            if current == link:
                del self._gateways[gateway]
                self.sessions.remove(peer.session)
                _log.info("gateway %s is gone", gateway)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(SWEEP_SECONDS, self.config.half_open / 2))
            now = self._clock.monotonic()
            for session in self.sessions:
                age = now - session.since
                worn_out = age > self.config.session_age or sent(session) > MESSAGE_LIMIT
                if worn_out or (not session.confirmed and age > self.config.half_open):
                    self.sessions.remove(session)


def _text_of(answer: Answer) -> str:
    if not answer.ok:
        raise Refused(Result.NOT_ALLOWED, "refused_by_the_device")
    return application.decode_text(answer.payload)
