"""What is bounded for each PNE: how often it does a thing, and how many invitations are open. See `domain.pace` and
`domain.invitation` for the rules; these are functions of a connection and values.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, delete, func, select

from cpns.domain import actor as actors
from cpns.domain import invitation
from cpns.domain.inventory import Outcome
from cpns.domain.member_list import Standing
from cpns.domain.pace import ASKED, ASKS, DECLINED, Limit, Pace, is_running, paced
from cpns.errors import Refused, Result
from cpns.ids import EntityId
from cpns.store.audit_queries import record
from cpns.store.dialect import insert_or_update
from cpns.store.schema import group_places, groups, networks, paces, standings

_PACE = select(paces.c.times, paces.c.since).where(
    paces.c.pne_id == bindparam("pne"), paces.c.what == bindparam("what")
)
_PUT_PACE = insert_or_update(paces, "pne_id", "what")
_FORGET = delete(paces).where(paces.c.since < bindparam("before"))


def _invited(places: Table, lists: Table, key: str) -> Select[Any]:
    """Return the statement that counts the open invitations on all lists of one owner."""
    return (
        select(func.count())
        .select_from(places.join(lists, lists.c[key] == places.c[key]))
        .where(
            lists.c.owner == bindparam("owner"),
            places.c.standing == Standing.INVITED.value,
            places.c.at > bindparam("since"),
        )
    )


_INVITED = (_invited(group_places, groups, "sg_id"), _invited(standings, networks, "pn_id"))
_IS_IN = (
    select(func.count())
    .select_from(group_places)
    .where(
        group_places.c.pne_id == bindparam("pne"),
        group_places.c.standing.in_([Standing.MEMBER.value, Standing.COMING.value]),
    )
)


def check_groups(connection: Connection, pnes: Sequence[EntityId], most: int) -> None:
    """Check that each of *pnes* may come into one group more; who is in more than *most* stays in those.

    Raises:
        Refused: TOO_MANY.
    """
    for pne in pnes:
        if connection.execute(_IS_IN, {"pne": pne}).scalar_one() >= most:
            raise Refused(Result.TOO_MANY, "too_many_groups")


def keep_pace(connection: Connection, pne_id: EntityId, what: str, limit: Limit, at: float) -> None:
    """Note that a PNE does something once more. Raises `Refused` where it has to wait."""
    _put_pace(connection, pne_id, what, paced(_pace(connection, pne_id, what), limit, at))


def _pace(connection: Connection, pne_id: EntityId, what: str) -> Pace | None:
    row = connection.execute(_PACE, {"pne": pne_id, "what": what}).one_or_none()
    return None if row is None else Pace(*row)


def _put_pace(connection: Connection, pne_id: EntityId, what: str, pace: Pace) -> None:
    connection.execute(_PUT_PACE, {"pne_id": pne_id, "what": what, "times": pace.times, "since": pace.since})


def may_ask(
    connection: Connection, what: str, whom: Sequence[EntityId], asking: Sequence[EntityId], at: float
) -> dict[EntityId, Result]:
    """See `cpns.ports.Store.may_ask`."""
    return {pne: _may_ask(connection, what, pne, asking, at) for pne in whom}


def _may_ask(connection: Connection, what: str, pne: EntityId, asking: Sequence[EntityId], at: float) -> Result:
    for one in asking:
        declined = _pace(connection, one, f"{what} declined by {pne}")
        if declined is not None and is_running(declined, DECLINED, at):
            return Result.REFUSED_BY_USER
    own, all_ = f"asks {pne}", "asked"
    try:
        pace = paced(_pace(connection, asking[0], own), ASKS, at)
    except Refused as error:
        return error.result
    try:
        of_all = paced(_pace(connection, pne, all_), ASKED, at)
    except Refused:
        return Result.OUT_OF_REACH  # what others do is not told
    _put_pace(connection, asking[0], own, pace)
    _put_pace(connection, pne, all_, of_all)
    return Result.SUCCESS


def declined(
    connection: Connection, what: str, pne: EntityId, asking: Sequence[EntityId], about: str, at: float
) -> None:
    """See `cpns.ports.Store.declined`."""
    for one in asking:
        _put_pace(connection, one, f"{what} declined by {pne}", Pace(DECLINED.times, at))
    record(connection, [Outcome(at, f"{what}_declined", pne, actors.pne(pne), Result.SUCCESS, about)])


def forget_paces(connection: Connection, before: float) -> None:
    """Drop what began before a time, when nobody has to wait for it any more."""
    connection.execute(_FORGET, {"before": before})


def check_invitations(connection: Connection, owner: EntityId | None, of_list: int, new: int, at: float) -> None:
    """Check how many invitations would be open with *new* ones on a list.

    Args:
        connection: to the store.
        owner: of that list.
        of_list: how many it would have.
        new: how many of them.
        at: seconds since the epoch; what has ended by then does not count.

    Raises:
        Refused: TOO_MANY.
    """
    wanted = {"owner": owner, "since": invitation.ended_before(at)}
    of_owner = sum(connection.execute(one, wanted).scalar_one() for one in _INVITED) if owner else 0
    invitation.check_open(of_list, of_owner + new if owner else 0)
