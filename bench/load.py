"""The load: real PN GWs and PNEs of this process, on real sockets, against the server in processes of its own."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from bench import wire
from bench.cpu import cpu_ns
from bench.server_process import CLOCK, SERVER
from cpns.crypto.secret import Secret
from cpns.errors import NoAnswer
from cpns.gateway.app import Gateway
from cpns.gateway.claim import EukeyClaim
from cpns.gateway.config import GatewayConfig, PanConfig
from cpns.ids import EntityId
from cpns.loadgen.job import at_rest
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig, Where
from cpns.pne.inbox import Inbox
from cpns.pne.join import Wanted
from cpns.service.system import random_bytes
from cpns.store.vault import FileVault
from cpns.wire.application import Json
from tests.support.versions import HERE, Version

SETTLE = 0.01
"""Seconds between the last answer and the reading of the server's CPU time."""

ATTEMPTS = 3

SERVER_CPU = "server"
"""The role of the server's own processes in what CPU time is told."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """How PNEs come: *batch* at each of *gateways* PN GWs at once."""

    suite: int
    batch: int
    gateways: int

    @property
    def pnes(self) -> int:
        return self.batch * self.gateways

    @property
    def window(self) -> float:
        """Seconds for which a PN GW gathers: enough for this process to send what all its PNEs have to say."""
        return 0.02 + self.pnes * (0.0015 if self.suite == 1 else 0.003)


@dataclasses.dataclass(frozen=True, slots=True)
class Traffic:
    """Payload bytes and round trips: PAN for one PNE, uplink for one batch."""

    bytes_pan: float
    bytes_uplink: float
    round_trips_pan: float
    round_trips_uplink: float


@dataclasses.dataclass(frozen=True, slots=True)
class Exchanged:
    """Readings end to end, each acknowledged after its commit.

    Attributes:
        cpu_us: of one, by role as in `Load.pids`.
        bytes_uplink: of one.
    """

    readings: int
    cpu_us: dict[str, float]
    seconds: float
    latencies_ms: tuple[float, ...]
    bytes_uplink: float

    @property
    def server_cpu_us(self) -> float:
        return self.cpu_us[SERVER_CPU]


def reading(number: int) -> dict[str, Json]:
    """Return what a device sends."""
    return {"temperature": 21.5, "unit": "C", "n": number}


class Load:
    """The processes of one server, and the PN GWs of this process with their uplinks to them, in turn.

    Attributes:
        pids: whose CPU time is told, by role: the server's processes, and what else works for it.
    """

    def __init__(
        self, processes: Sequence[asyncio.subprocess.Process], ports: Sequence[int], keys: dict[str, str]
    ) -> None:
        self.pids = {SERVER_CPU: [process.pid for process in processes]}
        self.pan_wire, self.uplink_wire, self.gate = wire.install()
        self._processes = processes
        self._ports = ports
        self._keys = {EntityId(name): Secret(bytes.fromhex(key)) for name, key in keys.items()}
        self._fresh = iter([name for name in self._keys if name.startswith("pne-")])
        self.gateways: list[Gateway] = []
        self._addresses: list[tuple[str, int]] = []
        self._batches: list[int] = []
        self._rest_us: dict[str, float] = {}
        self.repeated_rounds = 0

    @property
    def own(self) -> set[int]:
        """All processes of the measurement, this one among them."""
        return {os.getpid(), *itertools.chain.from_iterable(self.pids.values())}

    async def open_gateways(self, count: int) -> None:
        for number in range(count):
            name = EntityId(f"gw-{number:05}")
            config = GatewayConfig(
                name,
                SERVER,
                "127.0.0.1",
                self._ports[number % len(self._ports)],
                pans=(PanConfig("127.0.0.1", 0, secure=False),),
                announce=False,
                suite=1,
                answer_timeout=20.0,
                setup_timeout=25.0,
                keepalive=3600.0,
            )
            vault = FileVault(Secret(random_bytes(32)), random_bytes)
            claim = EukeyClaim(config, self._keys[name], random_bytes)
            gateway = Gateway(config, claim, None, vault, CLOCK, random_bytes)
            (bound,) = await gateway.start()
            await gateway.uplink.wait(5)
            self._note_batches(gateway)
            host, _, port = bound.rpartition(":")
            self.gateways.append(gateway)
            self._addresses.append((host, int(port)))

    def _note_batches(self, gateway: Gateway) -> None:
        setup = gateway.pans[0].setup
        establish = setup._establish

        async def noted(pn_id, batch):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            self._batches.append(len(batch.askers))
            return await establish(pn_id, batch)

        setup._establish = noted  # type: ignore[method-assign]

    def _pne(self, address: tuple[str, int], suite: int) -> Pne:
        name = next(self._fresh)
        config = PneConfig(name, SERVER, self._keys[name], Where((address,)), suite=suite, timer=30.0, presence=3600.0)
        return Pne(config, CLOCK, random_bytes, Inbox(lambda text: text))

    def _look(self) -> tuple[float, dict[str, int]]:
        """Return the time, and the CPU nanoseconds so far by role."""
        return time.perf_counter(), {role: sum(map(cpu_ns, pids)) for role, pids in self.pids.items()}

    def _spent_us(self, before: tuple[float, dict[str, int]], count: float) -> dict[str, float]:
        """Return CPU microseconds since *before* for each of *count*, by role, without those of `rest`."""
        (start, then), (end, now) = before, self._look()
        rest = {role: self._rest_us.get(role, 0.0) * (end - start) for role in now}
        return {role: max(0.0, (now[role] - then[role]) / 1000 - rest[role]) / count for role in now}

    # establishment

    async def establish(self, shape: Shape) -> dict[str, float]:
        """Run SETUP for ``shape.pnes`` PNEs that the server never saw; return CPU microseconds for each, by role.

        A PNE counts when it has verified hash_server, and a round when every batch had the size asked for; else it is
        done again.

        Raises:
            WrongBatches: no round in `ATTEMPTS` counted.
        """
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._round(shape)
            except WrongBatches:
                self.repeated_rounds += 1
        return await self._round(shape)

    async def _round(self, shape: Shape) -> dict[str, float]:
        pnes = await self._gathered(shape)
        try:
            links = [await pne._endpoint.link_to(*address) for pne, address in pnes]
            self._batches.clear()
            self.gate.level = shape.gateways
            before = self._look()
            joined = await asyncio.gather(
                *(pne._join.setup(link, Wanted()) for (pne, _), link in zip(pnes, links, strict=True)),
                return_exceptions=True,
            )
            await asyncio.sleep(SETTLE)
            spent = self._spent_us(before, shape.pnes)
        finally:
            self.gate.level = 1
            for pne, _ in pnes:
                await pne.close()
            # They vanish without a word. Their PN GW would tell them of changes, and the next may get their UDP port.
            for gateway in self.gateways[: shape.gateways]:
                await gateway.members.expel([pne.config.pne_id for pne, _ in pnes])
        for item in joined:
            if isinstance(item, NoAnswer):
                raise WrongBatches("a PNE had to wait for too long") from item
            if isinstance(item, BaseException):
                raise item
            if item[0].local_eukey is None:
                raise AssertionError("a PNE did not join with a LocalEUKey")
        if self._batches != [shape.batch] * shape.gateways:
            raise WrongBatches(f"wanted {shape.gateways} batches of {shape.batch}, saw {self._batches}")
        return spent

    async def _gathered(self, shape: Shape) -> list[tuple[Pne, tuple[str, int]]]:
        pnes = []
        for gateway, address in list(zip(self.gateways, self._addresses, strict=True))[: shape.gateways]:
            setup = gateway.pans[0].setup
            setup._config = dataclasses.replace(setup._config, batch_window=shape.window)
            for _ in range(shape.batch):
                pne = self._pne(address, shape.suite)
                await pne.start()
                pnes.append((pne, address))
        return pnes

    async def traffic(self, suite: int, batch: int) -> Traffic:
        """Record what one batch sends; not timed."""
        with self.pan_wire.record() as pan, self.uplink_wire.record() as uplink:
            await self._round(Shape(suite, batch, 1))
        (batch_passed,) = uplink.values()
        own = {gateway.pans[0].endpoint._pan for gateway in self.gateways}
        each = [passed for socket, passed in pan.items() if socket not in own]
        return Traffic(
            sum(map(wire.total, each)) / batch,
            wire.total(batch_passed) / batch,
            statistics.median(map(wire.round_trips, each)),
            wire.round_trips(batch_passed),
        )

    # readings

    @contextlib.asynccontextmanager
    async def _established(self, count: int, gateways: int) -> AsyncIterator[list[Pne]]:
        pnes = [self._pne(self._addresses[number % gateways], 1) for number in range(count)]
        runs = []
        try:
            for pne in pnes:
                await pne.start()
                runs.append(asyncio.create_task(pne.run()))
            await asyncio.gather(*(pne.wait_established() for pne in pnes))
            await asyncio.sleep(0.2)
            yield pnes
            # Who vanishes without a word is told of changes for a while, and the next PNE may get its UDP port.
            await asyncio.gather(*(pne.leave() for pne in pnes))
        finally:
            for run in runs:
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
            for pne in pnes:
                await pne.close()

    async def exchange(self, in_flight: int, readings: int, gateways: int = 4) -> Exchanged:
        """Let *in_flight* PNEs each send one reading after the other."""
        latencies: list[float] = []

        async def device(pne: Pne) -> None:
            for number in range(readings // in_flight):
                start = time.perf_counter()
                await pne.send(pne.next_reading(reading(number)))
                latencies.append((time.perf_counter() - start) * 1000)

        async with self._established(in_flight, gateways) as pnes:
            at_rest()  # a look through this process and all its parties would be in their latencies
            with self.uplink_wire.record() as passed:
                before, start = self._look(), time.perf_counter()
                await asyncio.gather(*map(device, pnes))
                seconds = time.perf_counter() - start
                await asyncio.sleep(SETTLE)
                spent = self._spent_us(before, len(latencies))
                size = sum(map(wire.total, passed.values())) / len(latencies)
        return Exchanged(len(latencies), spent, seconds, tuple(latencies), size)

    # rest

    async def rest(self, seconds: float) -> dict[str, float]:
        """Return CPU microseconds of a second in which nobody asks for anything, by role.

        From now on as much is taken off what is told of anything else: how long a burst lasts is this process's doing.
        """
        self._rest_us.clear()
        before = self._look()
        await asyncio.sleep(seconds)
        self._rest_us.update(self._spent_us(before, seconds))
        return dict(self._rest_us)

    # profile

    @contextlib.contextmanager
    def profiled(self) -> Iterator[None]:
        """Have the server, one process, profile itself meanwhile."""
        (process,) = self._processes
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
        try:
            yield
        finally:
            time.sleep(0.05)
            process.send_signal(signal.SIGUSR2)

    async def close(self) -> None:
        for gateway in self.gateways:
            await gateway.close()
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        await asyncio.gather(*(process.wait() for process in self._processes))


class WrongBatches(Exception):
    """The PN GWs did not gather what the shape wants, or others kept the machine too busy: the round says nothing."""


@contextlib.asynccontextmanager
async def load(
    folder: Path, gateways: int, pnes: int, processes: int = 1, *, version: Version = HERE, **more: object
) -> AsyncIterator[Load]:
    """A server on *folder* with *pnes* devices to use up, and the uplinks of *gateways* PN GWs.

    Args:
        folder: for its files.
        gateways: how many.
        pnes: how many.
        processes: of the server; more than one need a store and a NATS that they share.
        version: of the server.
        more: options of `bench.server_process`.
    """
    arguments = [str(folder), str(gateways), str(pnes), *(f"--{name}={value}" for name, value in more.items())]
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(version.source)}
    started, ready = [], []
    one = None
    try:
        for _ in range(processes):  # one after the other, as the first provisions
            process = await asyncio.create_subprocess_exec(
                *(str(version.python), "-m", "bench.server_process", *arguments),
                stdin=pipe,
                stdout=pipe,
                limit=2**26,
                cwd=version.source.parent,  # that has its bench
                env=environment,
            )
            started.append(process)
            ready.append(json.loads(await process.stdout.readline() if process.stdout is not None else b""))
        one = Load(started, [each["port"] for each in ready], ready[0]["keys"])
        await one.open_gateways(gateways)
        yield one
    finally:
        if one is not None:
            await one.close()
        for process in started:
            if process.returncode is None:
                process.kill()
                await process.wait()
