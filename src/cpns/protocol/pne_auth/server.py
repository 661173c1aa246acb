"""The server's part of 7.5.4, for up to 64 PNEs at once.

    screen    which entries may go on; the others have their result already
    challenge -> AwaitingProofs   sends one AUTHENTICATE Request    (AUTH-S1, AUTH-S2)
    verify    -> list of Verdict  for one SETUP Response            (AUTH-S3, AUTH-S4)

`verify` does the same work for every entry, known PNE or not, and does not stop at a bad one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cpns.crypto.ephemeral import Responder
from cpns.crypto.local_eukey import GatewayWrap
from cpns.crypto.schedule import Profile, Proofs, Schedule
from cpns.crypto.secret import Secret
from cpns.errors import TOLD_TO_THE_PROVEN, AuthenticationFailed, Refused, Result
from cpns.ids import EntityId, PnId
from cpns.protocol.established import Established
from cpns.protocol.pne_auth.transcript import transcript_of
from cpns.wire.codec import carrying, electives_of
from cpns.wire.declare import Electives
from cpns.wire.messages import (
    ChallengeEntry,
    GatewayChallenge,
    GatewayProofs,
    GatewaySetupRequest,
    SetupEntry,
)
from cpns.wire.registry import PROOF_BYTES


@dataclass(frozen=True, slots=True)
class Screened:
    """The entries that go on, and why the others don't."""

    entries: tuple[SetupEntry, ...]
    refused: Mapping[EntityId, Refused]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The random values of one AUTHENTICATE Request; `kids` and `local_eukeys` have one for each entry."""

    rand: bytes
    eph_seed: bytes
    kids: Sequence[bytes]
    local_eukeys: Sequence[Secret]


@dataclass(frozen=True, slots=True)
class _Pending:
    entry: SetupEntry
    th0: bytes
    kid: bytes
    proofs: Proofs = field(repr=False)


@dataclass(frozen=True, slots=True)
class AwaitingProofs:
    """The AUTHENTICATE Request is on its way; good for one answer."""

    txn: bytes
    server_id: EntityId
    pending: tuple[_Pending, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it ended for one PNE: with result 0 there are its session and hash_server.

    Attributes:
        reason: for the audit log where the result is not 0.
        hash_pne: as it came; zeros where none did.
    """

    entry: SetupEntry
    result: Result
    reason: str
    proofs: Proofs = field(repr=False)
    hash_pne: bytes = bytes(PROOF_BYTES)
    session: Established | None = None
    hash_server: bytes | None = None

    def refusal(self, result: Result, drawn: bytes) -> bytes:
        """Return what stands in label 14 of a refused entry, which nobody but its PNE can tell from random bytes.

        Args:
            result: how it ended.
            drawn: 16 fresh random bytes, for who did not prove itself, and for results that a PNE is not told; the
                work is the same for all.
        """
        told = self.proofs.hash_refused(self.hash_pne, result)
        return told if self.session is not None and result in TOLD_TO_THE_PROVEN else drawn


def screen(request: GatewaySetupRequest, lowest_suite: int) -> Screened:
    """Sort out the entries that no key could help: ID twice, PAN mismatch, no key for an open PAN, suite too low."""
    counts: dict[EntityId, int] = {}
    for entry in request.entries:
        counts[entry.entity_id] = counts.get(entry.entity_id, 0) + 1
    entries: list[SetupEntry] = []
    refused: dict[EntityId, Refused] = {}
    for entry in request.entries:
        if counts[entry.entity_id] > 1:
            refused[entry.entity_id] = Refused(Result.BAD_REQUEST, "bad_request")
        elif entry.pan_secure != request.pan_secure:
            refused[entry.entity_id] = Refused(Result.PAN_MISMATCH, "pan_mismatch")
        elif not (entry.need_local or request.pan_secure):  # AUTH-P6: nothing would protect what its PN GW tells it
            refused[entry.entity_id] = AuthenticationFailed("no_local_eukey_on_open_pan")
        elif entry.suite < lowest_suite:
            refused[entry.entity_id] = Refused(Result.SUITE_REFUSED, "suite_refused")
        else:
            entries.append(entry)
    return Screened(tuple(entries), refused)


def challenge(
    screened: Screened,
    *,
    txn: bytes,
    server_id: EntityId,
    gateway_id: EntityId,
    pn_id: PnId,
    keys: Mapping[EntityId, Secret],
    gateway_prk: Secret,
    drawn: Drawn,
    electives: Electives = (),
) -> tuple[AwaitingProofs, GatewayChallenge | None, dict[EntityId, Refused]]:
    """Return the state, the AUTHENTICATE Request (None when no entry is left), and entries refused on the way.

    Args:
        screened: what `screen` returned.
        txn: of the SETUP Request.
        server_id: this server.
        gateway_id: the PN GW that the session proved, never a field of the message.
        pn_id: as the server names it.
        keys: EUKey, or a decoy key, for every entry.
        gateway_prk: wraps the PN GW's LocalEUKey copies.
        drawn: fresh random values.
        electives: for each entry that has some: who says none may know none.
    """
    responder, for_gateway = Responder(drawn.eph_seed), GatewayWrap(gateway_prk)
    pending: list[_Pending] = []
    entries: list[ChallengeEntry] = []
    refused: dict[EntityId, Refused] = {}
    shared_eph = False
    for entry, kid, local_eukey in zip(screened.entries, drawn.kids, drawn.local_eukeys, strict=True):
        try:
            ss, eph = responder.agree(entry.suite, entry.eph)
        except AuthenticationFailed as error:
            refused[entry.entity_id] = error
            continue
        own = electives if electives_of(entry) else ()
        th0 = transcript_of(entry, server_id, gateway_id, pn_id, drawn.rand, kid, eph, own).th0()
        schedule = Schedule(keys[entry.entity_id], th0, ss)
        wrapped = wrapped_gateway = None
        if entry.need_local:
            wrapped = schedule.wrap(local_eukey)
            wrapped_gateway = for_gateway.wrap(th0, local_eukey)
        pending.append(_Pending(entry, th0, kid, schedule.proofs(entry.rand, drawn.rand, wrapped)))
        shared_eph = shared_eph or entry.suite == 2
        own_eph = eph if entry.suite == 3 else None
        entries.append(carrying(ChallengeEntry(entry.entity_id, kid, own_eph, wrapped, wrapped_gateway), own))
    message = None
    if entries:
        eph = responder.x25519 if shared_eph else None
        message = GatewayChallenge(txn, server_id, drawn.rand, tuple(entries), pn_id, eph)
    return AwaitingProofs(txn, server_id, tuple(pending)), message, refused


def verify(state: AwaitingProofs, message: GatewayProofs) -> list[Verdict]:
    """Take the AUTHENTICATE Response and return a verdict on every PNE that was challenged.

    Raises:
        Refused: another txn, or a PNE that was not challenged or comes twice: an honest PN GW sends neither.
    """
    if message.txn != state.txn:
        raise Refused(Result.BAD_REQUEST, "txn_not_outstanding")
    known = {item.entry.entity_id for item in state.pending}
    answers = {entry.entity_id: entry for entry in message.entries}
    if len(answers) != len(message.entries) or not answers.keys() <= known:
        raise Refused(Result.BAD_REQUEST, "proof_for_a_pne_not_challenged")
    verdicts = []
    for item in state.pending:
        answer = answers.get(item.entry.entity_id)
        if answer is None or answer.proof is None:
            verdicts.append(Verdict(item.entry, Result.NO_ANSWER, "no_answer", item.proofs))
            continue
        hash_server = item.proofs.hash_r(answer.proof)
        try:
            item.proofs.verify_i(answer.proof)
        except AuthenticationFailed as error:
            verdicts.append(Verdict(item.entry, error.result, error.reason, item.proofs, answer.proof))
            continue
        session = Established(
            Profile.PNE_SERVER,
            state.server_id,
            item.entry.entity_id,
            item.kid,
            item.entry.kid,
            item.proofs.session_keys(answer.proof, hash_server),
            item.th0,
        )
        verdicts.append(
            Verdict(item.entry, Result.SUCCESS, "", item.proofs, answer.proof, session=session, hash_server=hash_server)
        )
    return verdicts
