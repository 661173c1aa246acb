"""How many invitations may be open, and for how long: of networks and service groups alike, without I/O.

An ID is taken onto a list whether it exists or not, so that nobody can look up IDs that way. What bounds the list is
counted here instead.
"""

from typing import Final

from cpns.domain.group import Listed
from cpns.domain.member_list import Standing
from cpns.errors import Refused, Result

OPEN_OF_LIST: Final = 64
"""Open invitations of one network or group."""
OPEN_OF_OWNER: Final = 256
"""Of all networks and groups of one owner."""
INVITATION_SECONDS: Final = 7 * 86400.0
RENEWED_SECONDS: Final = 3600.0
"""Who is invited again within that time keeps the invitation that it has."""


def is_over(since: float, at: float) -> bool:
    """Whether an invitation of then has ended."""
    return since <= ended_before(at)


def is_recent(place: Listed | None, at: float) -> bool:
    """Whether a place on a group's list is an invitation that need not be made anew: that writes, and is told."""
    return place is not None and place.standing is Standing.INVITED and at - place.since < RENEWED_SECONDS


def ended_before(at: float) -> float:
    """Return the time up to which those were made that have ended."""
    return at - INVITATION_SECONDS


def check_open(of_list: int, of_owner: int) -> None:
    """Check how many would be open.

    Args:
        of_list: on the list that they are put on.
        of_owner: on all lists of its owner; 0 where it has none.

    Raises:
        Refused: TOO_MANY.
    """
    if of_list > OPEN_OF_LIST or of_owner > OPEN_OF_OWNER:
        raise Refused(Result.TOO_MANY, "too_many_invitations")
