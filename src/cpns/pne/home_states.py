"""Where a PNE is at home, and whether it is a guest elsewhere: what leads from one state to the next."""

from dataclasses import dataclass
from typing import Final

from cpns.ids import PnId
from cpns.machine import Transitions, on
from cpns.wire.application import Home

# the states


@dataclass(frozen=True)
class State:
    """All of them.

    Attributes:
        led: whether somebody named the PN that it is to come into; that is its home then, whatever the server says.
    """

    led: bool


@dataclass(frozen=True)
class Unknown(State):
    """Nobody said where it is at home."""


@dataclass(frozen=True)
class Known(State):
    """It has a home.

    Attributes:
        home: the PN, and the PN GW that serves that.
        back_at: monotonic seconds at which it came back from being a guest; None: it was none since it was led there.
    """

    home: Home
    back_at: float | None


@dataclass(frozen=True)
class Settled(Known):
    """It is at home, or there is no way home to try."""


@dataclass(frozen=True)
class Guest(Known):
    """It is elsewhere, and comes home when it can."""


# the events


@dataclass(frozen=True, slots=True)
class Came:
    """Sessions stand: in which PN, behind whom, when, and whether there is a way home to try."""

    here: Home
    at: float
    may_return: bool


@dataclass(frozen=True, slots=True)
class Named:
    """The server says where it is at home, None: here; and whether there is a way to try."""

    home: Home | None
    here: Home
    may_return: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """It is in that PN no longer, or that is no more."""

    pn_id: PnId


@dataclass(frozen=True, slots=True)
class Led:
    """It was led or invited here."""

    here: Home


Event = Came | Named | Ended | Led


def _came(state: Known, event: Came) -> Known | None:
    if event.here[0] == state.home[0]:
        return Settled(state.led, event.here, event.at if isinstance(state, Guest) else state.back_at)
    return Guest(state.led, state.home, state.back_at) if event.may_return else None


def _named(state: State, event: Named) -> Known | None:
    if state.led:
        return None
    back_at = state.back_at if isinstance(state, Known) else None
    if event.home is None:
        return Settled(False, event.here, back_at)
    guest = event.may_return or isinstance(state, Guest)
    return Guest(False, event.home, back_at) if guest else Settled(False, event.home, back_at)


TRANSITIONS: Final[Transitions[State, Event]] = Transitions(
    State,
    on(Unknown, Came, Settled, lambda state, event: Settled(state.led, event.here, None)),
    on(Settled, Came, Known, _came),
    on(Guest, Came, Known, _came),
    on(State, Named, Known, _named),
    on(Known, Ended, Unknown, lambda state, event: Unknown(False) if state.home[0] == event.pn_id else None),
    on(State, Led, Settled, lambda _, event: Settled(True, event.here, None)),
)
"""Whatever is not here changes nothing."""
