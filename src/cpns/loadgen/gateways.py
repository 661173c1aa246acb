"""A process of gateways."""

import asyncio
import random
from pathlib import Path
from typing import Final

from cpns.crypto.secret import Secret
from cpns.domain.credential import parse_credential
from cpns.domain.inventory import Kind
from cpns.errors import NoAnswer, Unavailable
from cpns.gateway.app import Gateway
from cpns.gateway.claim import EukeyClaim
from cpns.gateway.config import GatewayConfig, PanConfig
from cpns.gateway.uplink import what_to_do
from cpns.loadgen.job import Job, at_rest, say
from cpns.loadgen.lossy import LossyPan
from cpns.service.system import SystemClock, random_bytes
from cpns.store.vault import FileVault

HOST: Final = "127.0.0.1"
UPLINK_SECONDS: Final = 10.0
"""What a gateway has to prove itself to the server; it tries several times."""
AT_ONCE: Final = 16
"""Gateways that do so at once."""
WINDOW: Final = (0.02, 0.004)
"""Seconds that a gateway gathers: at least, and for each PNE of a batch; one process sends for all of them."""


async def role(job: Job, lines: asyncio.StreamReader) -> None:
    """Run the gateways of *job*; say where they are when their uplinks stand; return when *lines* end.

    A line says that all is established.

    Raises:
        Unavailable: ``no_uplink``.
        OSError: no socket could be had.
    """
    at_once = asyncio.Semaphore(AT_ONCE)
    gateways: list[Gateway] = []
    pans: list[LossyPan] = []

    async def start(credential: str) -> tuple[str, int]:
        async with at_once:
            gateway = _gateway(job, credential)
            gateways.append(gateway)
            (bound,) = await gateway.start()
            try:
                await gateway.uplink.wait(UPLINK_SECONDS)
            except NoAnswer as error:
                raise _no_uplink(job, gateway.uplink.last_refusal) from error
        address = HOST, int(bound.rpartition(":")[2])
        if not job["loss"]:
            return address
        pans.append(LossyPan(address, job["loss"], random.random))
        return pans[-1].address

    try:
        async with asyncio.TaskGroup() as group:
            starting = [group.create_task(start(credential)) for credential in job["credentials"]]
        say(pans=[task.result() for task in starting])
        while await lines.readline():
            at_rest()
    finally:
        for pan in pans:
            pan.close()
        for gateway in gateways:
            await gateway.close()


def _no_uplink(job: Job, reason: str) -> Unavailable:
    host, port = job["server"]
    hint = what_to_do(job["tls"], reason) or "look at its log"
    return Unavailable("no_uplink", f"A gateway can't prove itself to the server at {host}:{port} ({reason}): {hint}.")


def _gateway(job: Job, line: str) -> Gateway:
    credential = parse_credential(line, Kind.GATEWAY)
    host, port = job["server"]
    config = GatewayConfig(
        credential.entity_id,
        credential.server_id,
        host,
        port,
        pans=(PanConfig(HOST, 0, secure=False),),
        suite=job["suite"],
        tls=job["tls"],
        tls_ca=None if job["tls_ca"] is None else Path(job["tls_ca"]),
        announce=False,
        batch_window=WINDOW[0] + WINDOW[1] * job["batch"],
    )
    vault = FileVault(Secret(random_bytes(32)), random_bytes)
    claim = EukeyClaim(config, credential.eukey, random_bytes)
    return Gateway(config, claim, None, vault, SystemClock(), random_bytes)
