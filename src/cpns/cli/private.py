"""Keys and passphrases on their way to and from files; never by argument, environment or log."""

import getpass
import sys
from pathlib import Path

from cpns.crypto.secret import Secret
from cpns.domain.credential import DeviceCredential, parse_credential
from cpns.domain.inventory import Kind
from cpns.errors import BadInput
from cpns.service.system import random_bytes
from cpns.store.files import read_private
from cpns.store.vault import FileVault, open_vault, read_key_file


def credential_of(key: Path, kind: Kind) -> DeviceCredential:
    """Return the credential in the file *key*. Raises as `read_key_file` and `parse_credential`."""
    return parse_credential(read_key_file(key), kind)


def passphrase_of(path: Path) -> Secret:
    """Return the passphrase in *path*, its line end left out.

    Raises:
        NotFound: ``passphrase_file_missing``.
        BadInput: ``passphrase_file_...`` as `read_private`; ``passphrase_empty``.
    """
    content = read_private(path, "passphrase_file", f"there is no passphrase file at {path}")
    passphrase = content.removesuffix(b"\n").removesuffix(b"\r")
    if not passphrase:
        raise BadInput("passphrase_empty", f"{path} is empty: write the passphrase into it.")
    return Secret(passphrase)


def open_server_vault(kek: Path, passphrase_file: Path | None) -> FileVault:
    """Open the vault whose key file is *kek*, asking a terminal for the passphrase where one is needed.

    Raises as `open_vault`.
    """
    if passphrase_file is not None:
        return open_vault(kek, random_bytes, passphrase_of(passphrase_file))
    try:
        return open_vault(kek, random_bytes)
    except BadInput as error:
        if error.code != "passphrase_needed":
            raise
        if not sys.stdin.isatty():
            raise BadInput(
                "passphrase_needed", f"The vault of {kek.parent} opens with a passphrase: give --passphrase-file."
            ) from error
    return open_vault(kek, random_bytes, Secret(getpass.getpass("Passphrase of the vault: ").encode()))
