"""The credential that a gateway or device is given once: a line of text for a file, a QR code, or the keyboard.

    cpns1/pne/pne-1/server.example/GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA/K5XW2ZI

Parts: form, kind, entity ID, server ID, EUKey (base32 of 32 bytes), check (base32 of 4 bytes of SHA-256 over what
stands before it, so that a typing mistake is told from a wrong key).
"""

import base64
import binascii
from dataclasses import dataclass

from cpns.crypto.primitives import digest, enc
from cpns.crypto.secret import Secret
from cpns.domain.inventory import Kind
from cpns.errors import BadInput
from cpns.ids import EntityId, entity_id

_FORM = "cpns1"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class DeviceCredential:
    """What an entity holds: its name, its server's, and the EUKey that both share."""

    kind: Kind
    entity_id: EntityId
    server_id: EntityId
    eukey: Secret

    def line(self) -> Secret:
        """Return the line of text; a Secret, as it holds the key."""
        key = base64.b32encode(self.eukey.reveal()).decode().rstrip("=")
        body = f"{_FORM}/{self.kind.value}/{self.entity_id}/{self.server_id}/{key}"
        return Secret(f"{body}/{_check(body)}".encode())


def _check(body: str) -> str:
    return base64.b32encode(digest(body.encode())[:4]).decode().rstrip("=")


def parse_credential(line: str, kind: Kind) -> DeviceCredential:
    """Return the credential in *line*, blanks around it ignored.

    Raises:
        BadInput: ``bad_credential``: another form, a typing mistake, or made for the other kind of entity.
    """
    parts = line.strip().split("/")
    if len(parts) != 6 or parts[0] != _FORM:
        raise BadInput("bad_credential", "This is no cpns credential: it has the form cpns1/KIND/ID/SERVER/KEY/CHECK.")
    if _check("/".join(parts[:5])) != parts[5]:
        raise BadInput("bad_credential", "The credential is mistyped or cut off: its last part does not fit the rest.")
    if parts[1] != kind.value:
        raise BadInput("bad_credential", f"This credential is for a {parts[1]}, and a {kind.value} was asked for.")
    try:
        key = base64.b32decode(parts[4] + "=" * (-len(parts[4]) % 8))
    except binascii.Error as error:
        raise BadInput("bad_credential", "The key in the credential is not base32.") from error
    return DeviceCredential(kind, entity_id(parts[2]), entity_id(parts[3]), checked_eukey(key))


def checked_eukey(key: bytes) -> Secret:
    """Return *key* as EUKey.

    Raises:
        BadInput: ``weak_key``: not 32 bytes, or such as a person can type; it would be guessed from one recorded
            run (attack 11).
    """
    if len(key) != KEY_BYTES:
        raise BadInput("weak_key", f"An EUKey has 32 random bytes; this one has {len(key)}.")
    if len(set(key)) < 16 or all(32 <= byte < 127 for byte in key):
        raise BadInput("weak_key", "This key looks typed, not random, and could be guessed: let cpns make one.")
    return Secret(key)


def fingerprint(eukey: Secret) -> bytes:
    """Return 8 bytes that name a key without telling it; two entities with one key are found by it."""
    return digest(enc("cpns1 fingerprint", eukey.reveal()))[:8]
