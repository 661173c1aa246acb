"""Where one PNE stands, for all of its parts: each reads it here, and says here what happened."""

from cpns.pne.states import (
    TRANSITIONS,
    Asleep,
    Attachment,
    Event,
    Left,
    Lost,
    Seeking,
    Stands,
    State,
    Suspected,
)
from cpns.protocol.pne_auth.pne import Joined
from cpns.service.life import Life
from cpns.session.table import Session
from cpns.transport.endpoint import Link


class PneLife(Life[State, Event]):
    """The life of one PNE."""

    def __init__(self) -> None:
        super().__init__(TRANSITIONS, Seeking())

    @property
    def last(self) -> Attachment | None:
        """What it is attached by, or was last."""
        return self.state.last

    @property
    def joined(self) -> Joined | None:
        """What the last SETUP gave."""
        return None if self.last is None else self.last.joined

    @property
    def link(self) -> Link | None:
        """The way to the PN GW that the last SETUP went through."""
        return None if self.last is None else self.last.link

    @property
    def session(self) -> Session | None:
        """The session with the server that it gave."""
        return None if self.last is None else self.last.session

    @property
    def stands(self) -> Attachment | None:
        """What it is attached by, asleep or not; None: no sessions stand."""
        return _stands(self.state)

    @property
    def is_asleep(self) -> bool:
        """Whether it takes nothing."""
        return isinstance(self.state, Asleep)

    @property
    def has_left(self) -> bool:
        """Whether it has left the PN for good."""
        return isinstance(self.state, Left)

    async def attached(self) -> Attachment:
        """Wait until the sessions stand; return what they came with."""
        return await self.until(_stands)

    async def awake(self) -> None:
        """Wait until the sessions stand, and it does not sleep."""
        await self.until(lambda state: state if isinstance(state, Stands) else None)

    def suspect(self, used: Session | None, *, lost: bool) -> None:
        """Something failed under *used*: look after the PN GW at once, or (*lost*) join anew."""
        if used is self.session:  # else it has joined anew meanwhile
            self.happens(Lost() if lost else Suspected())


def _stands(state: State) -> Attachment | None:
    within = state.of if isinstance(state, Asleep) else state
    return within.at if isinstance(within, Stands) else None
