"""Key agreement of suites 1, 2 and 3 (PROTOCOL section 1).

Both ends get their randomness handed in: 32 bytes for X25519, 64 more for ML-KEM on the initiator's side.
"""

from dataclasses import dataclass, field

from cpns.crypto import primitives as p
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, Refused, Result

SEED_BYTES = 96
"""Random bytes that one ephemeral key takes, whatever the suite."""

_NO_SECRET = bytes(32)


@dataclass(frozen=True, slots=True)
class Ephemeral:
    """One side's ephemeral key: `public` is its eph of the message, None in suite 1. Used once, then dropped."""

    suite: int
    public: bytes | None
    seed: Secret = field(repr=False)


def initiate(suite: int, seed: bytes) -> Ephemeral:
    """Return the initiator's ephemeral key, eph_I.

    Args:
        suite: 1, 2 or 3.
        seed: 96 random bytes.

    Raises:
        Refused: the suite is not known.
    """
    public: bytes | None
    if suite == 1:
        public = None
    elif suite == 2:
        public = p.x25519_public(seed[:32])
    elif suite == 3:
        public = p.x25519_public(seed[:32]) + p.mlkem768_public(seed[32:])
    else:
        raise Refused(Result.SUITE_REFUSED, "unknown_suite")
    return Ephemeral(suite, public, Secret(seed))


def agree_as_initiator(own: Ephemeral, eph_r: bytes | None) -> bytes:
    """Return ss from the responder's eph.

    Raises:
        AuthenticationFailed: it does not fit the suite, or is no key.
    """
    seed = own.seed.reveal()
    if own.suite == 1:
        _require(eph_r is None)
        return _NO_SECRET
    _require(eph_r is not None and len(eph_r) == (32 if own.suite == 2 else 32 + 1088))
    other = eph_r or b""
    shared = p.x25519_shared(seed[:32], other[:32])
    return shared if own.suite == 2 else p.mlkem768_decapsulate(seed[32:], other[32:]) + shared


class Responder:
    """The responder's X25519 key for one AUTHENTICATE Request: it may serve all PNEs in it, then it is forgotten."""

    __slots__ = ("_private", "_public")

    def __init__(self, seed: bytes) -> None:
        self._private = Secret(seed[:32])
        self._public: bytes | None = None

    @property
    def x25519(self) -> bytes:
        """The public key that suite 2 sends once for all entries; made at first use, as suite 1 needs none."""
        if self._public is None:
            self._public = p.x25519_public(self._private.reveal())
        return self._public

    def agree(self, suite: int, eph_i: bytes | None) -> tuple[bytes, bytes | None]:
        """Return ss and eph_R for an initiator's eph.

        Raises:
            AuthenticationFailed: *eph_i* does not fit the suite, or is no key.
        """
        _require(suite in (1, 2, 3))
        if suite == 1:
            _require(eph_i is None)
            return _NO_SECRET, None
        _require(eph_i is not None and len(eph_i) == (32 if suite == 2 else 32 + 1184))
        other = eph_i or b""
        shared = p.x25519_shared(self._private.reveal(), other[:32])
        if suite == 2:
            return shared, self.x25519
        secret, ciphertext = p.mlkem768_encapsulate(other[32:])
        return secret + shared, self.x25519 + ciphertext


def _require(fits: bool) -> None:
    if not fits:
        raise AuthenticationFailed("ephemeral_key_does_not_fit_suite")
