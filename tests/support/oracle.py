"""An oracle of nonces: every AES-CCM encryption of OSCORE, as a hash of its key and nonce. No pair may come twice.

In one process: ``with watching() as pairs``. In another, the whole command line under the oracle:

    python -m tests.support.oracle FILE -- server run --data DIR

which appends a line of hex for each encryption to FILE; processes may share one file, and die at any moment.
"""

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from cpns.crypto import aead


def install(record: Callable[[str], None]) -> Callable[[], None]:
    """Tell *record* of every encryption from now on, before it is done; return what undoes this."""
    module: Any = aead
    original = module.AESCCM
    watched = True

    class Watched:
        """A key that is made from now on."""

        def __init__(self, key: bytes, tag_length: int) -> None:
            self._key = key
            self._aead = original(key, tag_length)
            self.decrypt = self._aead.decrypt

        def encrypt(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
            if watched:
                record(hashlib.sha256(self._key + nonce).hexdigest())
            sealed: bytes = self._aead.encrypt(nonce, plaintext, aad)
            return sealed

    module.AESCCM = Watched

    def undo() -> None:
        nonlocal watched
        watched = False
        module.AESCCM = original

    return undo


@contextlib.contextmanager
def watching() -> Iterator[list[str]]:
    """Collect a hash for each encryption in this process."""
    pairs: list[str] = []
    undo = install(pairs.append)
    try:
        yield pairs
    finally:
        undo()


def main() -> None:
    """Run the command line of cpns with the oracle in it."""
    path, separator, *arguments = sys.argv[1:]
    if separator != "--":
        sys.exit("usage: python -m tests.support.oracle FILE -- ARGUMENTS OF CPNS")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(pair: str) -> None:
        os.write(file, f"{pair}\n".encode())

    install(append)
    from cpns.cli.main import main as cpns

    sys.argv = ["cpns", *arguments]
    cpns()


if __name__ == "__main__":
    main()
