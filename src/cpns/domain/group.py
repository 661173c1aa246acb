"""A service group as the SG Inventory holds it (DEF-4), and who may do what in it (DEF-5): records and rules.

Each rule takes the group and its list as they are inside the transaction that will change them, and returns the change
or raises `Refused`.

    right             operator  owner   member        who is invited  others
    invite            yes       yes     policy open   no              no
    approve, refuse   yes       yes     no            no              no
    expel             and bar   and bar no            no              no
    delete            yes       yes     no            no              no
    give ownership    yes       to a member that agrees  no  no       no
    join              -         -       -             yes             as the policy says
    leave             -         itself  itself        declines        no
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from cpns.domain.actor import Actor
from cpns.domain.member_list import (
    Policy,
    Standing,
    check_expels,
    check_invites,
    check_operator,
    check_server,
    come,
    governs,
)
from cpns.errors import Conflict, Refused, Result
from cpns.ids import EntityId, SgId

MAX_GROUPS: Final = 64
"""Groups that one PNE is in, unless the server says otherwise: a page of a list of them."""
MAX_LISTED: Final = 4096
"""Places on the list of one group."""
KEEP_SECONDS: Final = 86400
"""How long a message to a group waits for a member, unless the group says otherwise."""


@dataclass(frozen=True, slots=True)
class Group:
    """A service group.

    Attributes:
        name: for people; groups of others may have the same.
        service: what it is for, a service's name, or None.
        owner: the SG Owner (DEF-5).
        version: grows with every change of what the SG Inventory tells of it.
        epoch: grows with every change of its membership.
        vouched: PN GWs and server vouch for who sent a message, hop by hop; else each sender signs.
        keep: seconds that a message waits for a member that is away; 0: not at all.
        begun: when the running epoch began by a change, seconds since the epoch of Unix.
        due: when the next one is to begin; None: nobody waits for it.
    """

    sg_id: SgId
    name: str
    service: str | None
    owner: EntityId
    policy: Policy
    version: int
    epoch: int
    created_at: float
    vouched: bool = False
    keep: int = KEEP_SECONDS
    begun: float = 0.0
    due: float | None = None


@dataclass(frozen=True, slots=True)
class SenderKey:
    """What a PNE registered, end to end, to send to groups.

    Attributes:
        run: number of the registration; the first part of each number under it.
        verify_key: Ed25519; None of a device that can't sign.
    """

    run: int
    verify_key: bytes | None


@dataclass(frozen=True, slots=True)
class Listed:
    """One PNE on a group's list.

    Attributes:
        since: when it got that place, seconds since the epoch.
        newest: number of the newest message that it sent to this group, as far as the server took one.
        key: what it registered; None: it never sent anything to any group.
        epoch: of a member, its first one.
    """

    pne_id: EntityId
    standing: Standing
    since: float
    newest: bytes | None = None
    key: SenderKey | None = None
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class GroupChange:
    """What one decision changes in a group; committed as a whole, or not at all.

    Attributes:
        event: names it in the audit log.
        subjects: the PNEs that it is about.
        standings: places on the list; None takes the PNE off it.
        deleted: the group ends.
        puts_out: somebody is put out, and does not leave by itself.
        joiner: the PNE that joins by itself, which may not do so at any pace.
    """

    event: str
    subjects: tuple[EntityId, ...] = ()
    standings: Mapping[EntityId, Standing | None] = field(default_factory=dict)
    owner: EntityId | None = None
    policy: Policy | None = None
    keep: int | None = None
    deleted: bool = False
    puts_out: bool = False
    joiner: EntityId | None = None


@dataclass(frozen=True, slots=True)
class ChangedGroup:
    """A committed `GroupChange`.

    Attributes:
        after: the group as it is; of a deleted one, as it was.
        members: who is in it now; of a deleted one, who was.
        came: who is in the running epoch, and was not in the one before.
        went: who was, and is not.
    """

    before: Group
    after: Group
    change: GroupChange
    members: tuple[EntityId, ...]
    came: tuple[EntityId, ...] = ()
    went: tuple[EntityId, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupInventory:
    """An entry of the SG Inventory: a group with its list, by ID."""

    group: Group
    listed: tuple[Listed, ...]

    @property
    def members(self) -> tuple[EntityId, ...]:
        """Who is in it."""
        return members(self.listed)


@dataclass(frozen=True, slots=True)
class KeyedGroup:
    """A group with the Group Key of its running epoch, sealed, and those of the older ones that are taken still."""

    inventory: GroupInventory
    sealed_key: bytes
    older: Mapping[int, bytes] = field(default_factory=dict)

    def key_of(self, epoch: int) -> bytes | None:
        """Return the sealed key of an epoch under which messages are taken; None of any other."""
        return self.sealed_key if epoch == self.inventory.group.epoch else self.older.get(epoch)


@dataclass(frozen=True, slots=True)
class TakenMessage:
    """A message to a group that the server takes: it was handed on, and is kept for who could not be reached.

    Attributes:
        seq: the sender's number for it.
        verify_key: proves the signature; None in a `vouched` group.
        sealed_key: the Group Key of its epoch, sealed at rest.
        keep_for: members that have not got it.
        expires_at: until when it is kept.
    """

    sg_id: SgId
    epoch: int
    sender: EntityId
    seq: bytes
    sealed: bytes
    signature: bytes | None
    verify_key: bytes | None
    sealed_key: bytes
    keep_for: tuple[EntityId, ...]
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message to a group that waits for one member."""

    number: int
    message: TakenMessage


MakeGroupKey = Callable[[SgId, int], bytes]
"""Makes the Group Key of an epoch, and returns it sealed."""
_INSIDE: Final = (Standing.MEMBER, Standing.COMING)
Places = Mapping[EntityId, Listed]
GroupRule = Callable[[Group, Places, Actor], GroupChange]
"""The actor is the one that the store writes down, as it is within the group."""


class Named(NamedTuple):
    """What there is to tell groups apart by."""

    sg_id: SgId
    name: str | None
    owner: EntityId | None


_SG_ID: Final = re.compile(r"sg-[a-z2-7]{16}")
_MOST_NAMED: Final = 8


def is_sg_id(text: str) -> bool:
    """Whether *text* looks like the ID of a group; then it is no name, whoever gave that."""
    return _SG_ID.fullmatch(text) is not None


def chosen(wanted: str, mine: Iterable[Named], found: Iterable[Named] = ()) -> Named | None:
    """Return the group that a person means with *wanted*, an ID or a name; None where there is none.

    A name may be that of several groups, as everybody gives the names that he likes: it means the one that the asker is
    in, else the only one that is found. What looks like an ID is never a name.

    Args:
        wanted: as it was typed.
        mine: the groups that the asker is in.
        found: those that can be found besides.

    Raises:
        Conflict: ``ambiguous_group``.
    """
    for known in ([*mine], [*found]):
        these = [one for one in known if one.sg_id == wanted]
        these = these or [one for one in known if one.name == wanted and not is_sg_id(wanted)]
        if len(these) > 1:
            which = ", ".join(f"{one.sg_id} of {one.owner}" for one in these[:_MOST_NAMED])
            rest = f" and {len(these) - _MOST_NAMED} more" if len(these) > _MOST_NAMED else ""
            raise Conflict("ambiguous_group", f"{len(these)} groups have this name: give one of {which}{rest}.")
        if these:
            return these[0]
    return None


def is_about(group: Group, keyword: str) -> bool:
    """Whether a keyword is in the group's name or service, whatever the case."""
    return keyword.casefold() in f"{group.name}\n{group.service or ''}".casefold()


def members(listed: Iterable[Listed]) -> tuple[EntityId, ...]:
    """Return those of a list that are in the group, and in its running epoch."""
    return tuple(one.pne_id for one in listed if one.standing is Standing.MEMBER)


def inside(places: Places, whom: Iterable[EntityId]) -> list[EntityId]:
    """Return who of *whom* is in the group, or comes."""
    return [pne for pne in whom if is_inside(places, pne)]


def standing(places: Places, pne: EntityId) -> Standing | None:
    """Return what place a PNE has on a list; None: none."""
    place = places.get(pne)
    return None if place is None else place.standing


def is_inside(places: Places, pne: EntityId | None) -> bool:
    """Whether a PNE is in the group, or comes."""
    return pne is not None and standing(places, pne) in _INSIDE


def join(group: Group, places: Places, actor: Actor) -> GroupChange:
    """Let a PNE in that asks; where the policy is approval it is put on the list, and waits."""
    pne = _device(actor)
    place = standing(places, pne)
    if place in _INSIDE:
        raise Refused(Result.ALREADY_MEMBER, "already_in_this_group")
    became = come(group.policy, place)
    if became is Standing.BARRED:
        raise Refused(Result.NOT_ALLOWED, "barred")
    if became is not None:
        event = "sg_joined" if became is Standing.MEMBER else "sg_waits"
        return GroupChange(event, (pne,), {pne: became}, joiner=pne)
    if place is Standing.PENDING:
        raise Refused(Result.POLICY, "not_on_the_list")
    raise Refused(Result.UNKNOWN_SG, "no_such_group")  # as a closed group is to all who have no place in it


def invite(group: Group, places: Places, actor: Actor, whom: Sequence[EntityId]) -> GroupChange:
    """Put *whom* on the list, so that they may come; whoever governs so lifts a bar, and lets in who waits."""
    may = group.policy is Policy.OPEN and is_inside(places, actor.entity_id)
    check_invites(actor, may=may, standings=[standing(places, pne) for pne in whom])
    new = [pne for pne in dict.fromkeys(whom) if not is_inside(places, pne)]
    waited = {pne: Standing.MEMBER for pne in new if governs(actor) and standing(places, pne) is Standing.PENDING}
    return GroupChange("sg_invited", tuple(new), {**dict.fromkeys(new, Standing.INVITED), **waited})


def leave(group: Group, places: Places, actor: Actor) -> GroupChange:
    """End a PNE's own membership, or decline; an owner is followed as `heir` says, and a group of nobody ends."""
    pne = _device(actor)
    if pne not in places or standing(places, pne) is Standing.BARRED:
        raise Refused(Result.NOT_A_MEMBER, "not_in_this_group")
    return _without(group, places, "sg_left", {pne: None})


def _device(actor: Actor) -> EntityId:
    """Return the PNE that acts for itself. Raises `Refused`: nobody else can."""
    if not actor.is_device:
        raise Refused(Result.NOT_A_MEMBER, "not_in_this_group")
    return EntityId(actor.name)


def expel(group: Group, places: Places, actor: Actor, whom: Sequence[EntityId]) -> GroupChange:
    """Put members out, refuse those that wait, and bar them: the owner alone, or the operator (DEF-5)."""
    check_expels(actor, whom, may=governs(actor))
    if any(pne not in places for pne in whom):
        raise Refused(Result.NOT_A_MEMBER, "not_in_this_group")
    return replace(_without(group, places, "sg_expelled", dict.fromkeys(whom, Standing.BARRED)), puts_out=True)


def vanish(group: Group, places: Places, actor: Actor, pne: EntityId) -> GroupChange:
    """Take a PNE off the list that *actor* revoked, whatever its place; who owned it invited in vain."""
    check_server(actor)
    change = replace(_without(group, places, "sg_left", {pne: None}), puts_out=True)
    if group.owner != pne:
        return change
    invited = {one: None for one, place in places.items() if place.standing is Standing.INVITED}
    return replace(change, standings={**change.standings, **invited})


def _without(group: Group, places: Places, event: str, standings: Mapping[EntityId, Standing | None]) -> GroupChange:
    subjects = tuple(standings)
    if group.owner not in standings:
        return GroupChange(event, subjects, standings)
    successor = heir(group, places, standings)
    return GroupChange(event, subjects, standings, owner=successor, deleted=successor is None)


def heir(group: Group, places: Places, without: Mapping[EntityId, object]) -> EntityId | None:
    """Return who follows the owner: the member that has been in the group longest; None where there is no other."""
    return next(iter(_others(group, places, without)), None)


def _others(group: Group, places: Places, without: Mapping[EntityId, object]) -> list[EntityId]:
    """Return the members besides the owner and those *without*, who has been in longest first."""
    gone = {group.owner, *without}
    others = [one for one in places.values() if one.standing in _INSIDE and one.pne_id not in gone]
    return [one.pne_id for one in sorted(others, key=lambda one: (one.since, one.pne_id))]


def delete(group: Group, places: Places, actor: Actor) -> GroupChange:
    """End the group: the owner alone, or the operator (DEF-5)."""
    if not governs(actor):
        raise Refused(Result.NOT_ALLOWED, "may_not_delete")
    return GroupChange("sg_deleted", deleted=True)


def candidates(group: Group, places: Places, actor: Actor, wanted: EntityId | None) -> list[EntityId]:
    """Return whom to ask, in turn, whether it takes ownership: *wanted*, or all others, who is in longest first.

    Raises:
        Refused: the owner alone, or the operator, passes it on (DEF-5), and to a member alone.
    """
    if not governs(actor):
        raise Refused(Result.NOT_ALLOWED, "may_not_pass_on")
    others = _others(group, places, {})
    found = others if wanted is None else [pne for pne in others if pne == wanted]
    if not found:
        raise Refused(Result.NOT_A_MEMBER, "no_such_candidate")
    return found


def pass_on(group: Group, places: Places, actor: Actor, frm: EntityId, to: EntityId) -> GroupChange:
    """Give ownership to a member that has agreed, if it is still *frm* that owns the group."""
    if group.owner != frm:
        raise Refused(Result.IN_PROGRESS, "passed_on_meanwhile")
    if not governs(actor):
        raise Refused(Result.NOT_ALLOWED, "may_not_pass_on")
    if not is_inside(places, to):
        raise Refused(Result.NOT_A_MEMBER, "left_meanwhile")
    return GroupChange("sg_owner_changed", (to,), owner=to)


def replace_owner(group: Group, places: Places, actor: Actor, gone: EntityId, there: Sequence[EntityId]) -> GroupChange:
    """Give the group of an owner that has vanished to the member of *there* that has been in it longest.

    Raises:
        Refused: somebody else owns it by now, or no such member is in it.
    """
    check_server(actor)
    found = [pne for pne in _others(group, places, {}) if pne in there]
    if group.owner != gone or not found:
        raise Refused(Result.NOT_A_MEMBER, "no_such_candidate")
    return GroupChange("sg_owner_replaced", (found[0],), owner=found[0])


def update(group: Group, places: Places, actor: Actor, policy: Policy | None, keep: int | None = None) -> GroupChange:
    """Change who may come, and how long messages wait for who is away, as the operator says."""
    check_operator(actor)
    return GroupChange("sg_settled", policy=policy, keep=keep)
