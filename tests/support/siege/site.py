"""What is besieged: a server and two gateways, as processes, and the honest parties whose experience counts.

Gateway A's PAN is the one that attacks on a PAN go to; nobody attacks B's. The honest parties run in this process,
each from an address of its own, other than the attackers' 127.9.x.y.
"""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import psutil

from bench.cpu import cpu_ns
from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind
from cpns.errors import CpnsError
from cpns.gateway.app import Gateway
from cpns.gateway.claim import EukeyClaim
from cpns.gateway.config import GatewayConfig
from cpns.ids import EntityId
from cpns.pne import app as pne_app
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig, Where
from cpns.pne.inbox import Inbox
from cpns.service.provisioning import NoSessions, Provisioning
from cpns.service.system import random_bytes
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault
from tests.support.parties import Parties, Process, free_port
from tests.support.world import CLOCK, SERVER, pan_config

ESTABLISHED = 3
"""PNEs behind each gateway that send all the time."""
PAUSE = 0.1
"""Seconds between two readings of such a PNE."""
SLOW = 1.5
"""Seconds that a slow device takes for each of its answers."""
PATIENCE = 60.0
GATEWAYS = ("home", "next-door")
"""The honest ones: the one whose PAN is attacked, and the one that is left alone."""
EVIL = "evil"
"""A gateway that carries on whatever its devices do."""


class Addresses:
    """Gives each honest party an address of its own, and binds its sockets to it."""

    def __init__(self) -> None:
        self.lent = asyncio.Lock()
        """Is held while the sockets of one party are bound: what gives them their address is there for all."""
        self._free = (f"127.3.{n // 250}.{n % 250 + 1}" for n in itertools.count())
        self._own = ""

    def take(self) -> str:
        return next(self._free)

    @contextlib.contextmanager
    def of_gateway(self, source: str) -> Any:
        """Connections that begin inside come from *source*."""
        loop = asyncio.get_running_loop()
        connect = loop.sock_connect

        def bound(sock: socket.socket, address: Any) -> Any:
            sock.bind((source, 0))
            return connect(sock, address)

        loop.sock_connect = bound  # type: ignore[method-assign]
        try:
            yield
        finally:
            loop.sock_connect = connect  # type: ignore[method-assign]


class Site:
    """The processes and the honest parties.

    Attributes:
        readings: by gateway, when each reading was sent and the seconds until it was acknowledged.
        keys: of all that is provisioned.
    """

    def __init__(self, folder: Path, more: tuple[str, ...] = (), established: int = ESTABLISHED) -> None:
        self.parties = Parties(folder, fresh=True)
        self.folder = folder
        self.pans = {name: ("127.0.0.1", free_port(socket.SOCK_DGRAM)) for name in (*GATEWAYS, EVIL)}
        self.uplink = ("127.0.0.1", self.parties.server_port)
        self.processes: dict[str, Process] = {}
        self.keys: dict[str, Secret] = {}
        self.readings: dict[str, list[tuple[float, float]]] = {name: [] for name in GATEWAYS}
        self.addresses = Addresses()
        self._more = more
        self._established = established
        self._senders: list[asyncio.Task[None]] = []
        self._pnes: list[Pne] = []

    async def open(self, newcomers: int) -> None:
        """Start all, with *newcomers* devices and gateways provisioned that are not started yet."""
        await asyncio.to_thread(self._prepare)
        await self._provision(newcomers)
        await asyncio.to_thread(self._start)
        for name in GATEWAYS:
            for number in range(self._established):
                pne = await self.device(f"steady-{name}-{number}", name, patience=PATIENCE)
                self._pnes.append(pne)
                self._senders.append(asyncio.create_task(self._sends(pne, self.readings[name])))

    def _prepare(self) -> None:
        data = ("--data", self.parties.path("server"))
        self.parties.prepare("server", "init", *data, "--id", SERVER)
        for name in (*GATEWAYS, EVIL):
            self.parties.prepare("gateway", "add", name, *data, "--out", self.parties.path(f"{name}.key"))

    async def _provision(self, newcomers: int) -> None:
        kek = Secret((self.folder / "server" / "kek").read_bytes())
        store = ServerStore.open(self.folder / "server" / "server.db")
        vault = FileVault(kek, random_bytes)
        provisioning = Provisioning(SERVER, store, vault, CLOCK, random_bytes, NoSessions())
        names = [f"steady-{name}-{number}" for name in GATEWAYS for number in range(self._established)]
        names += ["mallory", *(f"new-{number}" for number in range(newcomers))]
        for name in names:
            self.keys[name] = (await provisioning.add(OPERATOR, Kind.PNE, name, None, "")).eukey
        for name in ("evil-2", *(f"gw-{number}" for number in range(newcomers))):
            self.keys[name] = (await provisioning.add(OPERATOR, Kind.GATEWAY, name, None, "")).eukey
        await store.close()

    def _start(self) -> None:
        self.processes["server"] = self.parties.start(
            *("server", "run", "--data", self.parties.path("server")),
            *("--listen", f"127.0.0.1:{self.uplink[1]}", *self._more),
        )
        self.processes["server"].wait_line("listening at")
        for name in (*GATEWAYS, EVIL):
            self.processes[name] = self.parties.start(
                *("gateway", "run", "--key", self.parties.path(f"{name}.key")),
                *("--server", f"127.0.0.1:{self.uplink[1]}", "--pan", f"127.0.0.1:{self.pans[name][1]}"),
                *("--data", self.parties.path(name), "--no-announce"),
            )
            self.processes[name].wait_line(f"{name} at")

    async def close(self) -> None:
        """End all."""
        for sender in self._senders:
            sender.cancel()
        await asyncio.gather(*self._senders, return_exceptions=True)
        for pne in self._pnes:
            await pne.close()
        await asyncio.to_thread(self.parties.close)

    async def _sends(self, pne: Pne, into: list[tuple[float, float]]) -> None:
        while True:
            begun = time.monotonic()
            with contextlib.suppress(CpnsError, TimeoutError):
                await pne.send(pne.next_reading({"t": begun}))
                into.append((begun, time.monotonic() - begun))
            await asyncio.sleep(max(0.0, begun + PAUSE - time.monotonic()))

    async def device(self, name: str, gateway: str, *, slow: bool = False, patience: float = PATIENCE) -> Pne:
        """Return a PNE that has set up behind *gateway*, from an address of its own.

        Raises:
            TimeoutError: it did not within *patience* seconds.
        """
        config = PneConfig(EntityId(name), SERVER, self.keys[name], Where((self.pans[gateway],)), suite=2)
        pne = Pne(config, CLOCK, random_bytes, Inbox(lambda text: text))
        if slow:
            _slow_down(pne)
        own = self.addresses.take()
        async with self.addresses.lent:
            with patch.object(pne_app, "any_address", Mock(return_value=own)):
                await pne.start()
        running = asyncio.create_task(pne.run())
        closing = pne.close

        async def close() -> None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await closing()

        pne.close = close  # type: ignore[method-assign]
        try:
            async with asyncio.timeout(patience):
                await pne.wait_established()
        except TimeoutError:
            await pne.close()
            raise
        return pne

    async def gateway(self, name: str, patience: float = PATIENCE) -> None:
        """Connect a new PN GW from an address of its own, and end it again.

        Raises:
            CpnsError: it could not.
        """
        config = GatewayConfig(EntityId(name), SERVER, *self.uplink, pans=(pan_config(),), announce=False)
        gateway = Gateway(
            *(config, EukeyClaim(config, self.keys[name], random_bytes), None),
            *(FileVault(self.keys[name], random_bytes), CLOCK, random_bytes),
        )
        with self.addresses.of_gateway(self.addresses.take()):
            await gateway.start()
            try:
                await gateway.uplink.wait(patience)
            finally:
                await gateway.close()

    def memory(self) -> dict[str, int]:
        """Return the bytes that server and gateway A hold in memory (RSS)."""
        return {name: psutil.Process(pid).memory_info().rss for name, pid in self._attacked()}

    def cpu(self) -> dict[str, float]:
        """Return the seconds that server and gateway A have run."""
        return {name: cpu_ns(pid) / 1e9 for name, pid in self._attacked()}

    def _attacked(self) -> list[tuple[str, int]]:
        return [(name, self.processes[name].process.pid) for name in ("server", GATEWAYS[0])]


def _slow_down(pne: Pne) -> None:
    """Let *pne* take its time for each answer, as a small processor does."""
    handler = pne._endpoint._handler

    async def handle(inbound: Any) -> Any:
        await asyncio.sleep(SLOW)
        return await handler(inbound)

    pne._endpoint._handler = handle


@contextlib.asynccontextmanager
async def besieged(
    folder: Path, newcomers: int, more: tuple[str, ...] = (), established: int = ESTABLISHED
) -> AsyncIterator[Site]:
    """A site in *folder*, closed in the end."""
    site = Site(folder, more, established)
    try:
        await site.open(newcomers)
        yield site
    finally:
        await site.close()


async def timed(what: Callable[[], Any]) -> float | None:
    """Return the seconds that *what* took, or None where it did not come about."""
    begun = time.monotonic()
    try:
        await what()
    except (CpnsError, TimeoutError):
        return None
    return time.monotonic() - begun
