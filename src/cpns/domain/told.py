"""What an operator is told of a refusal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cpns.domain.reasons import sentence
from cpns.errors import Conflict, NoAnswer, NotFound, Refused, Result, Unavailable, UserError

_WHY: Final = {
    "not_in_this_pn": "It is not in this network: see `cpns network show`.",
    "not_in_this_group": "It is not on the list of this group: see `cpns group show`.",
    "no_such_candidate": "Only another member can own the group: see `cpns group show`.",
    "away": "It can't be reached now, and has to agree: see `cpns explain`.",
}
"""Where the operator of a server can do more than whoever has a device."""


@contextmanager
def telling() -> Iterator[None]:
    """Turn a refusal into what the operator is told of it."""
    try:
        yield
    except Refused as error:
        raise told(error) from error


def told(error: Refused) -> UserError:
    """Return what the operator is told of a refusal."""
    if error.result is Result.UNKNOWN_SG:
        return NotFound("unknown_group", "There is no such group any more: see `cpns group list`.")
    if error.result is Result.UNKNOWN_PN:
        return NotFound("unknown_network", "There is no such network any more: see `cpns network list`.")
    said = _WHY.get(error.reason) or sentence(error)
    return (Unavailable if isinstance(error, NoAnswer) else Conflict)(error.reason, said)
