"""``cpns server run``."""

import asyncio
import gc
import logging
import ssl
from pathlib import Path

from cpns.admin.folder import Folder
from cpns.admin.listener import Listener
from cpns.admin.service import Admin
from cpns.cli import private
from cpns.cli.options import at
from cpns.cli.run import log_to_stderr, run, trace_to
from cpns.errors import BadInput
from cpns.server.app import Server
from cpns.server.config import ServerConfig
from cpns.service.provisioning import Provisioning
from cpns.service.system import SystemClock, random_bytes
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault

_log = logging.getLogger("cpns.server")


def run_server(config: ServerConfig, passphrase_file: Path | None) -> int:
    """Run the server of *config* until a signal; return the exit code."""
    folder = Folder(config.data)
    log_to_stderr()
    _check_certificate(config)
    with folder.hold():
        vault = private.open_server_vault(folder.kek, passphrase_file)

        async def role(stop: asyncio.Event) -> int:
            return await _serve(config, folder, vault, stop)

        return run(role)


def _check_certificate(config: ServerConfig) -> None:
    if config.tls_certificate is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(config.tls_certificate, config.tls_key)
    except OSError as error:
        raise BadInput(
            "bad_certificate", f"{config.tls_certificate} and {config.tls_key} can't be used ({error.strerror})."
        ) from error


async def _serve(config: ServerConfig, folder: Folder, vault: FileVault, stop: asyncio.Event) -> int:
    clock = SystemClock()
    store = ServerStore.open(folder.store())
    try:
        server = Server(config, store, vault, clock, random_bytes, trace_to(config.trace))
        provisioning = Provisioning(config.server_id, store, vault, clock, random_bytes, server)
        listener = Listener(Admin(config.server_id, store, provisioning, server, clock), folder.socket)
        try:
            host, port = await server.start()
            await listener.start()
            gc.freeze()  # modules and the web framework are no garbage: looking for some there halts all devices
            print(f"cpns server {config.server_id} listening at {at(host, port)}", flush=True)
            await stop.wait()
            _log.info("closing")
        finally:
            await listener.close()
            await server.close()
    finally:
        await store.close()
    return 0
