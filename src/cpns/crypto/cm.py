"""Derivations for Changing-Mode devices (S2 steps 1 to 16, PROTOCOL section 6)."""

import base64

from cpns.crypto import primitives as p
from cpns.crypto.schedule import Electives, Proofs
from cpns.crypto.secret import Secret
from cpns.ids import EntityId


def _prk(key_seed: Secret) -> bytes:
    return p.extract(b"cpns1 cm", key_seed.reveal())


def cm_device_id(key_seed: Secret, gateway: EntityId, server: EntityId) -> EntityId:
    """Return the CM Device ID, 27 characters, from the PN GW's identity and the Key Seed (CM-3)."""
    raw = p.expand(_prk(key_seed), p.enc("cpns1 cm id", gateway, server), 15)
    return EntityId("cm-" + base64.b32encode(raw).decode().lower())


def cm_device_key(key_seed: Secret, device: EntityId, gateway: EntityId, server: EntityId) -> Secret:
    """Return the CM Device Key, 32 bytes, bound to its CM Device ID (CM-3, CM-5, CM-18)."""
    return Secret(p.expand(_prk(key_seed), p.enc("cpns1 cm key", device, gateway, server), 32))


def confirm_key(device_key: Secret, device: EntityId, gateway: EntityId, server: EntityId) -> Secret:
    """Return cck, the key of the codes of steps 6 and 8."""
    prk = p.extract(b"cpns1 cm confirm", device_key.reveal())
    return Secret(p.expand(prk, p.enc("cpns1 cm confirm", device, gateway, server), 32))


def code_server(key: Secret, rand_s: bytes, rand_g: bytes) -> bytes:
    """Return code_S, 16 bytes (CM-6)."""
    return p.mac16(key.reveal(), p.enc("cpns1 cm code server", rand_s, rand_g))


def code_gateway(key: Secret, rand_s: bytes, rand_g: bytes, code_s: bytes) -> bytes:
    """Return code_G, 16 bytes (CM-8)."""
    return p.mac16(key.reveal(), p.enc("cpns1 cm code gw", rand_s, rand_g, code_s))


def hello_key(device_key: Secret, device: EntityId, server: EntityId) -> Secret:
    """Return the key of code_I."""
    prk = p.extract(b"cpns1 cm hello", device_key.reveal())
    return Secret(p.expand(prk, p.enc("cpns1 cm hello", device, server), 32))


def code_hello(
    key: Secret,
    suite: int,
    server: EntityId,
    device: EntityId,
    rand_i: bytes,
    kid_i: bytes,
    eph_i: bytes | None,
    electives: Electives = (),
) -> bytes:
    """Return code_I, 16 bytes (CM-12, CM-13); *electives* are those of the message."""
    said = ("cpns1 cm code hello", suite, server, device, rand_i, kid_i, eph_i)
    return p.mac16(key.reveal(), p.enc(*said, *((dict(electives),) if electives else ())))


def code_responder(proofs: Proofs, code_i: bytes) -> bytes:
    """Return code_R, 16 bytes (CM-14): hash_R over code_I."""
    return proofs.hash_r(code_i)


def rekey(exporter: Secret, key: Secret, device: EntityId, generation: int, rand_c: bytes, rand_s: bytes) -> Secret:
    """Return the CM Device Key of *generation* (1, 2, ...), which the PN GW that mediated can't derive."""
    prk = p.extract(exporter.reveal(), key.reveal())
    return Secret(p.expand(prk, p.enc("cpns1 cm rekey", device, generation, rand_c, rand_s), 32))
