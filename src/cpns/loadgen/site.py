"""The server that is loaded: a throw-away one of its own, or one that runs; and who is provisioned there."""

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from cpns.admin.client import answer_of, open_client
from cpns.admin.folder import Folder
from cpns.errors import Unavailable
from cpns.ports import Vault
from cpns.service.system import random_bytes
from cpns.store.vault import open_vault

IMPORTED_AT_ONCE: Final = 1000
REVOKED_AT_ONCE: Final = 8
START_SECONDS: Final = 20.0
WITHOUT_SHARES: Final = ("--readings-rate", "1e6", "--readings-volume", "1e9")
"""What is measured is what a server bears, not what it lets one device do."""
PREFIX: Final = "bench"
NOTE: Final = "made by cpns bench"

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Provisioned:
    """Entities of one load, and the credentials of those that are made."""

    name: str
    gateways: list[str]
    devices: list[str]
    credentials: dict[str, str]


@dataclass(frozen=True, slots=True)
class Site:
    """A running server.

    Attributes:
        address: where gateways connect to.
        tls_ca: who may sign its certificate, where it has one; None: whom this machine trusts.
        pid: its process.
        client: of its admin API.
        made: who is provisioned there for this load.
    """

    address: tuple[str, int]
    tls_ca: Path | None
    pid: int
    client: httpx.AsyncClient
    made: Provisioned

    async def stored(self) -> int:
        """Return the number of the newest reading."""
        return int(answer_of(await self.client.get("/status"))["last_reading"])


@contextlib.asynccontextmanager
async def own(gateways: int, devices: int, told: Told) -> AsyncIterator[Site]:
    """Give a new server in a folder of its own, with so many gateways and devices, and remove it in the end.

    It starts when all are provisioned: what its memory grows by after that is of the load alone.

    Raises:
        Unavailable: ``server_failed``.
    """
    with tempfile.TemporaryDirectory(prefix="cpns-bench-") as name:
        folder = Folder(Path(name) / "server")
        await folder.create("server.example", None, random_bytes)
        async with open_client(folder.path, lambda: open_vault(folder.kek, random_bytes)) as client:
            made = _names(gateways, devices)
            await _provision(client, made, told)
        async with _server(folder.path, Path(name) / "log"), _client(folder) as (client, pid):
            yield Site(await _listens_at(client, pid), None, pid, client, made)


@contextlib.asynccontextmanager
async def running(
    data: Path, server: tuple[str, int] | None, tls_ca: Path | None, gateways: int, devices: int, told: Told
) -> AsyncIterator[Site]:
    """Give the server that runs in *data*, with so many new gateways and devices, which are revoked in the end.

    Gateways connect to *server*, None: where it listens; for *tls_ca* see `Site`.

    Raises:
        NotFound: ``no_server``.
        Unavailable: ``server_not_running``, ``server_not_answering`` or ``no_address``.
    """
    async with _client(Folder(data)) as (client, pid):
        address = server or await _listens_at(client, pid)
        made = _names(gateways, devices)
        try:
            await _provision(client, made, told)
            yield Site(address, tls_ca, pid, client, made)
        finally:
            await _revoke(client, made, told)


@contextlib.asynccontextmanager
async def _client(folder: Folder) -> AsyncIterator[tuple[httpx.AsyncClient, int]]:
    """Give a client of the server that runs in *folder*, and its process."""
    with folder.visit() as alone:
        if alone:
            raise _not_running(folder.path)

    def no_vault() -> Vault:
        raise _not_running(folder.path)  # it has just ended

    async with open_client(folder.path, no_vault) as client:
        yield client, _pid(folder.socket)


def _not_running(data: Path) -> Unavailable:
    return Unavailable(
        "server_not_running", f"No server runs in {data}: start it (cpns server run), or leave --data out."
    )


@contextlib.asynccontextmanager
async def _server(data: Path, log: Path) -> AsyncIterator[None]:
    """Run a server on *data* meanwhile."""
    with log.open("w+") as file:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "cpns",
                "server",
                "run",
                "--data",
                str(data),
                "--listen",
                "127.0.0.1:0",
                *WITHOUT_SHARES,
            ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=file,
            start_new_session=True,  # Ctrl-C is for us, and it has to last until the end
        )
        try:
            if process.stdout is None or not await asyncio.wait_for(process.stdout.readline(), START_SECONDS):
                file.seek(0)
                raise Unavailable("server_failed", f"The server did not start: {file.read().strip()[-300:]}")
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def _pid(path: Path) -> int:
    """Return the process that listens at a Unix socket; 0 where it can't be seen from here, as in a container."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(path))
        pid: int
        pid, _, _ = struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return pid


async def _listens_at(client: httpx.AsyncClient, pid: int) -> tuple[str, int]:
    """Return where the server, a process of this machine, can be reached. Raises `Unavailable`: ``no_address``."""
    said = answer_of(await client.get("/status")).get("listening")
    if not pid or said is None:  # in a container it may have a network of its own; one of before says nothing
        raise Unavailable("no_address", "It can't be seen where the server listens: give --server.")
    host, port = said
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        host = "127.0.0.1" if address.version == 4 else "::1"
    return host, port


def _names(gateways: int, devices: int) -> Provisioned:
    """Return names that nobody has, without credentials yet."""
    name = f"{PREFIX}-{secrets.token_hex(3)}"
    return Provisioned(
        name,
        [f"{name}-gw-{number:04}" for number in range(gateways)],
        [f"{name}-pne-{number:05}" for number in range(devices)],
        {},
    )


async def _provision(client: httpx.AsyncClient, made: Provisioned, told: Told) -> None:
    """Make gateways and devices of these names.

    Raises:
        UserError: what the API answered.
    """
    told(f"provisioning {len(made.gateways)} gateways and {len(made.devices)} devices, {made.name}-*")
    for gateway in made.gateways:
        one = answer_of(await client.post("/gateways", json={"id": gateway, "note": NOTE}))
        made.credentials[gateway] = one["credential"]
    for first in range(0, len(made.devices), IMPORTED_AT_ONCE):
        rows = [f"{device},{NOTE}\n" for device in made.devices[first : first + IMPORTED_AT_ONCE]]
        response = await client.post(
            "/devices/import", content="id,note\n" + "".join(rows), headers={"Content-Type": "text/csv"}
        )
        made.credentials.update({one["id"]: one["credential"] for one in answer_of(response)["credentials"]})


async def _revoke(client: httpx.AsyncClient, made: Provisioned, told: Told) -> None:
    """Revoke all that was made, so that its credentials open nothing more; the rows stay."""
    told(f"revoking {made.name}-*")
    at_once = asyncio.Semaphore(REVOKED_AT_ONCE)

    async def one(path: str) -> None:
        async with at_once:
            answer_of(await client.post(f"{path}/revoke"))

    paths = [f"/gateways/{name}" if name in made.gateways else f"/devices/{name}" for name in made.credentials]
    await asyncio.gather(*map(one, paths))
