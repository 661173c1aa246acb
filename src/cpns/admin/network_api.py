"""The part of the API that is about personal networks, and about who waits to be let in."""

from collections.abc import Sequence

from fastapi import APIRouter, Response

from cpns.admin import models as m
from cpns.admin import provisioning_models as pm
from cpns.admin.service import Admin
from cpns.admin.who import Who
from cpns.domain.inventory import Kind
from cpns.domain.network import Inventory

_NO_STORE = {"Cache-Control": "no-store"}


def add_networks(router: APIRouter, admin: Admin) -> None:
    """Add the PN Inventory, and what changes it."""

    async def shown(found: Sequence[Inventory]) -> list[m.Network]:
        presence = await admin.presences([member.pne_id for one in found for member in one.members])
        return [m.Network.of(one, presence) for one in found]

    @router.get("/networks")
    async def networks() -> m.Networks:
        return m.Networks(items=await shown(await admin.networks.all()))

    @router.get("/networks/{id}")
    async def show(id: str) -> m.Network:
        return (await shown([await admin.networks.one(id)]))[0]

    @router.post("/networks/{id}/invite")
    async def invite(id: str, whom: m.Devices, who: Who) -> m.Invited:
        results = await admin.networks.invite(who, id, whom.devices)
        return m.Invited(results={pne: result.name.lower() for pne, result in results.items()})

    @router.post("/networks/{id}/expel")
    async def expel(id: str, whom: m.Devices, who: Who) -> m.Done:
        await admin.networks.expel(who, id, whom.devices)
        return m.Done(id=id)

    @router.post("/networks/{id}/release")
    async def release(id: str, who: Who) -> m.Done:
        await admin.networks.release(who, id)
        return m.Done(id=id)

    @router.post("/networks/{id}/switch")
    async def switch(id: str, to: m.Switch, who: Who) -> m.Network:
        await admin.networks.switch(who, id, to.gateway)
        return (await shown([await admin.networks.one(id)]))[0]

    @router.post("/networks/{id}/settings")
    async def settle(id: str, new: m.Settings, who: Who) -> m.Network:
        changed = await admin.networks.settle(who, id, new.policy, new.alias, new.owner)
        return (await shown([changed]))[0]


def add_decisions(router: APIRouter, admin: Admin) -> None:
    """Add who waits, who is let in, and what a gateway could read."""

    @router.get("/pending")
    async def pending() -> m.Pending:
        return m.Pending(items=[m.Waiting.of(one) for one in await admin.networks.waiting()])

    @router.post("/devices/{id}/approve")
    async def approve(
        id: str, decision: pm.Decision, who: Who, response: Response, dry_run: bool = False
    ) -> pm.Approved:
        how = (who, id, decision.network, decision.note)
        made = await admin.networks.approve(*how, key=decision.key, dry_run=dry_run)
        response.headers.update(_NO_STORE)
        if made is None:
            return pm.Approved(id=id, server=None, credential=None)
        return pm.Approved(**pm.Credential.of(made, dry_run=dry_run).model_dump())

    @router.post("/devices/{id}/refuse")
    async def refuse(id: str, decision: pm.Decision, who: Who) -> m.Done:
        await admin.networks.refuse(who, id, decision.network)
        return m.Done(id=id)

    @router.get("/gateways/{id}/exposure")
    async def exposure(id: str) -> m.Exposure:
        gateway = (await admin.entity(Kind.GATEWAY, id)).entity_id
        served = [pn.network.pn_id for pn in await admin.networks.all() if pn.network.gateway_id == gateway]
        held = [m.Held.of(one) for one in await admin.networks.held_through(gateway)]
        mediated = await admin.cm.all(gateway)
        is_connected = await admin.connected([one.cm_device_id for one in mediated])
        cm_devices = [m.CmDevice.of(one, is_connected(one.cm_device_id)) for one in mediated]
        return m.Exposure(id=id, networks=list(served), devices=held, cm_devices=cm_devices)
