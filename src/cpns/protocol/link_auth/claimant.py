"""The claimant of 7.5.5: a PN GW before the server, or a PNE before its PN GW.

begin  -> AwaitingChallenge   sends ACTIVATE Request        (M1)
answer -> AwaitingProof       sends AUTHENTICATE Response   (M2 -> M3)
finish -> Established                                       (M4)
"""

from dataclasses import dataclass, field

from cpns.crypto.ephemeral import Ephemeral, agree_as_initiator, initiate
from cpns.crypto.schedule import Profile, Proofs, Schedule, Transcript
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from cpns.ids import EntityId
from cpns.protocol.established import Established
from cpns.wire.codec import carrying, electives_of
from cpns.wire.declare import Electives
from cpns.wire.messages import (
    ActivateRequest,
    ActivateResponse,
    LinkChallengeFromGateway,
    LinkChallengeFromServer,
    Proof,
)


@dataclass(frozen=True, slots=True)
class AwaitingChallenge:
    """M1 is on its way."""

    profile: Profile
    own_id: EntityId
    responder_id: EntityId
    key: Secret
    rand: bytes
    kid: bytes
    ephemeral: Ephemeral
    binding: bytes | None
    electives: Electives = ()


@dataclass(frozen=True, slots=True)
class AwaitingProof:
    """M3 is on its way: the other side has to prove itself."""

    transcript: Transcript
    th0: bytes
    hash_i: bytes
    proofs: Proofs = field(repr=False)


def begin(
    profile: Profile,
    *,
    own_id: EntityId,
    responder_id: EntityId,
    key: Secret,
    suite: int,
    rand: bytes,
    kid: bytes,
    eph_seed: bytes,
    binding: bytes | None = None,
    electives: Electives = (),
) -> tuple[AwaitingChallenge, ActivateRequest]:
    """Start: return the state and M1. *binding* is th0 of the `pne-server` run in profile `pne-gw`, else None."""
    ephemeral = initiate(suite, eph_seed)
    request = carrying(ActivateRequest(suite, own_id, rand, kid, ephemeral.public), electives)
    said = electives_of(request)
    return AwaitingChallenge(profile, own_id, responder_id, key, rand, kid, ephemeral, binding, said), request


def answer(
    state: AwaitingChallenge, challenge: LinkChallengeFromServer | LinkChallengeFromGateway
) -> tuple[AwaitingProof, Proof]:
    """Take M2 and return M3.

    Raises:
        AuthenticationFailed: it names another responder, reuses our kid, or its ephemeral key does not fit.
    """
    responder = challenge.server_id if isinstance(challenge, LinkChallengeFromServer) else challenge.gateway_id
    if responder != state.responder_id:
        raise AuthenticationFailed("challenge_names_another_responder")
    if challenge.kid == state.kid:
        raise AuthenticationFailed("kids_are_equal")
    transcript = Transcript(
        profile=state.profile,
        suite=state.ephemeral.suite,
        responder=state.responder_id,
        initiator=state.own_id,
        rand_i=state.rand,
        kid_i=state.kid,
        eph_i=state.ephemeral.public,
        rand_r=challenge.rand,
        kid_r=challenge.kid,
        eph_r=challenge.eph,
        binding=state.binding,
        electives_i=state.electives,
        electives_r=electives_of(challenge),
    )
    th0 = transcript.th0()
    schedule = Schedule(state.key, th0, agree_as_initiator(state.ephemeral, challenge.eph))
    proofs = schedule.proofs(state.rand, challenge.rand, None)
    hash_i = proofs.hash_i()
    return AwaitingProof(transcript, th0, hash_i, proofs), Proof(state.own_id, hash_i)


def finish(state: AwaitingProof, response: ActivateResponse) -> Established:
    """Take M4: the responder is authenticated and the session stands.

    Raises:
        AuthenticationFailed: the responder refused, or its proof is wrong.
    """
    if response.result != 0 or response.proof is None:
        raise AuthenticationFailed(f"refused_with_{response.result}")
    state.proofs.verify_r(state.hash_i, response.proof)
    transcript = state.transcript
    return Established(
        transcript.profile,
        transcript.initiator,
        transcript.responder,
        transcript.kid_i,
        transcript.kid_r,
        state.proofs.session_keys(state.hash_i, response.proof),
        state.th0,
    )
