"""PROTOCOL sections 1, 2 and 4 written out a second time, on the standard library: what a test compares the wire with.

Only AES key wrap and the key agreements come from the crypto library, as Python has none.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

import cbor2
from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey


def enc(*items: object) -> bytes:
    return cbor2.dumps(list(items), canonical=True)


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def expand(prk: bytes, info: bytes, size: int) -> bytes:
    result = block = b""
    count = 0
    while len(result) < size:
        count += 1
        block = mac(prk, block + info + bytes([count]))
        result += block
    return result[:size]


def shared(suite: int, seed: bytes, eph_r: bytes | None) -> bytes:
    """Return ss as the initiator of *seed* has it."""
    if suite == 1:
        return bytes(32)
    assert eph_r is not None
    one = X25519PrivateKey.from_private_bytes(seed[:32]).exchange(X25519PublicKey.from_public_bytes(eph_r[:32]))
    return one if suite == 2 else MLKEM768PrivateKey.from_seed_bytes(seed[32:]).decapsulate(eph_r[32:]) + one


@dataclass(frozen=True)
class Run:
    """All values of one exchange: give it what both sides said and the key they share."""

    profile: str
    m1: Any
    m2: Any
    responder: str
    key: bytes
    ss: bytes = bytes(32)
    gw: str | None = None
    binding: bytes | None = None
    wrapped: bytes | None = None

    @property
    def th0(self) -> bytes:
        m1, m2 = self.m1, self.m2
        initiator = m1.entity_id if hasattr(m1, "entity_id") else m1.cm_device_id
        named = self.profile == "pne-server"
        fields = [
            *(self.profile, m1.suite, self.responder, self.gw, initiator, m1.rand, m1.kid, m1.eph),
            *((m1.procedure, m2.pn_id, m1.need_local, m1.pan_secure) if named else (0, None, False, False)),
            *(m2.rand, m2.kid, m2.eph, self.binding),
        ]
        return hashlib.sha256(enc("cpns1 th0", *fields)).digest()

    @property
    def hs(self) -> bytes:
        es = mac(b"cpns1 es", self.key)
        return mac(expand(es, enc("cpns1 derived", self.th0), 32), self.ss)

    @property
    def session_key(self) -> bytes:
        return expand(self.hs, enc("cpns1 sk", self.th0), 32)

    @property
    def local_eukey(self) -> bytes | None:
        """What W opens to."""
        if self.wrapped is None:
            return None
        return keywrap.aes_key_unwrap(expand(self.hs, enc("cpns1 wrap", self.th0), 32), self.wrapped)

    @property
    def th1(self) -> bytes:
        return hashlib.sha256(enc("cpns1 th1", self.th0, self.wrapped)).digest()

    def _confirm(self, who: str) -> bytes:
        return expand(mac(self.session_key, self.key), enc(f"cpns1 confirm {who}"), 32)

    @property
    def hash_i(self) -> bytes:
        return mac(self._confirm("I"), enc("cpns1 hash I", self.m1.rand, self.m2.rand, self.th1))[:16]

    @property
    def hash_r(self) -> bytes:
        return mac(self._confirm("R"), enc("cpns1 hash R", self.m1.rand, self.m2.rand, self.th1, self.hash_i))[:16]

    @property
    def th2(self) -> bytes:
        return hashlib.sha256(enc("cpns1 th2", self.th1, self.hash_i, self.hash_r)).digest()

    @property
    def oscore_master_secret(self) -> bytes:
        return expand(self.session_key, enc("cpns1 oscore secret", self.th2), 32)

    @property
    def exporter(self) -> bytes:
        return expand(self.session_key, enc("cpns1 export", self.th2), 32)


def gateway_copy(exporter: bytes, gateway_eukey: bytes, th0: bytes, wrapped: bytes) -> bytes:
    """Return the LocalEUKey in W_G."""
    key = expand(mac(exporter, gateway_eukey), enc("cpns1 wrap gw", th0), 32)
    return keywrap.aes_key_unwrap(key, wrapped)
