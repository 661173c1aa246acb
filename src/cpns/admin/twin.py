"""A second server of one ID on one machine, such as a copy of a data folder that was started beside the original.

Each would know nothing of what the other was told. Where the store is in the folder no second process is right, so the
one that runs holds a name of the machine: the abstract socket ``@cpns/ID``. Anybody here may hold that, so what its
holder says is only told on, and believed by nobody.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from cpns.ids import EntityId

_log = logging.getLogger("cpns.server")

TELL_SECONDS: Final = 1.0
MAX_PATH: Final = 4096


@contextlib.asynccontextmanager
async def held(server_id: EntityId, folder: Path) -> AsyncIterator[None]:
    """Hold the name of the server meanwhile; warn where another one on this machine holds it."""
    name, own = f"\0cpns/{server_id}", folder.absolute()

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(os.fsencode(own) + b"\n")
            await writer.drain()
        writer.close()

    try:
        server = await asyncio.start_unix_server(tell, name)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            _log.warning(
                "%s, in %s, is not alone: another server with that ID runs on this machine, in %s: stop one of them, "
                "or their lists go apart",
                *(server_id, own, await asyncio.to_thread(_other, name)),
            )
        yield
        return
    try:
        yield
    finally:
        server.close()


def _other(name: str) -> str:
    """Return the folder of who holds *name*, as it says. Blocks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(TELL_SECONDS)
        try:
            asking.connect(name)
            return asking.recv(MAX_PATH).decode(errors="replace").strip() or "?"
        except OSError:
            return "?"
