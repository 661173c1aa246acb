"""The life of a PNE: where it stands towards PN GW and server, and what leads from one state to the next.

The `Attachment` that it had last outlives its sessions: by that it knows where it belongs, and who its PN GW is.
"""

from dataclasses import dataclass
from typing import Final

from cpns.machine import Row, Transitions, on, stays
from cpns.protocol.pne_auth.pne import Joined
from cpns.session.table import Session
from cpns.transport.endpoint import Link
from cpns.wire.application import Home


@dataclass(frozen=True, slots=True)
class Attachment:
    """What a SETUP gave.

    Attributes:
        link: the way to the PN GW.
        joined: the PN, the PN GW, and what serves between it and us.
        session: the one with the server.
    """

    link: Link
    joined: Joined
    session: Session


# the states


@dataclass(frozen=True)
class State:
    """All of them."""

    @property
    def last(self) -> Attachment | None:
        """What we are attached by, or were last."""
        raise NotImplementedError


@dataclass(frozen=True)
class Awake(State):
    """It hears what it is asked."""


@dataclass(frozen=True)
class Seeking(Awake):
    """No sessions stand: it sets up, or pauses before it tries again."""

    before: Attachment | None = None

    @property
    def last(self) -> Attachment | None:
        """See `State`."""
        return self.before


@dataclass(frozen=True)
class Arriving(Awake):
    """The sessions were made; the PN GW is told that we are there."""

    at: Attachment

    @property
    def last(self) -> Attachment:
        """See `State`."""
        return self.at


@dataclass(frozen=True)
class Stands(Awake):
    """The sessions stand."""

    at: Attachment

    @property
    def last(self) -> Attachment:
        """See `State`."""
        return self.at


@dataclass(frozen=True)
class Attached(Stands):
    """All is well, as far as we know."""


@dataclass(frozen=True)
class Doubted(Stands):
    """Something failed: it looks after the PN GW before the time."""


@dataclass(frozen=True)
class PutOut(Awake):
    """Others ended our membership, or the PN: we may be let in again, and are in no hurry to ask."""

    before: Attachment

    @property
    def last(self) -> Attachment:
        """See `State`."""
        return self.before


@dataclass(frozen=True)
class Asleep(State):
    """It takes nothing, and does nothing by itself; what happens to its sessions, happens.

    Attributes:
        of: what it is otherwise.
    """

    of: Awake

    @property
    def last(self) -> Attachment | None:
        """See `State`."""
        return self.of.last


@dataclass(frozen=True)
class Left(State):
    """It has left the PN for good."""

    before: Attachment | None

    @property
    def last(self) -> Attachment | None:
        """See `State`."""
        return self.before


# the events


@dataclass(frozen=True, slots=True)
class TakenUp:
    """Sessions came to stand, in place of older ones."""

    at: Attachment


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The PN GW took it that we are there; its uplink is away for so many seconds."""

    at: Attachment
    away: int


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """The PN GW did not take it, or did not answer."""


@dataclass(frozen=True, slots=True)
class Suspected:
    """Something failed."""


@dataclass(frozen=True, slots=True)
class Held:
    """The PN GW holds what we sent, as its uplink is away."""


@dataclass(frozen=True, slots=True)
class Looked:
    """The PN GW answered a sign of life; None: it was not asked, as somebody sets up at this moment."""

    away: int | None


@dataclass(frozen=True, slots=True)
class HomeNamed:
    """The server said where a guest like us is at home; None: we are none."""

    home: Home | None


@dataclass(frozen=True, slots=True)
class Lost:
    """Server or PN GW know our sessions no more."""


@dataclass(frozen=True, slots=True)
class WornOut:
    """Age or use of the sessions make new ones due."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt failed, or the PN GW does not answer; or nobody runs the PNE any more."""


@dataclass(frozen=True, slots=True)
class Expelled:
    """We are put out, or the PN is no more."""

    at: Attachment


@dataclass(frozen=True, slots=True)
class Rested:
    """The pause of who was put out is over."""


@dataclass(frozen=True, slots=True)
class FellAsleep:
    """The application wants to hear nothing for a while."""


@dataclass(frozen=True, slots=True)
class WokeUp:
    """It does again."""


@dataclass(frozen=True, slots=True)
class WentAway:
    """The server took our leave."""


Event = (
    TakenUp
    | Welcomed
    | TurnedAway
    | Suspected
    | Held
    | Looked
    | HomeNamed
    | Lost
    | WornOut
    | Failed
    | Expelled
    | Rested
    | FellAsleep
    | WokeUp
    | WentAway
)


def _asleep(state: Asleep, event: Event) -> Asleep | None:
    after = TRANSITIONS.after(state.of, event)
    return Asleep(after) if isinstance(after, Awake) else None


_WHILE_ASLEEP: Final = (
    *(TakenUp, Welcomed, TurnedAway, Suspected, Held, Looked, HomeNamed),
    *(Lost, WornOut, Failed, Expelled, Rested),
)

TRANSITIONS: Final[Transitions[State, Event]] = Transitions(
    State,
    # an attachment comes
    on(Stands, TakenUp, Attached, lambda _, event: Attached(event.at)),  # the older one served until then
    on(Awake, TakenUp, Arriving, lambda _, event: Arriving(event.at)),
    on(Awake, Welcomed, Attached, lambda _, event: Attached(event.at)),  # whatever was said of the older one meanwhile
    on(Arriving, TurnedAway, Seeking, lambda state, _: Seeking(state.at)),
    # it is looked after
    on(Attached, Suspected, Doubted, lambda state, _: Doubted(state.at)),
    on(Attached, Held, Doubted, lambda state, _: Doubted(state.at)),
    stays(Awake, Held),
    on(Doubted, Looked, Attached, lambda state, _: Attached(state.at)),
    stays(Awake, Looked),
    stays(Awake, HomeNamed),
    # it goes
    on(Stands, Lost, Seeking, lambda state, _: Seeking(state.at)),
    on(Stands, WornOut, Seeking, lambda state, _: Seeking(state.at)),
    on(Stands, Failed, Seeking, lambda state, _: Seeking(state.at)),
    on(Awake, Expelled, PutOut, lambda _, event: PutOut(event.at)),
    on(PutOut, Rested, Seeking, lambda state, _: Seeking(state.before)),
    on(Awake, WentAway, Left, lambda state, _: Left(state.last)),
    # sleep
    on(Awake, FellAsleep, Asleep, lambda state, _: Asleep(state)),
    on(Asleep, WokeUp, Awake, lambda state, _: state.of),
    on(Asleep, WentAway, Left, lambda state, _: Left(state.last)),
    *(Row(Asleep, event, Asleep, _asleep) for event in _WHILE_ASLEEP),
)
"""Whatever is not here changes nothing: it came too late."""
