"""The primitives of PROTOCOL section 1, by its names: enc, H, MAC, MAC16, Extract, Expand, KW; and key agreement.

Functions take and give bytes; `Secret` stands at the edges of this package (`schedule`, `local_eukey`, ...).
"""

import cbor2
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes, hmac, keywrap
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from cpns.errors import AuthenticationFailed

_SHA256 = hashes.SHA256()
_FRESH = hashes.Hash(_SHA256)
X25519_BYTES = 32


def enc(*items: object) -> bytes:
    """Return the deterministic CBOR of the array of *items*: text tstr, bytes bstr, absent None.

    The array's lengths keep ``(a || x, b)`` and ``(a, x || b)`` apart (attack 14).
    """
    return cbor2.dumps(items)


def digest(data: bytes) -> bytes:
    """H: SHA-256."""
    state = _FRESH.copy()  # a new one costs three times as much: the library looks at the algorithm's class
    state.update(data)
    return state.finalize()


def mac(key: bytes, data: bytes) -> bytes:
    """MAC: HMAC-SHA-256, 32 bytes."""
    state = hmac.HMAC(key, _SHA256)
    state.update(data)
    return state.finalize()


def mac16(key: bytes, data: bytes) -> bytes:
    """MAC16: the first 16 bytes of MAC."""
    return mac(key, data)[:16]


class Keyed:
    """MAC and Expand under a key that serves more than once: it is scheduled once, and copied for each use."""

    __slots__ = ("_state",)

    def __init__(self, key: bytes) -> None:
        self._state = hmac.HMAC(key, _SHA256)

    def mac(self, data: bytes) -> bytes:
        """MAC: 32 bytes."""
        state = self._state.copy()
        state.update(data)
        return state.finalize()

    def mac16(self, data: bytes) -> bytes:
        """MAC16: the first 16 bytes of MAC."""
        return self.mac(data)[:16]

    def expand(self, info: bytes) -> bytes:
        """Expand to 32 bytes, which is one block (RFC 5869 2.3)."""
        state = self._state.copy()
        state.update(info + b"\x01")
        return state.finalize()


def extract(salt: bytes, ikm: bytes) -> bytes:
    """Extract of HKDF-SHA-256 (RFC 5869 2.2)."""
    return mac(salt, ikm)


def expand(prk: bytes, info: bytes, length: int) -> bytes:
    """Expand of HKDF-SHA-256 (RFC 5869 2.3)."""
    if 0 < length <= 32:
        return mac(prk, info + b"\x01")[:length]  # one block, and half the work of the library's object
    return HKDFExpand(_SHA256, length, info).derive(prk)


def head(label: str) -> bytes:
    """Return what stands before *x* in ``enc(label, x)`` for every *x* of 32 bytes."""
    return enc(label, bytes(32))[:-32]


def wrap_key(key: bytes, plaintext: bytes) -> bytes:
    """KW: AES-256 key wrap (RFC 3394); *key* must serve this one wrapping only."""
    return keywrap.aes_key_wrap(key, plaintext)


def unwrap_key(key: bytes, wrapped: bytes) -> bytes:
    """Open what `wrap_key` closed.

    Raises:
        AuthenticationFailed: another key, or changed bytes.
    """
    try:
        return keywrap.aes_key_unwrap(key, wrapped)
    except (keywrap.InvalidUnwrap, ValueError) as error:
        raise AuthenticationFailed("wrapped_key_does_not_open") from error


def equal(a: bytes, b: bytes) -> bool:
    """Compare in constant time."""
    return constant_time.bytes_eq(a, b)


class Box:
    """AES-256-GCM under a key that serves more than once: it is scheduled once."""

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, nonce: bytes, plaintext: bytes, context: bytes) -> bytes:
        """Seal, *nonce* in front: 12 bytes, never twice under one key; *context* is authenticated, not carried."""
        return nonce + self._aead.encrypt(nonce, plaintext, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Open what `seal` closed.

        Raises:
            AuthenticationFailed: another key or context, or changed bytes.
        """
        try:
            return self._aead.decrypt(sealed[:12], sealed[12:], context)
        except (InvalidTag, ValueError) as error:
            raise AuthenticationFailed("sealed_data_does_not_open") from error


def stretch(passphrase: bytes, salt: bytes, *, iterations: int, lanes: int, memory_kib: int) -> bytes:
    """Argon2id (RFC 9106): 32 bytes from a passphrase."""
    return Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory_kib).derive(passphrase)


def x25519_public(private: bytes) -> bytes:
    """Return the public key of *private* (32 random bytes)."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def x25519_shared(private: bytes, public: bytes) -> bytes:
    """Return the shared secret.

    Raises:
        AuthenticationFailed: *public* is no key, or a point that gives zero (RFC 7748 6.1).
    """
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise AuthenticationFailed("bad_ephemeral_key") from error


def ed25519_public(private: bytes) -> bytes:
    """Return the public key of *private* (32 random bytes)."""
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def ed25519_sign(private: bytes, data: bytes) -> bytes:
    """Return the signature, 64 bytes (RFC 8032)."""
    return Ed25519PrivateKey.from_private_bytes(private).sign(data)


def ed25519_verify(public: bytes, data: bytes, signature: bytes) -> None:
    """Check a signature.

    Raises:
        AuthenticationFailed: another key, or changed bytes.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError) as error:
        raise AuthenticationFailed("wrong_signature") from error


def mlkem768_public(seed: bytes) -> bytes:
    """Return the encapsulation key, 1184 bytes, of the key pair made from *seed* (64 random bytes)."""
    return MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()


def mlkem768_encapsulate(public: bytes) -> tuple[bytes, bytes]:
    """Return shared secret (32) and ciphertext (1088) for *public*.

    Raises:
        AuthenticationFailed: *public* is no encapsulation key.
    """
    try:
        return MLKEM768PublicKey.from_public_bytes(public).encapsulate()
    except ValueError as error:
        raise AuthenticationFailed("bad_ephemeral_key") from error


def mlkem768_decapsulate(seed: bytes, ciphertext: bytes) -> bytes:
    """Return the shared secret in *ciphertext*; a wrong one gives another secret, as FIPS 203 has it.

    Raises:
        AuthenticationFailed: *ciphertext* has not 1088 bytes.
    """
    try:
        return MLKEM768PrivateKey.from_seed_bytes(seed).decapsulate(ciphertext)
    except ValueError as error:
        raise AuthenticationFailed("bad_ephemeral_key") from error
