"""The verifier of 7.5.5: the server before a PN GW, or a PN GW before its PNE.

(the caller reads the claimed ID off M1 and fetches that one key)
challenge -> AwaitingProof    sends AUTHENTICATE Request   (M1 -> M2)
verify    -> Established      sends ACTIVATE Response      (M3 -> M4)
refuse                        sends ACTIVATE Response, where the run failed
"""

from dataclasses import dataclass, field

from cpns.crypto.ephemeral import Responder
from cpns.crypto.schedule import Profile, Proofs, Schedule, Transcript
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, Refused, Result, uniform
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
class AwaitingProof:
    """M2 is on its way: the claimant has to prove itself."""

    transcript: Transcript
    th0: bytes
    proofs: Proofs = field(repr=False)


def challenge(
    profile: Profile,
    request: ActivateRequest,
    *,
    own_id: EntityId,
    key: Secret,
    lowest_suite: int,
    rand: bytes,
    kid: bytes,
    eph_seed: bytes,
    binding: bytes | None = None,
    electives: Electives = (),
) -> tuple[AwaitingProof, LinkChallengeFromServer | LinkChallengeFromGateway]:
    """Take M1 and return M2, with *electives* where M1 has some: else the claimant may know none.

    Raises:
        Refused: SUITE_REFUSED, a suite under *lowest_suite*.
        AuthenticationFailed: the ephemeral key does not fit its suite.
    """
    if request.suite < lowest_suite:
        raise Refused(Result.SUITE_REFUSED, "suite_too_low")
    said = electives_of(request)
    own = electives if said else ()
    ss, eph = Responder(eph_seed).agree(request.suite, request.eph)
    transcript = Transcript(
        profile=profile,
        suite=request.suite,
        responder=own_id,
        initiator=request.entity_id,
        rand_i=request.rand,
        kid_i=request.kid,
        eph_i=request.eph,
        rand_r=rand,
        kid_r=kid,
        eph_r=eph,
        binding=binding,
        electives_i=said,
        electives_r=own,
    )
    th0 = transcript.th0()
    proofs = Schedule(key, th0, ss).proofs(request.rand, rand, None)
    shape = LinkChallengeFromServer if profile is Profile.GW_SERVER else LinkChallengeFromGateway
    return AwaitingProof(transcript, th0, proofs), carrying(shape(own_id, rand, kid, eph), own)


def verify(state: AwaitingProof, proof: Proof) -> tuple[Established, ActivateResponse]:
    """Take M3: the claimant is authenticated and the session stands; return M4.

    Raises:
        AuthenticationFailed: another ID than in M1, or a wrong hash.
    """
    transcript = state.transcript
    if proof.entity_id != transcript.initiator:
        raise AuthenticationFailed("proof_names_another_claimant")
    state.proofs.verify_i(proof.proof)
    hash_r = state.proofs.hash_r(proof.proof)
    established = Established(
        transcript.profile,
        transcript.responder,
        transcript.initiator,
        transcript.kid_r,
        transcript.kid_i,
        state.proofs.session_keys(proof.proof, hash_r),
        state.th0,
    )
    return established, ActivateResponse(Result.SUCCESS, hash_r)


def refuse(error: Refused) -> ActivateResponse:
    """Return M4 of a run that ended in *error*: no more than a stranger may hear."""
    return ActivateResponse(uniform(error.result))
