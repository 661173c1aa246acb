"""What is followed by a name: the server keeps how far that has come, so each event is printed at least once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from cpns.admin.client import answer_of
from cpns.cli import talk
from cpns.errors import Unavailable

EVENTS_AT_ONCE: Final = 200


def events(data: Path, cursor: str, after: int | None, count: int | None, shown: Callable[[str], str]) -> None:
    """Print the events that *cursor* has not had, as they come, until *count* or Ctrl-C; then it moves.

    Args:
        data: of the server.
        cursor: its name; where there is none it begins with what is new.
        after: where it begins at the least, the number of an event; None: where it is.
        count: None: no end.
        shown: makes a line of the JSON of an event.

    Raises:
        Gone: ``events_gone``: some that it has not had were dropped.
        Unavailable: ``server_not_running``, or ``server_gone`` where the server ended first.
    """

    async def follow(client: httpx.AsyncClient) -> None:
        place = talk.resource("cursors", cursor)
        last = answer_of(await client.post(place, json={"number": after}))["number"]
        told = 0
        while count is None or told < count:
            found = await _next(client, last, EVENTS_AT_ONCE if count is None else min(count - told, EVENTS_AT_ONCE))
            if not found:
                raise Unavailable("server_gone", f"The server in {data} was stopped.")
            for line in found:
                print(shown(line), flush=True)
            told, last = told + len(found), json.loads(found[-1])["number"]
            answer_of(await client.post(place, json={"number": last}))

    talk.ask(data, follow)


async def _next(client: httpx.AsyncClient, after: int, most: int) -> list[str]:
    """Return the events that are there, as JSON, else the next one that comes; none where the server ends first."""
    page = answer_of(await client.get("/events", params={"after": after, "limit": most}))
    if page["items"]:
        return [json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in page["items"]]
    return [line async for line in talk.lines(client, "/events", {"follow": "true", "after": after, "limit": 1})]
