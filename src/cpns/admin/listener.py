"""Serves the API on the Unix socket in the data folder."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from cpns.admin.api import create_app
from cpns.admin.service import Admin
from cpns.admin.socket_file import SocketFile
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
        self._file: SocketFile | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept requests; the socket of a server that died is replaced.

        Raises:
            BadInput: ``data_path_too_long``.
            Conflict: ``socket_taken``: something else lies there, or somebody answers.
            Unavailable: ``admin_socket``: it can't be made.
        """
        self._file = self._bind()
        self._task = asyncio.create_task(self._server.serve(sockets=[self._file.socket]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise Unavailable("admin_socket", f"The API could not be started at {self._path}.")
            await asyncio.sleep(_TICK)

    async def close(self) -> None:
        """Take the socket away, end followers, and finish requests."""
        if self._file is not None:
            self._file.remove()
        self._admin.close()
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    def _bind(self) -> SocketFile:
        try:
            return SocketFile(self._path)
        except OSError as error:
            path = self._path
            if len(os.fsencode(path)) > 107:
                told = f"{path} is too long for a socket: name a shorter --data."
                raise BadInput("data_path_too_long", told) from error
            raise Unavailable("admin_socket", f"{path} can't be made: {error.strerror}.") from error
