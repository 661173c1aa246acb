"""The door to a running gateway or device for who runs it: a Unix socket of mode 0600, one JSON object each way.

The file's permission is the authentication, as for the admin API of a server.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cpns.errors import BadInput, CpnsError, Refused, Unavailable, UserError

MAX_LINE: Final = 64 * 1024

Action = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Takes the arguments of a command; returns what it prints."""


class Control:
    """Serves *actions* by name at *path*."""

    def __init__(self, path: Path, actions: Mapping[str, Action]) -> None:
        self._path = path
        self._actions = actions
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept commands. Raises Unavailable (``control_socket``) where the socket can't be made."""
        before = os.umask(0o177)  # so that not even for a moment anyone else may connect
        try:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE)
        except OSError as error:
            raise Unavailable("control_socket", f"{self._path} can't be made: {error.strerror or error}.") from error
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Take no more commands."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            command = json.loads(await reader.readline())
            writer.write(json.dumps(await self._answer(command)).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _answer(self, command: dict[str, Any]) -> dict[str, Any]:
        action = self._actions.get(str(command.pop("action", "")))
        if action is None:
            return {"error": "unknown_action", "detail": "This cpns does not know that command: use the same version."}
        try:
            return {"result": await action(command)}
        except CpnsError as error:
            return {"error": _code(error), "detail": _sentence(error)}


def _code(error: CpnsError) -> str:
    if isinstance(error, UserError):
        return error.code
    return error.reason if isinstance(error, Refused) else "failed"


def _sentence(error: CpnsError) -> str:
    if isinstance(error, Refused):
        return f"The server or gateway does not allow or do it: {error.result.name.lower().replace('_', ' ')}."
    return str(error)


def ask(path: Path | None, action: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401  # as JSON has them
    """Return what the gateway or device at *path* answers.

    Raises:
        BadInput: ``no_control``: no socket is named.
        Unavailable: ``not_running``; or what it answered.
    """
    if path is None:
        raise BadInput("no_control", "Say which one: give --control, the socket that it was started with.")

    async def run() -> Any:  # noqa: ANN401
        try:
            reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE)
        except OSError as error:
            raise Unavailable("not_running", f"Nothing runs at {path}: start it with --control {path}.") from error
        writer.write(json.dumps({"action": action, **arguments}).encode() + b"\n")
        answer = json.loads(await reader.readline() or b'{"error": "gone", "detail": "It ended meanwhile."}')
        writer.close()
        return answer

    answer = asyncio.run(run())
    if "error" in answer:
        raise Unavailable(answer["error"], answer["detail"])
    result: dict[str, Any] = answer["result"]
    return result
