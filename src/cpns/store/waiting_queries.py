"""What waits: PNEs for a decision, texts for their PNE. Functions of a connection and values."""

from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from cpns.domain.inventory import Establishment, KeptPush
from cpns.domain.network import Standing, Waiting
from cpns.errors import Conflict
from cpns.ids import EntityId
from cpns.store.dialect import insert_or_update
from cpns.store.schema import audit, pushes, standings, strangers

MAX_STRANGERS: Final = 1_000
"""IDs that are remembered of those that nobody provisioned; the one that came longest ago is forgotten first."""
MAX_PUSHES: Final = 64
"""Texts that wait for one PNE at once."""

_STRANGERS = select(strangers).order_by(strangers.c.entity_id)
_COUNT_STRANGERS = select(func.count()).select_from(strangers)
_OLDEST_STRANGER = select(strangers.c.entity_id).order_by(strangers.c.last_at).limit(1)
_STRANGER = select(strangers.c.first_at, strangers.c.attempts).where(strangers.c.entity_id == bindparam("id"))
_PUT_STRANGER = insert_or_update(strangers, "entity_id")
_DROP_STRANGER = delete(strangers).where(strangers.c.entity_id == bindparam("id"))
_tries = (
    select(audit.c.entity_id, audit.c.via, func.max(audit.c.at).label("last"), func.count().label("attempts"))
    .where(audit.c.event == "refused", audit.c.reason == "pending_approval")
    .group_by(audit.c.entity_id, audit.c.via)
    .subquery()
)
_PENDING = (
    select(
        standings.c.pne_id,
        standings.c.pn_id,
        standings.c.via,
        standings.c.at,
        func.coalesce(_tries.c.last, standings.c.at),
        func.coalesce(_tries.c.attempts, 0),
    )
    .outerjoin(_tries, (_tries.c.entity_id == standings.c.pne_id) & (_tries.c.via == standings.c.via))
    .where(standings.c.standing == Standing.PENDING.value)
    .order_by(standings.c.pne_id, standings.c.pn_id)
)

_KEEP = insert(pushes)
_COUNT = select(func.count()).select_from(pushes).where(pushes.c.pne_id == bindparam("pne_id"))
_OF_PNE = select(pushes).where(pushes.c.pne_id == bindparam("pne_id")).order_by(pushes.c.number)
_AWAITED = select(pushes.c.pne_id).distinct()
_DROP = delete(pushes).where(pushes.c.number == bindparam("id"))
_DROP_ALL = delete(pushes).where(pushes.c.pne_id == bindparam("id"))
_EXPIRE = delete(pushes).where(pushes.c.expires_at < bindparam("now"))


def waiting(connection: Connection) -> list[Waiting]:
    """See `cpns.ports.Store.waiting`."""
    known = [
        Waiting(pne, pn, via, known=True, since=since, last=last, attempts=attempts)
        for pne, pn, via, since, last, attempts in connection.execute(_PENDING)
    ]
    unknown = [
        Waiting(row.entity_id, None, row.via, known=False, since=row.first_at, last=row.last_at, attempts=row.attempts)
        for row in connection.execute(_STRANGERS)
    ]
    return [*known, *unknown]


def remember(connection: Connection, finished: Establishment) -> None:
    """Remember IDs that nobody provisioned, for the operator to look at."""
    for stranger in finished.strangers:
        known = connection.execute(_STRANGER, {"id": stranger}).one_or_none()
        if known is None and connection.execute(_COUNT_STRANGERS).scalar_one() >= MAX_STRANGERS:
            dismiss(connection, connection.execute(_OLDEST_STRANGER).scalar_one())
        first, attempts = (finished.at, 0) if known is None else known
        row = {"entity_id": stranger, "via": finished.gateway_id, "last_at": finished.at}
        connection.execute(_PUT_STRANGER, row | {"first_at": first, "attempts": attempts + 1})


def dismiss(connection: Connection, *entity_ids: EntityId) -> None:
    """See `cpns.ports.Store.dismiss`."""
    connection.execute(_DROP_STRANGER, [{"id": entity_id} for entity_id in entity_ids])


def keep_push(connection: Connection, push: KeptPush) -> None:
    """See `cpns.ports.Store.keep_push`."""
    connection.execute(_EXPIRE, {"now": push.created_at})
    if connection.execute(_COUNT, {"pne_id": push.pne_id}).scalar_one() >= MAX_PUSHES:
        raise Conflict(
            "too_many_pushes",
            f"{MAX_PUSHES} texts wait for {push.pne_id} already: wait until it is back, or let them expire.",
        )
    row = {name: getattr(push, name) for name in ("push_id", "pne_id", "text", "created_at", "expires_at")}
    connection.execute(_KEEP, row)


def pushes_for(connection: Connection, pne_id: EntityId, now: float) -> list[KeptPush]:
    """See `cpns.ports.Store.pushes_for`."""
    connection.execute(_EXPIRE, {"now": now})
    return [KeptPush(**row) for row in connection.execute(_OF_PNE, {"pne_id": pne_id}).mappings()]


def awaited(connection: Connection) -> list[EntityId]:
    """See `cpns.ports.Store.awaited`."""
    return [EntityId(pne) for pne in connection.execute(_AWAITED).scalars()]


def drop_push(connection: Connection, number: int) -> None:
    """See `cpns.ports.Store.drop_push`."""
    connection.execute(_DROP, {"id": number})


def drop_pushes(connection: Connection, pne_id: EntityId) -> None:
    """Drop all texts for a PNE: it is revoked."""
    connection.execute(_DROP_ALL, {"id": pne_id})
