"""The server's truth: `cpns.ports.Store` on `Database`. The SQL is in the files that end with `queries`.

Each method of the store is one query, in one transaction: here stands which, and whether it writes.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from sqlalchemy import Connection

from cpns.domain import group as rules
from cpns.domain.actor import Actor
from cpns.domain.group import Group
from cpns.domain.inventory import Outcome, Revocation
from cpns.domain.pace import LONGEST_SECONDS
from cpns.ids import EntityId
from cpns.store import (
    audit_queries,
    bound_queries,
    cm_queries,
    cursor_queries,
    epoch_queries,
    event_queries,
    group_queries,
    host_queries,
    inventory_queries,
    message_queries,
    network_queries,
    process_queries,
    revocation_queries,
    set_back_queries,
    waiting_queries,
)
from cpns.store import credential_queries as cq
from cpns.store import server_queries as q
from cpns.store.database import Database

LOOKED_INTO: Final = 256
"""Groups of one part of a discovery; between two of them others have their turn."""

P = ParamSpec("P")
R = TypeVar("R")
Query = Callable[Concatenate[Connection, P], R]
Method = Callable[Concatenate["ServerStore", P], Coroutine[Any, Any, R]]


def reads(query: Query[P, R]) -> Method[P, R]:
    """Return the method of a store that runs *query*, which only reads."""

    async def run(self: "ServerStore", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.database.run(lambda connection: query(connection, *args, **kwargs), write=False)

    return run


def writes(query: Query[P, R]) -> Method[P, R]:
    """Return the method of a store that runs *query*, and returns when all that it wrote is durable."""

    async def run(self: "ServerStore", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.database.run(lambda connection: query(connection, *args, **kwargs))

    return run


def _revoke(connection: Connection, entity_id: EntityId, at: float, actor: Actor) -> Revocation:
    """Revoke an entity with all that hangs on it: its CM Devices, its places in networks and groups."""
    done = cm_queries.revoke(connection, entity_id, at, actor)
    return replace(done, groups=tuple(group_queries.forget(connection, entity_id, at, actor)))


def _sweep_bounds(connection: Connection, at: float) -> None:
    epoch_queries.drop_ended(connection, at)
    bound_queries.forget_paces(connection, at - LONGEST_SECONDS)


def _drop_kept(connection: Connection, now: float) -> bool:
    waiting_queries.expire(connection, now)
    message_queries.expire(connection, now)
    events = event_queries.drop_old(connection, now)
    return revocation_queries.drop_old(connection, now) or events


def _spare_kept(connection: Connection, before: float, after: float) -> int:
    return sum(queries.spare(connection, before, after) for queries in (waiting_queries, message_queries))


def _record(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    waiting_queries.remember(connection, outcomes)
    audit_queries.record(connection, outcomes)


def _check_assignable(connection: Connection, pne_id: EntityId, gateway_id: EntityId) -> None:
    cm_queries.check_assignable(connection, pne_id, gateway_id)


class ServerStore:
    """`cpns.ports.Store` on SQLite or PostgreSQL. Besides what each method names, all raise as `Database.run` does."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.shared = database.shared
        self.name = database.name

    @classmethod
    def open(cls, place: Path | str, set_up: str | None = None) -> Self:
        """Open the store at *place*, a file or ``postgresql://...``. Blocks; raises as `Database` does."""
        return cls(Database(place, set_up))

    @property
    def trouble(self) -> str:
        """See `cpns.ports.Store`."""
        return self.database.trouble

    # entities
    origin = reads(cq.origin)
    keep_origin = writes(cq.keep_origin)
    some_key = reads(cq.some_key)
    credentials = reads(cq.credentials)
    provisioned = reads(q.provisioned)
    add_entities = writes(q.add_entities)
    entity = reads(q.entity)
    entities = reads(q.entities_of)
    count = reads(q.count)
    revoke = writes(_revoke)
    update_entity = writes(q.update_entity)
    known_hosts = reads(host_queries.newest)
    keep_host = writes(host_queries.keep)

    # networks
    establish = writes(network_queries.establish)
    edit = writes(network_queries.edit)
    expire_invitations = writes(network_queries.expire_invitations)
    network = reads(inventory_queries.network)
    networks_of = reads(inventory_queries.networks_of)
    membership = reads(inventory_queries.membership)
    home = reads(inventory_queries.home)
    networks = reads(inventory_queries.inventories)
    inventory = reads(inventory_queries.inventory)
    members_page = reads(inventory_queries.members_page)
    listed_page = reads(inventory_queries.listed_page)
    waiting = reads(waiting_queries.waiting)
    dismiss = writes(waiting_queries.dismiss)
    held_through = reads(audit_queries.held_through)

    # CM Devices
    cm_devices = reads(cm_queries.devices)
    cm_device = reads(cm_queries.credential)
    check_cm_assignable = reads(_check_assignable)
    assign_cm = writes(cm_queries.assign)
    release_cm = writes(cm_queries.release)
    expire_cm = writes(cm_queries.expire)
    rekey_cm = writes(cm_queries.rekey)
    activate_cm = writes(cm_queries.activate)
    rotate_cm = writes(cm_queries.rotate)
    may_reassign_cm = writes(cm_queries.may_reassign)

    # groups
    group = reads(group_queries.inventory)
    groups = reads(group_queries.inventories)
    group_page = reads(group_queries.page)
    groups_of = reads(group_queries.of_pnes)
    groups_named = reads(group_queries.named)
    create_group = writes(group_queries.create)
    change_group = writes(group_queries.change)
    may_ask = writes(bound_queries.may_ask)
    declined = writes(bound_queries.declined)
    begin_epoch = writes(group_queries.begin)
    due_epochs = reads(epoch_queries.due)
    expire_group_invitations = writes(group_queries.expire_invitations)
    sweep_bounds = writes(_sweep_bounds)
    group_key = writes(group_queries.key)
    silent_owners = reads(group_queries.silent_owners)

    # what waits for devices
    register_sender = writes(message_queries.register)
    take_group_message = writes(message_queries.take)
    kept_group_messages = reads(message_queries.kept_for)
    awaiting_group_messages = reads(message_queries.awaiting)
    drop_group_message = writes(message_queries.drop)
    keep_push = writes(waiting_queries.keep_push)
    pushes_for = reads(waiting_queries.pushes_for)
    awaited = reads(waiting_queries.awaited)
    drop_push = writes(waiting_queries.drop_push)
    drop_kept = writes(_drop_kept)
    spare_kept = writes(_spare_kept)

    # readings
    add_reading = writes(q.add_reading)
    readings = reads(q.readings_after)
    last_reading = reads(q.last_reading)
    last_reading_number = reads(q.last_reading_number)

    # what happened
    record = writes(_record)
    audit = reads(audit_queries.newest)
    audit_after = reads(audit_queries.after)
    audit_before = reads(audit_queries.count_older)
    prune_audit = writes(audit_queries.prune)
    ended_after = reads(revocation_queries.after)
    events = reads(event_queries.after)
    last_event = reads(event_queries.newest)
    cursors = reads(cursor_queries.all_of_them)
    move_cursor = writes(cursor_queries.move)
    drop_cursor = writes(cursor_queries.drop)

    # processes, and the store as a whole
    is_there = writes(process_queries.put)
    processes = reads(process_queries.there)
    leaves = writes(process_queries.drop)
    set_back = writes(set_back_queries.set_back)

    async def do(self, query: Query[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """See `cpns.ports.Store`."""
        return await self.database.run(lambda connection: query(connection, *args, **kwargs))

    async def discover_groups(
        self, pne_id: EntityId, keyword: str, service: str | None, after: str, limit: int
    ) -> list[Group]:
        """See `cpns.ports.Store`. SQL knows the case of ASCII alone; so they are read part by part, and looked into."""
        found: list[Group] = []
        while len(found) < limit:
            part = partial(group_queries.discoverable, pne_id=pne_id, service=service, after=after, limit=LOOKED_INTO)
            some = await self.database.run(part, write=False)
            found += [one for one in some if rules.is_about(one, keyword)]
            if len(some) < LOOKED_INTO:
                break
            after = some[-1].sg_id
        return found[:limit]

    def on_events(self, wake: Callable[[], None]) -> None:
        """See `cpns.ports.Store`."""
        self.database.on_events = wake

    async def close(self) -> None:
        """See `cpns.ports.Store`."""
        await self.database.close()
