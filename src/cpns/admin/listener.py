"""Serves the API on the Unix socket in the data folder."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from cpns.admin.api import create_app
from cpns.admin.service import Admin
from cpns.errors import BadInput, Unavailable

_TICK = 0.01


class _Uvicorn(uvicorn.Server):
    """uvicorn inside our loop: signals are for whoever runs the loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """The API of *admin* at *path*. Start it only while holding the data folder."""

    def __init__(self, admin: Admin, path: Path) -> None:
        self._admin = admin
        self._path = path
        config = uvicorn.Config(
            create_app(admin),
            access_log=False,
            log_config=None,
            log_level="warning",
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept requests; an older socket of a server that died is replaced.

        Raises:
            BadInput: ``data_path_too_long``.
            Unavailable: ``admin_socket``: it can't be made.
        """
        listening = _bind(self._path)
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise Unavailable("admin_socket", f"The API could not be started at {self._path}.")
            await asyncio.sleep(_TICK)

    async def close(self) -> None:
        """End followers, finish requests, and take the socket away."""
        self._admin.close()
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._path.unlink(missing_ok=True)


def _bind(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # so that not even for a moment anyone else may connect
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        if len(os.fsencode(path)) > 107:
            raise BadInput("data_path_too_long", f"{path} is too long for a socket: name a shorter --data.") from error
        raise Unavailable("admin_socket", f"{path} can't be made: {error.strerror}.") from error
    finally:
        os.umask(before)
    return listening
