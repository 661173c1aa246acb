"""AES-CCM-16-64-128 (RFC 9053 4.2), which protects OSCORE messages."""

from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from cpns.errors import AuthenticationFailed

KEY_BYTES: Final = 16
NONCE_BYTES: Final = 13
TAG_BYTES: Final = 8
MAX_PLAINTEXT: Final = 2**16 - 1
"""A nonce of 13 bytes leaves two for the length."""
SCHEDULED: Final = 1024
"""Keys that are kept scheduled: those of 512 sessions. A scheduled key takes the memory of fifteen, and to schedule it
half of what it takes to seal a message."""


@lru_cache(SCHEDULED)
def _scheduled(key: bytes) -> AESCCM:
    return AESCCM(key, tag_length=TAG_BYTES)


class Ccm:
    """One key, which serves many messages: it stays scheduled while it is among those that were used last.

    Args:
        key: 16 bytes.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<Ccm>"

    def seal(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        """Return ciphertext and tag; *nonce*, 13 bytes, never twice under one key.

        Raises:
            ValueError: *plaintext* is longer than `MAX_PLAINTEXT`.
        """
        if len(plaintext) > MAX_PLAINTEXT:
            raise ValueError(f"a sealed message holds {MAX_PLAINTEXT} bytes at most")
        return _scheduled(self._key).encrypt(nonce, plaintext, aad)

    def unseal(self, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
        """Open what `seal` closed.

        Raises:
            AuthenticationFailed: another key, nonce or AAD, changed bytes, or more of them than `seal` makes.
        """
        if len(sealed) > MAX_PLAINTEXT + TAG_BYTES:
            raise AuthenticationFailed("protection_invalid")
        try:
            return _scheduled(self._key).decrypt(nonce, sealed, aad)
        except InvalidTag as error:
            raise AuthenticationFailed("protection_invalid") from error
