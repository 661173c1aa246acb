"""The life of a TCP connection between PN GW and server, as its budget goes: what leads from one state to the next."""

import asyncio
from dataclasses import dataclass
from typing import Final

from cpns.machine import Transitions, on
from cpns.transport import budget
from cpns.transport.budget import Budget

# the states


@dataclass(frozen=True)
class State:
    """All of them."""


@dataclass(frozen=True)
class Made(State):
    """It is not connected yet."""


@dataclass(frozen=True)
class Connected(State):
    """It is connected.

    Attributes:
        transport: it is written there.
    """

    transport: asyncio.Transport


@dataclass(frozen=True)
class Taking(Connected):
    """It reads."""


@dataclass(frozen=True)
class Reading(Taking):
    """All that came is within the budget."""


@dataclass(frozen=True)
class Strained(Taking):
    """It reads again after a pause, and some of what came before may still be over the budget.

    Attributes:
        over_since: loop time since which it is.
        resumed_at: loop time of the end of that pause.
    """

    over_since: float
    resumed_at: float


@dataclass(frozen=True)
class Paused(Connected):
    """It reads no more for a time, which the peer feels.

    Attributes:
        over_since: as `Strained`.
        share: the budget that it waits at.
        resumes: ends the pause.
    """

    over_since: float
    share: Budget
    resumes: asyncio.TimerHandle


@dataclass(frozen=True)
class Leaving(Connected):
    """It said the last word, and waits until that is read.

    Attributes:
        ends: closes it where it is not.
    """

    ends: asyncio.TimerHandle


@dataclass(frozen=True)
class Gone(State):
    """It is closed."""


# the events


@dataclass(frozen=True, slots=True)
class Opened:
    """It came to stand."""

    transport: asyncio.Transport


@dataclass(frozen=True, slots=True)
class Exceeded:
    """What came is over the budget."""

    over_since: float
    share: Budget
    resumes: asyncio.TimerHandle


@dataclass(frozen=True, slots=True)
class Resumed:
    """The pause is over."""

    at: float


@dataclass(frozen=True, slots=True)
class Heeded:
    """All that came was within the budget, and at once."""


@dataclass(frozen=True, slots=True)
class SaidLast:
    """The last word was said: of ours, or as the peer's bytes can't be a message."""

    ends: asyncio.TimerHandle


@dataclass(frozen=True, slots=True)
class Closed:
    """The system says that it is closed."""


def _paused(state: Connected, event: Exceeded) -> Paused:
    return Paused(state.transport, event.over_since, event.share, event.resumes)


Event = Opened | Exceeded | Resumed | Heeded | SaidLast | Closed

TRANSITIONS: Final[Transitions[State, Event]] = Transitions(
    State,
    on(Made, Opened, Reading, lambda _, event: Reading(event.transport)),
    on(Taking, Exceeded, Paused, _paused),
    on(Paused, Resumed, Strained, lambda state, event: Strained(state.transport, state.over_since, event.at)),
    on(Strained, Heeded, Reading, lambda state, _: Reading(state.transport)),
    on(Taking, SaidLast, Leaving, lambda state, event: Leaving(state.transport, event.ends)),
    on(State, Closed, Gone, lambda _, __: Gone()),
)
"""Whatever is not here changes nothing: it came too late."""


def over_since(state: State, now: float) -> float:
    """Return since when a peer is over its budget that is over it *now*: a respite ends what was before."""
    if isinstance(state, Strained) and now - state.resumed_at <= budget.RESPITE:
        return state.over_since
    return now
