"""The part of the API that is about the audit log."""

from typing import Annotated

from fastapi import APIRouter, Query

from cpns.admin import models as m
from cpns.admin.pages import MAX_PAGE, next_after
from cpns.admin.service import Admin
from cpns.server.models import rfc3339
from cpns.server.who import Who


def add_audit(router: APIRouter, admin: Admin) -> None:
    """Add who did what, and how old rows go."""

    @router.get("/audit")
    async def page(
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
        about: str | None = None,
    ) -> m.Audit:
        items = [m.AuditRow.numbered(row) for row in await admin.audit_log.page(after, limit, about)]
        return m.Audit(items=items, next=next_after(items, after))

    @router.post("/audit/prune")
    async def prune(what: m.Prune, who: Who, dry_run: bool = False) -> m.Pruned:
        before, rows = await admin.audit_log.prune(who, what.older, dry_run=dry_run)
        return m.Pruned(before=rfc3339(before), rows=rows)
