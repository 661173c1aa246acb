"""Messages to groups in their tables: who sends, and what waits for whom. Functions of a connection and values."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from sqlalchemy import Connection, Double, bindparam, delete, exists, insert, or_, select, update

from cpns.domain import actor as actors
from cpns.domain.group import KeptMessage, SenderKey, TakenMessage
from cpns.domain.inventory import Outcome
from cpns.domain.member_list import Standing
from cpns.errors import Refused, Result
from cpns.ids import EntityId, SgId
from cpns.store.audit_queries import record
from cpns.store.dialect import insert_or_update
from cpns.store.schema import group_messages, group_messages_owed, group_places, senders

MAX_OWED: Final = 64
"""Messages of one group that wait for one member; over it, the oldest is dropped."""
MAX_RUN: Final = 2**32 - 1

_owed = group_messages_owed.c
_SENDER = select(senders.c.run).where(senders.c.pne_id == bindparam("id"))
_PUT_SENDER = insert_or_update(senders, "pne_id")
_NEWEST = (
    update(group_places)
    .where(
        group_places.c.sg_id == bindparam("id"),
        group_places.c.pne_id == bindparam("sender"),
        group_places.c.standing == Standing.MEMBER.value,
        or_(group_places.c.newest.is_(None), group_places.c.newest < bindparam("seq")),
    )
    .values(newest=bindparam("seq"))
)
_MEMBERS = select(group_places.c.pne_id).where(
    group_places.c.sg_id == bindparam("id"), group_places.c.standing == Standing.MEMBER.value
)
_ADD = insert(group_messages).returning(group_messages.c.number)
_OWE = insert(group_messages_owed)
_OWED = (
    select(group_messages)
    .join(group_messages_owed, _owed.number == group_messages.c.number)
    .where(_owed.pne_id == bindparam("pne"), group_messages.c.expires_at >= bindparam("now"))
    .order_by(group_messages.c.number)
)
_NUMBERS_OWED = (
    select(_owed.number)
    .join(group_messages, group_messages.c.number == _owed.number)
    .where(_owed.pne_id == bindparam("pne"), group_messages.c.sg_id == bindparam("id"))
    .order_by(_owed.number)
)
_AWAITING = select(_owed.pne_id).distinct()
_OWED_NO_MORE = delete(group_messages_owed).where(_owed.pne_id == bindparam("pne"), _owed.number == bindparam("of"))
_of_group = select(group_messages.c.number).where(group_messages.c.sg_id == bindparam("id"))
_GROUP_OWES_NOTHING = delete(group_messages_owed).where(_owed.number.in_(_of_group))
_DROP_OF_GROUP = delete(group_messages).where(group_messages.c.sg_id == bindparam("id"))
_expired = select(group_messages.c.number).where(group_messages.c.expires_at < bindparam("now"))
_EXPIRE = delete(group_messages_owed).where(_owed.number.in_(_expired))
_DROP_UNOWED = delete(group_messages).where(~exists().where(_owed.number == group_messages.c.number))
_SPARE = (
    update(group_messages)
    .where(group_messages.c.expires_at >= bindparam("before"), group_messages.c.expires_at < bindparam("after"))
    .values(expires_at=group_messages.c.expires_at + bindparam("longer", type_=Double))
)
_STILL_OWED = select(_owed.number).where(_owed.number == bindparam("of")).limit(1)
_DROP = delete(group_messages).where(group_messages.c.number == bindparam("of"))


def register(connection: Connection, pne_id: EntityId, verify_key: bytes | None, at: float) -> SenderKey:
    """See `cpns.ports.Store.register_sender`."""
    run = (connection.execute(_SENDER, {"id": pne_id}).scalar_one_or_none() or 0) + 1
    if run > MAX_RUN:
        raise Refused(Result.TOO_MANY, "registrations_used_up")
    connection.execute(_PUT_SENDER, {"pne_id": pne_id, "run": run, "verify_key": verify_key})
    record(connection, [Outcome(at, "sg_sender_registered", pne_id, actors.pne(pne_id), Result.SUCCESS)])
    return SenderKey(run, verify_key)


def take(connection: Connection, message: TakenMessage) -> None:
    """See `cpns.ports.Store.take_group_message`."""
    connection.execute(_NEWEST, {"id": message.sg_id, "sender": message.sender, "seq": message.seq})
    members = set(connection.execute(_MEMBERS, {"id": message.sg_id}).scalars())
    owed = [pne for pne in message.keep_for if pne in members]
    if not owed:
        return
    row = asdict(message)
    del row["keep_for"]
    number = connection.execute(_ADD, row).scalar_one()
    connection.execute(_OWE, [{"pne_id": pne, "number": number} for pne in owed])
    for pne in owed:
        waiting = connection.execute(_NUMBERS_OWED, {"pne": pne, "id": message.sg_id}).scalars().all()
        for oldest in waiting[:-MAX_OWED]:
            drop(connection, oldest, pne)


def kept_for(connection: Connection, pne_id: EntityId, now: float) -> list[KeptMessage]:
    """See `cpns.ports.Store.kept_group_messages`."""
    return [_kept(dict(row)) for row in connection.execute(_OWED, {"pne": pne_id, "now": now}).mappings()]


def _kept(row: dict[str, object]) -> KeptMessage:
    number = row.pop("number")
    return KeptMessage(number, TakenMessage(**row, keep_for=()))  # type: ignore[arg-type]  # columns are its fields


def awaiting(connection: Connection) -> list[EntityId]:
    """See `cpns.ports.Store.awaiting_group_messages`."""
    return [EntityId(pne) for pne in connection.execute(_AWAITING).scalars()]


def drop(connection: Connection, number: int, pne_id: EntityId) -> None:
    """See `cpns.ports.Store.drop_group_message`."""
    connection.execute(_OWED_NO_MORE, {"pne": pne_id, "of": number})
    if connection.execute(_STILL_OWED, {"of": number}).scalar_one_or_none() is None:
        connection.execute(_DROP, {"of": number})


def drop_owed(connection: Connection, sg_id: SgId, pnes: Sequence[EntityId]) -> None:
    """Who is in the group no more is owed nothing of it any more."""
    for pne in pnes:
        for number in connection.execute(_NUMBERS_OWED, {"pne": pne, "id": sg_id}).scalars().all():
            drop(connection, number, pne)


def drop_group(connection: Connection, sg_id: SgId) -> None:
    """The group ends, and what waits of it."""
    for statement in (_GROUP_OWES_NOTHING, _DROP_OF_GROUP):
        connection.execute(statement, {"id": sg_id})


def expire(connection: Connection, now: float) -> None:
    """Drop the messages that are over."""
    if connection.execute(_EXPIRE, {"now": now}).rowcount:
        connection.execute(_DROP_UNOWED)


def spare(connection: Connection, before: float, after: float) -> int:
    """See `cpns.ports.Store.spare_kept`."""
    return connection.execute(_SPARE, {"before": before, "after": after, "longer": after - before}).rowcount
