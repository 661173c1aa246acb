"""The sealed keys of entities, and what says whose store it is: functions of a connection and values."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from sqlalchemy import Connection, String, bindparam, func, insert, select, union_all

from cpns.domain.inventory import Credential, Kind, Origin, State
from cpns.ids import EntityId
from cpns.store import schema
from cpns.store.dialect import DriverSql
from cpns.store.schema import entities

IDS_AT_ONCE = 500
"""Parameters per statement: SQLite and PostgreSQL take at most 32766 and 65535."""

KINDS = {kind.value: kind for kind in Kind}
STATES = {state.value: state for state in State}

_ORIGIN = select(schema.origin)
_SOME_KEY = (
    select(entities.c.entity_id, entities.c.sealed_key)
    .where(entities.c.kind.in_(bindparam("kinds", expanding=True)))
    .limit(1)
)


def origin(connection: Connection) -> Origin | None:
    """See `cpns.ports.Store.origin`."""
    row = connection.execute(_ORIGIN).one_or_none()
    return None if row is None else Origin(*row)


def keep_origin(connection: Connection, origin: Origin) -> None:
    """See `cpns.ports.Store.keep_origin`."""
    if connection.execute(_ORIGIN).one_or_none() is None:
        connection.execute(
            insert(schema.origin),
            {"server_id": origin.server_id, "set_up_at": origin.set_up_at, "sealed": origin.sealed},
        )


def some_key(connection: Connection) -> tuple[EntityId, bytes] | None:
    """See `cpns.ports.Store.some_key`."""
    row = connection.execute(_SOME_KEY, {"kinds": [Kind.PNE.value, Kind.GATEWAY.value]}).one_or_none()
    return None if row is None else (EntityId(row[0]), row[1])


@lru_cache(maxsize=128)
def _credentials(count: int) -> DriverSql:
    """Return the statement that finds *count* IDs: a row for each, for one that nobody has that of another entity."""
    names = [f"value_{number}" for number in range(count)]
    asked = union_all(*(select(bindparam(name, type_=String).label("id")) for name in names)).subquery()
    known, other = entities.alias(), entities.alias()
    found = select(known.c.entity_id).where(known.c.entity_id == asked.c.id).scalar_subquery()
    least = select(func.min(other.c.entity_id).label("id")).subquery()  # read for each, as who is found must not tell
    stands_for = func.coalesce(found, least.c.id)
    shown = (entities.c[name] for name in ("entity_id", "kind", "state", "only_via", "sealed_key"))
    return DriverSql(select(asked.c.id, *shown).where(entities.c.entity_id == stands_for), names)


def credentials(connection: Connection, ids: Sequence[EntityId]) -> Mapping[EntityId, Credential]:
    """See `cpns.ports.Store.credentials`. An ID that nobody has takes the same work, so that its time does not tell."""
    found: dict[EntityId, Credential] = {}
    for start in range(0, len(ids), IDS_AT_ONCE):
        some = tuple(ids[start : start + IDS_AT_ONCE])
        for asked, entity_id, kind, state, only_via, sealed in _credentials(len(some)).rows(connection, some):
            one = Credential(entity_id, KINDS[kind], STATES[state], only_via, sealed)
            if entity_id == asked:
                found[asked] = one
    return found
