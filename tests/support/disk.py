"""A disk of a few hundred KiB, a tmpfs in a mount namespace of its own, that a test fills and empties.

Processes are started in it with `prefix`; the test itself reaches its files by `outside`. Who is not root gets a user
namespace with it, where the kernel lets him.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_HOLD = 'mount -t tmpfs -o size="$1" none "$2" && echo mounted && exec sleep 600'


class Disk:
    """The disk at *path*, a folder that is there; inside the namespace alone."""

    def __init__(self, path: Path, kib: int) -> None:
        self.path = path
        alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--user", "--map-root-user"]
        self._holder = subprocess.Popen(
            [*alone, "sh", "-c", _HOLD, "sh", f"{kib}k", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            self.close()
            pytest.skip("no mount namespace can be had here")
        into = ["nsenter", "--target", str(self._holder.pid), "--mount"]
        self.prefix = into if os.geteuid() == 0 else [*into, "--user", "--preserve-credentials"]
        self.outside = Path(f"/proc/{self._holder.pid}/root{path}")

    def fill(self) -> None:
        """Leave no room."""
        with (self.outside / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty(self) -> None:
        """Give the room back."""
        (self.outside / "filler").unlink()

    def close(self) -> None:
        """Take it away; what runs in it keeps it."""
        self._holder.kill()
        self._holder.communicate()


@contextlib.contextmanager
def small_disk(path: Path, kib: int = 4096) -> Iterator[Disk]:
    """Give a disk at *path*."""
    path.mkdir()
    disk = Disk(path, kib)
    try:
        yield disk
    finally:
        disk.close()
