"""One way to a server for the command line: over its Unix socket where it runs, else the same API in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import httpx

from cpns.admin.folder import Folder
from cpns.admin.problems import to_error
from cpns.crypto.secret import Secret
from cpns.errors import Unavailable
from cpns.ports import Vault
from cpns.service import origin

START_PATIENCE: Final = 5.0
"""Seconds to wait for the socket of a server that is just starting."""

OpenVault = Callable[[], Vault]


class LazyVault:
    """`cpns.ports.Vault` that is opened at its first use: who only looks at lists is not asked for a passphrase.

    Args:
        open_vault: opens it.
        check: raises where it is not the vault of the store.
    """

    def __init__(self, open_vault: OpenVault, check: Callable[[Vault], None]) -> None:
        self._open_vault = open_vault
        self._check = check
        self._vault: Vault | None = None

    def _opened(self) -> Vault:
        if self._vault is None:
            vault = self._open_vault()
            self._check(vault)
            self._vault = vault
        return self._vault

    def seal(self, purpose: str, owner: str, key: Secret) -> bytes:
        """See `cpns.ports.Vault`."""
        return self._opened().seal(purpose, owner, key)

    def open(self, purpose: str, owner: str, sealed: bytes) -> Secret:
        """See `cpns.ports.Vault`."""
        return self._opened().open(purpose, owner, sealed)


@contextlib.asynccontextmanager
async def open_client(data: Path, open_vault: OpenVault) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of the API of the server in *data*; its answers go through `answer_of`.

    While it is open and no server runs there, none can start.

    Args:
        data: the server's data folder.
        open_vault: opens the vault; called only where no server runs and a key is to be sealed.

    Raises:
        NotFound: ``no_server``.
        Unavailable: ``server_not_answering``: it runs and takes no connection.
    """
    folder = Folder(data)
    with folder.visit() as alone:
        if not alone:
            await _wait_for(folder.socket)
            transport = httpx.AsyncHTTPTransport(uds=str(folder.socket))
            async with _client(transport) as client:
                yield client
            return
        async with _in_process(folder, open_vault) as client:
            yield client


def _client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, base_url="http://cpns/api/v1", timeout=60)


async def _wait_for(socket: Path) -> None:
    deadline = asyncio.get_running_loop().time() + START_PATIENCE
    while True:
        try:
            _, writer = await asyncio.open_unix_connection(socket)
        except OSError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(
                    "server_not_answering", f"A server holds {socket.parent} and does not answer: look at its log."
                ) from error
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


@contextlib.asynccontextmanager
async def _in_process(folder: Folder, open_vault: OpenVault) -> AsyncIterator[httpx.AsyncClient]:
    from cpns.admin.api import create_app  # web framework and store take a second: only where no server runs
    from cpns.admin.service import Admin
    from cpns.service.processes import compare
    from cpns.service.provisioning import NoSessions, Provisioning
    from cpns.service.system import StoreClock, SystemClock, random_bytes

    server_id = folder.server_id()
    store = folder.open_store()
    try:
        clock = StoreClock(SystemClock())
        await compare(clock, store)
        vault = LazyVault(open_vault, await origin.checker(store, server_id))
        provisioning = Provisioning(server_id, store, vault, clock, random_bytes, NoSessions())
        app = create_app(Admin(server_id, store, provisioning, None, clock))
        async with _client(httpx.ASGITransport(app, raise_app_exceptions=False)) as client:
            yield client
    finally:
        await store.close()


def answer_of(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of a response that was read.

    Raises:
        UserError: what the API answered with.
    """
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_error or not isinstance(body, dict):
        raise to_error(response.status_code, body)
    return body
