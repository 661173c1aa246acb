"""``cpns server run``."""

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

from cpns.admin import twin
from cpns.admin.folder import Folder
from cpns.admin.listener import Listener
from cpns.admin.service import Admin
from cpns.cli import private, workers
from cpns.cli.run import Signals, log_to_stderr, run, say, trace_to
from cpns.errors import BadInput
from cpns.ports import Clock
from cpns.ports.cluster import Bus
from cpns.server.app import Server
from cpns.server.config import ServerConfig
from cpns.service import origin
from cpns.service.processes import compare
from cpns.service.provisioning import Provisioning
from cpns.service.system import StoreClock, SystemClock, random_bytes, settle_collector
from cpns.store.vault import FileVault
from cpns.transport.address import at

_log = logging.getLogger("cpns.server")


def run_server(config: ServerConfig, passphrase_file: Path | None) -> int:
    """Run the server of *config* until a signal; return the exit code."""
    folder = Folder(config.data)
    log_to_stderr()
    _check_certificate(config)
    _check_processes(config, folder)
    with folder.hold():
        vault = private.open_server_vault(folder.kek, passphrase_file)
        if config.workers > 1:
            return workers.run(config, lambda own, ready: run(partial(_serve, own, folder, vault, ready)))

        def ready(address: str) -> None:
            say(f"cpns server {config.server_id} listening at {address}")

        return run(partial(_serve, config, folder, vault, ready))


def _check_processes(config: ServerConfig, folder: Folder) -> None:
    """Raise `BadInput` where several processes lack what they share."""
    if config.workers > 1 and config.nats is None:
        raise BadInput("workers_need_nats", "Several workers reach each other over NATS: give --nats nats://HOST:PORT.")
    if config.nats is not None and isinstance(folder.store(), Path):
        raise BadInput(
            "workers_need_postgres",
            "Several processes need a store on PostgreSQL: set the server up with cpns server init --store.",
        )
    if config.nats is not None and "@" in config.nats:
        raise BadInput("password_in_url", "A URL with a user or password is seen by others: give --nats without one.")


def _check_certificate(config: ServerConfig) -> None:
    if config.tls_certificate is None:
        return
    for path in (config.tls_certificate, config.tls_key):
        if path is not None and not path.is_file():  # a device may have no end
            raise BadInput("bad_certificate", f"{path} can't be used (it is no file).")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(config.tls_certificate, config.tls_key)
    except OSError as error:
        raise BadInput(
            "bad_certificate", f"{config.tls_certificate} and {config.tls_key} can't be used ({error.strerror})."
        ) from error


async def _serve(
    config: ServerConfig, folder: Folder, vault: FileVault, ready: Callable[[str], None], stop: Signals
) -> int:
    store = folder.open_store()
    clock = StoreClock(SystemClock())
    in_folder = isinstance(folder.store(), Path)
    alone = twin.held(config.server_id, folder.path) if in_folder else contextlib.nullcontext()
    try:
        await compare(clock, store)
        await origin.claim(store, config.server_id, vault, clock, random_bytes)
        async with alone, _bus(config, vault, clock) as bus:
            server = Server(config, store, vault, clock, random_bytes, trace_to(config.trace, stop), bus)
            stop.hangups.append(server.upkeep.look_at_certificate)
            provisioning = Provisioning(config.server_id, store, vault, clock, random_bytes, server)
            listener = Listener(Admin(config.server_id, store, provisioning, server, clock), folder.socket)
            try:
                host, port = await server.start()
                if config.first:
                    await listener.start()
                settle_collector()
                ready(at(host, port))
                await stop.wait()
                _log.info("closing")
            finally:
                if config.first:
                    await listener.close()
                await server.close()
    finally:
        await store.close()
    return 0


@contextlib.asynccontextmanager
async def _bus(config: ServerConfig, vault: FileVault, clock: Clock) -> AsyncIterator[Bus | None]:
    """Give what carries what the processes of the server say to each other."""
    if config.nats is None:
        yield None
        return
    from cpns.transport.cluster import connect

    bus = await connect(config.nats, config.server_id, vault, random_bytes, clock)
    try:
        yield bus
    finally:
        await bus.close()
