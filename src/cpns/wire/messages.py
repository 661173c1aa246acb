"""Every message of PROTOCOL section 3 as a frozen type.

One type stands for one shape: where the same message has other fields on another leg (SETUP Request from PNE to PN GW
and from PN GW to server), there are two types with one `TYPE`. Attribute names are those of `FIELDS`; an attribute
with a default is an optional label. The codec checks every value before a message exists.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from cpns.ids import EntityId, PnId
from cpns.wire.registry import MessageType


@dataclass(frozen=True, slots=True)
class SetupEntry:
    """One PNE in the SETUP Request of the PN GW: what that PNE said (AUTH-G1)."""

    suite: int
    entity_id: EntityId
    rand: bytes
    kid: bytes
    need_local: bool
    pan_secure: bool
    procedure: int
    eph: bytes | None = None


@dataclass(frozen=True, slots=True)
class SetupRequest:
    """SETUP Request, originating PNE to PN GW (AUTH-P1, AUTH-P2)."""

    TYPE: ClassVar = MessageType.SETUP_REQUEST
    suite: int
    entity_id: EntityId
    rand: bytes
    kid: bytes
    need_local: bool
    pan_secure: bool
    procedure: int
    eph: bytes | None = None
    pn_id: PnId | None = None
    setup_type: int | None = None
    invite: tuple[EntityId, ...] | None = None


@dataclass(frozen=True, slots=True)
class Invitation:
    """SETUP Request, PN GW to invited PNE."""

    TYPE: ClassVar = MessageType.SETUP_REQUEST
    entity_id: EntityId
    gateway_id: EntityId
    procedure: int
    pn_id: PnId | None = None


@dataclass(frozen=True, slots=True)
class GatewaySetupRequest:
    """SETUP Request, PN GW to server: all PNEs of one procedure in one message (AUTH-G1)."""

    TYPE: ClassVar = MessageType.SETUP_REQUEST
    txn: bytes
    pan_secure: bool
    entries: tuple[SetupEntry, ...]
    pn_id: PnId | None = None
    setup_type: int | None = None
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class InvitationAccepted:
    """SETUP Response, invited PNE to PN GW: it accepts, and proves itself like an originating one."""

    TYPE: ClassVar = MessageType.SETUP_RESPONSE
    result: int
    suite: int
    entity_id: EntityId
    rand: bytes
    kid: bytes
    need_local: bool
    pan_secure: bool
    eph: bytes | None = None


@dataclass(frozen=True, slots=True)
class InvitationRefused:
    """SETUP Response, invited PNE to PN GW: it does not come."""

    TYPE: ClassVar = MessageType.SETUP_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class OutcomeEntry:
    """One PNE in the server's SETUP Response; `guest` if it is one.

    With result 0 the proof is hash_server (AUTH-S4), else what may tell that PNE why; see `Proofs.hash_refused`.
    """

    entity_id: EntityId
    result: int
    proof: bytes | None = None
    guest: bool | None = None


@dataclass(frozen=True, slots=True)
class GatewaySetupResponse:
    """SETUP Response, server to PN GW; `version` is that of the PN Inventory with those that were let in."""

    TYPE: ClassVar = MessageType.SETUP_RESPONSE
    txn: bytes
    pn_id: PnId
    entries: tuple[OutcomeEntry, ...]
    version: int | None = None


@dataclass(frozen=True, slots=True)
class SetupResponse:
    """SETUP Response, PN GW to originating PNE (AUTH-G6)."""

    TYPE: ClassVar = MessageType.SETUP_RESPONSE
    result: int
    pn_id: PnId
    proof: bytes | None = None


@dataclass(frozen=True, slots=True)
class ChallengeEntry:
    """One PNE in the server's AUTHENTICATE Request: kid_R and both copies of its LocalEUKey (AUTH-S1, AUTH-S2)."""

    entity_id: EntityId
    kid: bytes
    eph: bytes | None = None
    wrapped: bytes | None = None
    wrapped_gateway: bytes | None = None


@dataclass(frozen=True, slots=True)
class GatewayChallenge:
    """AUTHENTICATE Request, server to PN GW; `eph` serves all entries of suite 2."""

    TYPE: ClassVar = MessageType.AUTHENTICATE_REQUEST
    txn: bytes
    server_id: EntityId
    rand: bytes
    entries: tuple[ChallengeEntry, ...]
    pn_id: PnId | None = None
    eph: bytes | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    """AUTHENTICATE Request, PN GW to PNE (AUTH-G2)."""

    TYPE: ClassVar = MessageType.AUTHENTICATE_REQUEST
    gateway_id: EntityId
    server_id: EntityId
    pn_id: PnId
    rand: bytes
    kid: bytes
    eph: bytes | None = None
    wrapped: bytes | None = None


@dataclass(frozen=True, slots=True)
class LinkChallengeFromServer:
    """AUTHENTICATE Request inside ACTIVATE, server to PN GW (AUTH-7.5.5, M2)."""

    TYPE: ClassVar = MessageType.AUTHENTICATE_REQUEST
    server_id: EntityId
    rand: bytes
    kid: bytes
    eph: bytes | None = None


@dataclass(frozen=True, slots=True)
class LinkChallengeFromGateway:
    """AUTHENTICATE Request inside ACTIVATE, PN GW to PNE (AUTH-G4, M2)."""

    TYPE: ClassVar = MessageType.AUTHENTICATE_REQUEST
    gateway_id: EntityId
    rand: bytes
    kid: bytes
    eph: bytes | None = None


@dataclass(frozen=True, slots=True)
class ProofEntry:
    """One PNE in the PN GW's AUTHENTICATE Response: its hash_PNE, or the result that stands in for it."""

    entity_id: EntityId
    proof: bytes | None = None
    result: int | None = None


@dataclass(frozen=True, slots=True)
class GatewayProofs:
    """AUTHENTICATE Response, PN GW to server (AUTH-G5)."""

    TYPE: ClassVar = MessageType.AUTHENTICATE_RESPONSE
    txn: bytes
    entries: tuple[ProofEntry, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """AUTHENTICATE Response: hash_I (AUTH-P4, and M3 of every ACTIVATE)."""

    TYPE: ClassVar = MessageType.AUTHENTICATE_RESPONSE
    entity_id: EntityId
    proof: bytes


@dataclass(frozen=True, slots=True)
class PnEstablishmentNotify:
    """PNEstablishmentNotify, PN GW to invited PNE (AUTH-G6)."""

    TYPE: ClassVar = MessageType.PN_ESTABLISHMENT_NOTIFY
    result: int
    pn_id: PnId
    proof: bytes | None = None


@dataclass(frozen=True, slots=True)
class ActivateRequest:
    """ACTIVATE Request, M1 of `gw-server`, `pne-gw` and (with the code of CM-12 as `proof`) `cm-server`."""

    TYPE: ClassVar = MessageType.ACTIVATE_REQUEST
    suite: int
    entity_id: EntityId
    rand: bytes
    kid: bytes
    eph: bytes | None = None
    proof: bytes | None = None


@dataclass(frozen=True, slots=True)
class ActivateResponse:
    """ACTIVATE Response, M4: result, and hash_R where it is 0."""

    TYPE: ClassVar = MessageType.ACTIVATE_RESPONSE
    result: int
    proof: bytes | None = None


@dataclass(frozen=True, slots=True)
class CmActivateResponse:
    """ACTIVATE Response of profile `cm-server` (CM-14)."""

    TYPE: ClassVar = MessageType.ACTIVATE_RESPONSE
    result: int
    server_id: EntityId
    rand: bytes
    kid: bytes
    proof: bytes
    eph: bytes | None = None


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """Body of an answer that is no message of a procedure."""

    TYPE: ClassVar = MessageType.ERROR
    result: int


ENTRIES: Final = (SetupEntry, ChallengeEntry, ProofEntry, OutcomeEntry)
SHAPES: Final = (
    SetupRequest,
    Invitation,
    GatewaySetupRequest,
    InvitationAccepted,
    InvitationRefused,
    GatewaySetupResponse,
    SetupResponse,
    GatewayChallenge,
    Challenge,
    LinkChallengeFromServer,
    LinkChallengeFromGateway,
    GatewayProofs,
    Proof,
    PnEstablishmentNotify,
    ActivateRequest,
    ActivateResponse,
    CmActivateResponse,
    ErrorBody,
)
