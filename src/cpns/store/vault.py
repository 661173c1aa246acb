"""Secure Storage (DEF-8): keys sealed at rest under one key-encryption key (KEK), and the files that hold keys.

A KEK comes from a file of 32 random bytes, or from a passphrase stretched by Argon2id with the parameters in a file.
Either file has mode 0600; `open_vault` tells them apart.
"""

import json
from pathlib import Path

from cpns.crypto import primitives as p
from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, BadInput
from cpns.ports import Randomness
from cpns.store.files import create_private, read_private

KEK_BYTES = 32
_NONCE_BYTES = 12
_SALT_BYTES = 16

_VERSION = 1
_ARGON2 = {"iterations": 3, "lanes": 4, "memory_kib": 64 * 1024}
"""The second recommended option of RFC 9106, section 4."""
_MOST = {"iterations": 1000, "lanes": 256, "memory_kib": 4 * 1024 * 1024}
"""Our own limits, so that a damaged file does not take all memory."""

_CHECK = b"cpns1 vault check"
_CHECK_CONTEXT = p.enc("cpns1 vault check")


class FileVault:
    """`cpns.ports.Vault` under *key*, 32 bytes: the server's KEK, or what a PN GW derived for its LocalEUKeys.

    AES-256-GCM; purpose and owner are authenticated, so that a sealed key opens in its own row alone.
    """

    def __init__(self, key: Secret, random: Randomness) -> None:
        self._box = p.Box(key.reveal())
        self._random = random

    def seal(self, purpose: str, owner: str, key: Secret) -> bytes:
        """See `cpns.ports.Vault`: 28 bytes longer than *key*."""
        return self._box.seal(self._random(_NONCE_BYTES), key.reveal(), _context(purpose, owner))

    def open(self, purpose: str, owner: str, sealed: bytes) -> Secret:
        """See `cpns.ports.Vault`."""
        return Secret(self._box.unseal(sealed, _context(purpose, owner)))


def create_kek_file(path: Path, random: Randomness) -> None:
    """Make a KEK file of 32 random bytes at *path*.

    Raises:
        Conflict: code ``file_exists``.
        BadInput: code ``file_not_written``.
    """
    create_private(path, random(KEK_BYTES))


def create_passphrase_kek(path: Path, passphrase: Secret, random: Randomness) -> None:
    """Make a KEK file at *path* that opens with *passphrase*. Takes about a tenth of a second and 64 MiB.

    Raises:
        Conflict: code ``file_exists``.
        BadInput: code ``file_not_written``.
    """
    salt = random(_SALT_BYTES)
    key = p.stretch(passphrase.reveal(), salt, **_ARGON2)
    check = p.Box(key).seal(random(_NONCE_BYTES), _CHECK, _CHECK_CONTEXT)
    content = {"version": _VERSION, "salt": salt.hex(), **_ARGON2, "check": check.hex()}
    create_private(path, json.dumps(content, indent=1).encode() + b"\n")


def open_vault(path: Path, random: Randomness, passphrase: Secret | None = None) -> FileVault:
    """Return the vault whose KEK file is at *path*; *passphrase* is for a file made with one.

    Raises:
        NotFound: code ``kek_missing``.
        BadInput: code ``kek_readable_by_others``, ``kek_unreadable``, ``kek_damaged``, ``passphrase_needed`` or
            ``wrong_passphrase``.
    """
    content = read_private(
        path, "kek", f"there is no key file of the vault at {path}: restore it from your backup, or set up the server"
    )
    if len(content) == KEK_BYTES:  # the other form is JSON and much longer
        return FileVault(Secret(content), random)
    salt, check, costs = _parse_passphrase_kek(path, content)
    if passphrase is None:
        raise BadInput("passphrase_needed", f"the vault of {path} opens with a passphrase: give it")
    key = p.stretch(passphrase.reveal(), salt, **costs)
    try:
        p.Box(key).unseal(check, _CHECK_CONTEXT)
    except AuthenticationFailed as error:
        raise BadInput("wrong_passphrase", f"that is not the passphrase of {path}: try again") from error
    return FileVault(Secret(key), random)


def write_key_file(path: Path, text: str) -> None:
    """Write the credentials of a gateway or device to a new file, mode 0600.

    Raises:
        Conflict: code ``file_exists``.
        BadInput: code ``file_not_written``.
    """
    create_private(path, text.encode())


def read_key_file(path: Path) -> str:
    """Return the credentials that `write_key_file` wrote.

    Raises:
        NotFound: code ``key_file_missing``.
        BadInput: code ``key_file_readable_by_others``, ``key_file_unreadable`` or ``key_file_damaged``.
    """
    content = read_private(
        path,
        "key_file",
        f"there is no key file at {path}: put the one there that the server's operator made for this device",
    )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadInput("key_file_damaged", f"{path} is no text: put the key file there as it was made") from error


def _context(purpose: str, owner: str) -> bytes:
    return p.enc("cpns1 vault", purpose, owner)


def _parse_passphrase_kek(path: Path, content: bytes) -> tuple[bytes, bytes, dict[str, int]]:
    """Return salt, check and costs."""
    try:
        fields = json.loads(content)
        if fields["version"] != _VERSION:
            raise ValueError("version")
        costs = {name: int(fields[name]) for name in _ARGON2}
        if not all(0 < costs[name] <= most for name, most in _MOST.items()) or costs["memory_kib"] < 8 * costs["lanes"]:
            raise ValueError("costs")
        salt, check = bytes.fromhex(fields["salt"]), bytes.fromhex(fields["check"])
        if len(salt) != _SALT_BYTES:
            raise ValueError("salt")
        return salt, check, costs
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "kek_damaged", f"{path} is no key file of a vault, or is damaged: restore it from your backup"
        ) from error
