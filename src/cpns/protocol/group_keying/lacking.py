"""The PN GW: which member lacks what of the key of an epoch, by the list of its members and by what each was told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from cpns.ids import EntityId


class Lack(Enum):
    """What a member is to be given next."""

    GKDK = "gkdk"
    """Its own keys of the tree, with which it opens broadcasts (DEF-7)."""
    BROADCAST = "broadcast"
    """The Group Key, in the message that is the same for all."""
    KEY = "key"
    """The Group Key, alone: few members are here, or it did not take a broadcast."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a member has, by its own answers.

    Attributes:
        setup: th0 of its SETUP: who sets up anew may have lost all.
        tree: number of the tree that it has a GKDK of; 0: of none.
        epoch: the newest whose key it has.
        failed: the newest for which it took no broadcast.
    """

    setup: bytes | None = None
    tree: int = 0
    epoch: int = 0
    failed: int = 0


def lack(epoch: int, tree: int | None, told: Told) -> Lack | None:
    """Return what a member of an epoch is to be given next, None where it lacks nothing.

    Args:
        epoch: the newest.
        tree: number of the tree under which its key is broadcast; None: it is not.
        told: what the member has.
    """
    if told.epoch >= epoch:
        return None
    if tree is None or told.failed >= epoch:
        return Lack.KEY
    return Lack.BROADCAST if told.tree == tree else Lack.GKDK


def lacking(
    listed: Iterable[EntityId], epoch: int, tree: int | None, told: Mapping[EntityId, Told]
) -> dict[EntityId, Lack]:
    """Return what each member of the list lacks; who lacks nothing is left out."""
    lacks = {pne: lack(epoch, tree, told.get(pne, Told())) for pne in listed}
    return {pne: one for pne, one in lacks.items() if one is not None}


def after(told: Told, given: Lack, epoch: int, tree: int | None, *, took: bool) -> Told:
    """Return what a member has after it was given what it lacked, and said whether it took it."""
    if not took:
        return told if given is Lack.KEY else replace(told, tree=0, failed=epoch)
    if given is Lack.GKDK:
        return replace(told, tree=tree or 0)
    return replace(told, epoch=max(told.epoch, epoch))
