"""The standard streams as a shell gives them: closed, full, or read by nobody.

A command that has nowhere to print does nothing; one whose output fails says so, as of any other file.
"""

import io
import os
import sys
from typing import TYPE_CHECKING

from cpns.errors import Unavailable

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Output(io.FileIO):
    """Standard output, whose errors are told from those of other files. A closed pipe stays `BrokenPipeError`."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unavailable("output_failed", f"Standard output can't be written: {error.strerror}.") from error


def prepare() -> None:
    """Make the streams usable; what is no character goes out as ``\\udcff``, so that any name can be printed.

    Raises:
        Unavailable: ``output_closed``: standard output is closed.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the next file would be a standard stream
        pass
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
    if sys.stdout is None:
        raise Unavailable("output_closed", "Standard output is closed: give a file, or /dev/null.")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _told(sys.stdout)


def _told(stdout: io.TextIOWrapper) -> io.TextIOWrapper:
    try:
        raw = _Output(stdout.fileno(), "w", closefd=False)
    except io.UnsupportedOperation:  # no file below it
        return stdout
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stdout.encoding,
        errors="backslashreplace",
        line_buffering=stdout.line_buffering or stdout.write_through,
    )


def finish() -> None:
    """Write what is left, and drop what can't be written, or Python complains at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except (OSError, Unavailable):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
