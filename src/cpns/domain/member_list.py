"""A member list, be it of a personal network or of a service group: the rules that both share, without I/O.

Networks add whom their PN GW lets in as guest, and who stands in for an owner (`cpns.domain.membership`); groups add
their epochs (`cpns.domain.group`).
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from cpns.domain.actor import Actor, Role
from cpns.errors import Refused, Result
from cpns.ids import EntityId


class Policy(StrEnum):
    """What becomes of a PNE that comes and is not on the list."""

    OPEN = "open"
    """It is let in: into a network as member where it has no home yet, else as guest."""
    APPROVAL = "approval"
    """It waits until the owner or the operator approves it."""
    CLOSED = "closed"
    """It is refused."""


class Standing(StrEnum):
    """A PNE's place on a list."""

    MEMBER = "member"
    COMING = "coming"
    """Of a group: it has joined, and is a member from the next epoch on."""
    LEAVING = "leaving"
    """Of a group: it has left, and is in the running epoch still."""
    INVITED = "invited"
    PENDING = "pending"
    BARRED = "barred"


def governs(actor: Actor) -> bool:
    """Whether *actor*, as it is within a network or group, has the rights of its owner."""
    return actor.is_operator or actor.role is Role.OWNER


def come(policy: Policy, standing: Standing | None) -> Standing | None:
    """Return what place a PNE has that comes: MEMBER where it is in, PENDING where it waits, None where it is refused.

    Who is barred stays so.
    """
    if standing is Standing.BARRED:
        return standing
    if standing in (Standing.MEMBER, Standing.INVITED) or policy is Policy.OPEN:
        return Standing.MEMBER
    return Standing.PENDING if policy is Policy.APPROVAL else None


def check_invites(actor: Actor, *, may: bool, standings: Iterable[Standing | None]) -> None:
    """Check that *actor* invites those that stand so: who governs lifts a bar with that, and nobody else does.

    Args:
        actor: as it is within the network or group.
        may: whether somebody who does not govern may invite here.
        standings: of who is invited.

    Raises:
        Refused: NOT_ALLOWED.
    """
    if governs(actor):
        return
    if not may:
        raise Refused(Result.NOT_ALLOWED, "may_not_invite")
    if Standing.BARRED in standings:
        raise Refused(Result.NOT_ALLOWED, "barred")


def check_expels(actor: Actor, whom: Sequence[EntityId], *, may: bool) -> None:
    """Check that *actor* puts *whom* out: itself it does not, it leaves.

    Raises:
        Refused: NOT_ALLOWED.
    """
    if not may:
        raise Refused(Result.NOT_ALLOWED, "may_not_expel")
    if actor.entity_id in whom:
        raise Refused(Result.NOT_ALLOWED, "leave_instead")


def check_operator(actor: Actor) -> None:
    """Check that *actor* settles what operators alone do. Raises `Refused`."""
    if not actor.is_operator:
        raise Refused(Result.NOT_ALLOWED, "operators_alone")


def check_server(actor: Actor) -> None:
    """Check that the server itself decides, or who has it do so. Raises `Refused`."""
    if actor.role is not Role.SERVER:
        check_operator(actor)
