"""Cookies of a PN GW: what a key of its own makes of who asks, and from where (docs/protocol.md, section 10)."""

from typing import Final

from cpns.crypto import primitives as p
from cpns.crypto.secret import Secret
from cpns.ids import EntityId

TAG_BYTES: Final = 8


class CookieKey:
    """One key, which serves for a short time."""

    __slots__ = ("_key",)

    def __init__(self, key: Secret) -> None:
        self._key = p.Keyed(key.reveal())

    def tag(self, host: str, port: int, entity: EntityId, rand: bytes) -> bytes:
        """Return what it makes of an M1 with that ID and rand, from that address: 8 bytes."""
        return self._key.mac16(p.enc("cpns1 echo", host, port, entity, rand))[:TAG_BYTES]

    def is_tag(self, tag: bytes, host: str, port: int, entity: EntityId, rand: bytes) -> bool:
        """Return whether *tag* is what it makes of that, in constant time."""
        return p.equal(self.tag(host, port, entity, rand), tag)
