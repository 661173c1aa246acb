"""The part of the API that is about who waits to be let in, and about what a gateway could read."""

from fastapi import APIRouter, Response

from cpns.admin import decision_models as m
from cpns.admin import provisioning_models as pm
from cpns.admin.service import Admin
from cpns.domain.inventory import Kind
from cpns.server.changing.routes import shown
from cpns.server.models import Done
from cpns.server.who import Who

_NO_STORE = {"Cache-Control": "no-store"}


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
    async def refuse(id: str, decision: pm.Decision, who: Who) -> Done:
        await admin.networks.refuse(who, id, decision.network)
        return Done(id=id)

    @router.get("/gateways/{id}/exposure")
    async def exposure(id: str) -> m.Exposure:
        gateway = (await admin.entity(Kind.GATEWAY, id)).entity_id
        served: list[str] = sorted(await admin.store.networks_of(gateway))
        held = [m.Held.of(one) for one in await admin.networks.held_through(gateway)]
        cm_devices = await shown(admin, await admin.cm.all(gateway))
        return m.Exposure(id=id, networks=served, devices=held, cm_devices=cm_devices)
