"""One CPNS Device with a PNE and a PN GW, each with an ID, a key and sockets of its own.

PNE mode: its PNE goes through an external PN GW. PN GW mode: it serves others. BOTH: it serves others and its own PNE.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from cpns.errors import CpnsError, NoAnswer, Refused, Result
from cpns.gateway.app import Gateway
from cpns.ids import PnId
from cpns.node.config import NodeConfig
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig
from cpns.transport.pan import split_address
from cpns.wire import application
from cpns.wire.pn_messages import GatewayChangeRequest, GatewayChangeResponse
from cpns.wire.registry import Mode

_log = logging.getLogger("cpns.node")

UPLINK_SECONDS: Final = 10.0
"""What its PN GW has to authenticate to the server before a change of mode is undone."""
TAKE_OVER_PAUSE: Final = 0.2
"""Seconds for the answer to the PN GW that asked to leave before the server asks that one whether it agrees."""

MakePne = Callable[[PneConfig], Pne]
MakeGateway = Callable[[], Gateway]


class Node:
    """A device; its mode can change at run time.

    Args:
        config: see `NodeConfig`.
        make_pne: makes its PNE; called again when it goes another way.
        make_gateway: makes its PN GW.
        on_mode: is told of the mode each time it has changed.
    """

    def __init__(
        self,
        config: NodeConfig,
        make_pne: MakePne,
        make_gateway: MakeGateway,
        on_mode: Callable[[Mode], None] = lambda mode: None,
    ) -> None:
        self.config = config
        self._make_pne = make_pne
        self._make_gateway = make_gateway
        self._on_mode = on_mode
        self._changing = asyncio.Lock()
        self._swapped = asyncio.Event()
        self._runs: asyncio.Task[None] | None = None
        self._taking: asyncio.Task[None] | None = None
        self.mode: Mode | None = None
        self.pne: Pne | None = None
        self.gateway: Gateway | None = None

    async def start(self) -> None:
        """Run in the mode that it is set to. Raises as `change`."""
        await self.change(self.config.mode)

    async def close(self) -> None:
        """End both functions."""
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)
        await self._stop_pne()
        await self._stop_gateway()

    async def change(self, mode: Mode) -> None:
        """Change the mode; when this returns, the new functions run.

        Raises:
            Refused: its PN GW gets no session with the server; the mode is then as it was.
        """
        async with self._changing:
            if mode is self.mode:
                return
            if mode is not Mode.PNE and self.gateway is None:
                await self._start_gateway()
            if mode is Mode.PNE:
                await self._stop_gateway()
            if mode is Mode.PN_GW:
                await self._stop_pne()
            else:
                await self._start_pne(mode)
            self.mode = mode
            _log.info("%s runs as %s", self.config.pne.pne_id, mode.name)
        self._on_mode(mode)

    async def _start_gateway(self) -> None:
        gateway = self._make_gateway()
        try:
            await gateway.start()
            await gateway.uplink.wait(UPLINK_SECONDS)
        except CpnsError as error:
            await gateway.close()
            if isinstance(error, Refused):
                raise
            raise NoAnswer("gateway_does_not_start") from error
        self.gateway = gateway

    async def _stop_gateway(self) -> None:
        gateway, self.gateway = self.gateway, None
        if gateway is not None:
            await gateway.close()

    async def _start_pne(self, mode: Mode) -> None:
        """Let its PNE go through its own PN GW in mode BOTH, else through an external one."""
        await self._stop_pne()
        config = self.config.pne
        if mode is Mode.BOTH and self.gateway is not None:
            own = (_own_side(self.gateway.bound[0]),)
            config = dataclasses.replace(config, gateways=own, gateway_id=self.config.gateway.gateway_id)
        pne = self.pne = self._make_pne(config)
        await pne.start()
        swapped, self._swapped = self._swapped, asyncio.Event()
        swapped.set()
        self._runs = asyncio.get_running_loop().create_task(pne.run())

    async def send(self, body: dict[str, application.Json]) -> None:
        """Send a reading until it is acknowledged, through every change of mode; it is stored once.

        Raises:
            Refused: as `Pne.send`.
        """
        reading: application.Reading | None = None
        while True:
            swapped, pne = self._swapped, self.pne
            if pne is None:
                await swapped.wait()
                continue
            reading = reading or pne.next_reading(body)
            sending = asyncio.ensure_future(pne.send(reading))
            changed = asyncio.ensure_future(swapped.wait())
            try:
                await asyncio.wait([sending, changed], return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    return sending.result()
            finally:
                sending.cancel()
                changed.cancel()

    async def _stop_pne(self) -> None:
        pne, self.pne = self.pne, None
        runs, self._runs = self._runs, None
        if runs is not None:
            runs.cancel()
            await asyncio.gather(runs, return_exceptions=True)
        if pne is not None:
            await pne.close()

    async def becomes(self, request: GatewayChangeRequest, by_own_gateway: bool) -> GatewayChangeResponse:
        """Take a Gateway Change Request: become a PN GW if the user allows that.

        Asked by our own PN GW for its PN, we take that PN over as soon as we have answered.
        """
        if not self.config.may_change:
            return GatewayChangeResponse(Result.REFUSED_BY_USER)
        if self.gateway is None:
            try:
                async with self._changing:
                    await self._start_gateway()
            except Refused as error:
                return GatewayChangeResponse(error.result)
        own_id = self.config.gateway.gateway_id
        work = self._take_over(request.pn_id) if by_own_gateway and request.pn_id else self.change(Mode.BOTH)
        self._taking = asyncio.get_running_loop().create_task(self._later(work))
        return GatewayChangeResponse(Result.SUCCESS, own_id)

    async def _later(self, work: Awaitable[None]) -> None:
        await asyncio.sleep(TAKE_OVER_PAUSE)
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _take_over(self, pn_id: PnId) -> None:
        """PN GW switching: when the server has agreed, our own PNE goes over too; else all is as it was."""
        gateway = self.gateway
        if gateway is None:
            return
        try:
            await gateway.switching.take_over(pn_id)
        except Refused as error:
            _log.warning("can't take over %s: %s", pn_id, error)
            async with self._changing:
                if self.mode is Mode.PNE:
                    await self._stop_gateway()
            return
        await self.change(Mode.BOTH)


def _own_side(bound: str) -> tuple[str, int]:
    """Return where our own PNE reaches a PAN of ours."""
    host, port = split_address(bound)
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104  # compared, not bound
