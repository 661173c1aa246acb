"""``cpns node run``."""

import asyncio
import json
from pathlib import Path
from typing import Any

from cpns.cli.control import Control
from cpns.cli.options import Output
from cpns.cli.output import plain
from cpns.cli.run import log_to_stderr, run
from cpns.crypto.local_eukey import gateway_vault_key
from cpns.gateway.app import Gateway
from cpns.ids import EntityId, PnId
from cpns.node.app import Node
from cpns.node.config import NodeConfig
from cpns.pne import sources
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig
from cpns.service.system import SystemClock, random_bytes
from cpns.store.vault import FileVault
from cpns.wire.registry import Mode

MODES = {"pne": Mode.PNE, "gateway": Mode.PN_GW, "both": Mode.BOTH}


def run_node(config: NodeConfig, interval: float, control: Path | None, output: Output) -> int:
    """Run the device of *config* until a signal; return the exit code."""
    log_to_stderr()

    async def role(stop: asyncio.Event) -> int:
        return await _Run(config, output).until(stop, interval, control)

    return run(role)


class _Run:
    def __init__(self, config: NodeConfig, output: Output) -> None:
        self._config = config
        self._json = output is Output.JSON
        self._node = Node(config, self._pne, self._gateway, self._mode)

    def _pne(self, config: PneConfig) -> Pne:
        return Pne(
            *(config, SystemClock(), random_bytes, lambda text: "received"),
            on_established=self._established,
            becomes=self._node.becomes,
        )

    def _gateway(self) -> Gateway:
        config = self._config.gateway
        vault = FileVault(gateway_vault_key(config.eukey, config.gateway_id), random_bytes)
        return Gateway(config, None, vault, SystemClock(), random_bytes)

    async def until(self, stop: asyncio.Event, interval: float, control: Path | None) -> int:
        door = None if control is None else Control(control, {"mode": self._change})
        await self._node.start()
        sending = asyncio.create_task(self._send(interval))
        try:
            if door is not None:
                await door.start()
            await asyncio.wait([sending, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            sending.cancel()
            if door is not None:
                await door.close()
            await self._node.close()
        return 0

    async def _send(self, interval: float) -> None:
        async for body in sources.host(interval):
            await self._node.send(body)
            self._tell(f"acknowledged {json.dumps(body)}", "acknowledged", body=body)

    async def _change(self, given: dict[str, Any]) -> dict[str, Any]:
        await self._node.change(MODES[given["to"]])
        return {"mode": given["to"]}

    def _mode(self, mode: Mode) -> None:
        name = next(name for name, known in MODES.items() if known is mode)
        bound = self._node.gateway.bound if self._node.gateway is not None else []
        where = f", its PAN at {', '.join(bound)}" if bound else ""
        self._tell(f"{self._config.pne.pne_id} runs as {name}{where}", "mode", mode=name, pans=bound)

    def _established(self, gateway: EntityId, pn: PnId) -> None:
        pne = self._config.pne.pne_id
        self._tell(f"{pne} established through {gateway} in {pn}", "established", gateway=gateway, pn=pn)

    def _tell(self, line: str, event: str, **fields: object) -> None:
        shown = {"event": event, "device": self._config.pne.pne_id, **fields}
        print(json.dumps(shown) if self._json else plain(line), flush=True)
