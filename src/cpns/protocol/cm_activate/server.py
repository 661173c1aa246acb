"""The server: checks the CM Device's code, and answers with its own (CM-13, CM-14).

(the caller reads the claimed ID off ACTIVATE Request and fetches the keys of that one)
activate -> Answered   sends ACTIVATE Response
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cpns.crypto import cm, primitives
from cpns.crypto.ephemeral import Responder
from cpns.crypto.schedule import Profile, Schedule, Transcript
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, Refused, Result
from cpns.ids import EntityId
from cpns.protocol.established import Established
from cpns.wire.codec import carrying, electives_of
from cpns.wire.declare import Electives
from cpns.wire.messages import CmActivateRequest, CmActivateResponse
from cpns.wire.registry import Suite

LOWEST_SUITE: Final = Suite.X25519
"""So that neither the PN GW that mediated, nor a Key Seed that leaks later, opens what was recorded."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The server's code is on its way; `which` of the keys the CM Device has."""

    established: Established
    which: int


def activate(
    request: CmActivateRequest,
    *,
    own_id: EntityId,
    keys: Sequence[Secret],
    lowest_suite: int,
    rand: bytes,
    kid: bytes,
    eph_seed: bytes,
    electives: Electives = (),
) -> tuple[Answered, CmActivateResponse]:
    """Check code_I under each of *keys*, and answer with code_R.

    Args:
        request: ACTIVATE Request, with a code.
        own_id: the server.
        keys: that the CM Device may have, or decoy keys. All are tried, so that the time does not tell which one it is.
        lowest_suite: the server's; never under `LOWEST_SUITE`.
        rand: rand_R.
        kid: kid_R.
        eph_seed: makes the server's ephemeral key.
        electives: for a device that says some: another one may know none.

    Raises:
        Refused: SUITE_REFUSED.
        AuthenticationFailed: the code fits none of *keys*, or the ephemeral key does not fit its suite.
    """
    if request.suite < max(lowest_suite, LOWEST_SUITE):
        raise Refused(Result.SUITE_REFUSED, "suite_too_low")
    device, code_i, said = request.cm_device_id, request.code, electives_of(request)
    own = electives if said else ()
    which = _which(request, own_id, keys)
    ss, eph = Responder(eph_seed).agree(request.suite, request.eph)
    transcript = Transcript(
        profile=Profile.CM_SERVER,
        suite=request.suite,
        responder=own_id,
        initiator=device,
        rand_i=request.rand,
        kid_i=request.kid,
        eph_i=request.eph,
        rand_r=rand,
        kid_r=kid,
        eph_r=eph,
        binding=code_i,
        electives_i=said,
        electives_r=own,
    )
    th0 = transcript.th0()
    proofs = Schedule(keys[which], th0, ss).proofs(request.rand, rand, None)
    code_r = cm.code_responder(proofs, code_i)
    session = proofs.session_keys(code_i, code_r)
    established = Established(Profile.CM_SERVER, own_id, device, kid, request.kid, session, th0)
    return Answered(established, which), carrying(CmActivateResponse(0, own_id, rand, kid, code_r, eph), own)


def _which(request: CmActivateRequest, own_id: EntityId, keys: Sequence[Secret]) -> int:
    """Return under which of *keys* the code is right. Raises `AuthenticationFailed`: none."""
    r, fits = request, []
    for key in keys:
        hello = cm.hello_key(key, r.cm_device_id, own_id)
        code = cm.code_hello(hello, r.suite, own_id, r.cm_device_id, r.rand, r.kid, r.eph, electives_of(r))
        fits.append(primitives.equal(code, r.code))
    if True not in fits:
        raise AuthenticationFailed("wrong_code")
    return fits.index(True)
