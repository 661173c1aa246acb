"""A reconnect storm: the server ends without a word and comes again; all parties are objects of this process.

The uplinks run through a tap. It is closed while the server is away, so that PN GWs find nobody at its port.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.credential import DeviceCredential
from cpns.domain.inventory import Kind
from cpns.gateway.app import Gateway
from cpns.gateway.claim import EukeyClaim
from cpns.gateway.config import GatewayConfig
from cpns.ids import EntityId
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig, Where
from cpns.pne.inbox import Inbox
from cpns.service.system import random_bytes
from cpns.store.vault import FileVault
from cpns.transport.watch import Passed
from tests.support.coap import kid_of
from tests.support.tap import TcpTap
from tests.support.world import CLOCK, SERVER, World, address_of, pan_config, until

SUITE = 2
"""What PN GWs and PNEs use unless told otherwise; with ephemeral keys, so it costs the server more than suite 1."""
QUIET = 600.0
"""Seconds between signs of life: within the test no PNE and no PN GW gives any, and nobody notices by itself."""
PATIENCE = 200.0


@dataclass(frozen=True, slots=True)
class Back:
    """What it took until all PNEs had a session again.

    Attributes:
        seconds: from the moment that the server could be reached, until the last PNE was told that it is back.
        messages: of CPNS on the uplinks, both ways, as the tap saw them.
        relayed: what PNEs and server sent each other through the uplinks, both ways.
        sent: what the PN GWs say that they sent the server, requests and answers, by name.
    """

    gateways: int
    pnes: int
    seconds: float
    messages: int
    relayed: int
    sent: Counter[str]

    @property
    def setups(self) -> int:
        return self.sent["SETUP Request"]

    @property
    def per_gateway(self) -> float:
        return self.messages / self.gateways

    def __str__(self) -> str:
        return (
            f"{self.pnes} PNEs behind {self.gateways} gateways: all back {self.seconds:.1f} s after the server was up; "
            f"{self.messages} CPNS messages on the uplink ({self.per_gateway:.1f} per gateway), "
            f"{self.setups} SETUP Requests; {self.relayed} relayed, as each PNE says that it is back"
        )


class Storm:
    """One server, and *gateways* PN GWs with *each* PNEs."""

    def __init__(self, folder: Path, gateways: int, each: int) -> None:
        self.gateways: list[Gateway] = []
        self.pnes: list[Pne] = []
        self.passed: list[Passed] = []
        self._each = each
        self._gateway_names = [f"gw-{number}" for number in range(gateways)]
        self._pne_names = [f"pne-{number}" for number in range(gateways * each)]
        self._keys: dict[str, Secret] = {}
        self._world = World(folder)
        self._runs: list[asyncio.Task[None]] = []
        self._here: set[str] = set()
        self._all_here = asyncio.Event()

    # before

    async def begin(self) -> None:
        """Let everybody have all sessions."""
        await self._world.start_server()
        self._tap = TcpTap(self._world.address)
        self._world.closes(self._tap)
        await self._tap.start()
        await self._provision()
        for name in self._gateway_names:
            await self._start_gateway(name)
        for number, name in enumerate(self._pne_names):
            await self._start_pne(name, self.gateways[number // self._each])
        async with asyncio.timeout(PATIENCE):
            await self._all_here.wait()
        await self._settled()

    async def _provision(self) -> None:
        provisioning = self._world.provisioning
        credentials: list[DeviceCredential] = []
        for name in self._gateway_names:
            credentials.append(await provisioning.add(OPERATOR, Kind.GATEWAY, name, None, ""))
        report = await provisioning.import_csv(OPERATOR, "\n".join(["id", *self._pne_names]), dry_run=False)
        credentials.extend(one.credential for one in report.made)
        self._keys = {one.entity_id: one.eukey for one in credentials}

    async def _start_gateway(self, name: str) -> None:
        config = GatewayConfig(
            EntityId(name),
            SERVER,
            self._tap.host,
            self._tap.port,
            pans=(pan_config(),),
            announce=False,
            suite=SUITE,
            keepalive=QUIET,
        )
        vault = FileVault(Secret(random_bytes(32)), random_bytes)
        claim = EukeyClaim(config, self._keys[EntityId(name)], random_bytes)
        gateway = Gateway(config, claim, None, vault, CLOCK, random_bytes, self.passed.append)
        self.gateways.append(gateway)
        await gateway.start()
        await gateway.uplink.wait(40)

    async def _start_pne(self, name: str, gateway: Gateway) -> None:
        config = PneConfig(
            EntityId(name),
            SERVER,
            self._keys[name],
            Where((address_of(gateway.pans[0].endpoint),)),
            suite=SUITE,
            presence=QUIET,
        )

        def established(*_: str) -> None:
            self._here.add(name)
            if len(self._here) == len(self._pne_names):
                self._all_here.set()

        pne = Pne(config, CLOCK, random_bytes, Inbox(lambda text: text), on_established=established)
        self.pnes.append(pne)
        await pne.start()
        self._runs.append(asyncio.create_task(pne.run()))

    async def _settled(self) -> None:
        """Wait until the PN GWs have told the server and their PNEs all that they have to tell."""
        await until(lambda: not any(one.members.turned or one.networks._work._tasks for one in self.gateways), PATIENCE)

    # the storm

    async def strike(self) -> Back:
        """End the server, start it again, and return what it took until every PNE had a session again."""
        await self._tap.close()  # so that it takes no connection that leads nowhere
        await self._world.stop(self._world.server)
        await until(lambda: not any(one.uplink.standing for one in self.gateways))
        self._here.clear()
        self._all_here.clear()
        await self._world.start_server()
        self.passed.clear()
        self._tap.seen.clear()
        self._tap.raw.clear()
        await self._tap.start()
        up = CLOCK.monotonic()
        async with asyncio.timeout(PATIENCE):
            await self._all_here.wait()
        seconds = CLOCK.monotonic() - up
        await self._settled()

        def all_answered() -> bool:
            back = self._count(seconds)
            return back.messages == 2 * back.sent.total()

        with contextlib.suppress(TimeoutError):
            await until(all_answered)
        return self._count(seconds)

    def _count(self, seconds: float) -> Back:
        kids = {one.uplink.standing.session.peer_kid for one in self.gateways if one.uplink.standing is not None}
        relayed = 0
        for one in self._tap.seen:
            if one.message.code.is_request() and one.protected:
                from_gateway = one.up and kid_of(one.message.opt.oscore) in kids
                to_gateway = not one.up and one.message.opt.uri_host in self._gateway_names
                relayed += 0 if from_gateway or to_gateway else 2  # it and its answer
        messages = len(self._tap.seen) - relayed
        sent = Counter(one.what for one in self.passed if one.peer == SERVER)
        return Back(len(self.gateways), len(self.pnes), seconds, messages, relayed, sent)

    # after

    async def read(self) -> int:
        """Let every PNE send a reading, and return how many were committed when all were acknowledged."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(pne.send(pne.next_reading({"back": True})) for pne in self.pnes))
        return len(await self._world.store.readings(0, 10_000))

    async def close(self) -> None:
        for run in self._runs:
            run.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)
        for pne in self.pnes:
            await pne.close()
        for gateway in self.gateways:
            await gateway.close()
        await self._world.close()


@contextlib.asynccontextmanager
async def storm(folder: Path, gateways: int, each: int) -> AsyncIterator[Storm]:
    """A server, *gateways* PN GWs and *each* PNEs behind each of them, all with all sessions."""
    one = Storm(folder, gateways, each)
    try:
        await one.begin()
        yield one
    finally:
        await one.close()
