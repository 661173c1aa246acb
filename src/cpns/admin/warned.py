"""What an answer of the API lacks, and why: a header of any of them, and a line of whatever command got it."""

import json
from typing import TYPE_CHECKING, Final

from cpns.service.cluster import collecting_warnings

if TYPE_CHECKING:
    import httpx
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = "cpns-warnings"
"""Its value is a JSON array of sentences."""


class Warned:
    """Gives each answer of *app* that header, where who asked is to be warned of something."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """As ASGI has it."""
        with collecting_warnings() as found:

            async def with_header(message: "Message") -> None:
                if message["type"] == "http.response.start" and found:
                    header = (HEADER.encode(), json.dumps([*found]).encode())
                    message = {**message, "headers": [*message["headers"], header]}
                await send(message)

            await self._app(scope, receive, with_header)


def warnings_of(response: "httpx.Response") -> list[str]:
    """Return the sentences that came with an answer."""
    found: list[str] = json.loads(response.headers.get(HEADER, "[]"))
    return found
