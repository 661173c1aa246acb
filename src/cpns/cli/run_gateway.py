"""``cpns gateway run``."""

import logging
import ssl
from pathlib import Path

from cpns.cli.control import Control
from cpns.cli.members import of_gateway
from cpns.cli.run import Signals, log_to_stderr, run, say, trace_to
from cpns.crypto.local_eukey import gateway_vault_key
from cpns.crypto.secret import Secret
from cpns.errors import BadInput
from cpns.gateway.app import Gateway
from cpns.gateway.claim import EukeyClaim
from cpns.gateway.config import GatewayConfig
from cpns.service.system import SystemClock, random_bytes, settle_collector
from cpns.store.gateway_store import GatewayStore
from cpns.store.vault import FileVault

_log = logging.getLogger("cpns.gateway")


def run_gateway(config: GatewayConfig, eukey: Secret, control: Path | None) -> int:
    """Run the PN GW of *config* until a signal, with its commands at the socket *control*; return the exit code."""
    log_to_stderr()
    check_authority(config.tls_ca)

    async def role(stop: Signals) -> int:
        store = None if config.data is None else GatewayStore.open(config.data / "gateway.db")
        try:
            return await _serve(config, eukey, store, control, stop)
        finally:
            if store is not None:
                await store.close()

    return run(role)


def check_authority(tls_ca: Path | None) -> None:
    """Raise `BadInput`, ``bad_certificate``, where an uplink can't check certificates by the PEM file *tls_ca*."""
    if tls_ca is not None and not tls_ca.is_file():  # a device may have no end
        raise BadInput("bad_certificate", f"{tls_ca} can't be used (it is no file).")
    try:
        ssl.create_default_context(cafile=tls_ca)
    except OSError as error:
        raise BadInput("bad_certificate", f"{tls_ca} can't be used ({error.strerror}).") from error


async def _serve(
    config: GatewayConfig, eukey: Secret, store: GatewayStore | None, control: Path | None, stop: Signals
) -> int:
    vault = FileVault(gateway_vault_key(eukey, config.gateway_id), random_bytes)
    claim = EukeyClaim(config, eukey, random_bytes)
    gateway = Gateway(config, claim, store, vault, SystemClock(), random_bytes, trace_to(config.trace, stop))
    door = None if control is None else Control(control, of_gateway(gateway))
    try:
        pans = await gateway.start()
        if door is not None:
            await door.start()
        settle_collector()
        say(f"cpns gateway {config.gateway_id} at {', '.join(pans)}")
        await stop.wait()
        _log.info("closing")
    finally:
        if door is not None:
            await door.close()
        await gateway.close()
    return 0
