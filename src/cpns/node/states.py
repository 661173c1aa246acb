"""The life of a device that hosts a PNE and a PN GW: which of them run, and what leads from one state to the next."""

import asyncio
from dataclasses import dataclass
from typing import ClassVar, Final

from cpns.gateway.app import Gateway
from cpns.machine import Transitions, on, stays
from cpns.pne.app import Pne
from cpns.wire.registry import Mode


@dataclass(frozen=True, slots=True)
class Hosted:
    """The PNE of the device.

    Attributes:
        pne: it.
        runs: keeps it joined.
    """

    pne: Pne
    runs: asyncio.Task[None]


# the states


@dataclass(frozen=True)
class State:
    """All of them.

    Attributes:
        mode: in which it runs; None: in none yet.
    """

    mode: ClassVar[Mode | None] = None


@dataclass(frozen=True)
class Off(State):
    """Nothing runs."""


@dataclass(frozen=True)
class Opening(State):
    """Its PN GW is the first to run: the server took its proof."""

    gateway: Gateway


@dataclass(frozen=True)
class Behind(State):
    """Its PNE goes through an external PN GW."""

    own: Hosted
    mode: ClassVar[Mode | None] = Mode.PNE


@dataclass(frozen=True)
class Prepared(State):
    """Its PNE goes through an external PN GW, and its own PN GW stands: one of both is about to change."""

    own: Hosted
    gateway: Gateway
    mode: ClassVar[Mode | None] = Mode.PNE


@dataclass(frozen=True)
class Both(State):
    """Its PNE goes through its own PN GW, which serves others too."""

    own: Hosted
    gateway: Gateway
    mode: ClassVar[Mode | None] = Mode.BOTH


@dataclass(frozen=True)
class Alone(State):
    """Its PN GW serves others alone."""

    gateway: Gateway
    mode: ClassVar[Mode | None] = Mode.PN_GW


# the events


@dataclass(frozen=True, slots=True)
class Opened:
    """The server took the proof of its PN GW."""

    gateway: Gateway


@dataclass(frozen=True, slots=True)
class WentDirect:
    """Its PNE goes through its own PN GW from now on."""

    own: Hosted


@dataclass(frozen=True, slots=True)
class WentBehind:
    """Its PNE goes through an external PN GW from now on."""

    own: Hosted


@dataclass(frozen=True, slots=True)
class PneStopped:
    """Its PNE runs no more."""


@dataclass(frozen=True, slots=True)
class GatewayStopped:
    """Its PN GW runs no more."""


@dataclass(frozen=True, slots=True)
class Disowned:
    """By the server's word the CM Device ID that it has is not its own: it goes behind a gateway, for another one."""


def own_of(state: State) -> Hosted | None:
    """Return its PNE; None where that does not run."""
    return state.own if isinstance(state, Behind | Prepared | Both) else None


def gateway_of(state: State) -> Gateway | None:
    """Return its PN GW; None where that does not run."""
    return state.gateway if isinstance(state, Opening | Prepared | Both | Alone) else None


Event = Opened | WentDirect | WentBehind | PneStopped | GatewayStopped | Disowned

TRANSITIONS: Final[Transitions[State, Event]] = Transitions(
    State,
    on(Off, Opened, Opening, lambda _, event: Opening(event.gateway)),
    on(Behind, Opened, Prepared, lambda state, event: Prepared(state.own, event.gateway)),
    on(Opening, WentDirect, Both, lambda state, event: Both(event.own, state.gateway)),
    on(Prepared, WentDirect, Both, lambda state, event: Both(event.own, state.gateway)),
    on(Alone, WentDirect, Both, lambda state, event: Both(event.own, state.gateway)),
    on(Off, WentBehind, Behind, lambda _, event: Behind(event.own)),
    on(Both, WentBehind, Prepared, lambda state, event: Prepared(event.own, state.gateway)),
    on(Alone, WentBehind, Prepared, lambda state, event: Prepared(event.own, state.gateway)),
    on(Behind, PneStopped, Off, lambda _, __: Off()),
    on(Opening, PneStopped, Alone, lambda state, _: Alone(state.gateway)),
    on(Prepared, PneStopped, Alone, lambda state, _: Alone(state.gateway)),
    on(Both, PneStopped, Alone, lambda state, _: Alone(state.gateway)),
    on(Opening, GatewayStopped, Off, lambda _, __: Off()),
    on(Prepared, GatewayStopped, Behind, lambda state, _: Behind(state.own)),
    on(Alone, GatewayStopped, Off, lambda _, __: Off()),
    stays(State, Disowned),
)
"""Whatever is not here changes nothing."""
