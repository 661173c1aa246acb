"""The HTTP API of a server, under ``/api/v1``.

It is served on a Unix socket that only the server's own user may open (mode 0600): the file's permission is the
authentication. There is no TCP and no token, so it must not be served anywhere else. Keys are write-only: a credential
is in the answer to the POST that made it, and in no other.
"""

import dataclasses
import logging
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from cpns.admin import audit_api, decision_api, event_api, problems
from cpns.admin import models as m
from cpns.admin import provisioning_models as pm
from cpns.admin import status_models as sm
from cpns.admin.pages import MAX_PAGE, NDJSON, lines, next_after
from cpns.admin.service import Admin
from cpns.admin.warned import Warned
from cpns.domain.inventory import Kind
from cpns.errors import BadInput, UserError
from cpns.server.features import FEATURES
from cpns.server.models import Event, Revoked, rfc3339
from cpns.server.who import Who

_log = logging.getLogger("cpns.admin")

_NO_STORE = {"Cache-Control": "no-store"}


def create_app(admin: Admin) -> FastAPI:
    """Return the API over *admin*."""
    app = FastAPI(title="cpns", openapi_url="/api/v1/openapi.json", docs_url=None, redoc_url=None)
    router = APIRouter(prefix="/api/v1")
    _add_entities(router, admin)
    _add_devices(router, admin)
    _add_rest(router, admin)
    decision_api.add_decisions(router, admin)
    audit_api.add_audit(router, admin)
    event_api.add_events(router, admin)
    event_api.add_cursors(router, admin)
    for feature in FEATURES:
        feature.add_routes(router, admin)
    app.include_router(router)
    app.add_middleware(Warned)
    _add_errors(app)
    return app


def _add_entities(router: APIRouter, admin: Admin) -> None:
    """Add what gateways and devices have in common."""

    def add(plural: str, kind: Kind) -> None:
        @router.get(f"/{plural}", name=f"list_{plural}")
        async def list_all() -> m.Entities:
            found = await admin.entities(kind)
            is_connected = await admin.connected([entity.entity_id for entity in found])
            return m.Entities(items=[m.Entity.of(entity, is_connected(entity.entity_id)) for entity in found])

        @router.get(f"/{plural}/{{id}}", name=f"show_{plural}")
        async def show(id: str) -> m.EntityWithAudit:
            entity = await admin.entity(kind, id)
            shown = m.Entity.of(entity, (await admin.connected([entity.entity_id]))(entity.entity_id))
            audit = [Event.of(row) for row in await admin.audit(entity.entity_id)]
            return m.EntityWithAudit(**shown.model_dump(), audit=audit)

        @router.post(f"/{plural}/{{id}}/revoke", name=f"revoke_{plural}")
        async def revoke(id: str, who: Who) -> Revoked:
            return Revoked(id=id, ended=await admin.revoke(who, kind, id))

    add("gateways", Kind.GATEWAY)
    add("devices", Kind.PNE)

    @router.post("/gateways/{id}/settings")
    async def settle_gateway(id: str, new: pm.GatewaySettings, who: Who) -> pm.Settled:
        entity = (await admin.entity(Kind.GATEWAY, id)).entity_id
        return pm.Settled(id=entity, ended=await admin.update(who, entity, None, new.note))

    @router.post("/devices/{id}/settings")
    async def settle_device(id: str, new: pm.DeviceSettings, who: Who) -> pm.Settled:
        entity = (await admin.entity(Kind.PNE, id)).entity_id
        ended = await admin.update(who, entity, new.gateway, new.note, allow_unknown_gateway=new.allow_unknown_gateway)
        return pm.Settled(id=entity, ended=ended)

    @router.post("/gateways", status_code=201)
    async def add_gateway(new: pm.NewGateway, who: Who, response: Response, dry_run: bool = False) -> pm.Credential:
        response.headers.update(_NO_STORE)
        made = await admin.add(who, Kind.GATEWAY, new.id, None, new.note, key=new.key, dry_run=dry_run)
        return pm.Credential.of(made, dry_run=dry_run)

    @router.post("/devices", status_code=201)
    async def add_device(new: pm.NewDevice, who: Who, response: Response, dry_run: bool = False) -> pm.Credential:
        response.headers.update(_NO_STORE)
        made = await admin.add(
            *(who, Kind.PNE, new.id, new.gateway, new.note),
            key=new.key,
            allow_unknown_gateway=new.allow_unknown_gateway,
            may_own=new.owner,
            dry_run=dry_run,
        )
        return pm.Credential.of(made, dry_run=dry_run)


def _add_devices(router: APIRouter, admin: Admin) -> None:
    csv = {"requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}}

    @router.post("/devices/import", openapi_extra=csv)
    async def import_devices(
        request: Request,
        response: Response,
        who: Who,
        dry_run: bool = False,
        new_only: bool = False,
        allow_unknown_gateway: bool = False,
    ) -> pm.Imported:
        try:
            text = (await request.body()).decode()
        except UnicodeDecodeError as error:
            raise BadInput("bad_csv", "The file is no UTF-8 text.") from error
        report = await admin.import_csv(
            who, text, dry_run=dry_run, new_only=new_only, allow_unknown_gateway=allow_unknown_gateway
        )
        response.headers.update(_NO_STORE)
        return pm.Imported.of(report, dry_run=dry_run)

    @router.get("/devices/{id}/explain")
    async def explain(id: str) -> m.Explanation:
        found = await admin.explain(id)
        return m.Explanation(id=id, items=[m.Finding(**dataclasses.asdict(finding)) for finding in found])

    @router.post("/devices/{id}/send")
    async def send(id: str, text: m.Text, who: Who) -> m.Answer:
        found = await admin.send(who, id, text.text, text.keep)
        if isinstance(found, str):
            return m.Answer(answer=found)
        return m.Answer(answer=None, kept_until=rfc3339(found.expires_at))

    @router.post("/devices/{id}/ping")
    async def ping(id: str) -> m.Pong:
        return m.Pong(seconds=round(await admin.ping(id), 6))


def _add_rest(router: APIRouter, admin: Admin) -> None:
    @router.get("/readings", response_model=m.Readings)
    async def readings(
        after: Annotated[int | None, Query(ge=0)] = None,
        limit: Annotated[int | None, Query(ge=1)] = None,
        device: str | None = None,
        follow: bool = False,
    ) -> Response:
        """One page, oldest first; or with *follow* a line for each, those that are still to come included.

        Without *after*, a page begins with the oldest reading, and following with the next one that comes. A page has
        at most 10,000; `next` is where the next one begins.
        """
        limit = limit if follow or limit is None else min(limit, MAX_PAGE)
        if follow:
            readings = await admin.follow(after, limit, device)
            return StreamingResponse(lines(readings, m.Reading.of), media_type=NDJSON)
        found = await admin.readings(after or 0, limit or 100, device)
        items = [m.Reading.of(reading) for reading in found]
        page = m.Readings(items=items, next=next_after(items, after))
        return JSONResponse(page.model_dump())

    @router.get("/status")
    async def status() -> sm.Status:
        return sm.Status.of(await admin.status())


def _add_errors(app: FastAPI) -> None:
    def answer(status: int, code: str, sentence: str) -> JSONResponse:
        body = problems.problem(status, code, sentence)
        return JSONResponse(body, status_code=status, media_type=problems.MEDIA_TYPE)

    @app.exception_handler(UserError)
    async def by_user(request: Request, error: UserError) -> JSONResponse:
        return answer(problems.to_status(error), error.code, error.sentence)

    @app.exception_handler(RequestValidationError)
    async def misfit(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]  # its input is not repeated: it may be secret
        where = ".".join(map(str, first["loc"]))
        return answer(422, "bad_request", f"{where}: {first['msg']}.")

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "no_such_resource", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        return answer(error.status_code, code, f"{request.method} {request.url.path}: {error.detail}.")

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(500, "server_failed", "The server failed at this: its log says where.")
