"""The CM Device: shows that it has the CM Device Key, and verifies that the server has it too (CM-12, CM-15).

begin  -> AwaitingResponse   sends ACTIVATE Request
finish -> Established
"""

from dataclasses import dataclass, field, replace

from cpns.crypto import cm
from cpns.crypto.ephemeral import Ephemeral, agree_as_initiator, initiate
from cpns.crypto.schedule import Profile, Schedule, Transcript
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from cpns.ids import EntityId
from cpns.protocol.established import Established
from cpns.wire.codec import carrying, electives_of
from cpns.wire.declare import Electives
from cpns.wire.messages import CmActivateRequest, CmActivateResponse


@dataclass(frozen=True, slots=True)
class AwaitingResponse:
    """ACTIVATE Request is on its way."""

    own_id: EntityId
    server_id: EntityId
    key: Secret = field(repr=False)
    rand: bytes
    kid: bytes
    ephemeral: Ephemeral
    code_i: bytes
    electives: Electives = ()


def begin(
    *,
    own_id: EntityId,
    server_id: EntityId,
    key: Secret,
    suite: int,
    rand: bytes,
    kid: bytes,
    eph_seed: bytes,
    electives: Electives = (),
) -> tuple[AwaitingResponse, CmActivateRequest]:
    """Start: CM Device ID, and a code that confirms that we have the key (CM-12). *suite* is 2 or 3."""
    ephemeral = initiate(suite, eph_seed)
    hello = cm.hello_key(key, own_id, server_id)
    request = carrying(CmActivateRequest(suite, own_id, rand, kid, b"", ephemeral.public), electives)
    said = electives_of(request)
    code_i = cm.code_hello(hello, suite, server_id, own_id, rand, kid, ephemeral.public, said)
    state = AwaitingResponse(own_id, server_id, key, rand, kid, ephemeral, code_i, said)
    return state, replace(request, code=code_i)


def finish(state: AwaitingResponse, response: CmActivateResponse) -> Established:
    """Verify the server's code: both are authenticated, and the session stands (CM-15, CM-16).

    Raises:
        AuthenticationFailed: the response names another server, reuses our kid, or its code is wrong.
    """
    if response.result != 0:
        raise AuthenticationFailed(f"refused_with_{response.result}")
    if response.server_id != state.server_id:
        raise AuthenticationFailed("response_names_another_server")
    if response.kid == state.kid:
        raise AuthenticationFailed("kids_are_equal")
    transcript = Transcript(
        profile=Profile.CM_SERVER,
        suite=state.ephemeral.suite,
        responder=state.server_id,
        initiator=state.own_id,
        rand_i=state.rand,
        kid_i=state.kid,
        eph_i=state.ephemeral.public,
        rand_r=response.rand,
        kid_r=response.kid,
        eph_r=response.eph,
        binding=state.code_i,
        electives_i=state.electives,
        electives_r=electives_of(response),
    )
    th0 = transcript.th0()
    schedule = Schedule(state.key, th0, agree_as_initiator(state.ephemeral, response.eph))
    proofs = schedule.proofs(state.rand, response.rand, None)
    proofs.verify_r(state.code_i, response.code)
    keys = proofs.session_keys(state.code_i, response.code)
    return Established(Profile.CM_SERVER, state.own_id, state.server_id, state.kid, response.kid, keys, th0)
