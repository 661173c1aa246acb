"""A small world in one process: server, gateways and PNEs as separate objects on real sockets."""

import asyncio
import contextlib
import dataclasses
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind, Outcome
from cpns.gateway.app import Gateway
from cpns.gateway.claim import EukeyClaim
from cpns.gateway.config import GatewayConfig, PanConfig
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig, Where
from cpns.pne.group_messages import GroupText
from cpns.pne.groups import Asked
from cpns.pne.inbox import Inbox
from cpns.ports import Randomness
from cpns.ports.cluster import Bus
from cpns.protocol.pne_auth.pne import NotLetIn
from cpns.server.app import Server
from cpns.server.config import ServerConfig
from cpns.service.provisioning import Provisioning
from cpns.service.system import StoreClock, SystemClock, random_bytes
from cpns.store.gateway_store import GatewayStore
from cpns.store.server_store import ServerStore
from cpns.store.vault import FileVault
from cpns.transport.watch import Passed
from cpns.wire import application
from cpns.wire.messages import Invitation
from cpns.wire.pn_messages import PnChangeNotify
from cpns.wire.sg_messages import SgChangeNotify
from tests.support.parties import free_port

SERVER = EntityId("server.example")
CLOCK = StoreClock(SystemClock())


def push_of(text: str) -> bytes:
    """Return the payload of a push of *text*."""
    return application.encode_push(application.Push(random_bytes(application.PUSH_ID_BYTES), text))


async def until(holds: Callable[[], Any], seconds: float = 40.0) -> Any:
    """Return what *holds* returns as soon as it is true; fail when it is not within *seconds*."""
    async with asyncio.timeout(seconds):
        while not (value := holds()):
            await asyncio.sleep(0.01)
    return value


FAST: Final[dict[str, Any]] = {"timer": 4.0, "request_timeout": 3.0, "presence": 0.5}
"""Settings of a PNE that says often that it is there. Its other times are for a busy machine: who only waits for what
comes does not wait for them."""


def pan_config(host: str = "127.0.0.1", *, secure: bool = False) -> PanConfig:
    """Return a PAN at a port that its gateway has again after a restart."""
    return PanConfig(host, free_port(socket.SOCK_DGRAM), secure)


class World:
    """Provisions and starts parties, stops and restarts them, and closes them all in the end.

    Args:
        folder: for their files.
        place: of the store; a file in *folder* by default.
    """

    def __init__(self, folder: Path, place: Path | str | None = None) -> None:
        self.folder = folder
        self.place = place or folder / "server.db"
        self.cluster: Bus | None = None
        self.clock = CLOCK
        self.passed: list[Passed] = []
        self.keys: dict[str, Secret] = {}
        self.inboxes: dict[str, list[str]] = {}
        self.changes: dict[str, list[PnChangeNotify]] = {}
        self.invited: dict[str, list[Invitation]] = {}
        self.asked: dict[str, list[Asked]] = {}
        self.group_changes: dict[str, list[SgChangeNotify]] = {}
        self.said: dict[str, list[GroupText]] = {}
        self.not_let_in: dict[str, list[NotLetIn]] = {}
        self.accepting: set[str] = set()
        self.may_own: set[str] = set()
        self.gateways: list[Gateway] = []
        self.pnes: list[Pne] = []
        self.kek = Secret(random_bytes(32))
        self._port = free_port(socket.SOCK_STREAM)
        self._closers: list[tuple[object, Any]] = []
        self._running: dict[int, asyncio.Task[None]] = {}

    async def start_server(self, **options: Any) -> Server:
        """Start the server; after `stop`, again on the same store and port."""
        self.vault = FileVault(self.kek, random_bytes)
        self.store = ServerStore.open(self.place)
        config = ServerConfig(SERVER, self.folder, **{"port": self._port, **options})
        self.server = Server(config, self.store, self.vault, self.clock, random_bytes, self.passed.append, self.cluster)
        self._closers.append((self.server, self.store.close))
        self._closers.append((self.server, self.server.close))
        self.address = await self.server.start()
        self.provisioning = Provisioning(SERVER, self.store, self.vault, self.clock, random_bytes, self.server)
        return self.server

    def share(self, other: "World") -> None:
        """Be another process of the same server."""
        self.kek, self.keys = other.kek, other.keys
        self.said, self.inboxes, self.accepting = other.said, other.inboxes, other.accepting
        self.group_changes, self.changes = other.group_changes, other.changes

    async def provision(self, kind: Kind, name: str, via: str | None = None, *, may_own: bool = False) -> Secret:
        may_own = may_own or name in self.may_own
        credential = await self.provisioning.add(
            OPERATOR, kind, name, via, "", may_own=may_own, allow_unknown_gateway=True
        )
        self.keys[name] = credential.eukey
        return credential.eukey

    async def key(self, kind: Kind, name: str) -> Secret:
        return self.keys[name] if name in self.keys else await self.provision(kind, name)

    async def gateway_config(self, name: str, *, secure: bool = False, **options: Any) -> GatewayConfig:
        await self.key(Kind.GATEWAY, name)
        config = GatewayConfig(
            EntityId(name),
            SERVER,
            *self.address,
            pans=(pan_config(secure=secure),),
            announce=False,
            suite=1,
        )
        return dataclasses.replace(config, **options)

    async def start_gateway(
        self,
        name: str = "gw-1",
        *,
        secure: bool = False,
        kept: bool = False,
        kind: type[Gateway] = Gateway,
        wait: bool = True,
        random: Randomness = random_bytes,
        **options: Any,
    ) -> Any:
        """Start a gateway; *kept*: with a store of its own, which is there again after `stop`."""
        config = await self.gateway_config(name, secure=secure, **options)
        store = GatewayStore.open(self.folder / f"{name}.db") if kept else None
        vault = FileVault(self.keys[name], random_bytes)
        claim = EukeyClaim(config, self.keys[name], random)
        gateway = kind(config, claim, store, vault, CLOCK, random, self.passed.append)
        if store is not None:
            self._closers.append((gateway, store.close))
        self._closers.append((gateway, gateway.close))
        self.gateways.append(gateway)
        await gateway.start()
        if wait:
            await gateway.uplink.wait(40)
        return gateway

    def pan(self, gateway: Gateway, index: int = 0) -> tuple[str, int]:
        return address_of(gateway.pans[index].endpoint)

    async def pne_config(self, name: str, gateway: tuple[str, int], **options: Any) -> PneConfig:
        key = await self.key(Kind.PNE, name)
        of_where = {one: options.pop(one) for one in ("gateways", "gateway_id", "pan_secure") if one in options}
        config = PneConfig(EntityId(name), SERVER, key, Where(**{"gateways": (gateway,), **of_where}), suite=1)
        return dataclasses.replace(config, **options)

    async def make_pne(
        self, name: str, gateway: Gateway | tuple[str, int], *, random: Randomness = random_bytes, **options: Any
    ) -> Pne:
        """Return a PNE on its socket that has not begun to join."""
        where = self.pan(gateway) if isinstance(gateway, Gateway) else gateway
        config = await self.pne_config(name, where, **options)
        got = self.inboxes.setdefault(name, [])

        def inbox(text: str) -> str:
            got.append(text)
            return f"{name} got {text}"

        async def consent(asked: Invitation | Asked) -> bool:
            if isinstance(asked, Invitation):
                self.invited.setdefault(name, []).append(asked)
            else:
                self.asked.setdefault(name, []).append(asked)
            return name in self.accepting

        changes = self.changes.setdefault(name, [])
        in_groups = self.group_changes.setdefault(name, [])
        said = self.said.setdefault(name, [])

        def changed(notice: PnChangeNotify | SgChangeNotify | GroupText) -> None:
            if isinstance(notice, GroupText):
                said.append(notice)
            elif isinstance(notice, SgChangeNotify):
                in_groups.append(notice)
            else:
                changes.append(notice)

        refusals = self.not_let_in.setdefault(name, [])
        how = (config, CLOCK, random, Inbox(inbox), self.passed.append)
        pne = Pne(*how, on_change=changed, consent=consent, on_not_let_in=refusals.append)
        await pne.start()
        self._closers.append((pne, pne.close))
        self.pnes.append(pne)
        return pne

    kinds = Kind

    def now(self) -> float:
        """Return the parties' monotonic time."""
        return CLOCK.monotonic()

    def pause(self, pne: Pne) -> None:
        """Let *pne* keep its sessions, and do nothing about their loss."""
        self._running.pop(id(pne)).cancel()

    def run(self, pne: Pne) -> None:
        """Let *pne* join and stay joined."""
        self._running[id(pne)] = asyncio.create_task(pne.run())

    async def start_pne(self, name: str, gateway: Gateway | tuple[str, int], **options: Any) -> Pne:
        pne = await self.make_pne(name, gateway, **options)
        self.run(pne)
        return pne

    async def joined_pne(self, name: str, gateway: Gateway | tuple[str, int], **options: Any) -> Pne:
        """Return a PNE whose sessions stand."""
        pne = await self.start_pne(name, gateway, **options)
        async with asyncio.timeout(40):
            await pne.wait_established()
        return pne

    async def stop(self, party: object) -> None:
        """Stop one party as a process ends: its sockets and its store are closed, its sessions are gone."""
        task = self._running.pop(id(party), None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        mine = [close for owner, close in self._closers if owner is party]
        self._closers = [(owner, close) for owner, close in self._closers if owner is not party]
        for close in reversed(mine):
            await close()

    def closes(self, party: Any) -> None:
        """Close *party* with the world."""
        self._closers.append((party, party.close))

    def closes_with(self, party: Any, close: Any) -> None:
        """Call *close* after *party* is closed."""
        self._closers.append((party, close))

    async def members_of(self, gateway: str) -> list[str]:
        """Return the PNEs in the PNs that a gateway serves."""
        return [
            member.pne_id
            for pn in await self.store.networks()
            for member in pn.members
            if pn.network.gateway_id == gateway
        ]

    async def audit(self, name: str, event: str = "refused") -> list[Outcome]:
        """Return the rows of one entity and event in the audit log, newest first, with what waits to be written."""
        await self.server.refusals.flush()
        return [row for row in await self.store.audit(EntityId(name), 100) if row.event == event]

    async def reasons(self, name: str) -> list[str]:
        """Return why one entity was refused, each time, newest first."""
        return [row.reason for row in await self.audit(name) for _ in range(row.times)]

    async def refusal(self, name: str, seconds: float = 40.0) -> Outcome:
        """Return the newest refusal of one entity, as soon as there is one."""
        async with asyncio.timeout(seconds):
            while not (rows := await self.audit(name)):
                await asyncio.sleep(0.02)
        return rows[0]

    async def close(self) -> None:
        for owner in [owner for owner, _ in reversed(self._closers)]:
            await self.stop(owner)


def address_of(endpoint: Any) -> tuple[str, int]:
    """Return host and port of an endpoint's UDP socket."""
    host, _, port = endpoint._pan.hostinfo.rpartition(":")
    return host, int(port)


@contextlib.asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """A world in *folder*, closed in the end."""
    one = World(folder)
    try:
        yield one
    finally:
        await one.close()
