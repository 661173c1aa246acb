"""``cpns node run``."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cpns.cli import groups
from cpns.cli.control import Action, Control
from cpns.cli.events import Events
from cpns.cli.options import Output
from cpns.cli.readings import Readings
from cpns.cli.run import Signals, Trace, log_to_stderr, run, trace_to
from cpns.crypto.local_eukey import gateway_vault_key
from cpns.domain.cm import CmKey
from cpns.domain.credential import DeviceCredential
from cpns.errors import BadInput, Refused
from cpns.gateway.app import Gateway
from cpns.gateway.claim import CmClaim, EukeyClaim
from cpns.gateway.config import GatewayConfig, PanConfig
from cpns.ids import EntityId
from cpns.node.app import Node
from cpns.node.cm import Keys
from cpns.node.config import NodeConfig, Prefer
from cpns.node.modes import Rotate
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig
from cpns.pne.group_messages import GroupText
from cpns.pne.hooks import Becomes
from cpns.pne.inbox import Inbox
from cpns.service.system import SystemClock, random_bytes
from cpns.store.gateway_store import GatewayStore
from cpns.store.vault import FileVault
from cpns.wire.registry import Mode

MODES = {"pne": Mode.PNE, "gateway": Mode.PN_GW, "both": Mode.BOTH}
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Habits:
    """How a device behaves besides its settings.

    Attributes:
        gateway_key: the credential of its PN GW; None: it is a CM Device.
        gateway_of: makes the settings of its PN GW, given its ID.
        data: folder for what outlives a restart.
        source: ``host``, ``-`` for lines of JSON from stdin, or ``none``.
        interval: seconds between readings of this machine.
        control: socket for its commands.
        trace: file for a line for each message sent.
    """

    gateway_key: DeviceCredential | None
    gateway_of: Callable[[EntityId], GatewayConfig]
    data: Path | None
    source: str
    interval: float
    control: Path | None
    trace: Path | None


def gateway_maker(
    config: NodeConfig, pan: tuple[str, int], suite: int, keepalive: float
) -> Callable[[EntityId], GatewayConfig]:
    """Return what makes the settings of the PN GW of a device; over metered broadband it serves its own PNE alone."""
    metered = config.prefer is Prefer.METERED
    host, port = config.server
    return partial(
        GatewayConfig,
        server_id=config.pne.server_id,
        server_host=host,
        server_port=port,
        pans=(PanConfig(*(("127.0.0.1", 0) if metered else pan), secure=False),),
        suite=suite,
        announce=not metered,
        keepalive=keepalive,
        mode=Mode.BOTH,
    )


def run_node(config: NodeConfig, habits: Habits, output: Output) -> int:
    """Run the device of *config* until a signal, or until its source ends; return the exit code."""
    log_to_stderr()

    async def role(stop: Signals) -> int:
        store = None if habits.data is None else GatewayStore.open(habits.data / "node.db")
        try:
            return await _Run(config, habits, store, output, trace_to(habits.trace, stop)).until(stop)
        finally:
            if store is not None:
                await store.close()

    return run(role)


class _Run:
    def __init__(
        self, config: NodeConfig, habits: Habits, store: GatewayStore | None, output: Output, trace: Trace | None
    ) -> None:
        self._config = config
        self._habits = habits
        self._store = store
        self._events = Events(config.pne.pne_id, output)
        self._tell = self._events.tell
        self._watch = trace
        self._inbox = Inbox(self._events.received)
        self._texts = groups.Texts()
        self._readings = Readings(habits.source, habits.interval, self._events)
        self._keys = None
        if habits.gateway_key is None:
            self._keys = Keys(store, FileVault(self._vault_key(config.pne.pne_id), random_bytes))
        self._node = Node(config, self._pne, self._gateway, SystemClock(), self._keys, self._mode, self._key)

    def _vault_key(self, owner: EntityId) -> Any:  # noqa: ANN401  # a Secret
        own = self._habits.gateway_key
        return gateway_vault_key(self._config.pne.eukey if own is None else own.eukey, owner)

    def _pne(self, config: PneConfig, becomes: Becomes, rotate: Rotate) -> Pne:
        return Pne(
            *(config, SystemClock(), random_bytes, self._inbox, self._watch),
            on_established=self._events.established,
            on_not_let_in=self._events.not_let_in,
            on_change=self._said,
            becomes=becomes,
            rotate=rotate,
        )

    def _gateway(self, cm_device_id: EntityId | None) -> Gateway:
        own = self._habits.gateway_key
        gateway_id = cm_device_id if own is None else own.entity_id
        if gateway_id is None:
            raise BadInput("no_gateway_key", "It has no key for a gateway yet.")
        config = self._habits.gateway_of(gateway_id)
        claim: CmClaim | EukeyClaim
        if own is not None:
            claim = EukeyClaim(config, own.eukey, random_bytes)
        elif self._keys is not None:
            claim = CmClaim(config, self._keys, random_bytes)
        vault = FileVault(self._vault_key(gateway_id), random_bytes)
        return Gateway(config, claim, self._store, vault, SystemClock(), random_bytes, self._watch)

    async def until(self, stop: asyncio.Event) -> int:
        habits = self._habits
        actions: dict[str, Action] = {"mode": self._change, "rekey": self._rekey, "status": self._status}
        actions |= groups.of_pne(self._present, self._texts)
        door = None if habits.control is None else Control(habits.control, actions)
        try:
            await self._work(door, stop)
        finally:
            if door is not None:
                await door.close()
            await self._node.close()
        code = self._readings.end()
        await self._events.end()
        return code

    async def _work(self, door: Control | None, stop: asyncio.Event) -> None:
        await self._node.start()
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait()), asyncio.create_task(self._events.lost())]
        if self._readings.wanted:
            tasks.append(asyncio.create_task(self._send()))
        try:
            if door is not None:
                await door.start()
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()

    async def _send(self) -> None:
        async for body in self._readings.bodies():
            try:
                await self._node.send(body)
            except Refused as error:
                self._readings.refused(body, error)
                continue
            self._readings.acknowledged(body)

    # commands

    async def _change(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["to"] == AUTO:
            self._node.choose_by_itself()
        else:
            await self._node.command(MODES[given["to"]])
        return {"mode": given["to"]}

    async def _rekey(self, _: dict[str, Any]) -> dict[str, Any]:
        if self._keys is None or self._keys.newest is None:
            raise BadInput("no_cm_key", "It has no CM Device Key: it is none, or was not assigned one yet.")
        await self._node.rekey()
        return {"id": self._keys.newest.cm_device_id}

    async def _status(self, _: dict[str, Any]) -> dict[str, Any]:
        key = None if self._keys is None else self._keys.newest
        pne = self._node.pne
        joined = None if pne is None else pne.joined
        return {
            "device": self._config.pne.pne_id,
            "mode": next(name for name, known in MODES.items() if known is self._node.mode),
            "through": None if joined is None else joined.gateway_id,
            "pans": [] if self._node.gateway is None else self._node.gateway.bound,
            "cm_device": None if key is None else key.cm_device_id,
            "generation": None if key is None else key.generation,
            "waiting": self._node.waiting,
        }

    def _present(self) -> Pne:
        if self._node.pne is None:
            raise BadInput("no_pne", "It runs as a gateway alone: change its mode to pne or both.")
        return self._node.pne

    # events

    def _said(self, notice: object) -> None:
        if isinstance(notice, GroupText):
            self._events.keep(groups.line_of(notice), "group_text", **groups.as_printed(notice))
            self._texts.add(notice)

    def _mode(self, mode: Mode) -> None:
        name = next(name for name, known in MODES.items() if known is mode)
        bound = self._node.gateway.bound if self._node.gateway is not None else []
        where = f", its PAN at {', '.join(bound)}" if bound else ""
        self._tell(f"{self._config.pne.pne_id} runs as {name}{where}", "mode", mode=name, pans=bound)

    def _key(self, key: CmKey) -> None:
        device = key.cm_device_id
        line = f"{self._config.pne.pne_id} has the CM Device ID {device} and its key of generation {key.generation}"
        self._tell(line, "key", cm_device=device, generation=key.generation)
