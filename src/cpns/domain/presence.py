"""How a member can be reached, since when that is known, and from whom (FN-4): a rule without I/O."""

from typing import Final, NamedTuple

from cpns.wire.registry import Presence, Source

IDLE_SECONDS: Final = 60.0
"""A member that was not heard end to end for so long is idle."""


class Fact(NamedTuple):
    """A state, when it was learned (seconds since the epoch), and who told."""

    presence: Presence
    at: float
    source: Source


def current(fact: Fact | None, now: float, *, stands: bool, started_at: float) -> Fact:
    """Return what is to be said of a member now.

    Args:
        fact: the newest that was learned of it; None since the server started.
        now: seconds since the epoch.
        stands: whether its session stands and its PN GW is connected; without that, nothing can reach it.
        started_at: when the server started, which is as far back as it can remember.
    """
    if not stands:
        if fact is not None and fact.presence is Presence.AWAY:
            return fact
        return Fact(Presence.AWAY, started_at, Source.SERVER)
    if fact is None or fact.presence is Presence.AWAY:  # its session stands, and nobody has heard it since
        return Fact(Presence.IDLE, started_at if fact is None else fact.at, Source.SERVER)
    if fact.presence is Presence.CONNECTED and now - fact.at > IDLE_SECONDS:
        return Fact(Presence.IDLE, fact.at + IDLE_SECONDS, Source.SERVER)
    return fact
