"""The server: gives a Key Seed, and lets the external PN GW show that it made ID and key of it (CM-1, CM-5, CM-9).

offer    -> AwaitingId      sends CM-ASSIGN Response    (steps 1, 2)
identify -> AwaitingCode    sends CM-ID Response        (steps 4 to 6)
confirm  -> Assigned        sends CM-CONFIRM Response   (steps 8 to 10; the caller commits first)

The PN GW's identity comes from its session: no field of a message has it.
"""

from dataclasses import dataclass, field

from cpns.crypto import cm, primitives
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from cpns.ids import EntityId
from cpns.wire.cm_messages import CmAssignRequest, CmAssignResponse, CmConfirmRequest, CmIdRequest, CmIdResponse


@dataclass(frozen=True, slots=True)
class AwaitingId:
    """The Key Seed is on its way: the PN GW has to name the ID that it makes of it."""

    pne_id: EntityId
    gateway_id: EntityId
    key_seed: Secret = field(repr=False)
    rand_s: bytes


@dataclass(frozen=True, slots=True)
class AwaitingCode:
    """The server's code is on its way: the PN GW has to show that it derived the same key."""

    pne_id: EntityId
    gateway_id: EntityId
    cm_device_id: EntityId
    key_seed: Secret = field(repr=False)
    code_g: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Assigned:
    """Both have shown that they have the key: to be committed."""

    pne_id: EntityId
    gateway_id: EntityId
    cm_device_id: EntityId
    key_seed: Secret = field(repr=False)


def offer(
    request: CmAssignRequest, *, gateway: EntityId, key_seed: Secret, rand: bytes
) -> tuple[AwaitingId, CmAssignResponse]:
    """Give a fresh Key Seed to the PN GW that the session proved (CM-1, CM-2)."""
    state = AwaitingId(request.pne_id, gateway, key_seed, rand)
    return state, CmAssignResponse(request.txn, key_seed.reveal(), rand)


def identify(state: AwaitingId, request: CmIdRequest, server_id: EntityId) -> tuple[AwaitingCode, CmIdResponse]:
    """Verify the CM Device ID, derive the CM Device Key, and show that we did (CM-5, CM-6).

    Raises:
        AuthenticationFailed: the ID is not what this PN GW makes of this Key Seed.
    """
    device = cm.cm_device_id(state.key_seed, state.gateway_id, server_id)
    if request.cm_device_id != device:
        raise AuthenticationFailed("cm_device_id_does_not_verify")
    key = cm.cm_device_key(state.key_seed, device, state.gateway_id, server_id)
    confirm_key = cm.confirm_key(key, device, state.gateway_id, server_id)
    code_s = cm.code_server(confirm_key, state.rand_s, request.rand)
    code_g = cm.code_gateway(confirm_key, state.rand_s, request.rand, code_s)
    awaiting = AwaitingCode(state.pne_id, state.gateway_id, device, state.key_seed, code_g)
    return awaiting, CmIdResponse(request.txn, 0, code_s)


def confirm(state: AwaitingCode, request: CmConfirmRequest) -> Assigned:
    """Verify that the PN GW derived the same key (CM-9).

    Raises:
        AuthenticationFailed: its code is wrong.
    """
    if not primitives.equal(state.code_g, request.code):
        raise AuthenticationFailed("wrong_code_of_the_gateway")
    return Assigned(state.pne_id, state.gateway_id, state.cm_device_id, state.key_seed)
