"""The server's truth: `cpns.ports.Store` on `Database`. The SQL is in the files that end with `queries`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, Self

from sqlalchemy import Connection

from cpns.domain import group as rules
from cpns.domain.actor import Actor
from cpns.domain.cm import CmCredential, CmDevice, NewCmDevice
from cpns.domain.group import (
    ChangedGroup,
    Group,
    GroupInventory,
    GroupRule,
    KeptMessage,
    KeyedGroup,
    MakeGroupKey,
    SenderKey,
    TakenMessage,
)
from cpns.domain.inventory import (
    Credential,
    Ended,
    Entity,
    Establishment,
    HeldThrough,
    KeptPush,
    Kind,
    KnownHost,
    NewEntity,
    Origin,
    Outcome,
    Provisioned,
    Recorded,
    Revocation,
    StoredReading,
)
from cpns.domain.membership import Rule
from cpns.domain.network import Admitted, Edited, Inventory, Listed, Network, Present, Waiting
from cpns.domain.pace import LONGEST_SECONDS
from cpns.domain.process import Process
from cpns.errors import Result
from cpns.ids import EntityId, PnId, SgId
from cpns.store import (
    audit_queries,
    bound_queries,
    cm_queries,
    epoch_queries,
    group_queries,
    host_queries,
    inventory_queries,
    message_queries,
    network_queries,
    process_queries,
    set_back_queries,
    waiting_queries,
)
from cpns.store import credential_queries as cq
from cpns.store import server_queries as q
from cpns.store.database import Database

LOOKED_INTO: Final = 256
"""Groups of one part of a discovery; between two of them others have their turn."""


def _revoke(connection: Connection, entity_id: EntityId, at: float, actor: Actor) -> Revocation:
    """Revoke an entity with all that hangs on it: its CM Devices, its places in networks and groups."""
    done = cm_queries.revoke(connection, entity_id, at, actor)
    return replace(done, groups=tuple(group_queries.forget(connection, entity_id, at, actor)))


def _sweep_bounds(connection: Connection, at: float) -> None:
    epoch_queries.drop_ended(connection, at)
    bound_queries.forget_paces(connection, at - LONGEST_SECONDS)


def _drop_kept(connection: Connection, now: float) -> None:
    waiting_queries.expire(connection, now)
    message_queries.expire(connection, now)


def _spare_kept(connection: Connection, before: float, after: float) -> int:
    return sum(queries.spare(connection, before, after) for queries in (waiting_queries, message_queries))


def _record(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    waiting_queries.remember(connection, outcomes)
    audit_queries.record(connection, outcomes)


class ServerStore:
    """`cpns.ports.Store` on SQLite or PostgreSQL. Besides what each method names, all raise as `Database.run` does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.shared = database.shared
        self.name = database.name

    @classmethod
    def open(cls, place: Path | str, set_up: str | None = None) -> Self:
        """Open the store at *place*, a file or ``postgresql://...``. Blocks; raises as `Database` does."""
        return cls(Database(place, set_up))

    @property
    def trouble(self) -> str:
        """See `cpns.ports.Store`."""
        return self._database.trouble

    async def origin(self) -> Origin | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(cq.origin, write=False)

    async def keep_origin(self, origin: Origin) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(cq.keep_origin, origin=origin))

    async def some_key(self) -> tuple[EntityId, bytes] | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(cq.some_key, write=False)

    async def credentials(self, ids: Sequence[EntityId]) -> Mapping[EntityId, Credential]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(cq.credentials, ids=ids), write=False)

    async def provisioned(self, ids: Sequence[EntityId], fingerprints: Sequence[bytes]) -> list[Provisioned]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.provisioned, ids=ids, fingerprints=fingerprints), write=False)

    async def add_entities(self, entities: Sequence[NewEntity], actor: Actor) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(q.add_entities, new=entities, actor=actor))

    async def entity(self, entity_id: EntityId) -> Entity | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.entity, entity_id=entity_id), write=False)

    async def entities(self, kind: Kind) -> list[Entity]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.entities_of, kind=kind), write=False)

    async def count(self) -> dict[Kind, int]:
        """See `cpns.ports.Store`."""
        return await self._database.run(q.count, write=False)

    async def revoke(self, entity_id: EntityId, at: float, actor: Actor) -> Revocation:
        """See `cpns.ports.Store`. The audit log gets a row ``revoked``, the first time."""
        return await self._database.run(partial(_revoke, entity_id=entity_id, at=at, actor=actor))

    async def settle_entity(
        self, entity_id: EntityId, only_via: str | None, note: str | None, at: float, actor: Actor
    ) -> tuple[Network, ...]:
        """See `cpns.ports.Store`. The audit log gets a row ``bound`` with the PN GW as reason, or ``settled``."""
        settle = partial(q.settle, entity_id=entity_id, only_via=only_via, note=note, at=at, actor=actor)
        return await self._database.run(settle)

    async def record(self, outcomes: Sequence[Outcome]) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(_record, outcomes=outcomes))

    async def known_hosts(self, since: float, limit: int) -> list[KnownHost]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(host_queries.newest, since=since, limit=limit), write=False)

    async def keep_host(self, host: KnownHost, since: float, limit: int) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(host_queries.keep, host=host, since=since, limit=limit))

    async def establish(self, establishment: Establishment) -> Admitted:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(network_queries.establish, finished=establishment))

    async def edit(
        self,
        pn_id: PnId,
        subjects: Sequence[EntityId],
        rule: Rule,
        at: float,
        actor: Actor,
        *,
        known: bool = False,
    ) -> Edited:
        """See `cpns.ports.Store`."""
        edit = partial(network_queries.edit, pn_id=pn_id, subjects=subjects, rule=rule, at=at, actor=actor, known=known)
        return await self._database.run(edit)

    async def expire_invitations(self, at: float, limit: int) -> list[Network]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(network_queries.expire_invitations, at=at, limit=limit))

    async def network(self, pn_id: PnId) -> Network | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(inventory_queries.network, pn_id=pn_id), write=False)

    async def networks_of(self, gateway_id: EntityId) -> list[PnId]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(inventory_queries.networks_of, gateway_id=gateway_id), write=False)

    async def membership(self, pne_id: EntityId) -> tuple[PnId, Present] | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(inventory_queries.membership, pne_id=pne_id), write=False)

    async def home(self, pne_id: EntityId) -> tuple[PnId, EntityId] | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(inventory_queries.home, pne_id=pne_id), write=False)

    async def networks(self) -> list[Inventory]:
        """See `cpns.ports.Store`."""
        return await self._database.run(inventory_queries.inventories, write=False)

    async def inventory(self, pn_id: PnId) -> Inventory | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(inventory_queries.inventory, pn_id=pn_id), write=False)

    async def members_page(self, pn_id: PnId, after: str, limit: int) -> list[Present]:
        """See `cpns.ports.Store`."""
        page = partial(inventory_queries.members_page, pn_id=pn_id, after=after, limit=limit)
        return await self._database.run(page, write=False)

    async def listed_page(self, pn_id: PnId, after: str, limit: int) -> list[Listed]:
        """See `cpns.ports.Store`."""
        page = partial(inventory_queries.listed_page, pn_id=pn_id, after=after, limit=limit)
        return await self._database.run(page, write=False)

    async def waiting(self) -> list[Waiting]:
        """See `cpns.ports.Store`."""
        return await self._database.run(waiting_queries.waiting, write=False)

    async def dismiss(self, entity_id: EntityId, at: float, actor: Actor) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(waiting_queries.dismiss, entity_id=entity_id, at=at, actor=actor))

    async def held_through(self, gateway_id: EntityId) -> list[HeldThrough]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(audit_queries.held_through, gateway_id=gateway_id), write=False)

    async def cm_devices(self) -> list[CmDevice]:
        """See `cpns.ports.Store`."""
        return await self._database.run(cm_queries.devices, write=False)

    async def cm_device(self, cm_device_id: EntityId) -> CmCredential | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(cm_queries.credential, cm_device_id=cm_device_id), write=False)

    async def check_cm_assignable(self, pne_id: EntityId, gateway_id: EntityId) -> None:
        """See `cpns.ports.Store`."""
        check = partial(cm_queries.check_assignable, pne_id=pne_id, gateway_id=gateway_id)
        await self._database.run(check, write=False)

    async def assign_cm(self, new: NewCmDevice) -> list[EntityId]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(cm_queries.assign, new=new))

    async def release_cm(self, cm_device_id: EntityId, gateway_id: EntityId, at: float) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(cm_queries.release, cm_device_id=cm_device_id, gateway_id=gateway_id, at=at))

    async def expire_cm(self, before: float, at: float) -> list[EntityId]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(cm_queries.expire, before=before, at=at))

    async def rekey_cm(self, cm_device_id: EntityId, pne_id: EntityId, generation: int, sealed_next: bytes) -> None:
        """See `cpns.ports.Store`."""
        agree = partial(cm_queries.rekey, cm_device_id=cm_device_id, pne_id=pne_id, generation=generation)
        await self._database.run(partial(agree, sealed_next=sealed_next))

    async def activate_cm(self, cm_device_id: EntityId, generation: int, at: float) -> list[EntityId]:
        """See `cpns.ports.Store`."""
        return await self._database.run(
            partial(cm_queries.activate, cm_device_id=cm_device_id, generation=generation, at=at)
        )

    async def rotate_cm(self, ids: Sequence[EntityId], at: float, actor: Actor) -> list[CmDevice]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(cm_queries.rotate, ids=ids, at=at, actor=actor))

    async def may_reassign_cm(self, cm_device_id: EntityId, reassign: bool) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(cm_queries.may_reassign, cm_device_id=cm_device_id, reassign=reassign))

    async def group(self, sg_id: SgId, asker: EntityId | None = None, at: float = 0.0) -> GroupInventory | None:
        """See `cpns.ports.Store`."""
        find = partial(group_queries.inventory, sg_id=sg_id, asker=asker, at=at)
        return await self._database.run(find, write=False)

    async def groups(self) -> list[GroupInventory]:
        """See `cpns.ports.Store`."""
        return await self._database.run(group_queries.inventories, write=False)

    async def group_page(
        self,
        sg_id: SgId,
        asker: EntityId | None,
        members: Sequence[EntityId],
        after: str,
        limit: int,
        only: EntityId | None = None,
    ) -> GroupInventory | None:
        """See `cpns.ports.Store`."""
        page = partial(group_queries.page, sg_id=sg_id, asker=asker, of=members, after=after, limit=limit, only=only)
        return await self._database.run(page, write=False)

    async def groups_of(self, pne_ids: Sequence[EntityId], after: str, limit: int) -> list[SgId]:
        """See `cpns.ports.Store`."""
        page = partial(group_queries.of_pnes, pne_ids=pne_ids, after=after, limit=limit)
        return await self._database.run(page, write=False)

    async def discover_groups(
        self, pne_id: EntityId, keyword: str, service: str | None, after: str, limit: int
    ) -> list[Group]:
        """See `cpns.ports.Store`. SQL knows the case of ASCII alone; so they are read part by part, and looked into."""
        found: list[Group] = []
        while len(found) < limit:
            part = partial(group_queries.discoverable, pne_id=pne_id, service=service, after=after, limit=LOOKED_INTO)
            some = await self._database.run(part, write=False)
            found += [one for one in some if rules.is_about(one, keyword)]
            if len(some) < LOOKED_INTO:
                break
            after = some[-1].sg_id
        return found[:limit]

    async def create_group(self, new: Group, most: int) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(group_queries.create, new=new, most=most))

    async def change_group(
        self, sg_id: SgId, rule: GroupRule, at: float, actor: Actor, most: int = rules.MAX_GROUPS
    ) -> ChangedGroup:
        """See `cpns.ports.Store`."""
        change = partial(group_queries.change, sg_id=sg_id, rule=rule, at=at, actor=actor, most=most)
        return await self._database.run(change)

    async def may_ask(
        self, what: str, whom: Sequence[EntityId], asking: Sequence[EntityId], at: float
    ) -> dict[EntityId, Result]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(bound_queries.may_ask, what=what, whom=whom, asking=asking, at=at))

    async def declined(self, what: str, pne: EntityId, asking: Sequence[EntityId], about: str, at: float) -> None:
        """See `cpns.ports.Store`."""
        decline = partial(bound_queries.declined, what=what, pne=pne, asking=asking, about=about, at=at)
        await self._database.run(decline)

    async def groups_named(self, sg_ids: Sequence[SgId]) -> list[Group]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(group_queries.named, sg_ids=sg_ids), write=False)

    async def begin_epoch(self, sg_id: SgId, at: float) -> ChangedGroup | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(group_queries.begin, sg_id=sg_id, at=at))

    async def due_epochs(self, limit: int) -> list[SgId]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(epoch_queries.due, limit=limit), write=False)

    async def expire_group_invitations(self, at: float, limit: int) -> list[ChangedGroup]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(group_queries.expire_invitations, at=at, limit=limit))

    async def sweep_bounds(self, at: float) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(_sweep_bounds, at=at))

    async def group_key(
        self, sg_id: SgId, make: MakeGroupKey, at: float, of: Sequence[EntityId] | None = None
    ) -> KeyedGroup | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(group_queries.key, sg_id=sg_id, make=make, at=at, of=of))

    async def silent_owners(self, since: float) -> list[tuple[Group, tuple[EntityId, ...]]]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(group_queries.silent_owners, since=since), write=False)

    async def register_sender(self, pne_id: EntityId, verify_key: bytes | None) -> SenderKey:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(message_queries.register, pne_id=pne_id, verify_key=verify_key))

    async def take_group_message(self, message: TakenMessage) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(message_queries.take, message=message))

    async def kept_group_messages(self, pne_id: EntityId, now: float) -> list[KeptMessage]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(message_queries.kept_for, pne_id=pne_id, now=now), write=False)

    async def awaiting_group_messages(self) -> list[EntityId]:
        """See `cpns.ports.Store`."""
        return await self._database.run(message_queries.awaiting, write=False)

    async def drop_group_message(self, number: int, pne_id: EntityId) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(message_queries.drop, number=number, pne_id=pne_id))

    async def keep_push(self, push: KeptPush) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(waiting_queries.keep_push, push=push))

    async def drop_kept(self, now: float) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(_drop_kept, now=now))

    async def spare_kept(self, before: float, after: float) -> int:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(_spare_kept, before=before, after=after))

    async def pushes_for(self, pne_id: EntityId, now: float) -> list[KeptPush]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(waiting_queries.pushes_for, pne_id=pne_id, now=now), write=False)

    async def awaited(self) -> list[EntityId]:
        """See `cpns.ports.Store`."""
        return await self._database.run(waiting_queries.awaited, write=False)

    async def drop_push(self, number: int) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(waiting_queries.drop_push, number=number))

    async def add_reading(
        self, pne_id: EntityId, gateway_id: EntityId, reading_id: bytes, body: str, verified: str, at: float
    ) -> str:
        """See `cpns.ports.Store`."""
        row = (pne_id, reading_id, gateway_id, verified, at, body)
        return await self._database.run(partial(q.add_reading, row=row))

    async def readings(self, after: int, limit: int, pne_id: EntityId | None = None) -> list[StoredReading]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.readings_after, after=after, limit=limit, pne_id=pne_id), write=False)

    async def last_reading(self, pne_id: EntityId) -> StoredReading | None:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(q.last_reading, pne_id=pne_id), write=False)

    async def last_reading_number(self) -> int:
        """See `cpns.ports.Store`."""
        return await self._database.run(q.last_reading_number, write=False)

    async def set_back(self, outcome: Outcome) -> int:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(set_back_queries.set_back, outcome=outcome))

    async def audit(self, entity_id: EntityId | None, limit: int) -> list[Outcome]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(audit_queries.newest, entity_id=entity_id, limit=limit), write=False)

    async def audit_after(self, number: int, limit: int, entity_id: EntityId | None = None) -> list[Recorded]:
        """See `cpns.ports.Store`."""
        page = partial(audit_queries.after, number=number, limit=limit, entity_id=entity_id)
        return await self._database.run(page, write=False)

    async def audit_before(self, before: float) -> int:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(audit_queries.count_older, before=before), write=False)

    async def prune_audit(self, before: float, limit: int, done: Outcome) -> int:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(audit_queries.prune, before=before, limit=limit, done=done))

    async def ended_after(self, number: int | None) -> tuple[int, list[Ended]]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(audit_queries.ended_after, number=number), write=False)

    async def is_there(self, own: Process) -> tuple[float, list[Process]]:
        """See `cpns.ports.Store`."""
        return await self._database.run(partial(process_queries.put, own=own))

    async def processes(self) -> tuple[float, list[Process]]:
        """See `cpns.ports.Store`."""
        return await self._database.run(process_queries.there, write=False)

    async def leaves(self, process_id: str) -> None:
        """See `cpns.ports.Store`."""
        await self._database.run(partial(process_queries.drop, process_id=process_id))

    async def close(self) -> None:
        """See `cpns.ports.Store`."""
        await self._database.close()
