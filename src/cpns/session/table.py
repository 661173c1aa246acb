"""The sessions of one entity, found by OSCORE key ID (incoming) and by peer (outgoing).

A session lives in memory alone: after a restart there is none, so no (key, nonce) pair can be used twice.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Final

from cpns.crypto.schedule import Profile, SessionKeys
from cpns.errors import Refused, Result
from cpns.ids import EntityId

OVERDUE: Final = 2.0
"""Times the age at which an end renews a session: then it is over there, however long the new one takes."""


@dataclass(eq=False, slots=True)
class Session:
    """One secure session, as one end sees it.

    Attributes:
        own_kid: incoming messages carry it.
        peer_kid: outgoing messages carry it.
        via: the PN GW that a `pne-server` session runs through; None for the others.
        since: monotonic seconds of its establishment, for its age.
        until: likewise of its end: then it seals and opens nothing more, whether it was replaced or not.
        confirmed: whether a message of the peer has opened under it. A responder knows only then that the peer
            got the last message of the exchange.
        plain: whether the peer takes no electives: it refused a message that had some.
        protection: what the transport keeps with it: OSCORE contexts, made with the first message.
    """

    profile: Profile
    own_id: EntityId
    peer_id: EntityId
    own_kid: bytes
    peer_kid: bytes
    keys: SessionKeys
    since: float
    via: EntityId | None = None
    until: float = inf
    confirmed: bool = False
    plain: bool = False
    protection: object = field(default=None, repr=False)


class Sessions:
    """The live sessions of one entity: at most one with each peer; the newest replaces the older.

    Args:
        age: seconds after which any of them ends.
    """

    def __init__(self, age: float = inf) -> None:
        self._age = age
        self._by_kid: dict[bytes, Session] = {}
        self._by_peer: dict[EntityId, Session] = {}
        self._reserved: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._by_peer)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_peer.values()))

    def reserve(self, candidates: Iterable[bytes], avoid: bytes) -> bytes:
        """Return the first of *candidates* that is no live session's ID, not *avoid*, and not handed out before.

        It stays reserved until `release`.

        Raises:
            Refused: TOO_MANY, no candidate is free.
        """
        for kid in candidates:
            if kid != avoid and kid not in self._by_kid and kid not in self._reserved:
                self._reserved.add(kid)
                return kid
        raise Refused(Result.TOO_MANY, "no_free_kid")

    def release(self, kids: Iterable[bytes]) -> None:
        """Give back what `reserve` handed out, whether a session came of it or not."""
        self._reserved.difference_update(kids)

    def expect(self, session: Session) -> None:
        """Let messages under *session* be opened, while an older one with that peer stands until `add`."""
        session.until = session.since + self._age
        self._by_kid[session.own_kid] = session

    def add(self, session: Session) -> None:
        """Make *session* the one with its peer; an older one with that peer is gone."""
        older = self._by_peer.get(session.peer_id)
        if older is not None:
            self.remove(older)
        self.expect(session)
        self._by_peer[session.peer_id] = session

    def remove(self, session: Session) -> None:
        """End *session*; nothing happens when it was replaced already."""
        if self._by_kid.get(session.own_kid) is session:
            del self._by_kid[session.own_kid]
        if self._by_peer.get(session.peer_id) is session:
            del self._by_peer[session.peer_id]

    def with_peer(self, peer: EntityId) -> Session | None:
        """Return the session that protects a message to *peer* (SES-2), or None."""
        return self._by_peer.get(peer)

    def of_kid(self, kid: bytes) -> Session | None:
        """Return the session that an incoming message names, or None."""
        return self._by_kid.get(kid)
