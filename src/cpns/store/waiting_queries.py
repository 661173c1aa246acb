"""What waits: PNEs for a decision, texts for their PNE. Functions of a connection and values."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, Double, Integer, Text, bindparam, cast, delete, exists, func, insert, select, update

from cpns.domain.actor import Actor
from cpns.domain.inventory import KeptPush, Outcome
from cpns.domain.member_list import Standing
from cpns.domain.network import Waiting
from cpns.errors import Conflict, Result
from cpns.ids import EntityId
from cpns.store.audit_queries import REFUSED, record
from cpns.store.dialect import insert_or_add
from cpns.store.schema import entities, pushes, standings, strangers

MAX_STRANGERS: Final = 1_000
"""IDs that are remembered of those that nobody provisioned; the one that came longest ago is forgotten first."""
MAX_PUSHES: Final = 64
"""Texts that wait for one PNE at once."""

_STRANGERS = select(strangers).order_by(strangers.c.entity_id)
_stranger = select(
    cast(bindparam("id"), Text),
    cast(bindparam("through"), Text),
    cast(bindparam("at"), Double),
    cast(bindparam("at"), Double),
    cast(bindparam("times"), Integer),
).where(~exists().where(entities.c.entity_id == bindparam("id")))
_PUT_STRANGER = insert_or_add(strangers, "entity_id", ("via", "last_at"), "attempts", _stranger)
_oldest = select(strangers.c.entity_id).order_by(strangers.c.last_at.desc(), strangers.c.entity_id)
_DROP_OLDEST_STRANGERS = delete(strangers).where(strangers.c.entity_id.in_(_oldest.offset(bindparam("most"))))
_DROP_STRANGER = delete(strangers).where(strangers.c.entity_id == bindparam("id"))
_PENDING = (
    select(
        standings.c.pne_id,
        standings.c.pn_id,
        standings.c.via,
        standings.c.at,
        func.coalesce(standings.c.last_at, standings.c.at),
        standings.c.attempts,
    )
    .where(standings.c.standing == Standing.PENDING.value)
    .order_by(standings.c.pne_id, standings.c.pn_id)
)

_KEEP = insert(pushes)
_lasts = (pushes.c.pne_id == bindparam("pne_id")) & (pushes.c.expires_at >= bindparam("now"))
_COUNT = select(func.count()).select_from(pushes).where(_lasts)
_OF_PNE = select(pushes).where(_lasts).order_by(pushes.c.number)
_AWAITED = select(pushes.c.pne_id).distinct()
_DROP = delete(pushes).where(pushes.c.number == bindparam("id"))
_DROP_ALL = delete(pushes).where(pushes.c.pne_id == bindparam("id"))
_EXPIRE = delete(pushes).where(pushes.c.expires_at < bindparam("now"))
_SPARE = (
    update(pushes)
    .where(pushes.c.expires_at >= bindparam("before"), pushes.c.expires_at < bindparam("after"))
    .values(expires_at=pushes.c.expires_at + bindparam("longer", type_=Double))
)


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


def remember(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Remember those refused IDs that nobody provisioned and a PN GW named, for the operator to look at.

    The same statements run for an ID that is provisioned, so that the load does not tell which are.
    """
    named = [
        {"id": one.entity_id, "through": one.via, "at": one.at, "times": one.times}
        for one in outcomes
        if one.event == REFUSED and one.via is not None
    ]
    if named:
        for row in named:
            connection.execute(_PUT_STRANGER, row)
        connection.execute(_DROP_OLDEST_STRANGERS, {"most": MAX_STRANGERS})


def forget_strangers(connection: Connection, *entity_ids: EntityId) -> int:
    """Remember no longer that these IDs came; return how many did."""
    return connection.execute(_DROP_STRANGER, [{"id": entity_id} for entity_id in entity_ids]).rowcount


def dismiss(connection: Connection, entity_id: EntityId, at: float, actor: Actor) -> None:
    """See `cpns.ports.Store.dismiss`."""
    if forget_strangers(connection, entity_id):
        record(connection, [Outcome(at, "dismissed", entity_id, actor, Result.SUCCESS)])


def keep_push(connection: Connection, push: KeptPush, actor: Actor) -> None:
    """See `cpns.ports.Store.keep_push`."""
    if connection.execute(_COUNT, {"pne_id": push.pne_id, "now": push.created_at}).scalar_one() >= MAX_PUSHES:
        raise Conflict(
            "too_many_pushes",
            f"{MAX_PUSHES} texts wait for {push.pne_id} already: wait until it is back, or let them expire.",
        )
    row = {name: getattr(push, name) for name in ("push_id", "pne_id", "text", "created_at", "expires_at")}
    connection.execute(_KEEP, row)
    record(connection, [Outcome(push.created_at, "text_kept", push.pne_id, actor, Result.SUCCESS)])


def pushes_for(connection: Connection, pne_id: EntityId, now: float) -> list[KeptPush]:
    """See `cpns.ports.Store.pushes_for`."""
    return [KeptPush(**row) for row in connection.execute(_OF_PNE, {"pne_id": pne_id, "now": now}).mappings()]


def expire(connection: Connection, now: float) -> None:
    """Drop the texts that are over."""
    connection.execute(_EXPIRE, {"now": now})


def spare(connection: Connection, before: float, after: float) -> int:
    """See `cpns.ports.Store.spare_kept`."""
    return connection.execute(_SPARE, {"before": before, "after": after, "longer": after - before}).rowcount


def awaited(connection: Connection) -> list[EntityId]:
    """See `cpns.ports.Store.awaited`."""
    return [EntityId(pne) for pne in connection.execute(_AWAITED).scalars()]


def drop_push(connection: Connection, number: int) -> None:
    """See `cpns.ports.Store.drop_push`."""
    connection.execute(_DROP, {"id": number})


def drop_pushes(connection: Connection, pne_id: EntityId) -> None:
    """Drop all texts for a PNE: it is revoked."""
    connection.execute(_DROP_ALL, {"id": pne_id})
