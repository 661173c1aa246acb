"""The part of the admin API that is about service groups."""

from fastapi import APIRouter

from cpns.server.groups.admin import GroupAdmin
from cpns.server.groups.models import Candidate, Group, Groups, GroupSettings
from cpns.server.models import Devices, Done, Invited
from cpns.server.who import Who


def add(router: APIRouter, groups: GroupAdmin) -> None:
    """Add the SG Inventory, and what changes it."""

    @router.get("/groups")
    async def list_all() -> Groups:
        return Groups(items=[Group.of(one) for one in await groups.all()])

    @router.get("/groups/{id}")
    async def show(id: str) -> Group:
        return Group.of(await groups.one(id))

    @router.post("/groups/{id}/invite")
    async def invite(id: str, whom: Devices, who: Who) -> Invited:
        results = await groups.invite(who, id, whom.devices)
        return Invited(results={pne: result.name.lower() for pne, result in results.items()})

    @router.post("/groups/{id}/expel")
    async def expel(id: str, whom: Devices, who: Who) -> Done:
        await groups.expel(who, id, whom.devices)
        return Done(id=id)

    @router.post("/groups/{id}/owner")
    async def owner(id: str, to: Candidate, who: Who) -> Group:
        await groups.pass_on(who, id, to.device)
        return Group.of(await groups.one(id))

    @router.post("/groups/{id}/settings")
    async def update(id: str, new: GroupSettings, who: Who) -> Group:
        return Group.of(await groups.update(who, id, new.policy, new.keep))

    @router.post("/groups/{id}/delete")
    async def delete(id: str, who: Who) -> Done:
        await groups.delete(who, id)
        return Done(id=id)
