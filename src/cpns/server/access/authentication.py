"""The server's side of 7.5.5 and 7.5.4: what the pure procedures need, in the order load, step, commit, send.

State in flight lives in the coroutine that awaits the answer; what is not committed never happened.
"""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager

from cpns.crypto.ephemeral import SEED_BYTES
from cpns.crypto.local_eukey import gateway_prk, rand_server
from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.domain import actor as actors
from cpns.domain.inventory import Establishment, Kind, Membership, Outcome
from cpns.domain.member_list import Policy
from cpns.domain.network import Admission, Admitted
from cpns.errors import AuthenticationFailed, NoAnswer, Refused, Result
from cpns.ids import EntityId, PnId
from cpns.ports import Clock, Randomness, Store
from cpns.protocol.link_auth import verifier
from cpns.protocol.pne_auth import server as pne_auth
from cpns.server.peers.peer import KID_BYTES, GatewayPeer
from cpns.service.hosts import KnownHosts
from cpns.service.keyring import Keyring, Opened
from cpns.service.places import Run
from cpns.service.refusals import Refusals
from cpns.service.sessions import session_of
from cpns.session.table import Session, Sessions
from cpns.shares.noted import by
from cpns.shares.party import Party
from cpns.shares.room import NoPlace
from cpns.wire import registry as r
from cpns.wire.declare import Electives
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

AskGateway = Callable[[LinkChallengeFromServer | LinkChallengeFromGateway], Awaitable[Proof]]
AskPnes = Callable[[GatewayChallenge], Awaitable[GatewayProofs]]
HalfOpen = AbstractAsyncContextManager[Run]
"""The place of a run for as long as nobody has proven itself in it: where it gives way, nothing was committed."""


class Authentication:
    """Both authentications of one server process.

    Args:
        own_id: the server.
        lowest_suite: nothing below it is accepted.
        sessions: where established sessions go.
        policy: of the PNs that are made here.
        admitted: is told of a committed SETUP, and of the sessions that PNEs of it had until now.
        is_barred: tells whether no session of an entity begins any more, not even of a run that is under way.
        waits: tells whether one that proves to be an entity gets no session yet, as two places have its key.
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
        policy: Policy,
        admitted: Callable[[Admitted, Mapping[EntityId, Session]], None],
        refusals: Refusals,
        hosts: KnownHosts,
        is_barred: Callable[[EntityId], bool],
        waits: Callable[[EntityId], bool],
        electives: Electives = (),
    ) -> None:
        self._own_id = own_id
        self._lowest_suite = lowest_suite
        self._store = store
        self._keyring = keyring
        self._sessions = sessions
        self._clock = clock
        self._random = random
        self._policy = policy
        self._admitted = admitted
        self._refusals = refusals
        self._hosts = hosts
        self._is_barred = is_barred
        self._waits = waits
        self._electives = electives
        self._process_key = Secret(random(r.KEY_BYTES))

    def _kid(self, avoid: bytes) -> bytes:
        return self._sessions.reserve((self._random(KID_BYTES) for _ in range(64)), avoid)

    # 7.5.5, profile gw-server

    async def gateway(
        self, request: ActivateRequest, ask: AskGateway, party: Party, half_open: HalfOpen
    ) -> tuple[GatewayPeer, ActivateResponse]:
        """Authenticate a PN GW: M1 comes in, *ask* sends M2 and returns M3, M4 goes out when all is committed.

        *party* is who asks.

        Raises:
            NoPlace: it got none, or had to give way.
            Refused: it failed; the cause is in the audit log.
        """
        reason, kid = "", self._kid(request.kid)
        try:
            async with half_open as run:
                opened = (await self._keyring.open([request.entity_id], Kind.GATEWAY, None))[request.entity_id]
                reason = opened.reason
                state, challenge = verifier.challenge(
                    Profile.GW_SERVER,
                    request,
                    own_id=self._own_id,
                    key=opened.key,
                    lowest_suite=self._lowest_suite,
                    rand=rand_server(self._process_key, self._random(32), request.rand[: r.TXN_BYTES]),
                    kid=kid,
                    eph_seed=self._random(SEED_BYTES),
                    electives=self._electives,
                )
                established, response = verifier.verify(state, await ask(challenge))
                run.proved = True
            if self._is_barred(request.entity_id):
                raise AuthenticationFailed("revoked")
            if self._waits(request.entity_id):
                raise Refused(Result.TOO_MANY, "cloned")
            itself = actors.gateway(request.entity_id)
            outcome = Outcome(self._clock.now(), "gateway_activated", request.entity_id, itself, Result.SUCCESS)
            known = self._hosts.proved(party.host, request.entity_id)
            await asyncio.gather(self._store.record([outcome]), known)
            pns = await self._store.networks_of(request.entity_id)
            if self._is_barred(request.entity_id):
                raise AuthenticationFailed("revoked")
            session = session_of(established, self._clock.monotonic())
            self._sessions.add(session)
            self._refusals.over(request.entity_id, party.host)
            prk = gateway_prk(established.keys.exporter(), opened.key)
            return GatewayPeer(request.entity_id, session, prk, [*pns], pns), response
        except NoPlace:
            raise
        except Refused as error:
            self._refusals.peer(request.entity_id, reason or error.reason, party)
            raise
        finally:
            self._sessions.release([kid])

    # 7.5.4, profile pne-server

    async def pnes(
        self, request: GatewaySetupRequest, gateway: GatewayPeer, ask: AskPnes, half_open: HalfOpen
    ) -> GatewaySetupResponse:
        """Authenticate the PNEs of one SETUP Request; *ask* sends the AUTHENTICATE Request and returns its answer.

        A bad or silent PNE has its own result, and the others go on.

        Raises:
            NoPlace: it got none, or had to give way.
            Refused: the request names a PN that this PN GW does not serve, or the PN GW broke the procedure.
        """
        pn_id = self._pn(request, gateway)
        screened = pne_auth.screen(request, self._lowest_suite)
        refused = dict(screened.refused)
        verdicts: list[pne_auth.Verdict] = []
        opened: dict[EntityId, Opened] = {}
        kids: list[bytes] = []
        try:
            async with half_open as run:
                ids = [entry.entity_id for entry in screened.entries]
                opened = await self._keyring.open(ids, Kind.PNE, gateway.gateway_id) if ids else {}
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
                    electives=self._electives,
                )
                refused.update(bad)
                if challenge is not None:
                    verdicts = pne_auth.verify(state, await ask(challenge))
                run.proved = any(verdict.session for verdict in verdicts)
            return await self._conclude(request, gateway, pn_id, verdicts, opened, refused)
        except (NoAnswer, NoPlace):
            raise
        except Refused as error:
            self._refusals.peer(gateway.gateway_id, error.reason, gateway.gateway_id)
            raise
        finally:
            self._sessions.release(kids)

    def _pn(self, request: GatewaySetupRequest, gateway: GatewayPeer) -> PnId:
        if request.pn_id is not None and request.pn_id not in gateway.pns:
            raise Refused(Result.UNKNOWN_PN, "pn_of_another_gateway_or_none")
        if not gateway.pns:
            gateway.pns.append(PnId("pn-" + base64.b32encode(self._random(10)).decode().lower()))
        return request.pn_id or gateway.pns[0]

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
        refused: Mapping[EntityId, Refused],
    ) -> GatewaySetupResponse:
        via = gateway.gateway_id
        barred = {v.entry.entity_id: self._barred(v.entry.entity_id) for v in verdicts}
        proven = {v.entry.entity_id: v for v in verdicts if v.session and not barred[v.entry.entity_id]}
        reasons = {entity: (error.result, error.reason) for entity, error in refused.items()}
        for verdict in verdicts:
            entity = verdict.entry.entity_id
            if entity not in proven:
                result = verdict.result or Result.AUTHENTICATION_FAILED
                reasons[entity] = (result, opened[entity].reason or verdict.reason or barred[entity])
        for entity, (result, reason) in reasons.items():
            self._refusals.pne(entity, result, reason, via)
        older = {pne: one for pne in proven if (one := self._sessions.with_peer(pne)) is not None}
        moved_from = {pne: one.via for pne, one in older.items() if one.via is not None and one.via != via}
        found = Admitted(None, {})
        if proven:
            members = tuple(Membership(pne, v.entry.pan_secure) for pne, v in proven.items())
            place = (pn_id, via, request.name, self._policy, self._clock.now())
            found = await self._store.establish(Establishment(*place, members, moved_from))
        for pne, verdict in proven.items():
            admission = found.admissions[pne]
            if admission.result is not Result.SUCCESS:
                said = "PNE %s through %s is not let in: %s"
                _log.warning(said, pne, via, admission.reason, extra=by(via, pne))
                continue
            self._refusals.over(pne, via)
            if not self._is_barred(pne) and verdict.session is not None:
                self._sessions.add(session_of(verdict.session, self._clock.monotonic(), via))
        self._admitted(found, older)
        ended = {verdict.entry.entity_id: verdict for verdict in verdicts}
        results = {pne: result for pne, (result, _) in reasons.items()}
        entries = tuple(
            self._entry(pne, ended.get(pne), found.admissions.get(pne) or Admission(results[pne]))
            for pne in dict.fromkeys(entry.entity_id for entry in request.entries)
        )
        version = None
        if found.network is not None and any(entry.result == Result.SUCCESS for entry in entries):
            version = found.network.version  # else who is not let in would not look like a wrong key
        return GatewaySetupResponse(request.txn, pn_id, entries, version)

    def _entry(self, pne: EntityId, verdict: pne_auth.Verdict | None, ended: Admission) -> OutcomeEntry:
        """Return what is answered for one PNE; who proved itself, and is not let in, looks like a wrong hash."""
        drawn = self._random(r.PROOF_BYTES)
        refusal = drawn if verdict is None else verdict.refusal(ended.result, drawn)
        if verdict is None or verdict.session is None:
            return OutcomeEntry(pne, ended.result, refusal)
        if ended.result is not Result.SUCCESS:
            return OutcomeEntry(pne, Result.AUTHENTICATION_FAILED, refusal)
        return OutcomeEntry(pne, Result.SUCCESS, verdict.hash_server, ended.guest or None)

    def _barred(self, pne: EntityId) -> str:
        """Return why one that has proven itself gets no session; empty where it does."""
        if self._is_barred(pne):
            return "revoked"
        return "cloned" if self._waits(pne) else ""
