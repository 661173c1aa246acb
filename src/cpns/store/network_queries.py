"""Changes of the PN Inventory in its tables: functions of a connection and values, inside a transaction of `Database`.

What may be is decided by the rules of `cpns.domain.membership`, on rows read in the transaction that then writes: no
decision rests on what was true a moment ago.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, Text, bindparam, delete, exists, func, insert, or_, select, update

from cpns.domain import actor as actors
from cpns.domain.actor import SERVER, Actor
from cpns.domain.event import of_network, of_setup
from cpns.domain.inventory import Establishment, Outcome
from cpns.domain.invitation import ended_before, is_over
from cpns.domain.member_list import Standing
from cpns.domain.membership import Rule, admit, first_owner
from cpns.domain.network import Admission, Admitted, Edit, Edited, Network, Place
from cpns.errors import Refused, Result
from cpns.ids import EntityId, PnId
from cpns.store import bound_queries, group_queries
from cpns.store.audit_queries import record, record_established
from cpns.store.dialect import DriverSql, driver_select, insert_or_update
from cpns.store.event_queries import leave
from cpns.store.inventory_queries import MEMBERS_OF, SHOWN, network, network_of
from cpns.store.schema import ended_networks, entities, members, networks, standings

ENDED_SECONDS: Final = 365 * 86400.0
"""How long it is kept which version the end of a PN made: who was away for longer asks anew."""
MAX_LISTED: Final = 10_000
"""Places on the member list of one PN up to which a decision adds new ones; who comes by itself is not bound by it."""

_asker = bindparam("asker", type_=Text)
_KNOWN = SHOWN.where(
    networks.c.pn_id == bindparam("id"),
    or_(
        _asker.is_(None),
        networks.c.gateway_id == _asker,
        exists().where(members.c.pn_id == networks.c.pn_id, members.c.pne_id == _asker),
        exists().where(
            standings.c.pn_id == networks.c.pn_id,
            standings.c.pne_id == _asker,
            or_(standings.c.standing != Standing.INVITED.value, standings.c.at > bindparam("since")),
        ),
    ),
)
"""A PN is none for who neither serves it nor has a place in it, and costs no statement more than one that is none."""
_OF_MEMBER = select(members.c.pn_id).where(members.c.pne_id == bindparam("pne_id"))
_ADD = insert(networks)
_CHANGING = ("gateway_id", "alias", "owner", "policy", "expelled_at")
_CHANGE = (
    update(networks)
    .where(networks.c.pn_id == bindparam("id"))
    .values({column: bindparam(f"new_{column}") for column in (*_CHANGING, "version")})
)
_COUNT = DriverSql(
    update(networks).where(networks.c.pn_id == bindparam("id")).values(version=bindparam("new_version")),
    ("new_version", "id"),
)
_SERVED_SINCE = update(networks).where(networks.c.pn_id == bindparam("id")).values(served_since=bindparam("at"))
_DROP = [delete(table).where(table.c.pn_id == bindparam("id")) for table in (standings, members, networks)]

_ENDED = select(ended_networks.c.version).where(ended_networks.c.pn_id == bindparam("id"))
_PUT_ENDED = insert_or_update(ended_networks, "pn_id")
_FORGET_LONG_ENDED = delete(ended_networks).where(ended_networks.c.ended_at < bindparam("before"))
_FORGET_ENDED = delete(ended_networks).where(ended_networks.c.pn_id == bindparam("id"))

_MEMBER_COLUMNS = ("pne_id", "pn_id", "pan_secure", "since")
_PUT_MEMBER = DriverSql(insert_or_update(members, "pne_id"), _MEMBER_COLUMNS)
_SECURE = update(members).where(members.c.pne_id == bindparam("pne")).values(pan_secure=bindparam("secure"))
_DROP_MEMBER = delete(members).where(members.c.pne_id == bindparam("pne"), members.c.pn_id == bindparam("pn"))
_STANDING_COLUMNS = ("pne_id", "pn_id", "standing", "at", "via", "last_at", "attempts")
_PUT_STANDING = DriverSql(insert_or_update(standings, "pne_id", "pn_id"), _STANDING_COLUMNS)
_WAITS_STILL = (
    update(standings)
    .where(standings.c.pne_id == bindparam("pne"), standings.c.pn_id == bindparam("pn"))
    .values(last_at=bindparam("then"), attempts=standings.c.attempts + 1)
)
_DROP_STANDING = delete(standings).where(standings.c.pne_id == bindparam("pne"), standings.c.pn_id == bindparam("pn"))
_LISTED = select(func.count()).select_from(standings).where(standings.c.pn_id == bindparam("pn_id"))

_PRESENT = select(members.c.pne_id, members.c.pn_id, members.c.pan_secure)
_BINDING = select(entities.c.entity_id, entities.c.only_via)
_ELSEWHERE: Final = Admission(Result.AUTHENTICATION_FAILED, "not_admitted_through_this_gateway")
_STANDING = select(standings.c.pne_id, standings.c.pn_id, standings.c.standing, standings.c.at)
_open = (standings.c.standing == Standing.INVITED.value) & (standings.c.at > bindparam("since"))
_OPEN = select(func.count()).select_from(standings).where(standings.c.pn_id == bindparam("pn_id"), _open)
_OVER = (
    select(standings.c.pn_id, standings.c.pne_id)
    .where(standings.c.standing == Standing.INVITED.value, standings.c.at <= bindparam("before"))
    .order_by(standings.c.at, standings.c.pne_id)
    .limit(bindparam("limit"))
)
_INVITED_BY_NOBODY = delete(standings).where(
    standings.c.pn_id == bindparam("pn_id"), standings.c.standing == Standing.INVITED.value
)
_FIRST = (
    select(members.c.pne_id)
    .join(standings, (standings.c.pne_id == members.c.pne_id) & (standings.c.pn_id == members.c.pn_id))
    .where(members.c.pn_id == bindparam("pn_id"), standings.c.standing == Standing.MEMBER.value)
    .order_by(members.c.since, members.c.pne_id)
    .limit(1)
)
_HEIR = _FIRST.join(entities, entities.c.entity_id == members.c.pne_id).where(entities.c.may_own)
_MAY_OWN = select(entities.c.entity_id).where(entities.c.may_own)
_STANDINGS_OF_PNE = select(standings.c.pn_id).where(standings.c.pne_id == bindparam("pne_id"))
_OWNED = select(networks.c.pn_id).where(networks.c.owner == bindparam("pne_id"))


@lru_cache(maxsize=128)
def _presents(count: int) -> DriverSql:
    return driver_select(_PRESENT, members.c.pne_id, count)


@lru_cache(maxsize=128)
def _bindings(count: int) -> DriverSql:
    return driver_select(_BINDING, entities.c.entity_id, count)


def _bound_elsewhere(connection: Connection, ids: Sequence[EntityId], gateway_id: EntityId) -> set[EntityId]:
    """Return those of *ids* that are admitted through another PN GW alone, be it since their SETUP began."""
    rows = _bindings(len(ids)).rows(connection, tuple(ids)) if ids else ()
    return {pne for pne, via in rows if via not in (None, gateway_id)}


@lru_cache(maxsize=128)
def _standings(count: int) -> DriverSql:
    return driver_select(_STANDING, standings.c.pne_id, count)


@lru_cache(maxsize=128)
def _may_own(count: int) -> DriverSql:
    return driver_select(_MAY_OWN, entities.c.entity_id, count)


def _places(
    connection: Connection, pn_id: PnId, ids: Sequence[EntityId], at: float
) -> tuple[dict[EntityId, Place], dict[EntityId, tuple[PnId, bool]]]:
    """Return the place of each of *ids* as *pn_id* sees it, and where each is present now, with its pan_secure.

    Whose invitation is over by *at* has none.
    """
    if not ids:
        return {}, {}
    present: dict[EntityId, tuple[PnId, bool]] = {
        pne: (pn, bool(secure)) for pne, pn, secure in _presents(len(ids)).rows(connection, tuple(ids))
    }
    here: dict[EntityId, Standing] = {}
    home: set[EntityId] = set()
    for pne, pn, standing, since in _standings(len(ids)).rows(connection, tuple(ids)):
        if pn == pn_id:
            if standing != Standing.INVITED or not is_over(since, at):
                here[pne] = Standing(standing)
        elif standing == Standing.MEMBER:
            home.add(pne)
    places = {
        pne: Place(here.get(pne), pne in present and present[pne][0] == pn_id, pne in home)
        for pne in dict.fromkeys(ids)
    }
    return places, present


def establish(connection: Connection, establishment: Establishment) -> Admitted:
    """See `cpns.ports.Store.establish`."""
    before = network(connection, establishment.pn_id)
    if before is not None and before.gateway_id != establishment.gateway_id:
        raise Refused(Result.UNKNOWN_PN, "pn_of_another_gateway")
    places, present = _places(
        connection, establishment.pn_id, [member.pne_id for member in establishment.members], establishment.at
    )
    policy = establishment.policy if before is None else before.policy
    bound = _bound_elsewhere(connection, list(places), establishment.gateway_id)
    admissions = {
        pne: _ELSEWHERE if pne in bound else admit(policy, place, actors.pne(pne), founding=before is None)
        for pne, place in places.items()
    }
    let_in = [member for member in establishment.members if admissions[member.pne_id].result is Result.SUCCESS]
    joined = tuple(member.pne_id for member in let_in if not places[member.pne_id].present)
    after = before
    changed = {
        pne: one.standing
        for pne, one in admissions.items()
        if one.standing is not None and one.standing != places[pne].standing
    }
    if joined or any(places[pne].present for pne in changed):  # one that is in, and guest no longer
        after = _counted(connection, before) if before is not None else _founded(connection, establishment, joined)
    rows = [
        (member.pne_id, establishment.pn_id, member.pan_secure, establishment.at)
        for member in let_in
        if not places[member.pne_id].present
    ]
    if rows:
        _PUT_MEMBER.run(connection, rows)
    turned = [
        {"pne": member.pne_id, "secure": member.pan_secure}
        for member in let_in
        if places[member.pne_id].present and present[member.pne_id][1] != member.pan_secure
    ]
    if turned:
        connection.execute(_SECURE, turned)
    if after is not None:
        _put_standings(connection, establishment.pn_id, changed, establishment.at, establishment.gateway_id)
        waits = [pne for pne, one in admissions.items() if one.standing is Standing.PENDING]
        if waits:
            connection.execute(
                _WAITS_STILL, [{"pne": pne, "pn": establishment.pn_id, "then": establishment.at} for pne in waits]
            )
        came = [pne for pne, one in admissions.items() if one.standing is Standing.MEMBER]
        if after.owner is None and came and before is not None:
            after = _taken_over(connection, after, came, establishment.at)
    left = _left(connection, establishment.pn_id, [pne for pne in joined if pne in present], present)
    here = [member.pne_id for member in let_in]
    found = Admitted(after, admissions, joined, left, group_queries.ids_of_pnes(connection, here))
    _tell_of(connection, establishment, found, here, is_new=after is not None and after != before)
    return found


def _tell_of(
    connection: Connection, finished: Establishment, found: Admitted, here: Sequence[EntityId], *, is_new: bool
) -> None:
    """Leave the events of a SETUP, and record what became of each PNE."""
    at, via = finished.at, actors.gateway(finished.gateway_id)
    events = [of_setup(at, via, finished.pn_id, here)] if here else []
    if found.network is not None and is_new:
        events.append(of_network(at, via, found.network, came=found.joined))
    leave(connection, [*events, *(of_network(at, via, network, gone=gone) for network, gone in found.left)])
    others = [*_outcomes(finished, found.admissions)]
    if others:
        record(connection, others)
    record_established(connection, at, finished.gateway_id, here)


def _founded(connection: Connection, finished: Establishment, came: Sequence[EntityId]) -> Network:
    owner = _first_owner(connection, finished.pn_id, came, finished.at)
    ended = connection.execute(_ENDED, {"id": finished.pn_id}).scalar_one_or_none()
    made = Network(
        *(finished.pn_id, finished.gateway_id, finished.alias, owner, finished.policy),
        version=1 if ended is None else ended + 1,
        created_at=finished.at,
    )
    row = {name: getattr(made, name) for name in ("pn_id", "gateway_id", "alias", "owner", "version", "created_at")}
    if ended is not None:
        connection.execute(_FORGET_ENDED, {"id": made.pn_id})
    connection.execute(_ADD, {**row, "policy": made.policy.value, "served_since": finished.at})
    return made


def _taken_over(connection: Connection, before: Network, came: Sequence[EntityId], at: float) -> Network:
    """Let the first of *came* that may own a PN own this one, which has no owner.

    That is a change by itself: who follows the PN sees from its version that there is more to ask for than who came.
    """
    owner = _first_owner(connection, before.pn_id, came, at)
    return before if owner is None else _bumped(connection, before, owner=owner)


def _first_owner(connection: Connection, pn_id: PnId, came: Sequence[EntityId], at: float) -> EntityId | None:
    may_own = {row[0] for row in _may_own(len(came)).rows(connection, tuple(came))}
    owner = first_owner(came, may_own)
    return None if owner is None else _noted(connection, pn_id, owner, at)


def _heir(connection: Connection, pn_id: PnId, at: float) -> EntityId | None:
    """Return who owns a PN whose owner is gone."""
    heir: EntityId | None = connection.execute(_HEIR, {"pn_id": pn_id}).scalar_one_or_none()
    return None if heir is None else _noted(connection, pn_id, heir, at)


def _noted(connection: Connection, pn_id: PnId, owner: EntityId, at: float) -> EntityId:
    """Write down that a PN is *owner*'s from now on; return it."""
    record(connection, [Outcome(at, "pn_owned", owner, SERVER, Result.SUCCESS, pn_id)])
    return owner


def _counted(connection: Connection, before: Network) -> Network:
    """As `_bumped` with no other change: what every SETUP with a new member does."""
    _COUNT.run(connection, (before.version + 1, before.pn_id))
    return replace(before, version=before.version + 1)


def _bumped(connection: Connection, before: Network, **changes: object) -> Network:
    values = {name: getattr(before, name) for name in _CHANGING} | changes
    version = before.version + 1
    row = {f"new_{name}": value for name, value in values.items()} | {"new_version": version, "id": before.pn_id}
    row["new_policy"] = str(values["policy"])
    connection.execute(_CHANGE, row)
    return network_of(before.pn_id, created_at=before.created_at, version=version, **values)


def _put_standings(
    connection: Connection, pn_id: PnId, changed: Mapping[EntityId, Standing | None], at: float, via: EntityId | None
) -> None:
    rows = [(pne, pn_id, how.value, at, via, None, 0) for pne, how in changed.items() if how is not None]
    if rows:
        _PUT_STANDING.run(connection, rows)
    off = [{"pne": pne, "pn": pn_id} for pne, how in changed.items() if how is None]
    if off:
        connection.execute(_DROP_STANDING, off)


def _left(
    connection: Connection, pn_id: PnId, moved: Iterable[EntityId], present: Mapping[EntityId, tuple[PnId, bool]]
) -> tuple[tuple[Network, tuple[EntityId, ...]], ...]:
    """Make known in the PNs that *moved* were in that they are gone."""
    by_pn: dict[PnId, list[EntityId]] = {}
    for pne in moved:
        if present[pne][0] != pn_id:
            by_pn.setdefault(present[pne][0], []).append(pne)
    found = []
    for other, gone in by_pn.items():
        before = network(connection, other)
        if before is not None:
            found.append((_counted(connection, before), tuple(gone)))
    return tuple(found)


def _outcomes(finished: Establishment, admissions: Mapping[EntityId, Admission]) -> Iterable[Outcome]:
    """Return what there is to record besides that PNEs were established."""
    at, via = finished.at, finished.gateway_id
    for pne, one in admissions.items():
        if one.result is not Result.SUCCESS:
            yield Outcome(at, "refused", pne, SERVER, one.result, one.reason, via)
        elif pne in finished.moved_from:
            reason = f"from {finished.moved_from[pne]}"
            yield Outcome(at, "pne_moved", pne, actors.pne(pne), Result.SUCCESS, reason, via)


def edit(
    connection: Connection,
    pn_id: PnId,
    subjects: Sequence[EntityId],
    rule: Rule,
    at: float,
    actor: Actor,
    *,
    known: bool = False,
) -> Edited:
    """See `cpns.ports.Store.edit`."""
    asker = None if known else actor.entity_id
    row = connection.execute(_KNOWN, {"id": pn_id, "asker": asker, "since": ended_before(at)}).one_or_none()
    if row is None:
        raise Refused(Result.UNKNOWN_PN, "no_such_pn")
    before = network_of(*row)
    own = (EntityId(actor.name),) if actor.is_device else ()
    places, _ = _places(connection, pn_id, tuple(dict.fromkeys([*subjects, *own])), at)
    by = actor.within(before.owner, is_member=any(places[pne].standing is Standing.MEMBER for pne in own))
    if before.owner is None:
        first = connection.execute(_FIRST, {"pn_id": pn_id}).scalar_one_or_none()
        places |= {pne: replace(places[pne], first=True) for pne in places if pne == first}
    change = rule(before, places, by)
    after = before
    here = change.gone
    if change.released:
        here = tuple(EntityId(row[1]) for row in connection.execute(MEMBERS_OF, {"pn_id": pn_id}))
        for statement in _DROP:
            connection.execute(statement, {"id": pn_id})
        after = replace(before, version=before.version + 1)
        connection.execute(_FORGET_LONG_ENDED, {"before": at - ENDED_SECONDS})
        connection.execute(_PUT_ENDED, {"pn_id": pn_id, "version": after.version, "ended_at": at})
    else:
        after = _apply(connection, before, places, change, at, by)
    if change.released or after.version != before.version:
        frm = before.gateway_id if after.gateway_id != before.gateway_id else None
        leave(connection, [of_network(at, by, after, gone=here, frm=frm, released=change.released)])
    if change.subjects:
        record(connection, [Outcome(at, change.event, one, by, Result.SUCCESS, pn_id) for one in change.subjects])
    else:
        record(connection, [Outcome(at, change.event, EntityId(pn_id), by, Result.SUCCESS)])
    return Edited(before, after, change, here if change.released else ())


def _apply(
    connection: Connection,
    before: Network,
    places: Mapping[EntityId, Place],
    change: Edit,
    at: float,
    by: Actor,
) -> Network:
    if change.gone:
        connection.execute(_DROP_MEMBER, [{"pne": pne, "pn": before.pn_id} for pne in change.gone])
    added = sum(how is not None and places[pne].standing is None for pne, how in change.standings.items())
    if added and connection.execute(_LISTED, {"pn_id": before.pn_id}).scalar_one() + added > MAX_LISTED:
        raise Refused(Result.TOO_MANY, "member_list_is_full")
    invited = [pne for pne, how in change.standings.items() if how is Standing.INVITED]
    new = sum(places[pne].standing is not Standing.INVITED for pne in invited)
    if new and not by.is_operator:
        is_open = connection.execute(_OPEN, {"pn_id": before.pn_id, "since": ended_before(at)}).scalar_one()
        bound_queries.check_invitations(connection, before.owner, is_open + new, new, at)
    _put_standings(connection, before.pn_id, change.standings, at, by.entity_id)
    changes: dict[str, object] = {
        name: getattr(change, name) for name in _CHANGING if getattr(change, name) is not None
    }
    if before.owner is not None and change.standings.get(before.owner, Standing.MEMBER) is not Standing.MEMBER:
        changes["owner"] = _heir(connection, before.pn_id, at)
    if not changes and not change.gone and not change.standings:
        return before
    if change.gateway_id is not None:
        connection.execute(_SERVED_SINCE, {"id": before.pn_id, "at": at})
    return _bumped(connection, before, **changes)


def leave_all_but(
    connection: Connection, pne_id: EntityId, gateway_id: EntityId, at: float, actor: Actor
) -> tuple[Network, ...]:
    """Take a PNE out of the PN that it is in, if another PN GW serves that; return that PN as it is now."""
    found = []
    for pn_id in connection.execute(_OF_MEMBER, {"pne_id": pne_id}).scalars().all():
        before = network(connection, pn_id)
        if before is not None and before.gateway_id != gateway_id:
            connection.execute(_DROP_MEMBER, {"pne": pne_id, "pn": pn_id})
            found.append(_counted(connection, before))
    leave(connection, [of_network(at, actor, one, gone=(pne_id,)) for one in found])
    return tuple(found)


def forget(connection: Connection, pne_id: EntityId, at: float, actor: Actor) -> tuple[Network, ...]:
    """Take a PNE out of every PN and off every member list; return the PNs concerned, as they are now."""
    touched: dict[PnId, None] = {}  # as a set that keeps its order
    for statement in (_OF_MEMBER, _STANDINGS_OF_PNE, _OWNED):
        touched.update(dict.fromkeys(connection.execute(statement, {"pne_id": pne_id}).scalars()))
    for pn_id in touched:
        connection.execute(_DROP_MEMBER, {"pne": pne_id, "pn": pn_id})
        connection.execute(_DROP_STANDING, {"pne": pne_id, "pn": pn_id})
    found = []
    for pn_id in touched:
        before = network(connection, pn_id)
        if before is not None and before.owner == pne_id:
            connection.execute(_INVITED_BY_NOBODY, {"pn_id": pn_id})
        if before is not None:
            owner = _heir(connection, pn_id, at) if before.owner == pne_id else before.owner
            found.append(_bumped(connection, before, owner=owner))
    leave(connection, [of_network(at, actor, one, gone=(pne_id,)) for one in found])
    return tuple(found)


def expire_invitations(connection: Connection, at: float, limit: int) -> list[Network]:
    """See `cpns.ports.Store.expire_invitations`."""
    over = connection.execute(_OVER, {"before": ended_before(at), "limit": limit}).all()
    found = []
    for pn_id in dict.fromkeys(pn_id for pn_id, _ in over):
        ended = [EntityId(pne) for of, pne in over if of == pn_id]
        connection.execute(_DROP_STANDING, [{"pne": pne, "pn": pn_id} for pne in ended])
        record(connection, [Outcome(at, "invitation_ended", pne, SERVER, Result.SUCCESS, pn_id) for pne in ended])
        before = network(connection, pn_id)
        if before is not None:
            found.append(_bumped(connection, before))
    leave(connection, [of_network(at, SERVER, one) for one in found])
    return found
