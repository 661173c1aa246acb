"""The PNE's part of 7.5.4.

    begin  -> AwaitingChallenge   sends SETUP Request, or (`accept`, when invited) SETUP Response   (AUTH-P1, AUTH-P2)
    answer -> AwaitingOutcome     sends AUTHENTICATE Response    (AUTH-P3, AUTH-P4, AUTH-P5)
    finish -> Joined                                             (AUTH-P7)

Each raises where a message does not fit, and the state stays what it was: the PNE drops the message and waits on, so
that a forged one on an open PAN can't end a run.
"""

from dataclasses import dataclass, field

from cpns.crypto.ephemeral import Ephemeral, agree_as_initiator, initiate
from cpns.crypto.schedule import Profile, Proofs, Schedule, Transcript
from cpns.crypto.secret import Secret
from cpns.errors import TOLD_TO_THE_PROVEN, AuthenticationFailed, Refused, Result
from cpns.ids import EntityId, PnId
from cpns.protocol.established import Established
from cpns.wire.codec import carrying, electives_of
from cpns.wire.declare import Electives
from cpns.wire.messages import (
    Challenge,
    InvitationAccepted,
    PnEstablishmentNotify,
    Proof,
    SetupRequest,
    SetupResponse,
)


@dataclass(frozen=True, slots=True)
class AwaitingChallenge:
    """The SETUP Request is on its way.

    Attributes:
        gateway_id: the PN GW that this PNE wants, or None where any will do; the server's proof covers which it is.
    """

    own_id: EntityId
    server_id: EntityId
    gateway_id: EntityId | None
    key: Secret
    rand: bytes
    kid: bytes
    ephemeral: Ephemeral
    need_local: bool
    pan_secure: bool
    procedure: int
    pn_id: PnId | None
    electives: Electives = ()


@dataclass(frozen=True, slots=True)
class AwaitingOutcome:
    """hash_PNE is on its way: the server has to prove itself. The LocalEUKey is kept aside until it has."""

    transcript: Transcript
    th0: bytes
    hash_pne: bytes
    local_eukey: Secret | None
    proofs: Proofs = field(repr=False)


@dataclass(frozen=True, slots=True)
class Joined:
    """Server and PN GW are authenticated, the session with the server stands, the LocalEUKey is kept."""

    session: Established
    gateway_id: EntityId
    pn_id: PnId
    pan_secure: bool
    local_eukey: Secret | None


class NotLetIn(Refused):
    """The server itself says to a PNE that has proven itself that it waits for approval, or that policy is against it.

    Attributes:
        gateway_id: the PN GW that it came through.
        pn_id: the PN that it is not let into.
    """

    def __init__(self, result: Result, gateway_id: EntityId, pn_id: PnId) -> None:
        super().__init__(result, result.name.lower())
        self.gateway_id = gateway_id
        self.pn_id = pn_id


def begin(
    *,
    own_id: EntityId,
    server_id: EntityId,
    gateway_id: EntityId | None,
    key: Secret,
    suite: int,
    rand: bytes,
    kid: bytes,
    eph_seed: bytes,
    need_local: bool,
    pan_secure: bool,
    procedure: int,
    pn_id: PnId | None = None,
    setup_type: int | None = None,
    invite: tuple[EntityId, ...] | None = None,
    electives: Electives = (),
) -> tuple[AwaitingChallenge, SetupRequest]:
    """Start: return the state and the SETUP Request. A PNE on an open PAN always asks for a LocalEUKey.

    *setup_type* and *invite* say whom the PN GW is to invite (types 1 to 3); the proofs do not cover them, as each who
    is invited proves itself.
    """
    need_local = need_local or not pan_secure
    ephemeral = initiate(suite, eph_seed)
    request = carrying(
        SetupRequest(
            *(suite, own_id, rand, kid, need_local, pan_secure, procedure, ephemeral.public, pn_id),
            setup_type=setup_type,
            invite=invite,
        ),
        electives,
    )
    state = AwaitingChallenge(
        *(own_id, server_id, gateway_id, key, rand, kid, ephemeral, need_local, pan_secure, procedure, pn_id),
        electives_of(request),
    )
    return state, request


def accept(request: SetupRequest) -> InvitationAccepted:
    """Return the SETUP Response of an invited PNE: what it would say in the SETUP Request of `begin`."""
    r = request
    said = InvitationAccepted(Result.SUCCESS, r.suite, r.entity_id, r.rand, r.kid, r.need_local, r.pan_secure, r.eph)
    return carrying(said, electives_of(request))


def answer(state: AwaitingChallenge, challenge: Challenge) -> tuple[AwaitingOutcome, Proof]:
    """Take the AUTHENTICATE Request; return the AUTHENTICATE Response with hash_PNE.

    Raises:
        AuthenticationFailed: anything in it does not fit this run; W missing, uncalled for, or made for another run.
    """
    if challenge.server_id != state.server_id:
        raise AuthenticationFailed("challenge_names_another_server")
    if state.gateway_id is not None and challenge.gateway_id != state.gateway_id:
        raise AuthenticationFailed("challenge_names_another_gateway")
    if state.pn_id is not None and challenge.pn_id != state.pn_id:
        raise AuthenticationFailed("challenge_names_another_pn")
    if challenge.kid == state.kid:
        raise AuthenticationFailed("kids_are_equal")
    if (challenge.wrapped is not None) != state.need_local:
        raise AuthenticationFailed("local_eukey_missing_or_uncalled_for")
    transcript = Transcript(
        profile=Profile.PNE_SERVER,
        suite=state.ephemeral.suite,
        responder=state.server_id,
        gw=challenge.gateway_id,
        initiator=state.own_id,
        rand_i=state.rand,
        kid_i=state.kid,
        eph_i=state.ephemeral.public,
        procedure=state.procedure,
        pn_id=challenge.pn_id,
        need_local=state.need_local,
        pan_secure=state.pan_secure,
        rand_r=challenge.rand,
        kid_r=challenge.kid,
        eph_r=challenge.eph,
        electives_i=state.electives,
        electives_r=electives_of(challenge),
    )
    th0 = transcript.th0()
    schedule = Schedule(state.key, th0, agree_as_initiator(state.ephemeral, challenge.eph))
    local_eukey = schedule.unwrap(challenge.wrapped) if challenge.wrapped is not None else None
    proofs = schedule.proofs(state.rand, challenge.rand, challenge.wrapped)
    hash_pne = proofs.hash_i()
    return AwaitingOutcome(transcript, th0, hash_pne, local_eukey, proofs), Proof(state.own_id, hash_pne)


def finish(state: AwaitingOutcome, outcome: SetupResponse | PnEstablishmentNotify) -> Joined:
    """Take hash_server, from the SETUP Response or, at an invited PNE, the PNEstablishmentNotify.

    Raises:
        NotLetIn: the server says so, which only this PNE can read.
        AuthenticationFailed: refused by whomever, another PN, or a wrong hash_server.
    """
    transcript = state.transcript
    if outcome.result != 0 or outcome.proof is None:
        raise _refusal(state, outcome)
    if outcome.pn_id != transcript.pn_id or transcript.gw is None:
        raise AuthenticationFailed("outcome_names_another_pn")
    state.proofs.verify_r(state.hash_pne, outcome.proof)
    session = Established(
        Profile.PNE_SERVER,
        transcript.initiator,
        transcript.responder,
        transcript.kid_i,
        transcript.kid_r,
        state.proofs.session_keys(state.hash_pne, outcome.proof),
        state.th0,
    )
    return Joined(session, transcript.gw, outcome.pn_id, transcript.pan_secure, state.local_eukey)


def _refusal(state: AwaitingOutcome, outcome: SetupResponse | PnEstablishmentNotify) -> Refused:
    """Return what a refusal says: who waits, or meets policy, is told by a MAC, whatever the result beside it."""
    gateway_id, pn_id = state.transcript.gw, state.transcript.pn_id
    if outcome.result != 0 and outcome.proof is not None and gateway_id is not None and pn_id is not None:
        told = state.proofs.told_by(outcome.proof, state.hash_pne, TOLD_TO_THE_PROVEN)
        if told is not None:
            return NotLetIn(Result(told), gateway_id, pn_id)
    return AuthenticationFailed(f"refused_with_{outcome.result}")
