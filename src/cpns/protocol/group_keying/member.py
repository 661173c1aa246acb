"""The PNE: it opens a broadcast with its GKDK (DEF-7)."""

from dataclasses import dataclass, field
from itertools import pairwise

from cpns.crypto import group
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from cpns.ids import EntityId, SgId
from cpns.wire.group_messages import GkdkRequest, GroupKeyBroadcast


@dataclass(frozen=True, slots=True)
class Gkdk:
    """What a member has of the key tree at its PN GW.

    Attributes:
        tree: number of the GKEK.
        verify_key: of the PN GW, Ed25519.
        path: node to its key, from the member's leaf to the root.
    """

    sg_id: SgId
    gateway_id: EntityId
    tree: int
    verify_key: bytes
    path: dict[int, Secret] = field(repr=False)


def take(message: GkdkRequest, gateway: EntityId) -> Gkdk:
    """Return the GKDK in a message of the PN GW that the hop session proved.

    Raises:
        AuthenticationFailed: it is no path from a leaf to the root.
    """
    nodes = [one.node for one in message.entries]
    if nodes[0] != 1 or any(child // 2 != parent for parent, child in pairwise(nodes)):
        raise AuthenticationFailed("no_path_of_the_tree")
    path = {one.node: Secret(one.node_key) for one in message.entries}
    return Gkdk(message.sg_id, gateway, message.tree, message.verify_key, path)


def open_broadcast(own: Gkdk, message: GroupKeyBroadcast) -> Secret:
    """Return the Group Key in a broadcast.

    Raises:
        AuthenticationFailed: it is of another PN GW, group or tree, not signed by that PN GW, or not for us.
    """
    if (message.sg_id, message.gateway_id, message.tree) != (own.sg_id, own.gateway_id, own.tree):
        raise AuthenticationFailed("broadcast_of_another_tree")
    wrapped = [(one.node, one.wrapped) for one in message.entries]
    signed = group.broadcast_input(message.sg_id, message.gateway_id, message.epoch, message.tree, wrapped)
    group.verify(own.verify_key, signed, message.signature)
    for node, closed in wrapped:
        if node in own.path:
            return group.open_group_key(own.path[node], message.sg_id, message.gateway_id, message.epoch, node, closed)
    raise AuthenticationFailed("broadcast_not_for_us")
