"""The part of the admin API that is about personal networks."""

from collections.abc import Sequence

from fastapi import APIRouter

from cpns.domain.network import Inventory
from cpns.server.feature import Desk
from cpns.server.models import Devices, Done, Invited
from cpns.server.networks.admin import PnAdmin
from cpns.server.networks.models import Network, Networks, Settings, Switch
from cpns.server.who import Who


def add(router: APIRouter, desk: Desk, networks: PnAdmin) -> None:
    """Add the PN Inventory, and what changes it."""

    async def shown(found: Sequence[Inventory]) -> list[Network]:
        presence = await desk.presences([member.pne_id for one in found for member in one.members])
        return [Network.of(one, presence) for one in found]

    @router.get("/networks")
    async def list_all() -> Networks:
        return Networks(items=await shown(await networks.all()))

    @router.get("/networks/{id}")
    async def show(id: str) -> Network:
        return (await shown([await networks.one(id)]))[0]

    @router.post("/networks/{id}/invite")
    async def invite(id: str, whom: Devices, who: Who) -> Invited:
        results = await networks.invite(who, id, whom.devices)
        return Invited(results={pne: result.name.lower() for pne, result in results.items()})

    @router.post("/networks/{id}/expel")
    async def expel(id: str, whom: Devices, who: Who) -> Done:
        await networks.expel(who, id, whom.devices)
        return Done(id=id)

    @router.post("/networks/{id}/release")
    async def release(id: str, who: Who) -> Done:
        await networks.release(who, id)
        return Done(id=id)

    @router.post("/networks/{id}/switch")
    async def switch(id: str, to: Switch, who: Who) -> Network:
        await networks.switch(who, id, to.gateway)
        return (await shown([await networks.one(id)]))[0]

    @router.post("/networks/{id}/settings")
    async def update(id: str, new: Settings, who: Who) -> Network:
        changed = await networks.update(who, id, new.policy, new.alias, new.owner)
        return (await shown([changed]))[0]
