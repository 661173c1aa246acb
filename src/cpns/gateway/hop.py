"""The hop session between PN GW and PNE, from the LocalEUKey (AUTH-G4), and what it protects (SES-6)."""

from collections import Counter
from typing import Final

from cpns.crypto.ephemeral import SEED_BYTES
from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, Refused, Result
from cpns.gateway.config import GatewayConfig
from cpns.gateway.members import Member, Members, Pan
from cpns.ids import EntityId
from cpns.ports import Clock, Randomness
from cpns.protocol.link_auth import verifier
from cpns.service.places import place
from cpns.service.sessions import session_of
from cpns.shares.room import Room
from cpns.transport.endpoint import Link
from cpns.wire import registry
from cpns.wire.messages import ActivateRequest, ActivateResponse, Proof

KID_BYTES: Final = 2
STRANGERS_RUNS: Final = 64
"""Runs at once of those who are no member at its own address; shared out by address."""
UNSHOWN_RUNS: Final = 16
"""Of these, all that there are under load for those that do not show that their address is their own."""
OWN_RUNS: Final = 2
"""Runs at once of one member at its own address: one with a forged source does not push its own out."""


class Hop:
    """The verifier's side of `pne-gw` on one PAN.

    Args:
        pan: this PAN, an open one.
    """

    def __init__(self, config: GatewayConfig, members: Members, pan: Pan, clock: Clock, random: Randomness) -> None:
        self._config = config
        self._members = members
        self._pan = pan
        self._hops = pan.hops
        self._clock = clock
        self._random = random
        self._strangers = Room(STRANGERS_RUNS, 0, clock.monotonic, unshown=UNSHOWN_RUNS)
        self._own: Counter[EntityId] = Counter()

    def __len__(self) -> int:
        """Runs under way."""
        return len(self._strangers) + self._own.total()

    def stands(self, pne_id: EntityId) -> bool:
        """Whether a hop session with *pne_id* stands; then its unprotected messages are refused (SES-6).

        One that the PNE never used does not count: it may not know of it.
        """
        session = self._hops.with_peer(pne_id)
        return session is not None and session.confirmed

    async def activate(self, request: ActivateRequest, link: Link, *, shown: bool) -> ActivateResponse:
        """Run `pne-gw` with a PNE (M1 in, M4 out).

        A member at the address where it proved itself has a place of its own. To all others it looks the same whether
        they name a member or not.

        Raises:
            Refused: TOO_MANY ask.
            AddressUnproven: it has to show that its address is its own, see `Cookies`.
        """
        try:
            return await self._with_a_place(request, link, shown)
        except Refused as error:
            if error.result is Result.TOO_MANY:
                raise
            return verifier.refuse(error)

    async def _with_a_place(self, request: ActivateRequest, link: Link, shown: bool) -> ActivateResponse:
        """Run it in a place of its share. Raises `Refused`: also where a session stands, or the PNE proves nothing."""
        pne, member = request.entity_id, self._members.get(request.entity_id)
        if member is None or member.proved_at != link:
            async with place(self._strangers, link.party(None).host, shown=shown) as run:
                response = await self._verified(request, link, None if self.stands(pne) else member)
                run.proved = True
                return response
        if self.stands(pne):
            raise AuthenticationFailed("hop_session_stands")
        if self._own[pne] >= OWN_RUNS:
            raise Refused(Result.TOO_MANY, "too_many_activations")
        self._own[pne] += 1
        try:
            return await self._verified(request, link, member)
        finally:
            self._own -= Counter([pne])

    async def _verified(self, request: ActivateRequest, link: Link, member: Member | None) -> ActivateResponse:
        key, binding = Secret(self._random(registry.KEY_BYTES)), self._random(32)  # a stranger's: fails at M3
        if member is not None and member.hop_key is not None:
            key, binding = member.hop_key, member.th0
        kid = self._hops.reserve((self._random(KID_BYTES) for _ in range(64)), request.kid)
        try:
            state, challenge = verifier.challenge(
                Profile.PNE_GW,
                request,
                own_id=self._config.gateway_id,
                key=key,
                lowest_suite=self._config.lowest_suite,
                rand=self._random(registry.RAND_BYTES),
                kid=kid,
                eph_seed=self._random(SEED_BYTES),
                binding=binding,
                electives=self._config.electives,
            )
            proof = await link.ask(challenge, Proof, timeout=self._config.answer_timeout, limit=registry.MAX_PAN_BODY)
            established, response = verifier.verify(state, proof)
            if self.stands(request.entity_id) or self._members.binding(request.entity_id) != binding:
                raise AuthenticationFailed("overtaken")
            self._hops.add(session_of(established, self._clock.monotonic()))
            self._members.hopped(request.entity_id, self._pan, link, self._clock.monotonic())
        finally:
            self._hops.release([kid])
        return response
