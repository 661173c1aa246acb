"""Changing-Mode devices in their tables: functions of a connection and values, inside a transaction of `Database`.

What may be is decided by the rules of `cpns.domain.cm`, on rows read in the transaction that then writes.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, bindparam, delete, exists, insert, literal, or_, select, update

from cpns.domain import actor as actors
from cpns.domain import cm, pace
from cpns.domain.actor import SERVER, Actor
from cpns.domain.cm import CmCredential, CmDevice, NewCmDevice
from cpns.domain.inventory import Kind, NewEntity, Outcome, Revocation, State
from cpns.errors import NotFound, Refused, Result
from cpns.ids import EntityId
from cpns.store import bound_queries, credential_queries, server_queries
from cpns.store.audit_queries import record
from cpns.store.schema import cm_devices, entities, last_results, networks

_SHOWN = (
    cm_devices.c.cm_device_id,
    cm_devices.c.gateway_id,
    cm_devices.c.pne_id,
    entities.c.state,
    cm_devices.c.generation,
    cm_devices.c.sealed_next.is_not(None),
    cm_devices.c.rotation_due,
    cm_devices.c.reassign,
    entities.c.created_at,
    cm_devices.c.activated_at,
    entities.c.revoked_at,
)
_ALL = (
    select(*_SHOWN)
    .join(entities, entities.c.entity_id == cm_devices.c.cm_device_id)
    .order_by(entities.c.created_at, cm_devices.c.cm_device_id)
)
_asked = select(literal(1).label("one")).subquery()
_ONE = select(*_SHOWN, entities.c.sealed_key, cm_devices.c.sealed_next).select_from(  # a row for any ID
    _asked.outerjoin(cm_devices, cm_devices.c.cm_device_id == bindparam("id")).outerjoin(
        entities, entities.c.entity_id == cm_devices.c.cm_device_id
    )
)
_TAKEN = select(entities.c.entity_id).where(
    or_(entities.c.entity_id == bindparam("id"), entities.c.fingerprint == bindparam("fingerprint"))
)
_OF_PNE = _ALL.where(cm_devices.c.pne_id == bindparam("pne_id"))
_UNUSED = _ALL.where(
    cm_devices.c.activated_at.is_(None),
    entities.c.created_at < bindparam("before"),
    entities.c.state == State.ACTIVE.value,
)
_SUPERSEDED = _ALL.where(
    cm_devices.c.reassign,
    entities.c.state == State.REVOKED.value,
    entities.c.revoked_at < bindparam("before"),
    ~exists().where(networks.c.gateway_id == cm_devices.c.cm_device_id),
)
_ADD = insert(cm_devices)
_DROP = (
    delete(cm_devices).where(cm_devices.c.cm_device_id == bindparam("id")),
    delete(last_results).where(last_results.c.entity_id == bindparam("id")),
    delete(entities).where(entities.c.entity_id == bindparam("id")),
)
_AGREED = (
    update(cm_devices)
    .where(cm_devices.c.cm_device_id == bindparam("id"))
    .values(sealed_next=bindparam("new_sealed_next"))
)
_USED = (
    update(cm_devices)
    .where(cm_devices.c.cm_device_id == bindparam("id"))
    .values(activated_at=bindparam("new_activated_at"))
)
_TAKEN_UP = (
    update(cm_devices)
    .where(cm_devices.c.cm_device_id == bindparam("id"))
    .values(generation=bindparam("new_generation"), sealed_next=None, rotation_due=False)
)
_NEW_KEY = update(entities).where(entities.c.entity_id == bindparam("id")).values(sealed_key=bindparam("new_sealed"))
_DUE = update(cm_devices).where(cm_devices.c.cm_device_id == bindparam("id")).values(rotation_due=True)
_REASSIGN = (
    update(cm_devices).where(cm_devices.c.cm_device_id == bindparam("id")).values(reassign=bindparam("new_reassign"))
)


def devices(connection: Connection) -> list[CmDevice]:
    """See `cpns.ports.Store.cm_devices`."""
    return [_device(*row) for row in connection.execute(_ALL)]


def credential(connection: Connection, cm_device_id: EntityId) -> CmCredential | None:
    """See `cpns.ports.Store.cm_device`. An ID that nobody has takes the same work, so that its time does not tell."""
    row = connection.execute(_ONE, {"id": cm_device_id}).one()
    found = CmCredential(_device(*row[:-2]), row[-2], row[-1])
    return None if row[0] is None else found


def _of_pne(connection: Connection, pne_id: EntityId) -> list[CmDevice]:
    return [_device(*row) for row in connection.execute(_OF_PNE, {"pne_id": pne_id})]


def _one(connection: Connection, cm_device_id: EntityId) -> CmDevice | None:
    found = credential(connection, cm_device_id)
    return None if found is None else found.device


def check_assignable(connection: Connection, pne_id: EntityId, gateway_id: EntityId) -> list[CmDevice]:
    """See `cpns.ports.Store.check_cm_assignable`; return those that make room for a new one."""
    pne = credential_queries.credentials(connection, [pne_id]).get(pne_id)
    return cm.assign(pne, _of_pne(connection, pne_id), actors.gateway(gateway_id))


def assign(connection: Connection, new: NewCmDevice) -> list[EntityId]:
    """See `cpns.ports.Store.assign_cm`."""
    older = check_assignable(connection, new.pne_id, new.gateway_id)
    for who, limits in ((new.pne_id, pace.CM_OF_PNE), (new.gateway_id, pace.CM_OF_GATEWAY)):
        for limit in limits:
            bound_queries.keep_pace(connection, who, f"cm {limit.seconds:.0f}", limit, new.at)
    used = [one.cm_device_id for one in older if one.activated_at is not None]
    for one in older:
        if one.cm_device_id in used:
            _displace(connection, one.cm_device_id, new.at)
        else:
            _release(connection, one, new.at)
    taken = connection.execute(_TAKEN, {"id": new.cm_device_id, "fingerprint": new.fingerprint})
    if taken.first() is not None:
        raise Refused(Result.AUTHENTICATION_FAILED, "key_seed_used_twice")
    entity = NewEntity(new.cm_device_id, Kind.CM_DEVICE, None, "", new.sealed_seed, new.fingerprint, new.at)
    server_queries.put_entities(connection, [entity])
    mediator = actors.gateway(new.gateway_id)
    row = {"cm_device_id": new.cm_device_id, "gateway_id": new.gateway_id, "pne_id": new.pne_id}
    connection.execute(_ADD, row | {"generation": 0, "rotation_due": False, "reassign": False})
    record(connection, [Outcome(new.at, "cm_assigned", new.cm_device_id, mediator, Result.SUCCESS, "", new.gateway_id)])
    return used


def release(connection: Connection, cm_device_id: EntityId, gateway_id: EntityId, at: float) -> None:
    """See `cpns.ports.Store.release_cm`."""
    device = _one(connection, cm_device_id)
    if device is not None and cm.release(device, actors.gateway(gateway_id)):
        _release(connection, device, at)


def _release(connection: Connection, device: CmDevice, at: float) -> None:
    """Forget one that the PN GW which mediated it gives up."""
    _drop(connection, device.cm_device_id)
    by = actors.gateway(device.gateway_id)
    record(connection, [Outcome(at, "cm_released", device.cm_device_id, by, Result.SUCCESS, "", device.gateway_id)])


def expire(connection: Connection, before: float, at: float) -> list[EntityId]:
    """See `cpns.ports.Store.expire_cm`."""
    unused = [_device(*row) for row in connection.execute(_UNUSED, {"before": before})]
    for row in connection.execute(_SUPERSEDED, {"before": before}).all():
        _drop(connection, row[0])
    for device in unused:
        _drop(connection, device.cm_device_id)
        over = Outcome(at, "cm_expired", device.cm_device_id, SERVER, Result.KEY_EXPIRED, "", device.gateway_id)
        record(connection, [over])
    return [device.cm_device_id for device in unused]


def _drop(connection: Connection, cm_device_id: EntityId) -> None:
    """Forget one: nothing else names it."""
    for statement in _DROP:
        connection.execute(statement, {"id": cm_device_id})


def _displace(connection: Connection, cm_device_id: EntityId, at: float) -> None:
    """Revoke one in favour of another of the same PNE."""
    server_queries.revoke(connection, cm_device_id, at, SERVER)
    connection.execute(_REASSIGN, {"id": cm_device_id, "new_reassign": True})


def rekey(
    connection: Connection, cm_device_id: EntityId, pne_id: EntityId, generation: int, sealed_next: bytes, at: float
) -> None:
    """See `cpns.ports.Store.rekey_cm`."""
    by = actors.pne(pne_id)
    cm.rekey(_one(connection, cm_device_id), generation, by)
    connection.execute(_AGREED, {"id": cm_device_id, "new_sealed_next": sealed_next})
    record(connection, [Outcome(at, "cm_key_agreed", cm_device_id, by, Result.SUCCESS)])


def activate(connection: Connection, cm_device_id: EntityId, generation: int, at: float) -> list[EntityId]:
    """See `cpns.ports.Store.activate_cm`."""
    found = credential(connection, cm_device_id)
    itself = actors.gateway(cm_device_id)
    cm.activate(None if found is None else found.device, generation, itself)
    if found is None:
        return []
    device, ended = found.device, []
    if device.activated_at is None:
        connection.execute(_USED, {"id": cm_device_id, "new_activated_at": at})
    if generation != device.generation:
        connection.execute(_NEW_KEY, {"id": cm_device_id, "new_sealed": found.sealed_next})
        connection.execute(_TAKEN_UP, {"id": cm_device_id, "new_generation": generation})
        record(connection, [Outcome(at, "cm_rekeyed", cm_device_id, itself, Result.SUCCESS)])
        ended = cm.superseded(replace(device, generation=generation), _of_pne(connection, device.pne_id))
        for older in ended:
            _displace(connection, older, at)
    record(connection, [Outcome(at, "cm_activated", cm_device_id, itself, Result.SUCCESS)])
    return ended


def rotate(connection: Connection, ids: Sequence[EntityId], at: float, actor: Actor) -> list[CmDevice]:
    """See `cpns.ports.Store.rotate_cm`."""
    for cm_device_id in ids:
        device = _one(connection, cm_device_id)
        if device is None or device.state is not State.ACTIVE:
            raise NotFound("unknown_cm_device", f"There is no active CM Device {cm_device_id}: see `cpns cm list`.")
        connection.execute(_DUE, {"id": cm_device_id})
        record(connection, [Outcome(at, "cm_rotation_asked", cm_device_id, actor, Result.SUCCESS)])
    return [device for device in devices(connection) if device.cm_device_id in set(ids)]


def may_reassign(connection: Connection, cm_device_id: EntityId, reassign: bool, at: float, actor: Actor) -> None:
    """See `cpns.ports.Store.may_reassign_cm`."""
    device = _one(connection, cm_device_id)
    if device is not None and device.reassign != reassign:
        connection.execute(_REASSIGN, {"id": cm_device_id, "new_reassign": reassign})
        event = "cm_reassign_allowed" if reassign else "cm_reassign_barred"
        record(connection, [Outcome(at, event, cm_device_id, actor, Result.SUCCESS)])


def revoke(connection: Connection, entity_id: EntityId, at: float, actor: Actor) -> Revocation:
    """See `cpns.ports.Store.revoke`."""
    done = server_queries.revoke(connection, entity_id, at, actor)
    also = [one.cm_device_id for one in _of_pne(connection, entity_id) if one.state is State.ACTIVE]
    for cm_device_id in also:
        server_queries.revoke(connection, cm_device_id, at, actor)
    return replace(done, also=tuple(also))


def _device(
    cm_device_id: EntityId,
    gateway_id: EntityId,
    pne_id: EntityId,
    state: str | None,
    generation: int,
    rekeying: bool,
    rotation_due: bool,
    reassign: bool,
    created_at: float,
    activated_at: float | None,
    revoked_at: float | None,
) -> CmDevice:
    return CmDevice(
        *(
            cm_device_id,
            gateway_id,
            pne_id,
            State(state or State.REVOKED),
            generation,
            bool(rekeying),
            bool(rotation_due),
        ),
        *(bool(reassign), created_at, activated_at, revoked_at),
    )
