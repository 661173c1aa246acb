"""When an epoch of a service group begins, and how long an older one is taken: rules, without I/O (DEF-6).

Who is put out is out with an epoch at once, and nothing is taken under an older one. Who comes or leaves by itself
waits until a second after the last epoch began, with all others that do: else one PNE that comes and goes would keep
the group's keys from ever arriving. Until then who comes is `COMING`, and has no key of the running epoch; who leaves
is `LEAVING`, and has it still.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cpns.domain import group as rules
from cpns.domain.group import Group, GroupChange, Listed, Places
from cpns.domain.invitation import is_over
from cpns.domain.member_list import Standing
from cpns.ids import EntityId

GATHER_SECONDS: Final = 1.0
"""Between two epochs, unless somebody is put out."""
OLDER_SECONDS: Final = 2.0
"""An epoch is taken for so long after its end, if nobody was put out since."""

RUNNING: Final = (Standing.MEMBER, Standing.LEAVING)
"""They have, or may get, the key of the running epoch: what peers are told of who is in the group."""
_WAITING = (Standing.COMING, Standing.LEAVING)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a decision makes of the list of a group, and of its epochs.

    Attributes:
        standings: the places that change; None takes the PNE off the list.
        begins: an epoch begins.
        closes: nothing under an older epoch is taken any more.
        due: when the next epoch is to begin; None: nothing waits for it.
        shown: whether the SG Inventory tells of it.
    """

    standings: Mapping[EntityId, Standing | None]
    begins: bool
    closes: bool
    due: float | None
    shown: bool


def seen(places: Places, at: float) -> dict[EntityId, Listed]:
    """Return the list as the rules of `cpns.domain.group` see it: without who leaves, or whose invitation is over."""
    return {
        pne: one
        for pne, one in places.items()
        if one.standing is not Standing.LEAVING and not (one.standing is Standing.INVITED and is_over(one.since, at))
    }


def is_in(place: Listed | None) -> bool:
    """Whether a place is that of somebody who is in the group, comes, or has not left yet."""
    return place is not None and place.standing in (*RUNNING, *_WAITING)


def running(listed: Iterable[Listed]) -> tuple[EntityId, ...]:
    """Return who is in the running epoch."""
    return tuple(one.pne_id for one in listed if one.standing in RUNNING)


def turn(group: Group, places: Places, change: GroupChange, at: float) -> Turn:
    """Return what *change* does, at once or with the next epoch.

    Args:
        group: as it is, as is its whole list, *places*.
        change: decided by a rule.
        at: seconds since the epoch.
    """
    was: dict[EntityId, Standing | None] = {pne: rules.standing(places, pne) for pne in change.standings}
    new = {pne: how if change.puts_out else _gathered(was[pne], how) for pne, how in change.standings.items()}
    # who is put out; and who leaves and is put on the list anew, as it can't have two places
    begins = any(was[pne] in RUNNING and how not in RUNNING for pne, how in new.items())
    due = group.due
    if any(how in _WAITING and how is not was[pne] for pne, how in new.items()):
        due = _due(group, at)
        begins = begins or due <= at
    changed = {pne: how for pne, how in new.items() if how is not was[pne] or how is Standing.INVITED}
    closes = change.puts_out and any(how in (*RUNNING, Standing.COMING) for how in was.values())
    if begins:
        return begun(places, changed, closes=closes)
    if not any(how in _WAITING for how in _after(places, changed).values()):
        due = None
    shown = any(
        how is not Standing.COMING and _as_shown(how) is not _as_shown(was[pne]) for pne, how in changed.items()
    )
    return Turn(changed, begins=False, closes=closes, due=due, shown=shown)


def begun(places: Places, changed: Mapping[EntityId, Standing | None], *, closes: bool = False) -> Turn:
    """Return the beginning of an epoch, with *changed* and all that waits for it."""
    ends = {pne: _settled(how) for pne, how in _after(places, changed).items()}
    moved = {pne: how for pne, how in ends.items() if how is not rules.standing(places, pne) or pne in changed}
    return Turn(moved, begins=True, closes=closes, due=None, shown=True)


def _after(places: Places, changed: Mapping[EntityId, Standing | None]) -> dict[EntityId, Standing | None]:
    return {pne: one.standing for pne, one in places.items()} | dict(changed)


def _settled(how: Standing | None) -> Standing | None:
    return Standing.MEMBER if how is Standing.COMING else None if how is Standing.LEAVING else how


def is_due(group: Group, at: float) -> bool:
    """Whether the next epoch is to begin; also where the clock was set back, and would have it wait for long."""
    return group.due is not None and not 0 < group.due - at <= GATHER_SECONDS


def is_taken(ended_at: float | None, at: float) -> bool:
    """Whether messages under an epoch are taken: the running one, and one that ended lately."""
    return ended_at is None or 0 <= at - ended_at < OLDER_SECONDS


def _gathered(was: Standing | None, how: Standing | None) -> Standing | None:
    """Return the place of who comes or goes by itself, until the next epoch."""
    if how is Standing.MEMBER:
        return Standing.MEMBER if was in RUNNING else Standing.COMING  # who left just now comes back as it was
    if how is None and was in RUNNING:
        return Standing.LEAVING
    return how


def _due(group: Group, at: float) -> float:
    wanted = group.begun + GATHER_SECONDS if group.due is None else group.due
    return min(max(at, wanted), at + GATHER_SECONDS)


def _as_shown(standing: Standing | None) -> Standing | None:
    return Standing.MEMBER if standing is Standing.LEAVING else standing
