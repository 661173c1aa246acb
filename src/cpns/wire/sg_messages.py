"""The messages about service groups as frozen types; see `cpns.wire.messages` for how they are written.

All are this project's own (PROTOCOL section 13), named after the specification's other public material. A PNE and the
server say them end to end, so that no PN GW can act as owner.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from cpns.ids import EntityId, SgId
from cpns.wire.messages import OutcomeEntry
from cpns.wire.registry import MessageType


@dataclass(frozen=True, slots=True)
class SgCreateRequest:
    """SG-CREATE Request, PNE to server: it will own the group; `invite` are asked to come."""

    TYPE: ClassVar = MessageType.SG_CREATE_REQUEST
    alias: str
    policy: int
    service: str | None = None
    invite: tuple[EntityId, ...] | None = None
    vouched: bool | None = None
    keep: int | None = None


@dataclass(frozen=True, slots=True)
class SgCreateResponse:
    """SG-CREATE Response: the group's ID, and how it ended for each that was invited."""

    TYPE: ClassVar = MessageType.SG_CREATE_RESPONSE
    result: int
    sg_id: SgId
    entries: tuple[OutcomeEntry, ...] | None = None


@dataclass(frozen=True, slots=True)
class SgDiscoveryRequest:
    """SG-DISCOVERY Request: groups with a keyword in their name or service, or for one service."""

    TYPE: ClassVar = MessageType.SG_DISCOVERY_REQUEST
    keyword: str | None = None
    service: str | None = None
    member_req: bool | None = None
    after: EntityId | None = None


@dataclass(frozen=True, slots=True)
class SgEntry:
    """One group in SG-DISCOVERY Response; its members where the asker is one, and asked for them."""

    sg_id: SgId
    alias: str
    policy: int
    owner: EntityId
    version: int
    service: str | None = None
    members: tuple[EntityId, ...] | None = None


@dataclass(frozen=True, slots=True)
class SgDiscoveryResponse:
    """SG-DISCOVERY Response; with `more`, the next page is after the last of these."""

    TYPE: ClassVar = MessageType.SG_DISCOVERY_RESPONSE
    result: int
    entries: tuple[SgEntry, ...] | None = None
    more: bool | None = None


@dataclass(frozen=True, slots=True)
class SgJoinRequest:
    """SG-JOIN Request."""

    TYPE: ClassVar = MessageType.SG_JOIN_REQUEST
    sg_id: SgId


@dataclass(frozen=True, slots=True)
class SgJoinResponse:
    """SG-JOIN Response: 0, or 54 where it waits for approval."""

    TYPE: ClassVar = MessageType.SG_JOIN_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class SgInviteRequest:
    """SG-INVITE Request, PNE to server."""

    TYPE: ClassVar = MessageType.SG_INVITE_REQUEST
    sg_id: SgId
    invite: tuple[EntityId, ...]


@dataclass(frozen=True, slots=True)
class SgInvitation:
    """SG-INVITE Request, server to the invited PNE."""

    TYPE: ClassVar = MessageType.SG_INVITE_REQUEST
    sg_id: SgId
    alias: str
    owner: EntityId
    service: str | None = None


@dataclass(frozen=True, slots=True)
class SgInviteResponse:
    """SG-INVITE Response: of the server, how it ended for each; of an invited PNE, whether it comes."""

    TYPE: ClassVar = MessageType.SG_INVITE_RESPONSE
    result: int
    entries: tuple[OutcomeEntry, ...] | None = None


@dataclass(frozen=True, slots=True)
class SgLeaveRequest:
    """SG-LEAVE Request."""

    TYPE: ClassVar = MessageType.SG_LEAVE_REQUEST
    sg_id: SgId


@dataclass(frozen=True, slots=True)
class SgLeaveResponse:
    """SG-LEAVE Response."""

    TYPE: ClassVar = MessageType.SG_LEAVE_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class SgExpelRequest:
    """SG-EXPEL Request: the owner puts members out."""

    TYPE: ClassVar = MessageType.SG_EXPEL_REQUEST
    sg_id: SgId
    members: tuple[EntityId, ...]


@dataclass(frozen=True, slots=True)
class SgExpelResponse:
    """SG-EXPEL Response."""

    TYPE: ClassVar = MessageType.SG_EXPEL_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class SgOwnerChangeRequest:
    """SG Owner Change Request: the owner to the server, `entity_id` being the candidate, or none for whom the server

    chooses; the server to the candidate, `entity_id` being the owner.
    """

    TYPE: ClassVar = MessageType.SG_OWNER_CHANGE_REQUEST
    sg_id: SgId
    entity_id: EntityId | None = None


@dataclass(frozen=True, slots=True)
class SgOwnerChangeResponse:
    """SG Owner Change Response: of the candidate, whether it takes it; of the server, who owns the group now."""

    TYPE: ClassVar = MessageType.SG_OWNER_CHANGE_RESPONSE
    result: int
    owner: EntityId | None = None


@dataclass(frozen=True, slots=True)
class SgDeleteRequest:
    """SG-DELETE Request: the owner ends the group."""

    TYPE: ClassVar = MessageType.SG_DELETE_REQUEST
    sg_id: SgId


@dataclass(frozen=True, slots=True)
class SgDeleteResponse:
    """SG-DELETE Response."""

    TYPE: ClassVar = MessageType.SG_DELETE_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class SgChangeNotify:
    """SGChangeNotify, server to members and to PN GWs that have members: what changed; answered by an empty 2.04."""

    TYPE: ClassVar = MessageType.SG_CHANGE_NOTIFY
    sg_id: SgId
    members: tuple[EntityId, ...]
    version: int
    change: int
    epoch: int
    owner: EntityId | None = None


@dataclass(frozen=True, slots=True)
class SgInventoryRequest:
    """SG-INVENTORY Request of a member or of a PN GW that has members; without a group: which groups these are."""

    TYPE: ClassVar = MessageType.SG_INVENTORY_REQUEST
    sg_id: SgId | None = None
    version: int | None = None
    after: EntityId | None = None
    entity_id: EntityId | None = None
    """That member alone: whose key is asked for."""


@dataclass(frozen=True, slots=True)
class SgMemberEntry:
    """One PNE on a group's list: of a sender, its key, that key's number, and the number of its newest message."""

    entity_id: EntityId
    standing: int
    run: int | None = None
    verify_key: bytes | None = None
    seq: bytes | None = None


@dataclass(frozen=True, slots=True)
class SgInventoryResponse:
    """SG-INVENTORY Response; without content where the asker has the newest version."""

    TYPE: ClassVar = MessageType.SG_INVENTORY_RESPONSE
    result: int
    sg_id: SgId | None = None
    version: int | None = None
    alias: str | None = None
    owner: EntityId | None = None
    service: str | None = None
    policy: int | None = None
    entries: tuple[SgMemberEntry, ...] | None = None
    more: bool | None = None
    groups: tuple[SgId, ...] | None = None
    epoch: int | None = None
    vouched: bool | None = None
    keep: int | None = None


ENTRIES: Final = (SgEntry, SgMemberEntry)
SHAPES: Final = (
    SgCreateRequest,
    SgCreateResponse,
    SgDiscoveryRequest,
    SgDiscoveryResponse,
    SgJoinRequest,
    SgJoinResponse,
    SgInviteRequest,
    SgInvitation,
    SgInviteResponse,
    SgLeaveRequest,
    SgLeaveResponse,
    SgExpelRequest,
    SgExpelResponse,
    SgOwnerChangeRequest,
    SgOwnerChangeResponse,
    SgDeleteRequest,
    SgDeleteResponse,
    SgChangeNotify,
    SgInventoryRequest,
    SgInventoryResponse,
)
