"""From a finished authentication to a live session, at whichever end."""

from cpns.ids import EntityId
from cpns.ports import Clock
from cpns.protocol.established import Established
from cpns.session.table import Session


def begun_at(session: Session, clock: Clock) -> float:
    """Return when a session began, seconds since the epoch: to compare with what is recorded."""
    return clock.now() - (clock.monotonic() - session.since)


def session_of(established: Established, since: float, via: EntityId | None = None) -> Session:
    """Return the session that a finished authentication gives this end.

    Args:
        established: what the procedure returned.
        since: monotonic seconds, now.
        via: at the server, the PN GW that a PNE came through.
    """
    return Session(
        established.profile,
        established.own_id,
        established.peer_id,
        established.own_kid,
        established.peer_kid,
        established.keys,
        since,
        via,
    )
