"""Derivations for Group Keys: GKEK, GKDK, broadcast, senders (DEF-6, DEF-7, PROTOCOL section 7)."""

from collections.abc import Sequence

from cpns.crypto import primitives as p
from cpns.crypto.secret import Secret
from cpns.ids import EntityId


def node_key(gkek: Secret, sg_id: str, gateway: EntityId, node: int) -> Secret:
    """Return nk(n), 32 bytes; nodes are numbered like a heap, root 1, children 2n and 2n+1."""
    prk = p.extract(b"cpns1 gk", gkek.reveal())
    return Secret(p.expand(prk, p.enc("cpns1 gk node", sg_id, gateway, node), 32))


def _node_wrap_key(key: Secret, sg_id: str, gateway: EntityId, epoch: int, node: int) -> bytes:
    return p.expand(key.reveal(), p.enc("cpns1 gk wrap", sg_id, gateway, epoch, node), 32)


def wrap_group_key(key: Secret, sg_id: str, gateway: EntityId, epoch: int, node: int, group_key: Secret) -> bytes:
    """Return the Group Key of *epoch* for all members below *node*, 40 bytes."""
    return p.wrap_key(_node_wrap_key(key, sg_id, gateway, epoch, node), group_key.reveal())


def open_group_key(key: Secret, sg_id: str, gateway: EntityId, epoch: int, node: int, wrapped: bytes) -> Secret:
    """Open what `wrap_group_key` closed.

    Raises:
        AuthenticationFailed: another node, epoch, group or gateway.
    """
    return Secret(p.unwrap_key(_node_wrap_key(key, sg_id, gateway, epoch, node), wrapped))


def sender_key(group_key: Secret, sg_id: str, epoch: int, sender: EntityId) -> Secret:
    """Return the key of the messages of one sender in one epoch, 32 bytes."""
    prk = p.extract(b"cpns1 sg", group_key.reveal())
    return Secret(p.expand(prk, p.enc("cpns1 sg sender", sg_id, epoch, sender), 32))


def message_context(sg_id: str, epoch: int, sender: EntityId, seq: bytes) -> bytes:
    """Return the associated data of a sealed message."""
    return p.enc("cpns1 sg message", sg_id, epoch, sender, seq)


def seal_message(group_key: Secret, sg_id: str, epoch: int, sender: EntityId, seq: bytes, plaintext: bytes) -> bytes:
    """Return a message to a group, 16 bytes longer than *plaintext*.

    Args:
        seq: the sender's 96-bit sequence number, 12 bytes, which is the nonce: it gives none twice.
    """
    key = sender_key(group_key, sg_id, epoch, sender)
    return p.Box(key.reveal()).seal(seq, plaintext, message_context(sg_id, epoch, sender, seq))[len(seq) :]


def open_message(group_key: Secret, sg_id: str, epoch: int, sender: EntityId, seq: bytes, sealed: bytes) -> bytes:
    """Open what `seal_message` closed; any member of that epoch can have done so.

    Raises:
        AuthenticationFailed: another group, epoch, sender or number, or changed bytes.
    """
    key = sender_key(group_key, sg_id, epoch, sender)
    return p.Box(key.reveal()).unseal(seq + sealed, message_context(sg_id, epoch, sender, seq))


def message_input(sg_id: str, epoch: int, sender: EntityId, seq: bytes, sealed: bytes) -> bytes:
    """Return what a sender signs of its message: all of it."""
    return p.enc("cpns1 sg signature", sg_id, epoch, sender, seq, sealed)


def broadcast_input(
    sg_id: str, gateway: EntityId, epoch: int, tree: int, wrapped: Sequence[tuple[int, bytes]]
) -> bytes:
    """Return what a PN GW signs of a broadcast: all of it."""
    return p.enc("cpns1 gk broadcast", sg_id, gateway, epoch, tree, [list(one) for one in wrapped])


def verify_key(sign_key: Secret) -> bytes:
    """Return the public half, 32 bytes, of an Ed25519 key of a PN GW or a sender."""
    return p.ed25519_public(sign_key.reveal())


def sign(sign_key: Secret, data: bytes) -> bytes:
    """Return a signature, 64 bytes."""
    return p.ed25519_sign(sign_key.reveal(), data)


def verify(key: bytes, data: bytes, signature: bytes) -> None:
    """Check a signature. Raises `AuthenticationFailed`."""
    p.ed25519_verify(key, data, signature)
