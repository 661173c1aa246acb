"""What happened, for whoever tells of it: each action leaves its events in the transaction that it is.

So an event is there where its action is, and nowhere else. Who tells follows the numbers from a cursor of its own, and
moves that when it has told. So each is told at least once, and who keeps the number takes none twice.

Where a cursor is kept depends on who is told. What a process of the server tells its peers dies with their sessions, so
it begins with what is new: each peer asks for all when it comes. Who asks for events over HTTP names the number itself.
A follower outside, whom nobody sends all anew, has a `Cursor` in the store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cpns.domain.actor import Actor
from cpns.domain.group import ChangedGroup
from cpns.domain.network import Network
from cpns.errors import Result
from cpns.ids import EntityId, PnId, SgId

KEPT_SECONDS: Final = 7 * 86400.0
"""How long an event is kept."""
MOST: Final = 1_000_000
"""And how many; a follower that is further behind is told so."""

Body = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        kind: as in the audit log; but ``established`` of all PNEs of a SETUP, and ``pn_changed``, ``sg_changed``.
        subject: the ID of the entity, network or group that it is about.
        body: what there is to say of it, as JSON has it; never a secret.
    """

    at: float
    kind: str
    actor: Actor
    subject: str
    body: Body


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event with its number, which grows by commit."""

    number: int
    event: Event


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far somebody has come that follows the events by a name.

    Attributes:
        number: of the newest event that was told.
        at: when it came there, seconds since the epoch.
        actor: the name of who said so.
    """

    name: str
    number: int
    at: float
    actor: str


def body_of(result: Result, reason: str, via: EntityId | None, times: int) -> Body:
    """Return what the event says that goes with a row of the audit log."""
    body: dict[str, object] = {"result": result.name.lower()}
    if reason:
        body["reason"] = reason
    if via is not None:
        body["via"] = via
    if times > 1:
        body["times"] = times
    return body


def of_setup(at: float, gateway: Actor, pn_id: PnId, pnes: Sequence[EntityId]) -> Event:
    """Return the event that a SETUP through a PN GW let PNEs in, be it anew."""
    return Event(at, "established", gateway, pn_id, {"pnes": [*pnes]})


def of_network(
    at: float,
    actor: Actor,
    network: Network,
    *,
    came: tuple[EntityId, ...] = (),
    gone: tuple[EntityId, ...] = (),
    frm: EntityId | None = None,
    released: bool = False,
) -> Event:
    """Return the event that a PN has another version: whose copy has it needs none.

    Args:
        at: when that was.
        actor: who did it.
        network: as it is now.
        came: who is in it from now on.
        gone: who is in it no more.
        frm: the PN GW that served it until now, where that is another one.
        released: whether it has ended.
    """
    body: dict[str, object] = {"version": network.version, "gateway": network.gateway_id}
    if frm is not None:
        body["from"] = frm
    if came:
        body["came"] = [*came]
    if gone:
        body["gone"] = [*gone]
    if released:
        body["released"] = True
    return Event(at, "pn_changed", actor, network.pn_id, body)


def of_group(at: float, actor: Actor, changed: ChangedGroup) -> Event:
    """Return the event that a service group has another version, or has ended: then all have left it."""
    after, deleted = changed.after, changed.change.deleted
    body: dict[str, object] = {"version": after.version, "epoch": after.epoch, "owner": after.owner}
    went = changed.members if deleted else changed.went
    if changed.came:
        body["came"] = [*changed.came]
    if went:
        body["went"] = [*went]
    if deleted:
        body["deleted"] = True
    return Event(at, "sg_changed", actor, after.sg_id, body)


@dataclass(frozen=True, slots=True)
class PnChanged:
    """What ``pn_changed`` says, as `of_network` has it."""

    at: float
    pn_id: PnId
    version: int
    gateway: EntityId
    frm: EntityId | None
    gone: tuple[EntityId, ...]
    released: bool

    @classmethod
    def of(cls, event: Event) -> "PnChanged":
        """Return what *event* says."""
        said: Mapping[str, Any] = event.body
        who = (said["gateway"], said.get("from"), tuple(said.get("gone", ())))
        return cls(event.at, PnId(event.subject), said["version"], *who, released=said.get("released", False))


@dataclass(frozen=True, slots=True)
class SgChanged:
    """What ``sg_changed`` says, as `of_group` has it."""

    sg_id: SgId
    version: int
    epoch: int
    went: tuple[EntityId, ...]

    @classmethod
    def of(cls, event: Event) -> "SgChanged":
        """Return what *event* says."""
        said: Mapping[str, Any] = event.body
        return cls(SgId(event.subject), said["version"], said["epoch"], tuple(said.get("went", ())))
