"""The two functions of a device, and how it changes its mode: the older way serves until the new one does.

PNE mode: its PNE goes through an external PN GW. BOTH ("PNE+PN GW mode" of S2): its PN GW talks to the server itself,
and serves its own PNE and others. PN GW mode: it serves others alone.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable
from typing import Final

from cpns.errors import CpnsError, NoAnswer, Refused, Result, StoreFails
from cpns.gateway.app import Gateway
from cpns.ids import EntityId, PnId
from cpns.node.config import NodeConfig
from cpns.node.keying import Keying
from cpns.node.life import DeviceLife
from cpns.node.states import (
    Disowned,
    GatewayStopped,
    Hosted,
    Opened,
    PneStopped,
    WentBehind,
    WentDirect,
    own_of,
)
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig, Where
from cpns.pne.hooks import Becomes
from cpns.ports import Time
from cpns.service.background import Background
from cpns.shares.noted import by
from cpns.transport.address import split_address
from cpns.wire.pn_messages import GatewayChangeRequest, GatewayChangeResponse
from cpns.wire.registry import Mode

_log = logging.getLogger("cpns.node")

UPLINK_SECONDS: Final = 10.0
"""What its PN GW has to authenticate to the server before a change of mode is undone."""
TAKE_OVER_PAUSE: Final = 0.2
"""Seconds for the answer to the PN GW that asked to leave before the server asks that one whether it agrees."""
AGAIN_SECONDS: Final = 0.5
"""Before it tries again to go behind a gateway, for another CM Device ID."""

Rotate = Callable[[EntityId], None]
"""Is told that the server wants the CM Device to take a fresh key."""
MakePne = Callable[[PneConfig, Becomes, Rotate], Pne]
"""Makes its PNE, which hands on what it is asked; called again when the device has been a PN GW alone."""
MakeGateway = Callable[[EntityId | None], Gateway]
"""Makes the PN GW; takes the CM Device ID, None where it is provisioned."""


class Modes:
    """The modes of one device.

    Args:
        life: which functions run.
        keying: asks for the keys of a CM Device; None: its PN GW is provisioned.
        on_mode: is told of the mode each time it has changed.
    """

    def __init__(
        self,
        config: NodeConfig,
        life: DeviceLife,
        make_pne: MakePne,
        make_gateway: MakeGateway,
        keying: Keying | None,
        time: Time,
        on_mode: Callable[[Mode], None],
    ) -> None:
        self._config = config
        self._life = life
        self._make_pne = make_pne
        self._make_gateway = make_gateway
        self._keying = keying
        self._time = time
        self._on_mode = on_mode
        self._changing = asyncio.Lock()
        self._work = Background()
        life.follow(Disowned, self._disowned)

    async def close(self) -> None:
        """End both functions."""
        await self._work.close()
        await self._stop_pne()
        await self._stop_gateway()

    @property
    def _cm_device_id(self) -> EntityId | None:
        key = None if self._keying is None else self._keying.keys.newest
        return None if key is None else key.cm_device_id

    @property
    def can_go_direct(self) -> bool:
        """Whether its PN GW has what proves it to the server."""
        return self._keying is None or self._cm_device_id is not None

    async def change(self, mode: Mode) -> None:
        """Change the mode; when this returns, the new functions run. The older way serves until the new one does.

        Raises:
            Refused: its PN GW gets no session with the server, or no external PN GW takes its PNE; the mode is then as
                it was.
        """
        async with self._changing:
            if mode is self._life.mode:
                return
            opened = mode is not Mode.PNE and self._life.gateway is None
            try:
                if opened:
                    await self._start_gateway()
                if mode is Mode.PN_GW:
                    await self._stop_pne()
                else:
                    await self._lead_pne(mode)
            except BaseException:
                if opened:
                    await self._stop_gateway()
                raise
            if mode is Mode.PNE:
                await self._stop_gateway()
            own_id = self._config.pne.pne_id
            _log.info("%s runs as %s", own_id, mode.name, extra=by(own_id))
        self._on_mode(mode)
        key = None if self._keying is None else self._keying.keys.newest
        if mode is Mode.BOTH and self._keying is not None and key is not None:
            if key.generation == 0:  # the PN GW that mediated knows this one
                self._keying.take_fresh_key()

    async def _start_gateway(self) -> None:
        if self._keying is not None and self._keying.keys.newest is None:
            await self._keying.assign()
        gateway = self._make_gateway(self._cm_device_id)
        try:
            await gateway.start()
            await gateway.uplink.wait(UPLINK_SECONDS)
        except BaseException as error:
            await gateway.close()
            if not isinstance(error, CpnsError):
                raise
            if self._keying is not None:
                await self._keying.ask_anew()
            if isinstance(error, Refused):
                raise
            raise NoAnswer("gateway_does_not_start") from error
        self._life.happens(Opened(gateway))

    async def _stop_gateway(self) -> None:
        gateway = self._life.gateway
        if gateway is not None:
            self._life.happens(GatewayStopped())
            await gateway.close()

    async def _lead_pne(self, mode: Mode) -> None:
        """Let its PNE go through its own PN GW in mode BOTH, else through an external one. Raises `Refused`."""
        where, gateway, own = self._config.pne.where, self._life.gateway, own_of(self._life.state)
        if mode is Mode.BOTH and gateway is not None:
            where = Where((_own_side(gateway.bound[0]),), gateway.config.gateway_id)
        if own is None:
            own = await self._start_pne(where)
        else:
            await own.pne.go(where)
        self._life.happens(WentDirect(own) if mode is Mode.BOTH else WentBehind(own))

    async def _start_pne(self, where: Where) -> Hosted:
        pne = self._make_pne(dataclasses.replace(self._config.pne, where=where), self.becomes, self._rotate)
        await pne.start()
        return Hosted(pne, asyncio.get_running_loop().create_task(pne.run()))

    async def _stop_pne(self) -> None:
        own = own_of(self._life.state)
        self._life.happens(PneStopped())
        if own is not None:
            own.runs.cancel()
            await asyncio.gather(own.runs, return_exceptions=True)
            await own.pne.close()

    def _rotate(self, _: EntityId) -> None:
        if self._keying is not None:
            self._keying.take_fresh_key()

    def _disowned(self, _: Disowned) -> None:
        self._work.start(self._go_behind())

    async def _go_behind(self) -> None:
        """Go behind a gateway, which then gets us another CM Device ID."""
        while self._life.mode is Mode.BOTH:
            with contextlib.suppress(CpnsError):
                await self.change(Mode.PNE)
                break
            await self._time.sleep(AGAIN_SECONDS)
        if self._keying is not None:
            self._keying.get_key()

    # being asked to become a PN GW

    async def becomes(self, request: GatewayChangeRequest, by_own_gateway: bool) -> GatewayChangeResponse:
        """Take a Gateway Change Request: become a PN GW if the user allows that.

        Asked by our own PN GW for its PN, we take that PN over as soon as we have answered.
        """
        if not self._config.may_change:
            return GatewayChangeResponse(Result.REFUSED_BY_USER)
        if self._life.gateway is None:
            try:
                async with self._changing:
                    if self._life.gateway is None:
                        await self._start_gateway()
            except Refused as error:
                return GatewayChangeResponse(error.result)
            except StoreFails:
                return GatewayChangeResponse(Result.NO_ANSWER)
        if self._life.gateway is None:
            return GatewayChangeResponse(Result.NO_ANSWER)
        own_id = self._life.gateway.config.gateway_id
        self._work.start(self._become(request.pn_id if by_own_gateway else None))
        return GatewayChangeResponse(Result.SUCCESS, own_id)

    async def _become(self, pn_id: PnId | None) -> None:
        """PN GW switching: when the server has agreed, our own PNE goes over too; else all is as it was."""
        await self._time.sleep(TAKE_OVER_PAUSE)
        try:
            if pn_id is not None and self._life.gateway is not None:
                await self._life.gateway.switching.take_over(pn_id)
            await self.change(Mode.BOTH)
        except CpnsError as error:
            _log.warning("can't become the gateway: %s", error, extra=by(self._config.pne.pne_id))
            async with self._changing:
                if self._life.mode is Mode.PNE:
                    await self._stop_gateway()


def _own_side(bound: str) -> tuple[str, int]:
    """Return where our own PNE reaches a PAN of ours."""
    host, port = split_address(bound)
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host, port  # noqa: S104  # compared, not bound
