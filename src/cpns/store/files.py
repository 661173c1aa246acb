"""Small files that nobody else may read, and folders of such."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from cpns.errors import BadInput, Conflict, NotFound

_MOST_BYTES = 65536


def private_folder(path: Path) -> None:
    """Make the folder *path* where there is none, for its owner alone; one that is there and empty becomes so.

    Raises:
        BadInput: code ``data_not_made``; ``data_open_to_others``: others may look in or put something there, and it is
            not empty, or it is another user's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise BadInput("data_open_to_others", f"{path} belongs to another user: name a folder of your own.")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            if any(path.iterdir()):
                raise BadInput(
                    "data_open_to_others",
                    f"{path} is open to other users and not empty: name a new folder, or run chmod 700.",
                )
            path.chmod(0o700)
    except OSError as error:
        raise BadInput("data_not_made", f"The folder {path} can't be made: {error.strerror}.") from error


def create_private(path: Path, content: bytes) -> None:
    """Write *content* to a new file with mode 0600; durable on return, or there is no such file.

    Raises:
        Conflict: code ``file_exists``; it is left as it is.
        BadInput: code ``file_not_written``.
    """
    try:
        # O_EXCL: a key is never written over. O_NOFOLLOW: nor to where somebody's link points.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Conflict("file_exists", f"{path} exists already: move it away first") from error
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _not_written(path, error) from error


def read_private(path: Path, code: str, if_missing: str) -> bytes:
    """Return the content of *path*, at most 64 KiB.

    Raises:
        NotFound: code ``{code}_missing``, with the sentence *if_missing*.
        BadInput: code ``{code}_readable_by_others``: group or others have a permission, or it is another user's;
            ``{code}_unreadable``: it can't be read, or is too long. A secret that is mounted read-only may be root's,
            and open to the group (mode 0440), as whoever mounts it says who is in that group.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())  # of what was opened, whatever the path names by now
            mounted = _mounted_secret(status, os.fstatvfs(file.fileno()))
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"{code}_missing", if_missing) from error
    except OSError as error:
        raise BadInput(f"{code}_unreadable", f"{path} can't be read: {error.strerror}") from error
    if not mounted and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadInput(
            f"{code}_readable_by_others",
            f"{path} is open to other users: run chmod 600 {path}, or mount it as a secret, mode 0400",
        )
    if not mounted and status.st_uid != os.geteuid():
        raise BadInput(
            f"{code}_readable_by_others",
            f"{path} belongs to another user: give it to the one that runs cpns (chown), then run chmod 600 {path}",
        )
    if len(content) > _MOST_BYTES:
        raise BadInput(f"{code}_unreadable", f"{path} is longer than {_MOST_BYTES} bytes: name another file")
    return content


def _mounted_secret(status: os.stat_result, mount: os.statvfs_result) -> bool:
    return (
        bool(mount.f_flag & os.ST_RDONLY)
        and stat.S_IMODE(status.st_mode) in (0o400, 0o440)
        and status.st_uid in (0, os.geteuid())
    )


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return the content of *path*. Raises `OSError`, also where it is longer: a device may have no end."""
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_written(path: Path, error: OSError) -> BadInput:
    return BadInput("file_not_written", f"{path} can't be written: {error.strerror}")
