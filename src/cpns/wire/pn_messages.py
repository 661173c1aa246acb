"""The messages about personal networks, types 24 and up: this project's own, as the seeds leave them open.

As in `cpns.wire.messages`, one type stands for one shape.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from cpns.ids import EntityId, PnId
from cpns.wire.messages import OutcomeEntry
from cpns.wire.registry import MessageType


@dataclass(frozen=True, slots=True)
class PnChangeNotify:
    """PNChangeNotify: a PN changed; server to PN GW, PN GW to its PNEs, server to a PNE that it concerns.

    Answered by an empty 2.04. With `change` GATEWAY it is the PN GW change notification, `gateway_id` the new PN GW and
    `addresses` where its PANs may be.
    """

    TYPE: ClassVar = MessageType.PN_CHANGE_NOTIFY
    pn_id: PnId
    members: tuple[EntityId, ...]
    version: int
    change: int
    gateway_id: EntityId | None = None
    addresses: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class InventoryRequest:
    """INVENTORY Request, PN GW or PNE to server: what is in this PN, by ID after `after`?

    With `version`, that of the copy which the asker has: nothing is told where it is the newest. Without `pn_id`: which
    PNs do I serve (PN GW), or am I in (PNE)?
    """

    TYPE: ClassVar = MessageType.INVENTORY_REQUEST
    pn_id: PnId | None = None
    version: int | None = None
    after: EntityId | None = None


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """A member, its state, how many seconds ago that was learned, from whom, and whether it is in the PN as guest.

    `guest` is None for who stands as member and is not in the PN; a PN GW alone is told of those.
    """

    entity_id: EntityId
    presence: int
    age: int
    source: int
    guest: bool | None = None


@dataclass(frozen=True, slots=True)
class InventoryResponse:
    """INVENTORY Response: from the server's PN Inventory, which is the truth (DEF-3).

    Without `gateway_id`: the asker's version is the newest. With `more`, another request goes on after the last entry.
    `networks` answers a request that named no PN.
    """

    TYPE: ClassVar = MessageType.INVENTORY_RESPONSE
    result: int
    pn_id: PnId | None = None
    version: int | None = None
    gateway_id: EntityId | None = None
    alias: str | None = None
    owner: EntityId | None = None
    entries: tuple[InventoryEntry, ...] | None = None
    more: bool | None = None
    networks: tuple[PnId, ...] | None = None


@dataclass(frozen=True, slots=True)
class EntityDiscoveryRequest:
    """Entity Discovery Request, on the PAN, to one address or by multicast: who is there, and as what?"""

    TYPE: ClassVar = MessageType.ENTITY_DISCOVERY_REQUEST
    entity_id: EntityId
    mode: int
    pn_id: PnId | None = None


@dataclass(frozen=True, slots=True)
class EntityDiscoveryResponse:
    """Entity Discovery Response: it finds, and proves nothing; the handshake does."""

    TYPE: ClassVar = MessageType.ENTITY_DISCOVERY_RESPONSE
    entity_id: EntityId
    mode: int
    pan_secure: bool
    networks: tuple[PnId, ...]
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayChangeRequest:
    """Gateway Change Request: be a PN GW (too), for want of one or in the place of this one."""

    TYPE: ClassVar = MessageType.GATEWAY_CHANGE_REQUEST
    entity_id: EntityId
    mode: int
    pn_id: PnId | None = None


@dataclass(frozen=True, slots=True)
class GatewayChangeResponse:
    """Gateway Change Response; with result 0, the PN GW ID that the device now has."""

    TYPE: ClassVar = MessageType.GATEWAY_CHANGE_RESPONSE
    result: int
    gateway_id: EntityId | None = None


@dataclass(frozen=True, slots=True)
class PnGwSwitchingRequest:
    """PN GW Switching Request: this PN is to be served by that PN GW.

    PN GW to server: for itself (with `addresses`, where its PANs are), or for another to which it hands its PN. Server
    to the other PN GW of the two: agreed?
    """

    TYPE: ClassVar = MessageType.PN_GW_SWITCHING_REQUEST
    pn_id: PnId
    gateway_id: EntityId
    addresses: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PnGwSwitchingResponse:
    """PN GW Switching Response; the PN GW that takes over says where its PANs are."""

    TYPE: ClassVar = MessageType.PN_GW_SWITCHING_RESPONSE
    result: int
    addresses: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class InviteRequest:
    """INVITE Request, PNE to server, and server to the PN GW that is to ask them."""

    TYPE: ClassVar = MessageType.INVITE_REQUEST
    pn_id: PnId
    invite: tuple[EntityId, ...]


@dataclass(frozen=True, slots=True)
class InviteResponse:
    """INVITE Response: how it ended for each."""

    TYPE: ClassVar = MessageType.INVITE_RESPONSE
    result: int
    entries: tuple[OutcomeEntry, ...] | None = None


@dataclass(frozen=True, slots=True)
class LeaveRequest:
    """LEAVE Request, PNE to server."""

    TYPE: ClassVar = MessageType.LEAVE_REQUEST
    pn_id: PnId


@dataclass(frozen=True, slots=True)
class LeaveResponse:
    """LEAVE Response."""

    TYPE: ClassVar = MessageType.LEAVE_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class ExpelRequest:
    """EXPEL Request, PNE with the right or PN GW to server."""

    TYPE: ClassVar = MessageType.EXPEL_REQUEST
    pn_id: PnId
    members: tuple[EntityId, ...]


@dataclass(frozen=True, slots=True)
class ExpelResponse:
    """EXPEL Response."""

    TYPE: ClassVar = MessageType.EXPEL_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """RELEASE Request, PNE with the right or PN GW to server: the PN ends."""

    TYPE: ClassVar = MessageType.RELEASE_REQUEST
    pn_id: PnId


@dataclass(frozen=True, slots=True)
class ReleaseResponse:
    """RELEASE Response."""

    TYPE: ClassVar = MessageType.RELEASE_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class StatusEntry:
    """How a PN GW finds one of its PNEs."""

    entity_id: EntityId
    presence: int


@dataclass(frozen=True, slots=True)
class PnStatusNotify:
    """PNStatusNotify, PN GW to server: these of my PNEs fell silent, or are heard again; answered by an empty 2.04."""

    TYPE: ClassVar = MessageType.PN_STATUS_NOTIFY
    entries: tuple[StatusEntry, ...]


ENTRIES: Final = (InventoryEntry, StatusEntry)
SHAPES: Final = (
    PnChangeNotify,
    InventoryRequest,
    InventoryResponse,
    EntityDiscoveryRequest,
    EntityDiscoveryResponse,
    GatewayChangeRequest,
    GatewayChangeResponse,
    PnGwSwitchingRequest,
    PnGwSwitchingResponse,
    InviteRequest,
    InviteResponse,
    LeaveRequest,
    LeaveResponse,
    ExpelRequest,
    ExpelResponse,
    ReleaseRequest,
    ReleaseResponse,
    PnStatusNotify,
)
