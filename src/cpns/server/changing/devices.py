"""Changing-Mode devices at the server: assignment, activation, fresh keys (S2, PROTOCOL section 6)."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from cpns.crypto import cm
from cpns.crypto.ephemeral import SEED_BYTES
from cpns.crypto.local_eukey import decoy_key, decoy_prk, gateway_prk, rand_server
from cpns.crypto.secret import Secret
from cpns.domain import actor as actors
from cpns.domain import cm as rules
from cpns.domain.cm import CmCredential, CmDevice, NewCmDevice
from cpns.domain.credential import fingerprint
from cpns.domain.inventory import State
from cpns.errors import AuthenticationFailed, Refused, Result
from cpns.ids import EntityId
from cpns.ports import Clock, Randomness, Store, Vault
from cpns.protocol.cm_activate import server as cm_activate
from cpns.protocol.cm_assign import server as cm_assign
from cpns.server.peers.peer import KID_BYTES, Assignment, GatewayPeer
from cpns.service.refusals import Refusals
from cpns.service.sessions import session_of
from cpns.session.table import Session, Sessions
from cpns.shares.party import Party
from cpns.wire import cm_messages as m
from cpns.wire import registry as r
from cpns.wire.declare import Electives
from cpns.wire.messages import CmActivateRequest, CmActivateResponse

SEED_PURPOSE: Final = "key seed"
KEY_PURPOSE: Final = "cm device key"

MAX_ASSIGNMENTS: Final = 8
"""Assignments that one PN GW may have under way at once."""
ASSIGNMENT_SECONDS: Final = 600.0
"""How long a Key Seed may wait for its confirmation."""
REMEMBERED_CODES: Final = 4096
"""Codes of step 12 that were answered, and are not answered again."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A CM Device whose code was right, and has been answered; its session begins with the first message under it.

    Attributes:
        generation: of the key that it has.
        fresh: whether that is the next one, which ends the present one.
    """

    session: Session
    generation: int
    fresh: bool
    key: Secret = field(repr=False)
    since: float


class CmDevices:
    """The CM Devices of one server process.

    Args:
        own_id: the server.
        lowest_suite: the server's; activation takes none under 2.
        sessions: the server's.
        refusals: where it says who was refused, and why.
        is_barred: tells whether an entity was revoked since our start.
        waits: tells whether one that proves to be an entity gets no session yet, as two places have its key.
    """

    def __init__(
        self,
        own_id: EntityId,
        lowest_suite: int,
        store: Store,
        vault: Vault,
        sessions: Sessions,
        clock: Clock,
        random: Randomness,
        refusals: Refusals,
        is_barred: Callable[[EntityId], bool],
        waits: Callable[[EntityId], bool],
        electives: Electives = (),
    ) -> None:
        self._own_id = own_id
        self._lowest_suite = lowest_suite
        self._store = store
        self._vault = vault
        self._sessions = sessions
        self._clock = clock
        self._random = random
        self._refusals = refusals
        self._is_barred = is_barred
        self._waits = waits
        self._electives = electives
        self._process_key = Secret(random(r.KEY_BYTES))
        self._decoys = decoy_prk(Secret(random(r.KEY_BYTES)))
        self._codes: OrderedDict[bytes, None] = OrderedDict()
        self._decoy = self._make_decoy()

    def _make_decoy(self) -> CmCredential:
        nobody = EntityId("")
        device = CmDevice(nobody, nobody, nobody, State.REVOKED, 0, True, False, False, 0.0, None, None)
        seed, after = (Secret(self._random(r.KEY_BYTES)) for _ in range(2))
        return CmCredential(
            device, self._vault.seal(SEED_PURPOSE, nobody, seed), self._vault.seal(KEY_PURPOSE, nobody, after)
        )

    # steps 1 to 10, inside the session of the external PN GW

    async def offer(self, peer: GatewayPeer, request: m.CmAssignRequest) -> m.CmAssignResponse:
        """Give a Key Seed for a PNE of that PN GW (CM-1, CM-2).

        Raises:
            Refused: the PNE is not behind that PN GW, may not be assigned one, or too many are under way.
        """
        now = self._clock.monotonic()
        for txn, older in list(peer.assignments.items()):
            if now - older.since > ASSIGNMENT_SECONDS:
                del peer.assignments[txn]
        if request.txn in peer.assignments:
            raise Refused(Result.IN_PROGRESS, "txn_in_use")
        if len(peer.assignments) >= MAX_ASSIGNMENTS:
            raise Refused(Result.TOO_MANY, "too_many_assignments")
        session = self._sessions.with_peer(request.pne_id)
        if session is None or session.via != peer.gateway_id:
            raise Refused(Result.NOT_A_MEMBER, "not_behind_this_gateway")
        state, response = cm_assign.offer(
            request,
            gateway=peer.gateway_id,
            key_seed=Secret(self._random(r.KEY_BYTES)),
            rand=rand_server(self._process_key, self._random(32), request.txn),
        )
        peer.assignments[request.txn] = Assignment(state, now)  # before anything is awaited: it counts
        try:
            await self._store.check_cm_assignable(request.pne_id, peer.gateway_id)
        except Refused:
            del peer.assignments[request.txn]
            raise
        return response

    async def identify(self, peer: GatewayPeer, request: m.CmIdRequest) -> m.CmIdResponse:
        """Verify the CM Device ID that the PN GW made, and show that we derive the same key (CM-5, CM-6)."""
        found = self._take(peer, request.txn)
        try:
            if found is None or not isinstance(found.state, cm_assign.AwaitingId):
                raise AuthenticationFailed("no_such_assignment")
            state, response = cm_assign.identify(found.state, request, self._own_id)
        except Refused as error:
            self._refusals.peer(peer.gateway_id, error.reason, peer.gateway_id)
            return m.CmIdResponse(request.txn, error.result)
        peer.assignments[request.txn] = Assignment(state, found.since)
        return response

    async def confirm(
        self, peer: GatewayPeer, request: m.CmConfirmRequest
    ) -> tuple[m.CmConfirmResponse, list[EntityId]]:
        """Verify the PN GW's code, and commit (CM-9, CM-10); return the answer, and CM Devices that ended with it."""
        found = self._take(peer, request.txn)
        try:
            if found is None or not isinstance(found.state, cm_assign.AwaitingCode):
                raise AuthenticationFailed("no_such_assignment")
            assigned = cm_assign.confirm(found.state, request)
            device = assigned.cm_device_id
            sealed = self._vault.seal(SEED_PURPOSE, device, assigned.key_seed)
            seed_print = fingerprint(assigned.key_seed)
            ended = await self._store.assign_cm(
                NewCmDevice(device, assigned.gateway_id, assigned.pne_id, sealed, seed_print, self._clock.now())
            )
        except Refused as error:
            self._refusals.peer(peer.gateway_id, error.reason, peer.gateway_id)
            return m.CmConfirmResponse(request.txn, error.result), []
        return m.CmConfirmResponse(request.txn, Result.SUCCESS, device), ended

    def _take(self, peer: GatewayPeer, txn: bytes) -> Assignment | None:
        """Return an assignment, which is not under way any more: a step that fails leaves nothing."""
        found = peer.assignments.pop(txn, None)
        stale = found is not None and self._clock.monotonic() - found.since > ASSIGNMENT_SECONDS
        return None if stale else found

    async def release(self, peer: GatewayPeer, request: m.CmReleaseRequest) -> m.CmReleaseResponse:
        """Forget what its CM Device did not take."""
        await self._store.release_cm(request.cm_device_id, peer.gateway_id, self._clock.now())
        return m.CmReleaseResponse(Result.SUCCESS)

    # steps 12 to 16, on the CM Device's own connection

    async def activate(self, request: CmActivateRequest, party: Party) -> tuple[Activation, CmActivateResponse]:
        """Check a CM Device's code, and answer with ours (CM-13, CM-14). Nothing is stored.

        *party* is who asks. Messages under its session are opened from now on; it stands with `begin`.

        Raises:
            Refused: an unknown or revoked ID, another key, a code that was answered before: all look alike.
        """
        device = request.cm_device_id
        found = await self._store.cm_device(device)
        keys, reason = self._keys(device, found)
        kid = self._sessions.reserve((self._random(KID_BYTES) for _ in range(64)), request.kid)
        try:
            answered, response = cm_activate.activate(
                request,
                own_id=self._own_id,
                keys=keys,
                lowest_suite=self._lowest_suite,
                rand=rand_server(self._process_key, self._random(32), request.rand[: r.TXN_BYTES]),
                kid=kid,
                eph_seed=self._random(SEED_BYTES),
                electives=self._electives,
            )
            code = request.code
            if found is None or code in self._codes:
                raise AuthenticationFailed("replayed_code")
            self._codes[code] = None
            if len(self._codes) > REMEMBERED_CODES:
                self._codes.popitem(last=False)
            now = self._clock.monotonic()
            session = session_of(answered.established, now)
            self._sessions.expect(session)
            generation = found.device.generation + answered.which
            return Activation(session, generation, answered.which == 1, keys[answered.which], now), response
        except Refused as error:
            self._refusals.peer(device, reason or error.reason, party)
            raise
        finally:
            self._sessions.release([kid])

    def _keys(self, device: EntityId, found: CmCredential | None) -> tuple[list[Secret], str]:
        """Return two keys to try, the present one and the next; decoy keys, and why, where there are none."""
        substitute = decoy_key(self._decoys, device)
        known = found or self._decoy  # the same work for all, so that it does not tell which IDs exist
        owner, sealed_next = known.device.cm_device_id, known.sealed_next
        if sealed_next is None:
            owner, sealed_next = self._decoy.device.cm_device_id, self._decoy.sealed_next or b""
        try:
            keys = [self.key(known), self._vault.open(KEY_PURPOSE, owner, sealed_next)]
        except AuthenticationFailed:
            return [substitute, substitute], "stored_key_does_not_open"
        if found is None:
            return [substitute, substitute], "unknown"
        if found.device.state is not State.ACTIVE:
            return [substitute, substitute], "revoked"
        return (keys if found.sealed_next is not None else [keys[0], substitute]), ""

    def key(self, found: CmCredential) -> Secret:
        """Return the CM Device Key in use; at generation 0 it is derived from CM Device ID and Key Seed (CM-13).

        Raises:
            AuthenticationFailed: what is stored does not open.
        """
        device = found.device
        first = device.generation == 0
        stored = self._vault.open(SEED_PURPOSE if first else KEY_PURPOSE, device.cm_device_id, found.sealed)
        derived = cm.cm_device_key(stored, device.cm_device_id, device.gateway_id, self._own_id)
        return derived if first else stored

    async def begin(
        self, activation: Activation, beside: Callable[[], Awaitable[None]]
    ) -> tuple[GatewayPeer, list[EntityId]]:
        """The first message has opened: commit, *beside* too, and let the session replace an older one (CM-16).

        Returns:
            The embedded PN GW, and CM Devices that ended with it.

        Raises:
            Refused: it was revoked, or has taken up another key, meanwhile; or another has its key too, and it has to
                wait.
        """
        session = activation.session
        try:
            if self._waits(session.peer_id):
                raise Refused(Result.TOO_MANY, "cloned")
            begins = self._store.activate_cm(session.peer_id, activation.generation, self._clock.now())
            ended, _ = await asyncio.gather(begins, beside())
            pns = await self._store.networks_of(session.peer_id)
            if self._is_barred(session.peer_id):  # revoked behind that commit: nothing was there to end
                raise AuthenticationFailed("revoked")
        except Refused as error:
            self._sessions.remove(session)
            self._refusals.peer(session.peer_id, error.reason, session.peer_id)
            raise
        self._sessions.add(session)
        prk = gateway_prk(session.keys.exporter(), activation.key)
        return GatewayPeer(session.peer_id, session, prk, [*pns], pns), ended

    # a fresh key, inside the end-to-end session of the CM Device's own PNE

    async def rekey(self, source: Session, request: m.CmRekeyRequest) -> m.CmRekeyResponse:
        """Agree on the next key; the present one serves until a session under the next one begins.

        Raises:
            Refused: it is not that PNE's CM Device, it is revoked, or that is not the next generation.
        """
        device = request.cm_device_id
        found = await self._store.cm_device(device)
        rules.rekey(None if found is None else found.device, request.generation, actors.pne(source.peer_id))
        if found is None:
            raise Refused(Result.NOT_ALLOWED, "not_its_cm_device")
        rand = self._random(r.RAND_BYTES)
        exporter = source.keys.exporter()
        fresh = cm.rekey(exporter, self.key(found), device, request.generation, request.rand, rand)
        sealed = self._vault.seal(KEY_PURPOSE, device, fresh)
        await self._store.rekey_cm(device, source.peer_id, request.generation, sealed, self._clock.now())
        return m.CmRekeyResponse(Result.SUCCESS, rand)
