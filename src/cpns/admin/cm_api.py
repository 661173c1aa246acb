"""The part of the API that is about Changing-Mode devices."""

from collections.abc import Sequence

from fastapi import APIRouter

from cpns.admin import models as m
from cpns.admin.service import Admin
from cpns.admin.who import Who
from cpns.domain.cm import CmDevice


def add_cm_devices(router: APIRouter, admin: Admin) -> None:
    """Add what is known of CM Devices, and what changes them."""

    async def shown(found: Sequence[CmDevice]) -> list[m.CmDevice]:
        is_connected = await admin.connected([one.cm_device_id for one in found])
        return [m.CmDevice.of(one, is_connected(one.cm_device_id)) for one in found]

    @router.get("/cm")
    async def list_all() -> m.CmDevices:
        return m.CmDevices(items=await shown(await admin.cm.all()))

    @router.get("/cm/{id}")
    async def show(id: str) -> m.CmDeviceWithAudit:
        one = await admin.cm.one(id)
        audit = [m.Event.of(row) for row in await admin.audit(one.cm_device_id)]
        return m.CmDeviceWithAudit(**(await shown([one]))[0].model_dump(), audit=audit)

    @router.post("/cm/{id}/revoke")
    async def revoke(id: str, how: m.CmRevocation, who: Who) -> m.Revoked:
        one, ended = await admin.cm.revoke(who, id, reassign=how.reassign)
        return m.Revoked(id=one.cm_device_id, ended=ended)

    @router.post("/cm/rotate")
    async def rotate(whom: m.Devices, who: Who) -> m.CmDevices:
        return m.CmDevices(items=await shown(await admin.cm.rotate(who, whom.devices)))
