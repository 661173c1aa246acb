"""The PN GW's part of 7.5.4, for up to 64 PNEs at once.

    gather     -> AwaitingChallenge   sends one SETUP Request to the server             (AUTH-G1)
    distribute -> AwaitingProofs      sends each PNE its own AUTHENTICATE Request       (AUTH-G2, AUTH-G3)
    collect    -> AwaitingOutcome     sends one AUTHENTICATE Response to the server     (AUTH-G5)
    conclude   -> Concluded           sends each PNE its SETUP Response                 (AUTH-G6)

The PN GW carries proofs that it can neither make nor check; what it learns is one LocalEUKey a PNE.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cpns.crypto.local_eukey import open_at_gateway
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, Result, uniform
from cpns.ids import EntityId, PnId
from cpns.protocol.pne_auth.transcript import transcript_of
from cpns.wire.codec import carrying, electives_of
from cpns.wire.messages import (
    Challenge,
    GatewayChallenge,
    GatewayProofs,
    GatewaySetupRequest,
    GatewaySetupResponse,
    InvitationAccepted,
    ProofEntry,
    SetupEntry,
    SetupRequest,
    SetupResponse,
)


@dataclass(frozen=True, slots=True)
class AwaitingChallenge:
    """The SETUP Request is on its way to the server."""

    txn: bytes
    entries: Mapping[EntityId, SetupEntry]
    pan_secure: bool


@dataclass(frozen=True, slots=True)
class Assigned:
    """What this run gives one PNE, kept aside until the server says that it succeeded; `kid` is kid_R."""

    th0: bytes
    local_eukey: Secret | None
    kid: bytes


@dataclass(frozen=True, slots=True)
class AwaitingProofs:
    """Each PNE has its AUTHENTICATE Request.

    Attributes:
        unkeyed: who asked for no LocalEUKey on an open PAN, and gets none of what the server sent for it: whatever
            that says, it is not let in (AUTH-G4).
    """

    txn: bytes
    asked: tuple[EntityId, ...]
    assigned: Mapping[EntityId, Assigned]
    unkeyed: tuple[EntityId, ...] = ()


@dataclass(frozen=True, slots=True)
class Concluded:
    """How it ended for one PNE: what to send it, and what to keep where the result is 0."""

    response: SetupResponse
    assigned: Assigned | None


def gather(
    requests: Sequence[SetupRequest], *, txn: bytes, pan_secure: bool, pn_id: PnId | None, alias: str | None
) -> tuple[AwaitingChallenge, GatewaySetupRequest]:
    """Put the SETUP Requests of different PNEs, at most 64, into one for the server, with their electives."""
    entries = tuple(
        carrying(
            SetupEntry(r.suite, r.entity_id, r.rand, r.kid, r.need_local, r.pan_secure, r.procedure, r.eph),
            electives_of(r),
        )
        for r in requests
    )
    message = GatewaySetupRequest(txn, pan_secure, entries, pn_id, name=alias)
    return AwaitingChallenge(txn, {entry.entity_id: entry for entry in entries}, pan_secure), message


def accepted(answer: InvitationAccepted, asked: EntityId, procedure: int, pn_id: PnId | None) -> SetupRequest:
    """Return what an invited PNE said as the SETUP Request that an originating one would have sent.

    Raises:
        AuthenticationFailed: it names another PNE than the one that was asked.
    """
    a = answer
    if a.entity_id != asked:
        raise AuthenticationFailed("acceptance_names_another_pne")
    said = SetupRequest(a.suite, a.entity_id, a.rand, a.kid, a.need_local, a.pan_secure, procedure, a.eph, pn_id)
    return carrying(said, electives_of(answer))


def distribute(
    state: AwaitingChallenge,
    message: GatewayChallenge,
    *,
    own_id: EntityId,
    server_id: EntityId,
    prk: Secret,
    plain: bool = False,
) -> tuple[AwaitingProofs, dict[EntityId, Challenge]]:
    """Take the server's AUTHENTICATE Request; return each PNE's own.

    Args:
        state: what was asked.
        message: the server's message.
        own_id: this PN GW.
        server_id: whom the session with the server proved.
        plain: whether the server got no electives, as it refused some. Who said any does not get its proof then.
        prk: `gateway_prk` of that session and the PN GW's EUKey, which opens this PN GW's LocalEUKey copies.

    Raises:
        AuthenticationFailed: txn not outstanding, a PNE not asked for or twice, a copy missing, uncalled for, or of
            another run: nothing goes to any PNE then.
    """
    if message.txn != state.txn:
        raise AuthenticationFailed("txn_not_outstanding")
    if message.server_id != server_id or message.pn_id is None:
        raise AuthenticationFailed("challenge_names_another_server_or_no_pn")
    seen: list[EntityId] = []
    challenges: dict[EntityId, Challenge] = {}
    assigned: dict[EntityId, Assigned] = {}
    for entry in message.entries:
        asked = state.entries.get(entry.entity_id)
        if asked is None or entry.entity_id in seen:
            raise AuthenticationFailed("challenge_for_a_pne_not_asked_for")
        asked = carrying(asked, ()) if plain else asked
        seen.append(entry.entity_id)
        if not (entry.wrapped is not None) == (entry.wrapped_gateway is not None) == asked.need_local:
            raise AuthenticationFailed("local_eukey_missing_or_uncalled_for")
        if not (asked.need_local or state.pan_secure):
            continue
        eph = entry.eph if entry.eph is not None else message.eph if asked.suite == 2 else None
        said = electives_of(entry)
        th0 = transcript_of(asked, server_id, own_id, message.pn_id, message.rand, entry.kid, eph, said).th0()
        local = open_at_gateway(prk, th0, entry.wrapped_gateway) if entry.wrapped_gateway is not None else None
        assigned[entry.entity_id] = Assigned(th0, local, entry.kid)
        challenges[entry.entity_id] = carrying(
            Challenge(own_id, server_id, message.pn_id, message.rand, entry.kid, eph, entry.wrapped), said
        )
    unkeyed = tuple(pne for pne in seen if pne not in challenges)
    return AwaitingProofs(state.txn, tuple(seen), assigned, unkeyed), challenges


def collect(state: AwaitingProofs, proofs: Mapping[EntityId, bytes]) -> tuple[AwaitingProofs, GatewayProofs]:
    """Put the hash_PNEs into one AUTHENTICATE Response; a PNE without one is reported as silent."""
    entries = tuple(
        ProofEntry(pne, proof=proofs[pne]) if pne in proofs else ProofEntry(pne, result=Result.NO_ANSWER)
        for pne in state.asked
    )
    return replace(state, asked=()), GatewayProofs(state.txn, entries)


def conclude(
    state: AwaitingChallenge, assigned: Mapping[EntityId, Assigned], message: GatewaySetupResponse
) -> dict[EntityId, Concluded]:
    """Take the server's SETUP Response; return how it ended for every PNE that was asked for.

    A PNE that the server left out, or names with result 0 but without hash_server or without having been asked, has
    failed.

    Raises:
        AuthenticationFailed: txn not outstanding, or a PNE not asked for or twice.
    """
    if message.txn != state.txn:
        raise AuthenticationFailed("txn_not_outstanding")
    ended: dict[EntityId, Concluded] = {}
    for entry in message.entries:
        if entry.entity_id not in state.entries or entry.entity_id in ended:
            raise AuthenticationFailed("outcome_for_a_pne_not_asked_for")
        succeeded = entry.result == Result.SUCCESS and entry.proof is not None and entry.entity_id in assigned
        if succeeded:
            response = SetupResponse(Result.SUCCESS, message.pn_id, entry.proof)
            ended[entry.entity_id] = Concluded(response, assigned[entry.entity_id])
        else:
            proof = None if entry.result == Result.SUCCESS else entry.proof  # for that PNE: it may say why
            ended[entry.entity_id] = Concluded(SetupResponse(_told(entry.result), message.pn_id, proof), None)
    for pne in state.entries:
        ended.setdefault(pne, Concluded(SetupResponse(Result.AUTHENTICATION_FAILED, message.pn_id), None))
    return ended


def _told(result: int) -> Result:
    try:
        finer = Result(result)
    except ValueError:
        return Result.AUTHENTICATION_FAILED
    return Result.AUTHENTICATION_FAILED if finer is Result.SUCCESS else uniform(finer)
