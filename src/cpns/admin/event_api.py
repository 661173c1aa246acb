"""The part of the API that is about events: what happened, by number."""

from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from cpns.admin.pages import MAX_PAGE, NDJSON, lines, next_after
from cpns.admin.service import Admin
from cpns.domain import event
from cpns.server.models import Done, Request, rfc3339
from cpns.server.who import Who


class Event(BaseModel):
    """Something that happened.

    Attributes:
        number: grows; a page begins after one.
        by: who did it, an ID or a person's name; *role* says as whom.
        subject: the ID of the device, gateway, network or group that it is about.
        data: what there is to say of it.
    """

    number: int
    at: str
    kind: str
    role: str
    by: str
    subject: str
    data: dict[str, Any]

    @classmethod
    def of(cls, one: event.Numbered) -> Self:
        """Return *one* as it leaves."""
        it = one.event
        who = {"role": it.actor.role.value, "by": it.actor.name}
        return cls(number=one.number, at=rfc3339(it.at), kind=it.kind, **who, subject=it.subject, data=dict(it.body))


class Events(BaseModel):
    """Events, oldest first; *next* is where the next page begins."""

    items: list[Event]
    next: int


class Cursor(BaseModel):
    """How far somebody has come that follows the events by a name.

    Attributes:
        number: of the newest event that was told.
        at: when it came there; *by* says who told so.
    """

    name: str
    number: int
    at: str
    by: str

    @classmethod
    def of(cls, one: event.Cursor) -> Self:
        """Return *one* as it leaves."""
        return cls(name=one.name, number=one.number, at=rfc3339(one.at), by=one.actor)


class Cursors(BaseModel):
    """All of them, by name."""

    items: list[Cursor]


class Told(Request):
    """The events up to that number were told; null: the cursor stays where it is, or begins with what is new."""

    number: Annotated[int | None, Field(ge=0)] = None


def add_cursors(router: APIRouter, admin: Admin) -> None:
    """Add how far those have come that follow the events by a name."""

    @router.get("/cursors")
    async def list_all() -> Cursors:
        return Cursors(items=[Cursor.of(one) for one in await admin.cursors.all()])

    @router.post("/cursors/{name}")
    async def move(name: str, told: Told, who: Who) -> Cursor:
        """Move a cursor on, or make it: it never goes back. Move it once you have told what is before it."""
        return Cursor.of(await admin.cursors.move(who, name, told.number))

    @router.post("/cursors/{name}/drop")
    async def drop(name: str, who: Who) -> Done:
        await admin.cursors.drop(who, name)
        return Done(id=name)


def add_events(router: APIRouter, admin: Admin) -> None:
    """Add what happened."""

    @router.get("/events", response_model=Events)
    async def events(
        after: Annotated[int | None, Query(ge=0)] = None,
        limit: Annotated[int | None, Query(ge=1)] = None,
        follow: bool = False,
    ) -> Response:
        """One page, oldest first; or with *follow* a line for each, those that are still to come included.

        Without *after*, a page begins with the oldest event that was ever there, and following with the next one that
        comes. 410 where events after that number were dropped.
        """
        if follow:
            return StreamingResponse(lines(await admin.follow_events(after, limit), Event.of), media_type=NDJSON)
        found = await admin.events(after or 0, min(limit or 100, MAX_PAGE))
        items = [Event.of(one) for one in found]
        page = Events(items=items, next=next_after(items, after))
        return JSONResponse(page.model_dump())
