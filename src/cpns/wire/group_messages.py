"""The messages that carry Group Keys, and what is said under them, as frozen types; see `cpns.wire.messages`.

All are this project's own (PROTOCOL sections 14 and 15).
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
    """GROUP-KEY-UPDATE Request, PN GW to server; a member, that names itself, to its PN GW: it missed an epoch."""

    TYPE: ClassVar = MessageType.GROUP_KEY_UPDATE_REQUEST
    sg_id: SgId
    entity_id: EntityId | None = None


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


@dataclass(frozen=True, slots=True)
class GroupSenderRequest:
    """GROUP-SENDER Request, PNE to server, end to end: it will send; without a key in `vouched` groups alone."""

    TYPE: ClassVar = MessageType.GROUP_SENDER_REQUEST
    verify_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class GroupSenderResponse:
    """GROUP-SENDER Response: a number that this PNE was never given before."""

    TYPE: ClassVar = MessageType.GROUP_SENDER_RESPONSE
    result: int
    run: int


@dataclass(frozen=True, slots=True)
class GroupMessage:
    """GROUP-MESSAGE Request, the same all the way: sender to PN GW, server to PN GW, PN GW to members."""

    TYPE: ClassVar = MessageType.GROUP_MESSAGE_REQUEST
    sg_id: SgId
    epoch: int
    entity_id: EntityId
    seq: bytes
    sealed: bytes
    signature: bytes | None = None


@dataclass(frozen=True, slots=True)
class GroupMessageUp:
    """GROUP-MESSAGE Request, the sender's PN GW to the server: how many behind it have it, and who has not."""

    TYPE: ClassVar = MessageType.GROUP_MESSAGE_REQUEST
    sg_id: SgId
    epoch: int
    entity_id: EntityId
    seq: bytes
    sealed: bytes
    count: int
    members: tuple[EntityId, ...]
    signature: bytes | None = None


@dataclass(frozen=True, slots=True)
class GroupMessageKept:
    """GROUP-MESSAGE Request, server to a member end to end: what was kept for it, and what opens and proves that."""

    TYPE: ClassVar = MessageType.GROUP_MESSAGE_REQUEST
    sg_id: SgId
    epoch: int
    entity_id: EntityId
    seq: bytes
    sealed: bytes
    group_key: bytes = field(repr=False)
    signature: bytes | None = None
    verify_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class GroupMessageResponse:
    """GROUP-MESSAGE Response; to the server, of how many have it, and who has not; to the sender, of the epoch."""

    TYPE: ClassVar = MessageType.GROUP_MESSAGE_RESPONSE
    result: int
    epoch: int | None = None
    count: int | None = None
    members: tuple[EntityId, ...] | None = None


ENTRIES: Final = (PathEntry, WrappedEntry)
SHAPES: Final = (
    GroupKeyRequest,
    GroupKeyResponse,
    GroupKeyWanted,
    GroupKeyGiven,
    GkdkRequest,
    GkdkResponse,
    GroupKeyBroadcast,
    GroupSenderRequest,
    GroupSenderResponse,
    GroupMessage,
    GroupMessageUp,
    GroupMessageKept,
    GroupMessageResponse,
)
