"""A small world in one process: server, gateways and PNEs as separate objects on real sockets."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cpns.crypto.secret import Secret
from cpns.domain.inventory import Kind
from cpns.gateway.app import Gateway
from cpns.gateway.config import GatewayConfig, PanConfig
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig
from cpns.server.app import Server
from cpns.server.config import ServerConfig
from cpns.service.provisioning import Provisioning
from cpns.service.system import SystemClock, random_bytes
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault
from cpns.transport.endpoint import Passed

SERVER = EntityId("server.example")
CLOCK = SystemClock()


class World:
    """Provisions and starts parties, and closes them all in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passed: list[Passed] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._closers: list[Any] = []
        self.keys: dict[str, Secret] = {}

    async def start_server(self, **options: Any) -> Server:
        self.vault = FileVault(Secret(random_bytes(32)), random_bytes)
        self.store = ServerStore.open(self.folder / "server.db")
        config = ServerConfig(SERVER, self.folder, port=0, **options)
        self.server = Server(config, self.store, self.vault, CLOCK, random_bytes, self.passed.append)
        self.address = await self.server.start()
        self._closers += [self.server.close, self.store.close]
        self.provisioning = Provisioning(SERVER, self.store, self.vault, CLOCK, random_bytes, self.server.end)
        return self.server

    async def provision(self, kind: Kind, name: str, via: str | None = None) -> Secret:
        credential = await self.provisioning.add(kind, name, via, "")
        self.keys[name] = credential.eukey
        return credential.eukey

    async def gateway_config(self, name: str, *, secure: bool = False, **options: Any) -> GatewayConfig:
        key = self.keys[name] if name in self.keys else await self.provision(Kind.GATEWAY, name)
        config = GatewayConfig(
            EntityId(name),
            SERVER,
            key,
            *self.address,
            pans=(PanConfig("127.0.0.1", 0, secure),),
            announce=False,
            suite=1,
        )
        return dataclasses.replace(config, **options)

    async def start_gateway(self, name: str = "gw-1", *, secure: bool = False, **options: Any) -> Gateway:
        config = await self.gateway_config(name, secure=secure, **options)
        gateway = Gateway(
            config, None, FileVault(Secret(random_bytes(32)), random_bytes), CLOCK, random_bytes, self.passed.append
        )
        self.pans = await gateway.start()
        self._closers.append(gateway.close)
        await gateway.uplink.wait(5)
        return gateway

    def pan(self, gateway: Gateway, index: int = 0) -> tuple[str, int]:
        host, _, port = gateway.pans[index].endpoint._pan.hostinfo.rpartition(":")  # type: ignore[union-attr]
        return host, int(port)

    async def pne_config(self, name: str, gateway: tuple[str, int], **options: Any) -> PneConfig:
        key = self.keys[name] if name in self.keys else await self.provision(Kind.PNE, name)
        config = PneConfig(EntityId(name), SERVER, key, gateway, suite=1)
        return dataclasses.replace(config, **options)

    async def start_pne(self, name: str, gateway: Gateway | tuple[str, int], **options: Any) -> Pne:
        where = self.pan(gateway) if isinstance(gateway, Gateway) else gateway
        config = await self.pne_config(name, where, **options)
        pne = Pne(config, CLOCK, random_bytes, lambda text: f"{name} got {text}", self.passed.append)
        await pne.start()
        self._closers.append(pne.close)
        self.tasks.append(asyncio.create_task(pne.run()))
        return pne

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for close in reversed(self._closers):
            await close()


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """A world in *folder*, closed in the end."""
    one = World(folder)
    try:
        yield one
    finally:
        await one.close()
