"""The key schedule that all authentications share (PROTOCOL section 2).

Initiator I proves first, responder R last; both hold K. hash_I is the seeds' hash_PNE, hash_R their hash_server, SK
their session key (AUTH-P3, AUTH-P7, AUTH-S3, AUTH-S4).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cpns.crypto import primitives as p
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed
from cpns.ids import EntityId, PnId

Electives = tuple[tuple[int, object], ...]
"""Label and value of each elective of a message, by label."""


class Profile(StrEnum):
    """Who runs the exchange with whom; in th0, so that no run passes for one of another profile (attack 7)."""

    GW_SERVER = "gw-server"
    PNE_SERVER = "pne-server"
    PNE_GW = "pne-gw"
    CM_SERVER = "cm-server"


@dataclass(frozen=True, slots=True)
class Transcript:
    """All that both sides said before the first proof: M1 and M2, and what they know besides.

    Attributes:
        electives_i: those of M1, as its sender made it.
        electives_r: those of M2. Each map is an element of its own, so that none moves from one message to the other.
    """

    profile: Profile
    suite: int
    responder: EntityId
    initiator: EntityId
    rand_i: bytes
    kid_i: bytes
    eph_i: bytes | None
    rand_r: bytes
    kid_r: bytes
    eph_r: bytes | None
    gw: EntityId | None = None
    procedure: int = 0
    pn_id: PnId | None = None
    need_local: bool = False
    pan_secure: bool = False
    binding: bytes | None = None
    electives_i: Electives = ()
    electives_r: Electives = ()

    def th0(self) -> bytes:
        """Return th0, 32 bytes; without electives it is what it was before there were any."""
        both = (self.electives_i, self.electives_r)
        return p.digest(
            p.enc(
                "cpns1 th0",
                self.profile.value,
                self.suite,
                self.responder,
                self.gw,
                self.initiator,
                self.rand_i,
                self.kid_i,
                self.eph_i,
                self.procedure,
                self.pn_id,
                self.need_local,
                self.pan_secure,
                self.rand_r,
                self.kid_r,
                self.eph_r,
                self.binding,
                *((dict(one) or None for one in both) if any(both) else ()),
            )
        )


class SessionKeys:
    """What a finished exchange leaves: SK and th2; everything else is derived when it is asked for."""

    __slots__ = ("_sk", "th2")

    def __init__(self, sk: Secret, th2: bytes) -> None:
        self._sk = sk
        self.th2 = th2

    def oscore_master_secret(self) -> Secret:
        """Return the OSCORE Master Secret, 32 bytes."""
        return Secret(p.expand(self._sk.reveal(), p.enc("cpns1 oscore secret", self.th2), 32))

    def oscore_master_salt(self) -> bytes:
        """Return the OSCORE Master Salt, 16 bytes."""
        return p.expand(self._sk.reveal(), p.enc("cpns1 oscore salt", self.th2), 16)

    def exporter(self) -> Secret:
        """Return the exporter, 32 bytes."""
        return Secret(p.expand(self._sk.reveal(), p.enc("cpns1 export", self.th2), 32))


class Schedule:
    """es, hs, SK, WK of one run; then, with W known, th1 and the proofs."""

    __slots__ = ("_es", "_hs", "_key", "_prk", "_sk", "th0")

    def __init__(self, key: Secret, th0: bytes, ss: bytes) -> None:
        self._key = key
        self.th0 = th0
        self._es = _ES.mac(key.reveal())
        self._hs = p.extract(p.expand(self._es, _DERIVED + th0, 32), ss)
        self._prk = p.Keyed(self._hs)
        self._sk = self._prk.expand(_SK + th0)

    @property
    def session_key(self) -> Secret:
        """SK, 32 bytes."""
        return Secret(self._sk)

    def wrap_key(self) -> Secret:
        """WK, 32 bytes; it wraps one LocalEUKey and nothing else."""
        return Secret(self._prk.expand(_WRAP + self.th0))

    def wrap(self, local_eukey: Secret) -> bytes:
        """Return W, 40 bytes: the LocalEUKey for the initiator (AUTH-S2)."""
        return p.wrap_key(self.wrap_key().reveal(), local_eukey.reveal())

    def unwrap(self, wrapped: bytes) -> Secret:
        """Return the LocalEUKey in W (AUTH-P5).

        Raises:
            AuthenticationFailed: W was made for another run, PNE or key (attacks 3, 4, 5).
        """
        return Secret(p.unwrap_key(self.wrap_key().reveal(), wrapped))

    def proofs(self, rand_i: bytes, rand_r: bytes, wrapped: bytes | None) -> "Proofs":
        """Return the proofs of this run; *wrapped* is W as delivered, so that hash_I confirms the delivery."""
        th1 = p.digest(p.enc("cpns1 th1", self.th0, wrapped))
        return Proofs(self._sk, p.Keyed(p.extract(self._sk, self._key.reveal())), rand_i, rand_r, th1)

    def intermediate(self) -> dict[str, bytes]:
        """Return es and hs, for known-answer tests alone."""
        return {"es": self._es, "hs": self._hs}


class Proofs:
    """hash_I and hash_R of one run, and the session keys behind them."""

    __slots__ = ("_ck", "_rands", "_sk", "th1")

    def __init__(self, sk: bytes, ck: p.Keyed, rand_i: bytes, rand_r: bytes, th1: bytes) -> None:
        self._sk = sk
        self._ck = ck
        self._rands = (rand_i, rand_r)
        self.th1 = th1

    def hash_i(self) -> bytes:
        """Return hash_I, 16 bytes: hash_PNE, or the PN GW's proof."""
        key = self._ck.expand(_CONFIRM_I)
        return p.mac16(key, p.enc("cpns1 hash I", *self._rands, self.th1))

    def hash_r(self, hash_i: bytes) -> bytes:
        """Return hash_R, 16 bytes: hash_server, or the responding PN GW's proof."""
        key = self._ck.expand(_CONFIRM_R)
        return p.mac16(key, p.enc("cpns1 hash R", *self._rands, self.th1, hash_i))

    def hash_refused(self, hash_i: bytes, result: int) -> bytes:
        """Return what tells the initiator of *hash_i*, and nobody else, that it is refused with *result*: 16 bytes."""
        key = self._ck.expand(_CONFIRM_REFUSED)
        return p.mac16(key, p.enc("cpns1 hash refused", *self._rands, self.th1, hash_i, result))

    def told_by(self, hash_refused: bytes, hash_i: bytes, results: Iterable[int]) -> int | None:
        """Return which of *results* the responder says with *hash_refused*; None: none of them."""
        found = [one for one in results if p.equal(self.hash_refused(hash_i, one), hash_refused)]
        return found[0] if found else None

    def verify_i(self, hash_i: bytes) -> None:
        """Check hash_I in constant time.

        Raises:
            AuthenticationFailed: another key, or anything in th1 differs between the two sides.
        """
        if not p.equal(self.hash_i(), hash_i):
            raise AuthenticationFailed("wrong_hash")

    def verify_r(self, hash_i: bytes, hash_r: bytes) -> None:
        """Check hash_R in constant time.

        Raises:
            AuthenticationFailed: as for `verify_i`.
        """
        if not p.equal(self.hash_r(hash_i), hash_r):
            raise AuthenticationFailed("wrong_hash")

    def session_keys(self, hash_i: bytes, hash_r: bytes) -> SessionKeys:
        """Return the keys of the session that both proofs agree on."""
        return SessionKeys(Secret(self._sk), p.digest(p.enc("cpns1 th2", self.th1, hash_i, hash_r)))


_CONFIRM_I = p.enc("cpns1 confirm I")
_CONFIRM_R = p.enc("cpns1 confirm R")
_CONFIRM_REFUSED = p.enc("cpns1 confirm refused")
_ES = p.Keyed(b"cpns1 es")
_DERIVED = p.head("cpns1 derived")
_SK = p.head("cpns1 sk")
_WRAP = p.head("cpns1 wrap")
