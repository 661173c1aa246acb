"""What happened, for whoever tells of it: each action leaves its events in the transaction that it is.

So an event is there where its action is, and nowhere else. Who tells follows the numbers from a cursor of its own, and
moves that when it has told. So each is told at least once, and who keeps the number takes none twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cpns.domain.actor import Actor
from cpns.domain.group import ChangedGroup
from cpns.domain.network import Network
from cpns.errors import Result
from cpns.ids import EntityId, PnId

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
    released: bool = False,
) -> Event:
    """Return the event that a PN has another version: whose copy has it needs none; *released*: it has ended."""
    body: dict[str, object] = {"version": network.version, "gateway": network.gateway_id}
    if came:
        body["came"] = [*came]
    if gone:
        body["gone"] = [*gone]
    if released:
        body["released"] = True
    return Event(at, "pn_changed", actor, network.pn_id, body)


def of_group(at: float, actor: Actor, changed: ChangedGroup) -> Event:
    """Return the event that a service group has another version, or has ended."""
    after = changed.after
    body: dict[str, object] = {"version": after.version, "epoch": after.epoch, "owner": after.owner}
    if changed.came:
        body["came"] = [*changed.came]
    if changed.went:
        body["went"] = [*changed.went]
    if changed.change.deleted:
        body["deleted"] = True
    return Event(at, "sg_changed", actor, after.sg_id, body)
