"""The server's side of 7.5.5 and 7.5.4: what the pure procedures need, in the order load, step, commit, send.

State in flight lives in the coroutine that awaits the answer; what is not committed never happened.
"""

import base64
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from cpns.crypto.ephemeral import SEED_BYTES
from cpns.crypto.local_eukey import gateway_prk, rand_server
from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.domain.inventory import Establishment, Kind, Membership, Outcome
from cpns.errors import AuthenticationFailed, NoAnswer, Refused, Result
from cpns.ids import EntityId, PnId
from cpns.ports import Clock, Randomness, Store
from cpns.protocol.link_auth import verifier
from cpns.protocol.pne_auth import server as pne_auth
from cpns.service.keyring import Keyring, Opened
from cpns.service.sessions import session_of
from cpns.session.table import Session, Sessions
from cpns.transport.limits import RateLimit
from cpns.wire import registry as r
from cpns.wire.messages import (
    ActivateRequest,
    ActivateResponse,
    GatewayChallenge,
    GatewayProofs,
    GatewaySetupRequest,
    GatewaySetupResponse,
    LinkChallengeFromGateway,
    LinkChallengeFromServer,
    OutcomeEntry,
    Proof,
)

_log = logging.getLogger("cpns.server")

KID_BYTES: Final = 4
"""Length of the OSCORE IDs that the server hands out."""
AUDITED_REFUSALS: Final = (5.0, 200.0)
"""Refusals a second, and at once, that are written to the audit log for one gateway: a flood must not fill the disk."""

AskGateway = Callable[[LinkChallengeFromServer | LinkChallengeFromGateway], Awaitable[Proof]]
AskPnes = Callable[[GatewayChallenge], Awaitable[GatewayProofs]]


@dataclass(slots=True)
class GatewayPeer:
    """A PN GW with a session.

    Attributes:
        prk: wraps its LocalEUKey copies; made of its session's exporter and its EUKey.
        pn_id: the PN that it serves; named at its first SETUP.
    """

    gateway_id: EntityId
    session: Session
    prk: Secret = field(repr=False)
    pn_id: PnId | None = None


class Authentication:
    """Both authentications of one server process.

    Args:
        own_id: the server.
        lowest_suite: nothing below it is accepted.
        sessions: where established sessions go.
        moved: is told of a PNE that has come through another PN GW than before, and of that older PN GW.
    """

    def __init__(
        self,
        own_id: EntityId,
        lowest_suite: int,
        store: Store,
        keyring: Keyring,
        sessions: Sessions,
        clock: Clock,
        random: Randomness,
        moved: Callable[[EntityId, EntityId], None],
    ) -> None:
        self._own_id = own_id
        self._lowest_suite = lowest_suite
        self._store = store
        self._keyring = keyring
        self._sessions = sessions
        self._clock = clock
        self._random = random
        self._moved = moved
        self._process_key = Secret(random(r.KEY_BYTES))
        self._audited = RateLimit(*AUDITED_REFUSALS, clock.monotonic)
        self._revoked: set[EntityId] = set()

    def revoked(self, entity: EntityId) -> None:
        """From now on no session of *entity* begins here, not even of a run that was under way."""
        self._revoked.add(entity)

    def _kid(self, avoid: bytes) -> bytes:
        return self._sessions.reserve((self._random(KID_BYTES) for _ in range(64)), avoid)

    # 7.5.5, profile gw-server

    async def gateway(self, request: ActivateRequest, ask: AskGateway) -> tuple[GatewayPeer, ActivateResponse]:
        """Authenticate a PN GW: M1 comes in, *ask* sends M2 and returns M3, M4 goes out when all is committed.

        Raises:
            Refused: it failed; the cause is in the audit log.
        """
        opened = (await self._keyring.open([request.entity_id], Kind.GATEWAY, None))[request.entity_id]
        kid = self._kid(request.kid)
        try:
            state, challenge = verifier.challenge(
                Profile.GW_SERVER,
                request,
                own_id=self._own_id,
                key=opened.key,
                lowest_suite=self._lowest_suite,
                rand=rand_server(self._process_key, self._random(32), request.rand[: r.TXN_BYTES]),
                kid=kid,
                eph_seed=self._random(SEED_BYTES),
            )
            established, response = verifier.verify(state, await ask(challenge))
            if request.entity_id in self._revoked:
                raise AuthenticationFailed("revoked")
            outcome = Outcome(self._clock.now(), "gateway_activated", request.entity_id, None, Result.SUCCESS)
            await self._store.record([outcome])
            pn_id = await self._store.pn_of_gateway(request.entity_id)
            if request.entity_id in self._revoked:
                raise AuthenticationFailed("revoked")
            session = session_of(established, self._clock.monotonic())
            self._sessions.add(session)
            prk = gateway_prk(established.keys.exporter(), opened.key)
            return GatewayPeer(request.entity_id, session, prk, pn_id), response
        except Refused as error:
            await self._audit_refusal(request.entity_id, opened.reason or error.reason)
            raise
        finally:
            self._sessions.release([kid])

    async def _audit_refusal(self, gateway: EntityId, reason: str) -> None:
        if self._audited.allows("gateways"):
            _log.warning("gateway %s refused: %s", gateway, reason)
            outcome = Outcome(self._clock.now(), "refused", gateway, None, Result.AUTHENTICATION_FAILED, reason)
            await self._store.record([outcome])

    # 7.5.4, profile pne-server

    async def pnes(self, request: GatewaySetupRequest, gateway: GatewayPeer, ask: AskPnes) -> GatewaySetupResponse:
        """Authenticate the PNEs of one SETUP Request; *ask* sends the AUTHENTICATE Request and returns its answer.

        A bad or silent PNE has its own result, and the others go on.

        Raises:
            Refused: the request names a PN that this PN GW does not serve, or the PN GW broke the procedure.
        """
        pn_id = self._pn(request, gateway)
        screened = pne_auth.screen(request, self._lowest_suite)
        refused = dict(screened.refused)
        verdicts: list[pne_auth.Verdict] = []
        opened: dict[EntityId, Opened] = {}
        kids: list[bytes] = []
        try:
            if screened.entries:
                ids = [entry.entity_id for entry in screened.entries]
                opened = await self._keyring.open(ids, Kind.PNE, gateway.gateway_id)
                kids.extend(self._kid(entry.kid) for entry in screened.entries)
                state, challenge, bad = pne_auth.challenge(
                    screened,
                    txn=request.txn,
                    server_id=self._own_id,
                    gateway_id=gateway.gateway_id,
                    pn_id=pn_id,
                    keys={entity: item.key for entity, item in opened.items()},
                    gateway_prk=gateway.prk,
                    drawn=self._draw(request.txn, kids),
                )
                refused.update(bad)
                if challenge is not None:
                    verdicts = pne_auth.verify(state, await ask(challenge))
            return await self._conclude(request, gateway, pn_id, verdicts, opened, refused)
        except NoAnswer:
            raise
        except Refused as error:
            await self._audit_refusal(gateway.gateway_id, error.reason)
            raise
        finally:
            self._sessions.release(kids)

    def _pn(self, request: GatewaySetupRequest, gateway: GatewayPeer) -> PnId:
        if request.pn_id is not None and request.pn_id != gateway.pn_id:
            raise Refused(Result.UNKNOWN_PN, "pn_of_another_gateway_or_none")
        if gateway.pn_id is None:
            gateway.pn_id = PnId("pn-" + base64.b32encode(self._random(10)).decode().lower())
        return gateway.pn_id

    def _draw(self, txn: bytes, kids: list[bytes]) -> pne_auth.Drawn:
        count = len(kids)
        fresh = self._random(32 + SEED_BYTES + r.KEY_BYTES * count)
        keys = fresh[32 + SEED_BYTES :]
        return pne_auth.Drawn(
            rand=rand_server(self._process_key, fresh[:32], txn),
            eph_seed=fresh[32 : 32 + SEED_BYTES],
            kids=kids,
            local_eukeys=[Secret(keys[i * r.KEY_BYTES : (i + 1) * r.KEY_BYTES]) for i in range(count)],
        )

    async def _conclude(
        self,
        request: GatewaySetupRequest,
        gateway: GatewayPeer,
        pn_id: PnId,
        verdicts: list[pne_auth.Verdict],
        opened: dict[EntityId, Opened],
        refused: dict[EntityId, Result],
    ) -> GatewaySetupResponse:
        now = self._clock.now()
        via = gateway.gateway_id
        established = [v for v in verdicts if v.session is not None and v.entry.entity_id not in self._revoked]
        outcomes = [Outcome(now, "pne_established", v.entry.entity_id, via, Result.SUCCESS) for v in established]
        entries = [OutcomeEntry(v.entry.entity_id, Result.SUCCESS, v.hash_server) for v in established]
        reasons = {entity: (result, result.name.lower()) for entity, result in refused.items()}
        succeeded = {verdict.entry.entity_id for verdict in established}
        for verdict in verdicts:
            entity = verdict.entry.entity_id
            if entity in succeeded:
                continue
            result = verdict.result or Result.AUTHENTICATION_FAILED
            reasons[entity] = (result, opened[entity].reason or verdict.reason or "revoked")
        for entity, (result, reason) in reasons.items():
            entries.append(OutcomeEntry(entity, result))
            if self._audited.allows(via):
                _log.warning("PNE %s through %s refused: %s", entity, via, reason)
                outcomes.append(Outcome(now, "refused", entity, via, result, reason))
        if established:
            members = tuple(Membership(v.entry.entity_id, v.entry.pan_secure) for v in established)
            await self._store.establish(Establishment(pn_id, via, request.alias, now, members, tuple(outcomes)))
        elif outcomes:
            await self._store.record(outcomes)
        since = self._clock.monotonic()
        for verdict in established:
            pne = verdict.entry.entity_id
            if verdict.session is None or pne in self._revoked:
                continue
            older = self._sessions.with_peer(pne)
            if older is not None and older.via not in (None, via):
                self._moved(pne, older.via)
            self._sessions.add(session_of(verdict.session, since, via))
        return GatewaySetupResponse(request.txn, pn_id, tuple(entries))
