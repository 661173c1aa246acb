"""The messages that carry Group Keys as frozen types; see `cpns.wire.messages` for how they are written.

All are this project's own (PROTOCOL section 14).
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final

from cpns.ids import EntityId, SgId
from cpns.wire.registry import MessageType


@dataclass(frozen=True, slots=True)
class GroupKeyRequest:
    """GROUP-KEY Request: server to PN GW, in its session; PN GW to member, in the hop session or on a Secure PAN."""

    TYPE: ClassVar = MessageType.GROUP_KEY_REQUEST
    sg_id: SgId
    epoch: int
    group_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class GroupKeyResponse:
    """GROUP-KEY Response."""

    TYPE: ClassVar = MessageType.GROUP_KEY_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class GroupKeyWanted:
    """GROUP-KEY-UPDATE Request, member to PN GW in the hop session: it missed an epoch."""

    TYPE: ClassVar = MessageType.GROUP_KEY_UPDATE_REQUEST
    sg_id: SgId


@dataclass(frozen=True, slots=True)
class GroupKeyGiven:
    """GROUP-KEY-UPDATE Response: the key of the newest epoch, where the asker is a member."""

    TYPE: ClassVar = MessageType.GROUP_KEY_UPDATE_RESPONSE
    result: int
    epoch: int | None = None
    group_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PathEntry:
    """One node on the path of a member, and its key."""

    node: int
    node_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class GkdkRequest:
    """GKDK Request, PN GW to member in the hop session: its path from the root to its leaf (DEF-7)."""

    TYPE: ClassVar = MessageType.GKDK_REQUEST
    sg_id: SgId
    tree: int
    verify_key: bytes
    entries: tuple[PathEntry, ...]


@dataclass(frozen=True, slots=True)
class GkdkResponse:
    """GKDK Response."""

    TYPE: ClassVar = MessageType.GKDK_RESPONSE
    result: int


@dataclass(frozen=True, slots=True)
class WrappedEntry:
    """A Group Key for all members below one node."""

    node: int
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class GroupKeyBroadcast:
    """GroupKeyNotify, PN GW to its members, the same for all: the Group Key under GKEK (DEF-6), signed."""

    TYPE: ClassVar = MessageType.GROUP_KEY_NOTIFY
    sg_id: SgId
    gateway_id: EntityId
    epoch: int
    tree: int
    entries: tuple[WrappedEntry, ...]
    signature: bytes


ENTRIES: Final = (PathEntry, WrappedEntry)
SHAPES: Final = (
    GroupKeyRequest,
    GroupKeyResponse,
    GroupKeyWanted,
    GroupKeyGiven,
    GkdkRequest,
    GkdkResponse,
    GroupKeyBroadcast,
)
