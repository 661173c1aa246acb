"""A store that was set back to an older copy goes on with numbers that it never gave: functions of a connection."""

from enum import Enum
from typing import Final

from sqlalchemy import Connection, Table, delete, func, insert, select, text, update

from cpns.domain import set_back as rules
from cpns.domain.inventory import Outcome
from cpns.errors import BadInput, Conflict
from cpns.store.audit_queries import record
from cpns.store.schema import audit, ended_networks, groups, meta, metadata, networks, senders

READINGS_FROM: Final = "readings from"
"""In `meta`: the number that stands in for the newest reading's, until there is one with a greater number."""


class Back(Enum):
    """What becomes of a table that goes back in time with the store."""

    NUMBERED = "its numbers go on beyond"
    VERSIONED = "its versions, epochs or runs go on beyond"
    DROPPED = "its rows are dropped"
    LASTING = "what it holds is the same for all lives of the store"
    TOLD = "what came since is gone; docs/restore.md tells the operator what to do"
    HEALED = "what came since is found anew while devices come, or is out by its time"
    ELSEWHERE = "at a gateway or device; no server's store has rows in it"


ANSWERS: Final = {
    "origin": Back.LASTING,
    "meta": Back.LASTING,
    "entities": Back.TOLD,
    "networks": Back.VERSIONED,
    "ended_networks": Back.VERSIONED,
    "members": Back.HEALED,
    "standings": Back.TOLD,
    "last_results": Back.HEALED,
    "held_through": Back.TOLD,
    "strangers": Back.HEALED,
    "pushes": Back.NUMBERED,
    "cm_devices": Back.HEALED,
    "groups": Back.VERSIONED,
    "group_places": Back.TOLD,
    "group_keys": Back.DROPPED,
    "paces": Back.HEALED,
    "senders": Back.VERSIONED,
    "group_messages": Back.NUMBERED,
    "group_messages_owed": Back.HEALED,
    "readings": Back.NUMBERED,
    "audit": Back.NUMBERED,
    "revocations": Back.NUMBERED,
    "events": Back.NUMBERED,
    "cursors": Back.HEALED,  # who follows is told some events a second time, and knows them by their numbers
    "known_hosts": Back.HEALED,
    "processes": Back.HEALED,
    "served": Back.ELSEWHERE,
    "held_members": Back.ELSEWHERE,
    "cm_keys": Back.ELSEWHERE,
}
"""Each table has one, so that none is forgotten."""
_NUMBERED: Final = [metadata.tables[name] for name, back in ANSWERS.items() if back is Back.NUMBERED]
_OTHERS = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'cpns' AND pid <> pg_backend_pid()"
)
_GIVEN = {  # the newest number that was ever given, even where its row is gone
    "sqlite": text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = :table"),
    "postgresql": text(
        "SELECT coalesce(pg_sequence_last_value(CAST(pg_get_serial_sequence(:table, 'number') AS regclass)), 0)"
    ),
}
_GIVE_FROM = {
    "sqlite": (
        text("DELETE FROM sqlite_sequence WHERE name = :table"),
        text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :number)"),
    ),
    "postgresql": (text("SELECT setval(pg_get_serial_sequence(:table, 'number'), :number)"),),
}


def set_back(connection: Connection, outcome: Outcome) -> int:
    """See `cpns.ports.Store.set_back`."""
    at = outcome.at
    if connection.dialect.name == "postgresql" and connection.execute(_OTHERS).scalar_one():
        raise Conflict("server_running", "A process of this server has the store open: stop all of them first.")
    newest = connection.execute(select(func.max(audit.c.at))).scalar_one()
    if newest is not None and at < newest:
        raise BadInput("bad_time", "The store has rows that are newer than that time: give a later --at.")
    begun = connection.execute(select(meta.c.value).where(meta.c.key == READINGS_FROM)).scalar()
    if begun is not None and int(begun) >= rules.number(0, at):  # the lost life may have begun there too
        raise BadInput("bad_time", "The store was set back in that second before: give a later --at.")
    numbers = {table.name: _go_on(connection, table, at) for table in _NUMBERED}
    for table in (networks, ended_networks):
        for pn_id, version in connection.execute(select(table.c.pn_id, table.c.version)).all():
            beyond = {"version": rules.number(version, at)}
            connection.execute(update(table).where(table.c.pn_id == pn_id).values(**beyond))
    for name in (name for name, back in ANSWERS.items() if back is Back.DROPPED):
        connection.execute(delete(metadata.tables[name]))  # nothing is taken under an older epoch
    for sg_id, version, epoch in connection.execute(select(groups.c.sg_id, groups.c.version, groups.c.epoch)).all():
        beyond = {"version": rules.number(version, at), "epoch": rules.number(epoch, at)}
        connection.execute(update(groups).where(groups.c.sg_id == sg_id).values(**beyond, begun=at))
    for pne_id, run in connection.execute(select(senders.c.pne_id, senders.c.run)).all():
        connection.execute(update(senders).where(senders.c.pne_id == pne_id).values(run=rules.run(run, at)))
    connection.execute(delete(meta).where(meta.c.key == READINGS_FROM))
    connection.execute(insert(meta), {"key": READINGS_FROM, "value": str(numbers["readings"])})
    record(connection, [outcome])
    return numbers["readings"]


def _go_on(connection: Connection, table: Table, at: float) -> int:
    """Let *table* number its rows from beyond on; return the number that the next one is over."""
    dialect = connection.dialect.name
    stored = connection.execute(select(func.coalesce(func.max(table.c.number), 0))).scalar_one()
    given = connection.execute(_GIVEN[dialect], {"table": table.name}).scalar_one()
    number = rules.number(max(stored, given), at)
    for statement in _GIVE_FROM[dialect]:
        connection.execute(statement, {"table": table.name, "number": number})
    return number
