"""Which functions of a device run, for all of its parts."""

from cpns.gateway.app import Gateway
from cpns.node.states import TRANSITIONS, Event, Off, State, gateway_of, own_of
from cpns.pne.app import Pne
from cpns.service.life import Life
from cpns.wire.registry import Mode


class DeviceLife(Life[State, Event]):
    """The life of one device."""

    def __init__(self) -> None:
        super().__init__(TRANSITIONS, Off())

    @property
    def mode(self) -> Mode | None:
        """The mode that it runs in; None before it does."""
        return self.state.mode

    @property
    def pne(self) -> Pne | None:
        """Its PNE; None where that does not run."""
        own = own_of(self.state)
        return None if own is None else own.pne

    @property
    def gateway(self) -> Gateway | None:
        """Its PN GW; None where that does not run."""
        return gateway_of(self.state)

    async def runs_pne(self) -> Pne:
        """Wait until its PNE runs; return that."""
        return (await self.until(own_of)).pne

    async def runs_another(self, than: Pne) -> None:
        """Wait until another PNE runs."""

        def another(state: State) -> bool | None:
            own = own_of(state)
            return True if own is not None and own.pne is not than else None

        await self.until(another)
