"""The door to a running gateway or device for who runs it: a Unix socket of mode 0600, one JSON object each way.

The file's permission is the authentication, as for the admin API of a server.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from cpns.admin.socket_file import SocketFile
from cpns.domain.reasons import sentence
from cpns.errors import BadInput, CpnsError, Refused, Unavailable, UserError

MAX_LINE: Final = 64 * 1024

Action = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Takes the arguments of a command; returns what it prints."""


class Control:
    """Serves *actions* by name at *path*, which is ours from the start: before its role opens or connects anything.

    Raises:
        Conflict: ``socket_taken``: another role runs there, or something else lies there.
        Unavailable: ``control_socket``: the socket can't be made.
    """

    def __init__(self, path: Path, actions: Mapping[str, Action]) -> None:
        self._actions = actions
        self._server: asyncio.Server | None = None
        try:
            self._file = SocketFile(path)
        except OSError as error:
            raise Unavailable("control_socket", f"{path} can't be made: {error.strerror or error}.") from error

    async def start(self) -> None:
        """Answer commands, those that wait first."""
        self._server = await asyncio.start_unix_server(self._serve, sock=self._file.socket, limit=MAX_LINE)

    async def close(self) -> None:
        """Take no more commands."""
        self._file.remove()
        if self._server is not None:
            self._server.close()
        self._file.socket.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(json.dumps(await self._answer(await _command(reader))).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _answer(self, command: dict[str, Any] | None) -> dict[str, Any]:
        if command is None:
            return {"error": "bad_command", "detail": f"A command is a JSON object in a line of {MAX_LINE} bytes."}
        action = self._actions.get(str(command.pop("action", "")))
        if action is None:
            return {"error": "unknown_action", "detail": "This cpns does not know that command: use the same version."}
        try:
            return {"result": await action(command)}
        except CpnsError as error:
            return {"error": _code(error), "detail": _sentence(error)}


async def _command(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Return what somebody asks for; None where it is none, or too long."""
    try:
        found = json.loads(await reader.readline())
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _code(error: CpnsError) -> str:
    if isinstance(error, UserError):
        return error.code
    return error.reason if isinstance(error, Refused) else "failed"


def _sentence(error: CpnsError) -> str:
    if isinstance(error, Refused):
        return sentence(error)
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
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            raise Unavailable("not_running", f"Nothing runs at {path}: start it with --control {path}.") from error
        try:
            writer.write(json.dumps({"action": action, **arguments}).encode() + b"\n")
            answer = json.loads(await reader.read() or b'{"error": "gone", "detail": "It ended meanwhile."}')
        except OSError as error:
            raise Unavailable("gone", "It ended meanwhile.") from error
        finally:
            writer.close()
        return answer

    answer = asyncio.run(run())
    if "error" in answer:
        raise Unavailable(answer["error"], answer["detail"])
    result: dict[str, Any] = answer["result"]
    return result
