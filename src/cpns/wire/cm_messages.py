"""The messages of Changing-Mode devices as frozen types; see `cpns.wire.messages` for how they are written.

16 to 23 are those of PROTOCOL section 3; 42 to 46 and the first leg of CM-ASSIGN are this project's own (section 12).
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final

from cpns.ids import EntityId
from cpns.wire.registry import MessageType


@dataclass(frozen=True, slots=True)
class CmAssignRequest:
    """CM-ASSIGN Request, PN GW to server: for which PNE of its own it wants a Key Seed."""

    TYPE: ClassVar = MessageType.CM_ASSIGN_REQUEST
    entity_id: EntityId
    txn: bytes


@dataclass(frozen=True, slots=True)
class CmAssignResponse:
    """CM-ASSIGN Response, server to PN GW: Key Seed and rand_S (CM-2)."""

    TYPE: ClassVar = MessageType.CM_ASSIGN_RESPONSE
    txn: bytes
    key_seed: bytes = field(repr=False)
    rand: bytes


@dataclass(frozen=True, slots=True)
class CmWanted:
    """CM-ASSIGN Request, CM Device to its PN GW: it can go direct, and wants ID and key for that."""

    TYPE: ClassVar = MessageType.CM_ASSIGN_REQUEST
    entity_id: EntityId


@dataclass(frozen=True, slots=True)
class CmGiven:
    """CM-ASSIGN Response, PN GW to CM Device: from now on it may use what CM-KEY Request brought."""

    TYPE: ClassVar = MessageType.CM_ASSIGN_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class CmIdRequest:
    """CM-ID Request: CM Device ID and rand_G (CM-4)."""

    TYPE: ClassVar = MessageType.CM_ID_REQUEST
    txn: bytes
    cm_device_id: EntityId
    rand: bytes


@dataclass(frozen=True, slots=True)
class CmIdResponse:
    """CM-ID Response: code_S (CM-6)."""

    TYPE: ClassVar = MessageType.CM_ID_RESPONSE
    txn: bytes
    result: int
    proof: bytes | None = None


@dataclass(frozen=True, slots=True)
class CmConfirmRequest:
    """CM-CONFIRM Request: code_G (CM-8)."""

    TYPE: ClassVar = MessageType.CM_CONFIRM_REQUEST
    txn: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class CmConfirmResponse:
    """CM-CONFIRM Response (CM-10)."""

    TYPE: ClassVar = MessageType.CM_CONFIRM_RESPONSE
    txn: bytes
    result: int
    cm_device_id: EntityId | None = None


@dataclass(frozen=True, slots=True)
class CmKeyRequest:
    """CM-KEY Request, PN GW to CM Device, in their hop session or on a Secure PAN (CM-11)."""

    TYPE: ClassVar = MessageType.CM_KEY_REQUEST
    cm_device_id: EntityId
    cm_device_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CmKeyResponse:
    """CM-KEY Response."""

    TYPE: ClassVar = MessageType.CM_KEY_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class CmReleaseRequest:
    """CM-RELEASE Request, PN GW to server: the CM Device did not take ID and key; nobody has them."""

    TYPE: ClassVar = MessageType.CM_RELEASE_REQUEST
    cm_device_id: EntityId


@dataclass(frozen=True, slots=True)
class CmReleaseResponse:
    """CM-RELEASE Response."""

    TYPE: ClassVar = MessageType.CM_RELEASE_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class CmRekeyRequest:
    """CM-REKEY Request, PNE of a CM Device to server, end to end: the key of which generation, and rand_C."""

    TYPE: ClassVar = MessageType.CM_REKEY_REQUEST
    cm_device_id: EntityId
    generation: int
    rand: bytes


@dataclass(frozen=True, slots=True)
class CmRekeyResponse:
    """CM-REKEY Response: rand_S."""

    TYPE: ClassVar = MessageType.CM_REKEY_RESPONSE
    result: int
    rand: bytes


@dataclass(frozen=True, slots=True)
class CmRotateNotify:
    """CMRotateNotify, server to PNE, end to end: its CM Device is to take a fresh key (answered by an empty 2.04)."""

    TYPE: ClassVar = MessageType.CM_ROTATE_NOTIFY
    cm_device_id: EntityId


SHAPES: Final = (
    CmAssignRequest,
    CmAssignResponse,
    CmWanted,
    CmGiven,
    CmIdRequest,
    CmIdResponse,
    CmConfirmRequest,
    CmConfirmResponse,
    CmKeyRequest,
    CmKeyResponse,
    CmReleaseRequest,
    CmReleaseResponse,
    CmRekeyRequest,
    CmRekeyResponse,
    CmRotateNotify,
)
