"""What the processes of one server say to each other: each thing has a name, and the types of its question and answer.

A process of a newer version may add a field with a default; an older one ignores it. Whatever else changes is another
topic, with another name: who does not know one has no answer to it. So processes of two versions work side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, Generic, TypeVar

from cpns.ids import EntityId, PnId

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Topic(Generic[Q, A]):
    """Something that the processes say to each other.

    Attributes:
        question: its type, a dataclass.
        answer: its type, a dataclass; who has nothing to say to it answers None.
    """

    name: str
    question: type[Q]
    answer: type[A]


@dataclass(frozen=True, slots=True)
class Nothing:
    """No more than that it was said."""


@dataclass(frozen=True, slots=True)
class About:
    """One entity."""

    entity: EntityId


@dataclass(frozen=True, slots=True)
class Entities:
    """Several of them."""

    entities: tuple[EntityId, ...]


# gateways and devices, each at the process that its connection is at


@dataclass(frozen=True, slots=True)
class GatewayExchange:
    """A message for a PN GW, and the seconds that it has to answer.

    Attributes:
        pn_id, version: of the PN that it tells of; whoever takes it knows that version then.
    """

    gateway: EntityId
    body: bytes
    seconds: float
    pn_id: PnId | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class PneExchange:
    """A message for a PNE, and the seconds that it has to answer."""

    pne: EntityId
    path: str
    payload: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class Exchanged:
    """How an exchange ended; no code: there was no answer. A *hint* is what the PN GW says in place of its PNE."""

    code: int | None = None
    payload: bytes = b""
    hint: bool = False


@dataclass(frozen=True, slots=True)
class GatewayCame:
    """A PN GW has a session since then, from that host: an older one is over."""

    gateway: EntityId
    host: str
    at: float


@dataclass(frozen=True, slots=True)
class GatewayServes:
    """A PN GW serves a PN, or no longer, since that version of it; said at that time."""

    gateway: EntityId
    pn_id: PnId
    now: bool
    version: int = 0
    at: float = inf


@dataclass(frozen=True, slots=True)
class Seconds:
    """A time."""

    seconds: float


@dataclass(frozen=True, slots=True)
class YesOrNo:
    """Whether it is so."""

    yes: bool


GATEWAY: Final = Topic("gateway", GatewayExchange, Exchanged)
GATEWAY_CAME: Final = Topic("gateway came", GatewayCame, Nothing)
GATEWAY_SERVES: Final = Topic("gateway serves", GatewayServes, Nothing)
GATEWAY_SILENT: Final = Topic("gateway silent", About, Seconds)
GATEWAY_STORE_FAILS: Final = Topic("gateway store fails", About, YesOrNo)
PNE: Final = Topic("pne", PneExchange, Exchanged)
CONNECTED: Final = Topic("connected", Entities, Entities)


@dataclass(frozen=True, slots=True)
class SessionSeen:
    """Age of a session in seconds, and whether it is confirmed."""

    age: float
    confirmed: bool


@dataclass(frozen=True, slots=True)
class WorkSeen:
    """What a process has; *room* is free and all of its disk, in bytes."""

    process: str
    sessions: int
    gateways: tuple[EntityId, ...]
    room: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ExcessSeen:
    """Over which share somebody went last, how often in a row, and seconds since."""

    what: str
    times: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Cloned:
    """Two answered for one entity, at these places."""

    entity: EntityId
    places: tuple[str, ...]


SESSION: Final = Topic("session", About, SessionSeen)
WORK: Final = Topic("work", Nothing, WorkSeen)
EXCESS: Final = Topic("excess", About, ExcessSeen)
CLONED: Final = Topic("cloned", Cloned, Nothing)


# networks


@dataclass(frozen=True, slots=True)
class Out:
    """What those are told that are out."""

    pn_id: PnId
    version: int
    change: int


@dataclass(frozen=True, slots=True)
class MembersOut:
    """PNEs are members no longer; None: they know already."""

    pnes: tuple[EntityId, ...]
    told: Out | None = None


@dataclass(frozen=True, slots=True)
class Vias:
    """The PN GWs that PNEs were behind."""

    vias: Mapping[EntityId, EntityId | None]


@dataclass(frozen=True, slots=True)
class PnesMoved:
    """PNEs have a session through that PN GW since then, in a PN of that version."""

    pnes: tuple[EntityId, ...]
    gateway: EntityId
    pn_id: PnId
    version: int
    at: float


@dataclass(frozen=True, slots=True)
class PresenceSeen:
    """How a PNE can be reached, since when, and who says so."""

    pne: EntityId
    presence: int
    at: float
    source: int


@dataclass(frozen=True, slots=True)
class PresencesSeen:
    """Of several."""

    presences: tuple[PresenceSeen, ...]


MEMBERS_OUT: Final = Topic("members out", MembersOut, Vias)
PNES_MOVED: Final = Topic("pnes moved", PnesMoved, Nothing)
PRESENCES: Final = Topic("presences", Entities, PresencesSeen)


# revocations


@dataclass(frozen=True, slots=True)
class SessionsEnded:
    """How many sessions ended, and through which PN GW the entity's own was."""

    count: int
    via: EntityId | None = None


@dataclass(frozen=True, slots=True)
class BoundTo:
    """A PNE is admitted through that PN GW alone."""

    pne: EntityId
    via: EntityId


BAR: Final = Topic("bar", About, Nothing)
END: Final = Topic("end", About, SessionsEnded)
BOUND: Final = Topic("bound", BoundTo, SessionsEnded)


# groups, and what waits


@dataclass(frozen=True, slots=True)
class GroupChanged:
    """A group has changed.

    Attributes:
        notice: the SGChangeNotify.
        concerned: members, and those that are none any more.
        told: those of them that get the notice.
        keyed: whether a new epoch has begun.
    """

    notice: bytes
    concerned: tuple[EntityId, ...]
    told: tuple[EntityId, ...]
    keyed: bool


@dataclass(frozen=True, slots=True)
class GroupMessageFor:
    """A message to a group, for these members."""

    message: bytes
    pnes: tuple[EntityId, ...]


GROUP_CHANGED: Final = Topic("group changed", GroupChanged, Nothing)
GROUP_MESSAGE: Final = Topic("group message", GroupMessageFor, Entities)
GROUP_MESSAGES_WAIT: Final = Topic("group messages wait", Entities, Nothing)
PUSH_WAITS: Final = Topic("push waits", About, Nothing)
BACK: Final = Topic("back", Nothing, Nothing)
"""Said by the bus itself: we hear the others again, who may have told us something meanwhile."""


@dataclass(frozen=True, slots=True)
class RotationDue:
    """A CM Device is to take a fresh key, which its PNE is told of."""

    pne: EntityId
    device: EntityId


@dataclass(frozen=True, slots=True)
class RotationsDue:
    """Of several."""

    due: tuple[RotationDue, ...]


CM_ROTATES: Final = Topic("cm rotates", RotationsDue, Nothing)
CM_ROTATED: Final = Topic("cm rotated", About, Nothing)
