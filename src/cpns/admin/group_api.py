"""The part of the API that is about service groups."""

from fastapi import APIRouter

from cpns.admin import group_models as gm
from cpns.admin import models as m
from cpns.admin.service import Admin
from cpns.admin.who import Who


def add_groups(router: APIRouter, admin: Admin) -> None:
    """Add the SG Inventory, and what changes it."""

    @router.get("/groups")
    async def list_all() -> gm.Groups:
        return gm.Groups(items=[gm.Group.of(one) for one in await admin.groups.all()])

    @router.get("/groups/{id}")
    async def show(id: str) -> gm.Group:
        return gm.Group.of(await admin.groups.one(id))

    @router.post("/groups/{id}/invite")
    async def invite(id: str, whom: m.Devices, who: Who) -> m.Invited:
        results = await admin.groups.invite(who, id, whom.devices)
        return m.Invited(results={pne: result.name.lower() for pne, result in results.items()})

    @router.post("/groups/{id}/expel")
    async def expel(id: str, whom: m.Devices, who: Who) -> m.Done:
        await admin.groups.expel(who, id, whom.devices)
        return m.Done(id=id)

    @router.post("/groups/{id}/owner")
    async def owner(id: str, to: gm.Candidate, who: Who) -> gm.Group:
        await admin.groups.pass_on(who, id, to.device)
        return gm.Group.of(await admin.groups.one(id))

    @router.post("/groups/{id}/settings")
    async def settle(id: str, new: gm.GroupSettings, who: Who) -> gm.Group:
        return gm.Group.of(await admin.groups.settle(who, id, new.policy, new.keep))

    @router.post("/groups/{id}/delete")
    async def delete(id: str, who: Who) -> m.Done:
        await admin.groups.delete(who, id)
        return m.Done(id=id)
