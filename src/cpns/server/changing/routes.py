"""The part of the admin API that is about Changing-Mode devices."""

from collections.abc import Sequence

from fastapi import APIRouter

from cpns.domain.cm import CmDevice
from cpns.server.changing import models
from cpns.server.changing.admin import CmAdmin
from cpns.server.feature import Desk
from cpns.server.models import Devices, Event, Revoked
from cpns.server.who import Who


async def shown(desk: Desk, found: Sequence[CmDevice]) -> list[models.CmDevice]:
    """Return CM Devices as they leave, with what is known of their sessions."""
    is_connected = await desk.connected([one.cm_device_id for one in found])
    return [models.CmDevice.of(one, is_connected(one.cm_device_id)) for one in found]


def add(router: APIRouter, desk: Desk, devices: CmAdmin) -> None:
    """Add what is known of CM Devices, and what changes them."""

    @router.get("/cm")
    async def list_all() -> models.CmDevices:
        return models.CmDevices(items=await shown(desk, await devices.all()))

    @router.get("/cm/{id}")
    async def show(id: str) -> models.CmDeviceWithAudit:
        one = await devices.one(id)
        audit = [Event.of(row) for row in await desk.audit(one.cm_device_id)]
        return models.CmDeviceWithAudit(**(await shown(desk, [one]))[0].model_dump(), audit=audit)

    @router.post("/cm/{id}/revoke")
    async def revoke(id: str, how: models.CmRevocation, who: Who) -> Revoked:
        one, ended = await devices.revoke(who, id, reassign=how.reassign)
        return Revoked(id=one.cm_device_id, ended=ended)

    @router.post("/cm/rotate")
    async def rotate(whom: Devices, who: Who) -> models.CmDevices:
        return models.CmDevices(items=await shown(desk, await devices.rotate(who, whom.devices)))
