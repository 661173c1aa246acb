"""The keys of an OSCORE security context (RFC 8613 3.2.1), with HKDF-SHA-256 and AES-CCM-16-64-128."""

from dataclasses import dataclass
from typing import Final

from cpns.crypto import primitives as p
from cpns.crypto.aead import KEY_BYTES, NONCE_BYTES, Ccm
from cpns.crypto.secret import Secret

AES_CCM_16_64_128: Final = 10
"""Its number in the registry of COSE algorithms (RFC 9053 4.2)."""


@dataclass(frozen=True, slots=True)
class OscoreKeys:
    """Both directions.

    Attributes:
        sender: of what this end sends.
        recipient: of what it takes.
        common_iv: 13 bytes, of which each nonce is made.
    """

    sender: Ccm
    recipient: Ccm
    common_iv: bytes


def oscore_output(prk: p.Keyed, owner: bytes, id_context: bytes | None, kind: str, length: int) -> bytes:
    """Return one output of the derivation: the ``Key`` of the entity *owner*, or the ``IV`` with an empty *owner*."""
    return prk.expand(p.enc(owner, id_context, AES_CCM_16_64_128, kind, length))[:length]


def oscore_keys(
    secret: Secret, salt: bytes, sender_id: bytes, recipient_id: bytes, id_context: bytes | None = None
) -> OscoreKeys:
    """Derive what both ends have in common; the two IDs change places between them."""
    prk = p.Keyed(p.extract(salt, secret.reveal()))
    return OscoreKeys(
        Ccm(oscore_output(prk, sender_id, id_context, "Key", KEY_BYTES)),
        Ccm(oscore_output(prk, recipient_id, id_context, "Key", KEY_BYTES)),
        oscore_output(prk, b"", id_context, "IV", NONCE_BYTES),
    )
