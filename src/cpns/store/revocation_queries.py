"""Who is out, for the processes of the server: a feed in a table, as functions of a connection and values."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select

from cpns.domain.event import KEPT_SECONDS, MOST
from cpns.domain.inventory import End, Ended, Outcome
from cpns.store.feed import Feed
from cpns.store.schema import revocations

FEED: Final = Feed(revocations, KEPT_SECONDS, MOST)
drop_old = FEED.drop_old

_ADD = insert(revocations)
_AFTER = (
    select(revocations.c.at, revocations.c.what, revocations.c.entity_id, revocations.c.via)
    .where(revocations.c.number > bindparam("after"), revocations.c.number <= bindparam("last"))
    .order_by(revocations.c.number)
)


def add(connection: Connection, ends: Sequence[Outcome]) -> None:
    """Add what ends sessions; who is bound may go on through the PN GW that the reason names."""
    rows = [
        {
            "at": one.at,
            "what": one.event,
            "entity_id": one.entity_id,
            "via": one.reason if one.event == End.BOUND else None,
        }
        for one in ends
    ]
    connection.execute(_ADD, rows)


def after(connection: Connection, number: int | None) -> tuple[int, list[Ended]]:
    """See `cpns.ports.Store.ended_after`."""
    last = FEED.newest(connection)
    if number is None or number == last:
        return last, []
    FEED.check(connection, number)
    rows = connection.execute(_AFTER, {"after": number, "last": last})
    return last, [Ended(at, End(what), entity_id, via) for at, what, entity_id, via in rows]
