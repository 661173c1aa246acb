"""One CPNS Device with a PNE and a PN GW, each with an ID, a key and sockets of its own: what is wired to what.

A CM Device (CM-0) has no provisioned PN GW: an external PN GW gets it ID and key for that, while it is in PNE mode.
"""

import asyncio
from collections.abc import Callable

from cpns.domain.cm import CmKey
from cpns.errors import Refused, Result
from cpns.gateway.app import Gateway
from cpns.node.cm import Keys
from cpns.node.config import NodeConfig
from cpns.node.keying import Keying
from cpns.node.life import DeviceLife
from cpns.node.modes import MakeGateway, MakePne, Modes
from cpns.node.readings import Readings
from cpns.node.ways import Ways
from cpns.pne.app import Pne
from cpns.ports import Time
from cpns.wire import application
from cpns.wire.registry import Mode


class Node:
    """A device; its mode can change at run time.

    Args:
        config: see `NodeConfig`.
        make_pne: makes its PNE; called again when it has been a PN GW alone.
        make_gateway: makes its PN GW.
        keys: makes it a CM Device; None: its PN GW is provisioned.
        on_mode: is told of the mode each time it has changed.
        on_key: is told of a CM Device Key that was assigned, or agreed on.

    Attributes:
        life: which of its functions run.
    """

    def __init__(
        self,
        config: NodeConfig,
        make_pne: MakePne,
        make_gateway: MakeGateway,
        time: Time,
        keys: Keys | None = None,
        on_mode: Callable[[Mode], None] = lambda mode: None,
        on_key: Callable[[CmKey], None] = lambda key: None,
    ) -> None:
        self.config = config
        self.keys = keys
        self.life = DeviceLife()
        self._keying = None if keys is None else Keying(config.pne.pne_id, keys, self.life, time, on_key)
        self._modes = Modes(config, self.life, make_pne, make_gateway, self._keying, time, on_mode)
        self._readings = Readings(self.life)
        self._ways = Ways(config, self.life, self._modes, self._readings, time)
        self._choosing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run in the mode that it is set to. Raises as `change`."""
        if self.keys is not None:
            await self.keys.load()
        await self.change(self.config.mode)
        if self._keying is not None:
            self._keying.get_key()
        self.choose_by_itself()

    async def close(self) -> None:
        """End both functions."""
        await self._stay()
        if self._keying is not None:
            await self._keying.close()
        await self._modes.close()

    @property
    def mode(self) -> Mode | None:
        """The mode that it runs in; None before it does."""
        return self.life.mode

    @property
    def pne(self) -> Pne | None:
        """Its PNE; None where that does not run."""
        return self.life.pne

    @property
    def gateway(self) -> Gateway | None:
        """Its PN GW; None where that does not run."""
        return self.life.gateway

    # modes

    def choose_by_itself(self) -> None:
        """Change the mode as the device prefers, until it is commanded."""
        if self.config.prefer is not None and self._choosing is None:
            self._choosing = asyncio.get_running_loop().create_task(self._ways.choose(self.config.prefer))

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
        return self._modes.can_go_direct

    async def change(self, mode: Mode) -> None:
        """See `Modes.change`."""
        await self._modes.change(mode)

    # readings

    @property
    def waiting(self) -> int:
        """Readings that are not acknowledged yet."""
        return self._readings.waiting

    async def send(self, body: dict[str, application.Json]) -> None:
        """See `Readings.send`."""
        await self._readings.send(body)

    # the keys of a CM Device

    async def assign(self) -> None:
        """See `Keying.assign`. Raises `Refused`, StoreFails."""
        await self._cm().assign()

    async def rekey(self) -> None:
        """See `Keying.rekey`. Raises `Refused`, StoreFails."""
        await self._cm().rekey()

    @property
    def is_rekeying(self) -> bool:
        """Whether it agrees on a fresh key, or tries to."""
        return self._keying is not None and self._keying.is_rekeying

    def _cm(self) -> Keying:
        if self._keying is None:
            raise Refused(Result.MODE_NOT_SUPPORTED, "not_a_cm_device")
        return self._keying
