"""Unix sockets of mode 0600: the permission of the file is the authentication.

A path may be mistyped, and two processes may be given the same one. So what lies there stays, but for a socket of our
own user that nobody answers at: a process that died left it behind.
"""

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cpns.errors import Conflict

ANSWER_SECONDS: Final = 1.0
"""What whoever listens at a path has to take a connection; the kernel does that for it while its queue has room."""
LOOK_SECONDS: Final = 1.0
"""How long another process may be just looking at the same folder."""


class SocketFile:
    """A socket that listens at *path*, from the start; who connects waits until `socket` is served.

    Raises:
        Conflict: ``socket_taken``: something lies there that is no socket which died, or is another user's.
        OSError: it can't be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # so that not even for a moment anyone else may connect
        try:
            with _alone(path.parent):
                _clear(path)
                self.socket.bind(str(path))
                self.socket.listen()
                self._own = path.lstat()
        except BaseException:
            self.socket.close()
            raise
        finally:
            os.umask(before)

    def remove(self) -> None:
        """Take the file away, where it is still ours; call it before the socket is closed, so that it can be told."""
        with contextlib.suppress(OSError), _alone(self._path.parent):
            if os.path.samestat(self._path.lstat(), self._own):
                self._path.unlink()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let nobody else look what lies in *folder*, and put its own socket there, at the same time.

    Raises `OSError`.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + LOOK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _clear(path: Path) -> None:
    """Take away the socket of a process that died. Raises as `SocketFile`."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Conflict("socket_taken", f"{path} is there, and is no socket: move it away, or give another path.")
    if found.st_uid != os.geteuid():
        raise Conflict("socket_taken", f"The socket {path} belongs to another user: give another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(ANSWER_SECONDS)
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError:  # somebody has it: its queue is full, or it is a socket of another kind
            pass
    raise Conflict("socket_taken", f"Something that runs answers at {path}: stop that, or give another path.")
