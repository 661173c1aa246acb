"""One CPNS Device with a PNE and a PN GW, each with an ID, a key and sockets of its own.

PNE mode: its PNE goes through an external PN GW. BOTH ("PNE+PN GW mode" of S2): its PN GW talks to the server itself,
and serves its own PNE and others. PN GW mode: it serves others alone.

A CM Device (CM-0) has no provisioned PN GW: an external PN GW gets it ID and key for that, while it is in PNE mode.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Final

from cpns.domain.cm import CmKey
from cpns.errors import CpnsError, NoAnswer, Refused, Result, StoreFails
from cpns.gateway.app import Gateway
from cpns.ids import EntityId, PnId
from cpns.node.cm import Keys
from cpns.node.config import NodeConfig
from cpns.node.ways import Ways
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig, Where
from cpns.service.background import Background
from cpns.shares.noted import by
from cpns.transport.address import split_address
from cpns.wire import application
from cpns.wire.pn_messages import GatewayChangeRequest, GatewayChangeResponse
from cpns.wire.registry import Mode

_log = logging.getLogger("cpns.node")

UPLINK_SECONDS: Final = 10.0
"""What its PN GW has to authenticate to the server before a change of mode is undone."""
TAKE_OVER_PAUSE: Final = 0.2
"""Seconds for the answer to the PN GW that asked to leave before the server asks that one whether it agrees."""
PAUSES: Final = (0.5, 60.0)
"""First and longest pause, in seconds, before ID and key, or a fresh key, are asked for again."""
REFUSALS: Final = 3
"""Times in a row that the server takes no key of ours before another CM Device ID is asked for."""
REASSIGN_SECONDS: Final = 600.0
"""As anybody in between can refuse: not more often than that."""

MakePne = Callable[[PneConfig], Pne]
MakeGateway = Callable[[EntityId | None], Gateway]
"""Makes the PN GW; takes the CM Device ID, None where it is provisioned."""


class Node:
    """A device; its mode can change at run time.

    Args:
        config: see `NodeConfig`.
        make_pne: makes its PNE; called again when it has been a PN GW alone.
        make_gateway: makes its PN GW.
        keys: makes it a CM Device; None: its PN GW is provisioned.
        on_mode: is told of the mode each time it has changed.
        on_key: is told of a CM Device Key that was assigned, or agreed on.
    """

    def __init__(
        self,
        config: NodeConfig,
        make_pne: MakePne,
        make_gateway: MakeGateway,
        keys: Keys | None = None,
        on_mode: Callable[[Mode], None] = lambda mode: None,
        on_key: Callable[[CmKey], None] = lambda key: None,
    ) -> None:
        self.config = config
        self._make_pne = make_pne
        self._make_gateway = make_gateway
        self.keys = keys
        self._on_mode = on_mode
        self._on_key = on_key
        self._changing = asyncio.Lock()
        self._assigning = asyncio.Lock()
        self._rekeying = asyncio.Lock()
        self._reassigned_at = -REASSIGN_SECONDS
        self._swapped = asyncio.Event()
        self._runs: asyncio.Task[None] | None = None
        self._work = Background()
        self._choosing: asyncio.Task[None] | None = None
        self.waiting = 0
        """Readings that are not acknowledged yet."""
        self.mode: Mode | None = None
        self.pne: Pne | None = None
        self.gateway: Gateway | None = None

    async def start(self) -> None:
        """Run in the mode that it is set to. Raises as `change`."""
        if self.keys is not None:
            await self.keys.load()
        await self.change(self.config.mode)
        if self.keys is not None:
            self._work.start(self._get_key())
        self.choose_by_itself()

    async def close(self) -> None:
        """End both functions."""
        await self._stay()
        await self._work.close()
        await self._stop_pne()
        await self._stop_gateway()

    # modes

    def choose_by_itself(self) -> None:
        """Change the mode as the device prefers, until it is commanded."""
        if self.config.prefer is not None and self._choosing is None:
            ways = Ways(self, self.config.prefer, self.config.look)
            self._choosing = asyncio.get_running_loop().create_task(ways.choose())

    async def command(self, mode: Mode) -> None:
        """Change the mode, and stay with it until `choose_by_itself`. Raises as `change`."""
        await self._stay()
        await self.change(mode)

    async def _stay(self) -> None:
        choosing, self._choosing = self._choosing, None
        if choosing is not None:
            choosing.cancel()
            await asyncio.gather(choosing, return_exceptions=True)

    @property
    def can_go_direct(self) -> bool:
        """Whether its PN GW has what proves it to the server."""
        return self.keys is None or self.keys.newest is not None

    async def change(self, mode: Mode) -> None:
        """Change the mode; when this returns, the new functions run. The older way serves until the new one does.

        Raises:
            Refused: its PN GW gets no session with the server, or no external PN GW takes its PNE; the mode is then as
                it was.
        """
        async with self._changing:
            if mode is self.mode:
                return
            opened = mode is not Mode.PNE and self.gateway is None
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
            self.mode = mode
            _log.info("%s runs as %s", self.config.pne.pne_id, mode.name, extra=by(self.config.pne.pne_id))
        self._on_mode(mode)
        if mode is Mode.BOTH and self.keys is not None and self.keys.newest is not None:
            if self.keys.newest.generation == 0:  # the PN GW that mediated knows this one
                self.take_fresh_key()

    async def _start_gateway(self) -> None:
        if self.keys is not None and self.keys.newest is None:
            await self.assign()
        gateway = self._make_gateway(self.keys.newest.cm_device_id if self.keys and self.keys.newest else None)
        try:
            await gateway.start()
            await gateway.uplink.wait(UPLINK_SECONDS)
        except BaseException as error:
            await gateway.close()
            if not isinstance(error, CpnsError):
                raise
            await self._ask_anew()
            if isinstance(error, Refused):
                raise
            raise NoAnswer("gateway_does_not_start") from error
        self.gateway = gateway

    async def _stop_gateway(self) -> None:
        gateway, self.gateway = self.gateway, None
        if gateway is not None:
            await gateway.close()

    async def _lead_pne(self, mode: Mode) -> None:
        """Let its PNE go through its own PN GW in mode BOTH, else through an external one. Raises `Refused`."""
        where = self.config.pne.where
        if mode is Mode.BOTH and self.gateway is not None:
            where = Where((_own_side(self.gateway.bound[0]),), self.gateway.config.gateway_id)
        if self.pne is not None:
            await self.pne.go(where)
            return
        pne = self._make_pne(dataclasses.replace(self.config.pne, where=where))
        await pne.start()
        self.pne = pne
        swapped, self._swapped = self._swapped, asyncio.Event()
        swapped.set()
        self._runs = asyncio.get_running_loop().create_task(pne.run())

    async def _stop_pne(self) -> None:
        pne, self.pne = self.pne, None
        runs, self._runs = self._runs, None
        if runs is not None:
            runs.cancel()
            await asyncio.gather(runs, return_exceptions=True)
        if pne is not None:
            await pne.close()

    async def send(self, body: dict[str, application.Json]) -> None:
        """Send a reading until it is acknowledged, through every change of mode; it is stored once.

        Raises:
            Refused: as `Pne.send`.
        """
        reading: application.Reading | None = None
        self.waiting += 1
        try:
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
        finally:
            self.waiting -= 1

    # the keys of a CM Device

    async def assign(self) -> None:
        """Have the external PN GW get us a CM Device ID and key, in place of those that we have (CM-1 to CM-11).

        Raises:
            Refused: we are behind none, or it, or the server, does not do it.
            StoreFails: the key can't be kept.
        """
        async with self._assigning:
            if self.keys is None or self.pne is None or self.mode is not Mode.PNE:
                raise Refused(Result.MODE_NOT_SUPPORTED, "not_behind_an_external_gateway")
            self.keys.check()
            key = await self.pne.cm.assign()
            await self.keys.begin(key)
            own = self.config.pne.pne_id
            _log.info("%s was assigned the CM Device ID %s, and a key", own, key.cm_device_id, extra=by(own))
        self._on_key(key)

    async def _get_key(self) -> None:
        """Get ID and key while there is a PN GW to mediate, so that they are there when they are needed."""
        pause = PAUSES[0]
        while self.keys is not None and self.keys.newest is None:
            if self.pne is not None:
                await self.pne.wait_established()
                with contextlib.suppress(Refused, StoreFails):
                    await self.assign()
                    continue
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSES[1])

    async def _ask_anew(self) -> None:
        """Get another ID and key where the server takes none that we have: it was revoked, or set up anew."""
        now = time.monotonic()
        if self.keys is None or self.keys.refusals < REFUSALS or now - self._reassigned_at < REASSIGN_SECONDS:
            return
        self._reassigned_at = now
        with contextlib.suppress(Refused, StoreFails):
            await self.assign()

    def take_fresh_key(self) -> None:
        """Agree with the server on a key that no PN GW knows, end to end, and use that from then on."""
        if not self._rekeying.locked():
            self._work.start(self._rekey())

    async def rekey(self) -> None:
        """As `take_fresh_key`, and return when it has one; where one is agreed on already, at once.

        Raises:
            Refused, StoreFails: why it has none yet; it goes on trying.
        """
        if self._rekeying.locked() or self.keys is None or not self.keys.settled:
            self.take_fresh_key()
            return
        try:
            async with self._rekeying:
                await self._agree(self.keys)
        except CpnsError:
            self.take_fresh_key()
            raise

    async def _rekey(self) -> None:
        async with self._rekeying:
            pause = PAUSES[0]
            while self.keys is not None and (key := self.keys.newest) is not None and self.pne is not None:
                await self.pne.wait_established()
                try:
                    if self.keys.settled:  # else to the server the generation after this one is not the next yet
                        await self._agree(self.keys)
                        return
                except StoreFails:  # it says so itself
                    pass
                except Refused as error:
                    _log.warning("no fresh key yet: %s", error, extra=by(key.cm_device_id))
                    if error.result is Result.NOT_ALLOWED:
                        await self._disown(key)
                        return
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSES[1])

    async def _agree(self, keys: Keys) -> None:
        """Agree with the server on the key after our newest one, and keep it. Raises `Refused`, `StoreFails`."""
        key = keys.newest
        if key is None or self.pne is None:
            raise NoAnswer("no_cm_device_key")
        keys.check()
        fresh = await self.pne.cm.rekey(key)
        await keys.add(fresh)
        said = "%s has a fresh key that no gateway knows"
        _log.info(said, self.config.pne.pne_id, extra=by(key.cm_device_id))
        self._on_key(fresh)
        if self.gateway is not None:
            self.gateway.uplink.renew()

    async def _disown(self, key: CmKey) -> None:
        """The server does not count that CM Device as ours: the PN GW that mediated named another, or it was revoked.

        So its key would stay known to that PN GW. We go back behind a gateway, and ask for another ID.
        """
        said = "%s is not ours by the server's word: not used any more"
        _log.error(said, key.cm_device_id, extra=by(key.cm_device_id))
        if self.keys is None or self.keys.newest != key:
            return
        await self.keys.forget()
        while self.mode is Mode.BOTH:
            with contextlib.suppress(CpnsError):
                await self.change(Mode.PNE)
                break
            await asyncio.sleep(PAUSES[0])
        self._work.start(self._get_key())

    # being asked to become a PN GW

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
            except StoreFails:
                return GatewayChangeResponse(Result.NO_ANSWER)
        if self.gateway is None:
            return GatewayChangeResponse(Result.NO_ANSWER)
        own_id = self.gateway.config.gateway_id
        self._work.start(self._become(request.pn_id if by_own_gateway else None))
        return GatewayChangeResponse(Result.SUCCESS, own_id)

    async def _become(self, pn_id: PnId | None) -> None:
        """PN GW switching: when the server has agreed, our own PNE goes over too; else all is as it was."""
        await asyncio.sleep(TAKE_OVER_PAUSE)
        try:
            if pn_id is not None and self.gateway is not None:
                await self.gateway.switching.take_over(pn_id)
            await self.change(Mode.BOTH)
        except CpnsError as error:
            _log.warning("can't become the gateway: %s", error, extra=by(self.config.pne.pne_id))
            async with self._changing:
                if self.mode is Mode.PNE:
                    await self._stop_gateway()


def _own_side(bound: str) -> tuple[str, int]:
    """Return where our own PNE reaches a PAN of ours."""
    host, port = split_address(bound)
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host, port  # noqa: S104  # compared, not bound
