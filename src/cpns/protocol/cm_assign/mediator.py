"""The external PN GW: makes ID and key of a CM Device from the Key Seed that the server gave (CM-3, CM-7, CM-8).

begin   -> AwaitingSeed    sends CM-ASSIGN Request
derive  -> AwaitingCode    sends CM-ID Request        (steps 2 to 4)
confirm -> AwaitingReply   sends CM-CONFIRM Request   (steps 6 to 8)
finish  -> CmKey                                      (step 10)

The Key Seed is used in `derive` and kept in no state.
"""

from dataclasses import dataclass, field

from cpns.crypto import cm, primitives
from cpns.crypto.secret import Secret
from cpns.domain.cm import CmKey
from cpns.errors import AuthenticationFailed, Refused, Result
from cpns.ids import EntityId
from cpns.wire.cm_messages import (
    CmAssignRequest,
    CmAssignResponse,
    CmConfirmRequest,
    CmConfirmResponse,
    CmIdRequest,
    CmIdResponse,
)


@dataclass(frozen=True, slots=True)
class AwaitingSeed:
    """CM-ASSIGN Request is on its way."""

    txn: bytes
    own_id: EntityId
    server_id: EntityId


@dataclass(frozen=True, slots=True)
class AwaitingCode:
    """CM-ID Request is on its way: the server has to show that it derives the same key."""

    txn: bytes
    made: CmKey
    confirm_key: Secret = field(repr=False)
    rand_s: bytes
    rand_g: bytes


@dataclass(frozen=True, slots=True)
class AwaitingReply:
    """CM-CONFIRM Request is on its way."""

    txn: bytes
    made: CmKey


def begin(
    *, txn: bytes, device: EntityId, own_id: EntityId, server_id: EntityId
) -> tuple[AwaitingSeed, CmAssignRequest]:
    """Start for the PNE *device* of ours."""
    return AwaitingSeed(txn, own_id, server_id), CmAssignRequest(device, txn)


def derive(state: AwaitingSeed, response: CmAssignResponse, rand: bytes) -> tuple[AwaitingCode, CmIdRequest]:
    """Take the Key Seed, make CM Device ID and CM Device Key, and name the ID (CM-3, CM-4).

    Raises:
        AuthenticationFailed: the response is of another run.
    """
    _same_run(state.txn, response.txn)
    seed = Secret(response.key_seed)
    device = cm.cm_device_id(seed, state.own_id, state.server_id)
    key = cm.cm_device_key(seed, device, state.own_id, state.server_id)
    confirm_key = cm.confirm_key(key, device, state.own_id, state.server_id)
    made = CmKey(device, 0, key)
    return AwaitingCode(state.txn, made, confirm_key, response.rand, rand), CmIdRequest(state.txn, device, rand)


def confirm(state: AwaitingCode, response: CmIdResponse) -> tuple[AwaitingReply, CmConfirmRequest]:
    """Verify that the server derived the same key, and show that we did (CM-7, CM-8).

    Raises:
        Refused: the server refused our ID.
        AuthenticationFailed: its code is wrong, or of another run.
    """
    _same_run(state.txn, response.txn)
    _accepted(response.result)
    code_s = cm.code_server(state.confirm_key, state.rand_s, state.rand_g)
    if response.code is None or not primitives.equal(code_s, response.code):
        raise AuthenticationFailed("wrong_code_of_the_server")
    code_g = cm.code_gateway(state.confirm_key, state.rand_s, state.rand_g, code_s)
    return AwaitingReply(state.txn, state.made), CmConfirmRequest(state.txn, code_g)


def finish(state: AwaitingReply, response: CmConfirmResponse) -> CmKey:
    """Take the reply of step 10; return what the CM Device is to get (CM-11).

    Raises:
        Refused: the server did not take our code.
        AuthenticationFailed: it confirms another ID, or another run.
    """
    _same_run(state.txn, response.txn)
    _accepted(response.result)
    if response.cm_device_id != state.made.cm_device_id:
        raise AuthenticationFailed("server_confirms_another_id")
    return state.made


def _same_run(own: bytes, named: bytes) -> None:
    if own != named:
        raise AuthenticationFailed("txn_of_another_run")


def _accepted(result: int) -> None:
    if result != Result.SUCCESS:
        raise Refused(Result.told(result, Result.AUTHENTICATION_FAILED), "server_refused_the_assignment")
