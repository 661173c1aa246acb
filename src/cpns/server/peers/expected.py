"""Sessions that stand with their first message: until then each waits on its connection, and changes nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from cpns.server.peers.peer import GatewayPeer
from cpns.session.table import Session, Sessions
from cpns.shares.party import Party
from cpns.shares.room import Room, Slot
from cpns.transport.endpoint import Link

PENDING: Final = (4096, 512)
"""Sessions that wait for their first message in all, and how many of these only known hosts may have."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class First:
    """A session that waits.

    Attributes:
        since: monotonic seconds.
        begin: lets it stand on a connection; returns who it is with, or None where that connection is gone.
    """

    session: Session
    since: float
    begin: Callable[[Link], Awaitable[GatewayPeer | None]]


class Expected:
    """Those of one process.

    Args:
        sessions: those of this process.
        monotonic: the time.
    """

    def __init__(self, sessions: Sessions, monotonic: Callable[[], float]) -> None:
        self._sessions = sessions
        self._monotonic = monotonic
        self._pending = Room(*PENDING, monotonic)
        self._waiting: dict[Link, tuple[First, Slot]] = {}

    def __contains__(self, link: object) -> bool:
        return link in self._waiting

    def all(self) -> list[Session]:
        """Return the sessions that wait."""
        return [first.session for first, _ in self._waiting.values()]

    def is_busy(self, host: str) -> bool:
        """Whether *host* has such sessions, or had some that nobody used."""
        return bool(self._pending.share(host) or self._pending.silence(host))

    async def wait(self, link: Link, make: Callable[[Party], Awaitable[tuple[First, R]]], *, known: bool) -> R:
        """Have the session that *make* returns wait on a connection; return what it returns besides.

        Args:
            link: it is closed where its place goes to another host.
            make: is given who is at its end.
            known: whether somebody proved itself from its host before.

        Raises:
            NoPlace: it got none.
            Refused: as *make* does.
        """
        party = link.party(None)
        slot = self._pending.enter(party.host, link.close, known=known)
        try:
            first, response = await make(party)
            self._waiting[link] = first, slot
        finally:
            if link not in self._waiting:
                self._pending.leave(slot, proved=False)
        if link.closed:  # while we worked: nobody will tell us of that any more
            self.forget(link)
        return response

    async def begin(self, source: Session, link: Link) -> GatewayPeer | None:
        """A message under *source* has opened on *link*: let it stand if it was waited for; return who it is with.

        Raises:
            Refused: it was revoked meanwhile.
        """
        first, slot = self._waiting.get(link, (None, None))
        if first is None or slot is None or first.session is not source:
            return None
        del self._waiting[link]
        self._pending.leave(slot, proved=True)
        return await first.begin(link)

    def forget(self, link: Link) -> None:
        """A connection is gone, and with it what waited there."""
        first, slot = self._waiting.pop(link, (None, None))
        if first is not None and slot is not None:
            self._sessions.remove(first.session)
            self._pending.leave(slot, proved=False)

    def sweep(self, half_open: float) -> None:
        """Forget what has waited for more than *half_open* seconds."""
        now = self._monotonic()
        for link, (first, _) in list(self._waiting.items()):
            if now - first.since > half_open:
                self.forget(link)
