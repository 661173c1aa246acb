"""The SG Inventory in its tables (DEF-4): functions of a connection and values, inside a transaction of `Database`.

What may be is decided by the rules of `cpns.domain.group`, on rows read in the transaction that then writes.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache, partial

from sqlalchemy import (
    Boolean,
    Connection,
    Row,
    Text,
    bindparam,
    delete,
    exists,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from cpns.domain import epoch as epochs
from cpns.domain import group as rules
from cpns.domain import pace
from cpns.domain.actor import SERVER, Actor, Role
from cpns.domain.event import of_group
from cpns.domain.group import (
    MAX_GROUPS,
    MAX_LISTED,
    ChangedGroup,
    Group,
    GroupChange,
    GroupInventory,
    GroupRule,
    KeyedGroup,
    Listed,
    MakeGroupKey,
    SenderKey,
)
from cpns.domain.inventory import Outcome
from cpns.domain.invitation import ended_before
from cpns.domain.member_list import Policy, Standing
from cpns.errors import Refused, Result
from cpns.ids import EntityId, SgId
from cpns.store import bound_queries, credential_queries, epoch_queries, message_queries
from cpns.store.audit_queries import record
from cpns.store.dialect import DriverSql, driver_select, insert_or_update
from cpns.store.event_queries import leave
from cpns.store.schema import group_keys, group_places, groups, held_through, senders

_ALL = select(groups).order_by(groups.c.name, groups.c.sg_id)
_ONE = select(groups).where(groups.c.sg_id == bindparam("id"))
_OWN_NAMED = (
    select(groups.c.sg_id).where(groups.c.owner == bindparam("owner"), groups.c.name == bindparam("name")).limit(1)
)
_counts = (group_places.c.standing != Standing.LEAVING.value) & or_(
    group_places.c.standing != Standing.INVITED.value, group_places.c.at > bindparam("since")
)
_KNOWN = _ONE.where(
    or_(
        bindparam("asker", type_=Text).is_(None),
        groups.c.policy != Policy.CLOSED.value,
        exists().where(
            group_places.c.sg_id == groups.c.sg_id, group_places.c.pne_id == bindparam("asker", type_=Text), _counts
        ),
    )
)
"""A closed group is none for who has no place on its list, and costs no statement more than one that does not exist."""
_THESE = select(groups).where(groups.c.sg_id.in_(bindparam("ids", expanding=True))).order_by(groups.c.sg_id)
_PLACES = (
    select(
        *(group_places.c.pne_id, group_places.c.standing, group_places.c.at, group_places.c.newest),
        *(senders.c.run, senders.c.verify_key, group_places.c.epoch),
    )
    .outerjoin(senders, senders.c.pne_id == group_places.c.pne_id)
    .where(group_places.c.sg_id == bindparam("id"))
    .order_by(group_places.c.pne_id)
)
_OF_PNE = (
    select(groups)
    .join(group_places, group_places.c.sg_id == groups.c.sg_id)
    .where(group_places.c.pne_id == bindparam("pne"))
    .order_by(groups.c.sg_id)
)
_RUNNING = [one.value for one in epochs.RUNNING]
_PAGE = _PLACES.where(
    group_places.c.pne_id > bindparam("after"),
    or_(bindparam("whole", type_=Boolean), group_places.c.standing.in_(_RUNNING)),
    or_(bindparam("only", type_=Text).is_(None), group_places.c.pne_id == bindparam("only")),
).limit(bindparam("limit"))
_any_of = group_places.c.pne_id.in_(bindparam("pnes", expanding=True))
_is_member = group_places.c.standing == Standing.MEMBER.value
_ONE_IS_IN = _ONE.where(exists().where(group_places.c.sg_id == groups.c.sg_id, _any_of, _is_member))
_MEMBERS_IN = (
    select(group_places.c.sg_id)
    .distinct()
    .where(_any_of, _is_member, group_places.c.sg_id > bindparam("after"))
    .order_by(group_places.c.sg_id)
    .limit(bindparam("limit"))
)
_IN_GROUP = select(group_places.c.sg_id).where(
    group_places.c.standing == literal_column(f"'{Standing.MEMBER.value}'")  # no parameter: those have positions
)
_FOUND = (
    select(groups)
    .where(
        or_(bindparam("service", type_=Text).is_(None), groups.c.service == bindparam("service")),
        or_(
            groups.c.policy != Policy.CLOSED.value,
            groups.c.sg_id.in_(
                select(group_places.c.sg_id).where(
                    group_places.c.pne_id == bindparam("pne"), group_places.c.standing != Standing.BARRED.value
                )
            ),
        ),
        groups.c.sg_id > bindparam("after"),
    )
    .order_by(groups.c.sg_id)
    .limit(bindparam("limit"))
)
_heard = held_through.c.last_at >= bindparam("since")
_SILENT = (
    select(groups).where(~exists().where(held_through.c.pne_id == groups.c.owner, _heard)).order_by(groups.c.sg_id)
)
_HEARD_MEMBERS = select(group_places.c.pne_id).where(
    group_places.c.sg_id == bindparam("id"),
    group_places.c.standing == Standing.MEMBER.value,
    exists().where(held_through.c.pne_id == group_places.c.pne_id, _heard),
)
_ADD = insert(groups)
_CHANGING = ("owner", "policy", "keep", "version", "epoch", "begun", "due")
_CHANGE = (
    update(groups)
    .where(groups.c.sg_id == bindparam("id"))
    .values({column: bindparam(f"new_{column}") for column in _CHANGING})
)
_DROP = [delete(table).where(table.c.sg_id == bindparam("id")) for table in (group_keys, group_places, groups)]
_OVER = (
    select(group_places.c.sg_id, group_places.c.pne_id)
    .where(group_places.c.standing == Standing.INVITED.value, group_places.c.at <= bindparam("before"))
    .order_by(group_places.c.at, group_places.c.sg_id, group_places.c.pne_id)
    .limit(bindparam("limit"))
)
_PUT_PLACE = insert_or_update(group_places, "sg_id", "pne_id", kept=["newest"])
_DROP_PLACE = delete(group_places).where(
    group_places.c.sg_id == bindparam("id"), group_places.c.pne_id == bindparam("pne")
)


def _group(row: Row[tuple[object, ...]]) -> Group:
    fields = dict(row._mapping)
    return Group(**{**fields, "policy": Policy(fields["policy"])})


def _places(connection: Connection, sg_id: SgId) -> dict[EntityId, Listed]:
    return {one.pne_id: one for one in (_listed(*row) for row in connection.execute(_PLACES, {"id": sg_id}))}


def _listed(
    pne: EntityId, standing: str, at: float, newest: bytes | None, run: int | None, verify_key: bytes | None, epoch: int
) -> Listed:
    return Listed(pne, Standing(standing), at, newest, None if run is None else SenderKey(run, verify_key), epoch)


def inventory(
    connection: Connection, sg_id: SgId, asker: EntityId | None = None, at: float = 0.0
) -> GroupInventory | None:
    """See `cpns.ports.Store.group`."""
    found = _known(connection, sg_id, asker, at)
    return None if found is None else GroupInventory(found, tuple(_places(connection, sg_id).values()))


def _known(connection: Connection, sg_id: SgId, asker: EntityId | None, at: float) -> Group | None:
    """Return a group that *asker* may know of; None: the operator, or the server itself."""
    row = connection.execute(_KNOWN, {"id": sg_id, "asker": asker, "since": ended_before(at)}).one_or_none()
    return None if row is None else _group(row)


def inventories(connection: Connection) -> list[GroupInventory]:
    """See `cpns.ports.Store.groups`."""
    found = [_group(row) for row in connection.execute(_ALL)]
    return [GroupInventory(one, tuple(_places(connection, one.sg_id).values())) for one in found]


def named(connection: Connection, sg_ids: Sequence[SgId]) -> list[Group]:
    """See `cpns.ports.Store.groups_named`."""
    return [_group(row) for row in connection.execute(_THESE, {"ids": list(sg_ids)})]


def page(
    connection: Connection,
    sg_id: SgId,
    asker: EntityId | None,
    members: Sequence[EntityId],
    after: str,
    limit: int,
    only: EntityId | None = None,
) -> GroupInventory | None:
    """See `cpns.ports.Store.group_page`."""
    row = connection.execute(_ONE_IS_IN, {"id": sg_id, "pnes": list(members)}).one_or_none()
    if row is None:
        return None
    group = _group(row)
    wanted = {"id": sg_id, "after": after, "limit": limit, "only": only, "whole": group.owner == asker}
    return GroupInventory(group, tuple(_listed(*place) for place in connection.execute(_PAGE, wanted)))


def of_pnes(connection: Connection, pne_ids: Sequence[EntityId], after: str, limit: int) -> list[SgId]:
    """See `cpns.ports.Store.groups_of`."""
    wanted = {"pnes": list(pne_ids), "after": after, "limit": limit}
    return [SgId(sg_id) for sg_id in connection.execute(_MEMBERS_IN, wanted).scalars()]


@lru_cache(maxsize=128)
def _in_group(count: int) -> DriverSql:
    return driver_select(_IN_GROUP, group_places.c.pne_id, count)


def ids_of_pnes(connection: Connection, pne_ids: Sequence[EntityId]) -> tuple[SgId, ...]:
    """Return the groups that any of these PNEs is a member of; each establishment asks."""
    found = _in_group(len(pne_ids)).rows(connection, tuple(pne_ids)) if pne_ids else []
    return tuple(sorted({SgId(sg_id) for (sg_id,) in found}))


def discoverable(connection: Connection, pne_id: EntityId, service: str | None, after: str, limit: int) -> list[Group]:
    """Return up to *limit* groups with an ID over *after* that a PNE may find, whatever their names."""
    wanted = {"pne": pne_id, "service": service, "after": after, "limit": limit}
    return [_group(row) for row in connection.execute(_FOUND, wanted)]


def create(connection: Connection, new: Group, most: int) -> None:
    """See `cpns.ports.Store.create_group`."""
    bound_queries.check_groups(connection, [new.owner], most)
    bound_queries.keep_pace(connection, new.owner, "create", pace.CREATIONS, new.created_at)
    if connection.execute(_OWN_NAMED, {"owner": new.owner, "name": new.name}).one_or_none() is not None:
        raise Refused(Result.EXISTS, "own_group_of_that_name")  # of those of others nothing is told
    _all_active(connection, [new.owner])
    connection.execute(_ADD, {**asdict(new), "policy": new.policy.value})
    owner = {"sg_id": new.sg_id, "pne_id": new.owner, "standing": Standing.MEMBER.value, "at": new.created_at}
    connection.execute(_PUT_PLACE, owner | {"epoch": new.epoch})
    maker = Actor(Role.OWNER, new.owner)
    made = ChangedGroup(new, new, GroupChange("sg_created"), (new.owner,), came=(new.owner,))
    leave(connection, [of_group(new.created_at, maker, made)])
    record(connection, [Outcome(new.created_at, "sg_created", new.owner, maker, Result.SUCCESS, new.sg_id)])


def change(
    connection: Connection, sg_id: SgId, rule: GroupRule, at: float, actor: Actor, most: int = MAX_GROUPS
) -> ChangedGroup:
    """See `cpns.ports.Store.change_group`."""
    before = _known(connection, sg_id, actor.entity_id, at)
    if before is None:
        raise Refused(Result.UNKNOWN_SG, "no_such_group")
    return _apply(connection, before, rule, at, actor, most)


def _apply(
    connection: Connection, before: Group, rule: GroupRule, at: float, actor: Actor, most: int = MAX_GROUPS
) -> ChangedGroup:
    places = _places(connection, before.sg_id)
    seen = epochs.seen(places, at)
    by = actor.within(before.owner, is_member=rules.is_inside(seen, actor.entity_id))
    decided = rule(before, seen, by)
    if not by.is_operator:
        come = [pne for pne, how in decided.standings.items() if how is Standing.MEMBER]
        bound_queries.check_groups(connection, [pne for pne in come if not epochs.is_in(places.get(pne))], most)
    if decided.joiner is not None:
        bound_queries.keep_pace(connection, decided.joiner, f"join {before.sg_id}", pace.JOINS, at)
    return _write(connection, before, places, decided, at, by)


def _write(
    connection: Connection, before: Group, places: rules.Places, decided: GroupChange, at: float, by: Actor
) -> ChangedGroup:
    were = rules.members(places.values())
    subjects = decided.subjects or (EntityId(before.sg_id),)
    record(connection, [Outcome(at, decided.event, one, by, Result.SUCCESS, before.sg_id) for one in subjects])
    if decided.deleted:
        message_queries.drop_group(connection, before.sg_id)
        for statement in _DROP:
            connection.execute(statement, {"id": before.sg_id})
        ended = ChangedGroup(before, before, decided, were)
        leave(connection, [of_group(at, by, ended)])
        return ended
    _all_active(connection, [pne for pne, how in decided.standings.items() if how is Standing.MEMBER])
    _check_room(connection, before, places, decided, at, by)
    return _turned(connection, before, places, decided, epochs.turn(before, places, decided, at), at, by)


def _check_room(
    connection: Connection, group: Group, places: rules.Places, decided: GroupChange, at: float, by: Actor
) -> None:
    """Check that the list has room for who is put on it. Raises `Refused`."""
    added = sum(how is not None and pne not in places for pne, how in decided.standings.items())
    if added and len(places) + added > MAX_LISTED:
        raise Refused(Result.TOO_MANY, "list_is_full")
    invited = {pne for pne, one in epochs.seen(places, at).items() if one.standing is Standing.INVITED}
    new = {pne for pne, how in decided.standings.items() if how is Standing.INVITED} - invited
    if new and not by.is_operator:
        bound_queries.check_invitations(connection, group.owner, len(invited) + len(new), len(new), at)


def _turned(
    connection: Connection,
    before: Group,
    places: rules.Places,
    decided: GroupChange,
    turn: epochs.Turn,
    at: float,
    by: Actor,
) -> ChangedGroup:
    """Write what becomes of the list, and of the group with it."""
    after = _counted(before, decided, turn, at)
    epoch_queries.end(connection, before.sg_id, after.epoch, turn, at)
    _put(connection, after, places, turn, at)
    listed = _places(connection, before.sg_id).values()
    members, were = rules.members(listed), rules.members(places.values())
    message_queries.drop_owed(connection, before.sg_id, [pne for pne in were if pne not in members])
    if after != before:
        values = {name: getattr(after, name) for name in _CHANGING} | {"policy": after.policy.value}
        connection.execute(_CHANGE, {f"new_{name}": value for name, value in values.items()} | {"id": before.sg_id})
    ran, runs = epochs.running(places.values()), epochs.running(listed)
    came, went = (tuple(pne for pne in some if pne not in others) for some, others in ((runs, ran), (ran, runs)))
    changed = ChangedGroup(before, after, decided, members, came, went)
    if after.version != before.version:
        leave(connection, [of_group(at, by, changed)])
    return changed


def _counted(before: Group, decided: GroupChange, turn: epochs.Turn, at: float) -> Group:
    keep = before.keep if decided.keep is None else decided.keep
    after = replace(before, owner=decided.owner or before.owner, policy=decided.policy or before.policy, keep=keep)
    version = before.version + (turn.shown or after != before)
    if turn.begins:
        return replace(after, version=version, epoch=before.epoch + 1, begun=at, due=None)
    return replace(after, version=version, due=turn.due)


def _put(connection: Connection, after: Group, places: rules.Places, turn: epochs.Turn, at: float) -> None:
    for pne, how in turn.standings.items():
        if how is None:
            connection.execute(_DROP_PLACE, {"id": after.sg_id, "pne": pne})
            continue
        was = places.get(pne)
        since, epoch = at, 0 if was is None else was.epoch
        if how is Standing.MEMBER and (was is None or was.standing is not Standing.LEAVING):
            epoch = after.epoch
            since = was.since if was is not None and was.standing is Standing.COMING else at
        place = {"sg_id": after.sg_id, "pne_id": pne, "standing": how.value, "at": since, "epoch": epoch}
        connection.execute(_PUT_PLACE, place)


def begin(connection: Connection, sg_id: SgId, at: float) -> ChangedGroup | None:
    """See `cpns.ports.Store.begin_epoch`."""
    row = connection.execute(_ONE, {"id": sg_id}).one_or_none()
    if row is None:
        return None
    before, change = _group(row), GroupChange("sg_epoch_begun")
    if not epochs.is_due(before, at):
        return ChangedGroup(before, before, change, ())
    places = _places(connection, sg_id)
    return _turned(connection, before, places, change, epochs.begun(places, {}), at, SERVER)


def expire_invitations(connection: Connection, at: float, limit: int) -> list[ChangedGroup]:
    """See `cpns.ports.Store.expire_group_invitations`."""
    over = connection.execute(_OVER, {"before": ended_before(at), "limit": limit}).all()
    found = []
    for sg_id in dict.fromkeys(sg_id for sg_id, _ in over):
        ended = tuple(EntityId(pne) for of, pne in over if of == sg_id)
        change = GroupChange("sg_invitation_ended", ended, dict.fromkeys(ended))
        group = _group(connection.execute(_ONE, {"id": sg_id}).one())
        found.append(_write(connection, group, _places(connection, sg_id), change, at, SERVER))
    return found


def _all_active(connection: Connection, pnes: Sequence[EntityId]) -> None:
    """Raise `Refused` where one of *pnes* is to come in and is revoked, maybe at this moment, or no PNE at all."""
    known = credential_queries.credentials(connection, pnes)
    for pne in pnes:
        if pne not in known or not known[pne].is_active_pne:
            raise Refused(Result.NOT_ALLOWED, "no_active_device")


def key(
    connection: Connection, sg_id: SgId, make: MakeGroupKey, at: float, of: Sequence[EntityId] | None = None
) -> KeyedGroup | None:
    """See `cpns.ports.Store.group_key`."""
    statement = _ONE if of is None else _ONE_IS_IN
    row = connection.execute(statement, {"id": sg_id, "pnes": list(of or ())}).one_or_none()
    if row is None:
        return None
    found = GroupInventory(_group(row), tuple(_places(connection, sg_id).values()))
    running = found.group.epoch
    keys = epoch_queries.keys(connection, sg_id, at)
    sealed = keys.pop(running, None)
    if sealed is None:
        sealed = make(sg_id, running)
        epoch_queries.add_key(connection, sg_id, running, sealed)
    return KeyedGroup(found, sealed, keys)


def silent_owners(connection: Connection, since: float) -> list[tuple[Group, tuple[EntityId, ...]]]:
    """See `cpns.ports.Store.silent_owners`."""
    found = []
    for row in connection.execute(_SILENT, {"since": since}):
        group = _group(row)
        there = connection.execute(_HEARD_MEMBERS, {"id": group.sg_id, "since": since}).scalars()
        found.append((group, tuple(map(EntityId, there))))
    return found


def forget(connection: Connection, pne_id: EntityId, at: float, actor: Actor) -> list[ChangedGroup]:
    """Take a PNE that *actor* revoked off the list of every group; return those that it was on."""
    found = [_group(row) for row in connection.execute(_OF_PNE, {"pne": pne_id})]
    return [_apply(connection, one, partial(rules.vanish, pne=pne_id), at, actor) for one in found]
