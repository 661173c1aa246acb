"""The life of a PN GW's uplink: whether it stands, and what leads from one state to the next."""

from dataclasses import dataclass, field
from typing import Final

from cpns.crypto.secret import Secret
from cpns.machine import Transitions, on
from cpns.session.table import Session
from cpns.transport.endpoint import Link


@dataclass(frozen=True, slots=True)
class Standing:
    """An uplink that stands: its link, its session, and what opens this PN GW's LocalEUKey copies."""

    link: Link
    session: Session
    prk: Secret = field(repr=False)


# the states


@dataclass(frozen=True)
class State:
    """All of them."""


@dataclass(frozen=True)
class Down(State):
    """There is no uplink.

    Attributes:
        since: monotonic seconds at which it was lost, or fell silent.
    """

    since: float


@dataclass(frozen=True)
class Connecting(Down):
    """It connects, and proves who it is."""


@dataclass(frozen=True)
class Outdated(Down):
    """It connects, and has another key by now: what comes of it is not taken up."""


@dataclass(frozen=True)
class Pausing(Down):
    """An attempt failed, or the uplink was lost: it waits before it connects."""


@dataclass(frozen=True)
class Up(State):
    """There is an uplink."""

    standing: Standing


@dataclass(frozen=True)
class Stands(Up):
    """It serves."""


@dataclass(frozen=True)
class LettingGo(Up):
    """Another server may have taken our proof: what is under way goes on, nothing new is begun, no ping is answered."""


# the events


@dataclass(frozen=True, slots=True)
class Stood:
    """A server took our proof, and what was missed is known."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt failed."""


@dataclass(frozen=True, slots=True)
class PauseOver:
    """It is time for another attempt."""


@dataclass(frozen=True, slots=True)
class LetGo:
    """We go to a server that we prefer."""


@dataclass(frozen=True, slots=True)
class Kept:
    """That one did not take us, so we stay."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class Lost:
    """The uplink is closed, silent or worn out; of an older one that is no loss."""

    standing: Standing
    since: float


@dataclass(frozen=True, slots=True)
class Renewed:
    """There is another key to prove: connect anew at once."""

    since: float


def _is_of(state: Up, event: Kept | Lost) -> bool:
    return state.standing is event.standing


Event = Stood | Failed | PauseOver | LetGo | Kept | Lost | Renewed

TRANSITIONS: Final[Transitions[State, Event]] = Transitions(
    State,
    on(Outdated, Stood, Connecting, lambda state, _: Connecting(state.since)),
    on(State, Stood, Stands, lambda _, event: Stands(event.standing)),
    on(Connecting, Failed, Pausing, lambda state, _: Pausing(state.since)),
    on(Outdated, Failed, Connecting, lambda state, _: Connecting(state.since)),
    on(Pausing, PauseOver, Connecting, lambda state, _: Connecting(state.since)),
    on(Stands, LetGo, LettingGo, lambda state, _: LettingGo(state.standing)),
    on(LettingGo, Kept, Stands, lambda state, event: Stands(event.standing) if _is_of(state, event) else None),
    on(Up, Lost, Pausing, lambda state, event: Pausing(event.since) if _is_of(state, event) else None),
    on(Pausing, Renewed, Connecting, lambda state, _: Connecting(state.since)),
    on(Connecting, Renewed, Outdated, lambda state, _: Outdated(state.since)),
    on(Up, Renewed, Connecting, lambda _, event: Connecting(event.since)),
)
"""Whatever is not here changes nothing: it came too late."""
