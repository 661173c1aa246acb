"""The epochs of the service groups in their tables: functions of a connection and values, inside a transaction.

What begins when is decided by `cpns.domain.epoch`.
"""

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from cpns.domain.epoch import OLDER_SECONDS, Turn, is_taken
from cpns.ids import SgId
from cpns.store.schema import group_keys, groups

_KEYS = select(group_keys.c.epoch, group_keys.c.sealed_key, group_keys.c.ended_at).where(
    group_keys.c.sg_id == bindparam("id")
)
_ADD_KEY = insert(group_keys)
_DROP_KEYS = delete(group_keys).where(group_keys.c.sg_id == bindparam("id"), group_keys.c.epoch < bindparam("below"))
_END = (
    update(group_keys)
    .where(group_keys.c.sg_id == bindparam("id"), group_keys.c.ended_at.is_(None))
    .values(ended_at=bindparam("now"))
)
_DROP_ENDED = delete(group_keys).where(
    or_(group_keys.c.ended_at <= bindparam("before"), group_keys.c.ended_at > bindparam("now"))
)
_DUE = select(groups.c.sg_id).where(groups.c.due.is_not(None)).order_by(groups.c.due).limit(bindparam("limit"))


def keys(connection: Connection, sg_id: SgId, at: float) -> dict[int, bytes]:
    """Return the sealed Group Keys of a group by epoch: of the running one, if it was made, and of older ones."""
    rows = connection.execute(_KEYS, {"id": sg_id})
    return {epoch: sealed for epoch, sealed, ended_at in rows if is_taken(ended_at, at)}


def add_key(connection: Connection, sg_id: SgId, epoch: int, sealed_key: bytes) -> None:
    """Keep the Group Key of the running epoch."""
    connection.execute(_ADD_KEY, {"sg_id": sg_id, "epoch": epoch, "sealed_key": sealed_key})


def end(connection: Connection, sg_id: SgId, running: int, decided: Turn, at: float) -> None:
    """End the epochs that end with *decided*; *running* is the one that runs from now on."""
    if decided.closes:
        connection.execute(_DROP_KEYS, {"id": sg_id, "below": running})
    elif decided.begins:
        connection.execute(_END, {"id": sg_id, "now": at})


def drop_ended(connection: Connection, at: float) -> None:
    """Drop the keys of epochs that nothing is taken under any more."""
    connection.execute(_DROP_ENDED, {"before": at - OLDER_SECONDS, "now": at})


def due(connection: Connection, limit: int) -> list[SgId]:
    """Return up to *limit* groups for whose next epoch somebody waits, who waits longest first."""
    return [SgId(sg_id) for sg_id in connection.execute(_DUE, {"limit": limit}).scalars()]
