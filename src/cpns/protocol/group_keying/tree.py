"""The PN GW: one GKEK for each group, the seed of a key tree; a leaf of it for each member (DEF-6).

Nodes are numbered like a heap, root 1, children 2n and 2n+1. A leaf is given once: who comes after a member that left
gets another, so that no one GKDK ever covers two members.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from cpns.crypto import group
from cpns.crypto.secret import Secret
from cpns.ids import EntityId, SgId
from cpns.wire.group_messages import GkdkRequest, GroupKeyBroadcast, PathEntry, WrappedEntry
from cpns.wire.registry import MAX_BATCH

SPARE: Final = 2
"""A fresh tree has leaves for this many times its members, and at least `LEAST`."""
LEAST: Final = 8


@dataclass(frozen=True, slots=True)
class Tree:
    """A GKEK and who has which leaf of its tree.

    Attributes:
        number: of this GKEK at this PN GW; grows with each new one.
        gkek: the seed of the tree; never leaves the PN GW.
        depth: there are ``2 ** depth`` leaves.
        given: leaves given so far, to members present or gone.
        leaves: of the present members.
    """

    sg_id: SgId
    gateway_id: EntityId
    number: int
    gkek: Secret
    depth: int
    given: int = 0
    leaves: tuple[tuple[EntityId, int], ...] = ()

    @property
    def members(self) -> dict[EntityId, int]:
        """The present members, and the leaf of each."""
        return dict(self.leaves)


def plant(sg_id: SgId, gateway_id: EntityId, number: int, gkek: Secret, members: Iterable[EntityId]) -> Tree:
    """Return a tree with a fresh *gkek*, and a leaf for each of *members*."""
    names = sorted(members)
    depth = (max(LEAST, SPARE * len(names)) - 1).bit_length()
    leaves = tuple((pne, leaf) for leaf, pne in enumerate(names))
    return Tree(sg_id, gateway_id, number, gkek, depth, len(names), leaves)


def change(tree: Tree, members: Iterable[EntityId]) -> Tree | None:
    """Return the tree with exactly *members*; None where a new GKEK is due: no leaf is left, or the cover is too large.

    "Too large" is twice what a fresh tree for so many may need, one node for each bit of their number, or more than one
    message carries: a new GKEK costs a message to every member, so one that leaves must not call for it.
    """
    wanted = set(members)
    stay = [(pne, leaf) for pne, leaf in tree.leaves if pne in wanted]
    new = sorted(wanted.difference(tree.members))
    if tree.given + len(new) > 2**tree.depth:
        return None
    added = [(pne, tree.given + i) for i, pne in enumerate(new)]
    changed = replace(tree, given=tree.given + len(new), leaves=(*stay, *added))
    size = len(cover((leaf for _, leaf in changed.leaves), tree.depth))
    return None if size > min(2 * (len(wanted).bit_length() + 1), MAX_BATCH) else changed


def cover(leaves: Iterable[int], depth: int) -> list[int]:
    """Return the smallest set of nodes below which are exactly *leaves*, in order."""
    level = {2**depth + leaf for leaf in leaves}
    found: list[int] = []
    while level:
        pairs = {node // 2 for node in level if node % 2 == 0 and node + 1 in level}
        found += [node for node in level if node // 2 not in pairs or node == 1]
        level = pairs
    return sorted(found)


def gkdk(tree: Tree, pne: EntityId, verify_key: bytes) -> GkdkRequest:
    """Return what a member gets in its hop session: the key of every node from the root to its leaf (DEF-7)."""
    node = 2**tree.depth + tree.members[pne]
    path = []
    while node:
        path.append(PathEntry(node, group.node_key(tree.gkek, tree.sg_id, tree.gateway_id, node).reveal()))
        node //= 2
    return GkdkRequest(tree.sg_id, tree.number, verify_key, tuple(reversed(path)))


def broadcast(tree: Tree, epoch: int, group_key: Secret, sign_key: Secret) -> GroupKeyBroadcast:
    """Return the Group Key of *epoch* for the present members: the same message for all of them.

    It is signed, as every member knows the key of the root and could make one up.
    """
    entries = []
    for node in cover((leaf for _, leaf in tree.leaves), tree.depth):
        key = group.node_key(tree.gkek, tree.sg_id, tree.gateway_id, node)
        wrapped = group.wrap_group_key(key, tree.sg_id, tree.gateway_id, epoch, node, group_key)
        entries.append(WrappedEntry(node, wrapped))
    signed = group.broadcast_input(
        tree.sg_id, tree.gateway_id, epoch, tree.number, [(one.node, one.wrapped) for one in entries]
    )
    signature = group.sign(sign_key, signed)
    return GroupKeyBroadcast(tree.sg_id, tree.gateway_id, epoch, tree.number, tuple(entries), signature)
