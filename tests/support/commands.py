"""Every command of `cpns`, found by walking its tree, and how one is run in this process with any streams."""

import asyncio
import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple
from unittest import mock

from typer.main import get_command

from cpns.admin.folder import Folder
from cpns.cli.main import app, main
from cpns.cli.run import Role, Signals
from cpns.service.system import random_bytes

_TREE = get_command(app)
OWN_PARTIES = {("demo",), ("bench",)}
"""Commands that start parties of their own, as processes."""
BRIEFLY = 0.05
"""Seconds after which a role is asked to end."""


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    err: str


def commands() -> list[tuple[tuple[str, ...], Any]]:
    """Return the words and the object of each command."""
    found: list[tuple[tuple[str, ...], Any]] = []
    unseen: list[tuple[tuple[str, ...], Any]] = [((), _TREE)]
    while unseen:
        path, command = unseen.pop()
        inside = getattr(command, "commands", {})
        unseen += [((*path, name), one) for name, one in inside.items()]
        if not inside:
            found.append((path, command))
    return sorted(found, key=lambda one: one[0])


def is_path(parameter: Any) -> bool:
    """Whether a parameter names a file."""
    return parameter.type_descriptor.annotation is Path


def is_word(parameter: Any) -> bool:
    """Whether a parameter is free text."""
    return parameter.type_descriptor.annotation in (str, list[str])


class Places:
    """A server that does not run, keys and a sheet; and what each parameter is given."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "srv"
        asyncio.run(Folder(self.data).create("server.test", None, random_bytes))
        (folder / "sheet.csv").write_text("id\nlamp-9\n")
        (folder / "settings.toml").write_text("")
        for noun, key in (("device", "key"), ("gateway", "gateway_key")):
            done = self.run((noun, "add", f"{noun}-1", "--data", str(self.data), "--out", str(folder / key)))
            assert done.code == 0, done

    def value(self, path: Sequence[str], parameter: Any) -> str:
        """Return what a command takes for *parameter*."""
        name = str(parameter.name)
        if name == "data" and path[-1] == "run" and path[0] != "server":
            return str(self.folder / "role")
        files = {"data": self.data, "file": self.folder / "sheet.csv", "config": self.folder / "settings.toml"}
        gateway = (*path, name) == ("gateway", "run", "key") or name == "gateway_key"
        files |= {"key": self.folder / ("gateway_key" if gateway else "key"), "pne_key": self.folder / "key"}
        files |= {"gateway_key": self.folder / "gateway_key"}
        if name in files:
            return str(files[name])
        words = {"server": "127.0.0.1:1", "to": "pne", "id": "device-1" if path[0] != "gateway" else "gateway-1"}
        return words.get(name, "x-1")

    def words(self, path: Sequence[str], command: Any, **given: str) -> list[str]:
        """Return the words of a call with what the command needs, and what is *given*."""
        words, also = list(path), dict(given)
        if path[-1] == "run":
            also = {"pan": "127.0.0.1:0", "listen": "127.0.0.1:0", "gateway": "127.0.0.1:1", **also}
        for parameter in command.params:
            name = str(parameter.name)
            wanted = parameter.required or name in also or name in ("data", "yes")
            if not wanted:
                continue
            value = also.get(name) or self.value(path, parameter)
            if parameter.param_type_name == "argument":
                words.append(value)
            elif parameter.is_flag:
                words.append(parameter.opts[0])
            else:
                words += [parameter.opts[0], value]
        return words

    def run(self, words: Sequence[str], stdout: IO[str] | None = None, **streams: IO[str] | None) -> Ended:
        """Run a command to its end, in this process.

        Args:
            words: of the command.
            stdout: a file; None: it is kept in memory, and dropped.
            streams: ``stdin`` or ``closed_stdout`` in place of what is usual.
        """
        err, code = io.StringIO(), 0
        out: Any = None if "closed_stdout" in streams else stdout or io.StringIO()
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CPNS_")}
        with (
            mock.patch.object(sys, "argv", ["cpns", *words]),
            mock.patch.object(sys, "stdin", streams.get("stdin", io.StringIO())),
            mock.patch.object(sys, "stdout", out),
            mock.patch.object(sys, "stderr", err),
            mock.patch.dict(os.environ, {**clean, "NO_COLOR": "1"}, clear=True),
            mock.patch("logging.basicConfig"),
            mock.patch("cpns.cli.run.with_signals", _briefly),
            mock.patch("typer.main.get_command", return_value=_TREE),  # it is slow to make
            mock.patch("cpns.cli.run_server.settle_collector"),  # that is for a process of its own
            mock.patch("cpns.cli.run_gateway.settle_collector"),
        ):
            logging.disable()
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            finally:
                logging.disable(logging.NOTSET)
        return Ended(code, err.getvalue())


async def _briefly(role: Role) -> int:
    stop = Signals()
    asyncio.get_running_loop().call_later(BRIEFLY, stop.set)
    return await role(stop)


@contextlib.contextmanager
def full() -> Iterator[IO[str]]:
    """Give a stream on a full disk."""
    with open("/dev/full", "w") as stream:
        yield stream
        with contextlib.suppress(OSError):
            stream.flush()


@contextlib.contextmanager
def unread() -> Iterator[IO[str]]:
    """Give a pipe that nobody reads."""
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "w") as stream:
        yield stream
