"""Socket files: nothing is deleted but what nobody answers at, and no role takes the place of another."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cpns.admin import twin
from cpns.admin.listener import Listener
from cpns.admin.socket_file import SocketFile
from cpns.cli.control import Control, ask
from cpns.errors import Conflict, Unavailable
from cpns.ids import EntityId
from tests.integration.test_cli import Running, fails, good, here
from tests.support.commands import Places, commands
from tests.unit.test_admin import Live, live
from tests.unit.test_commands import rule

__all__ = ["live"]


@pytest.fixture
def open_sockets() -> Iterator[list[socket.socket]]:
    """Sockets that are closed in the end."""
    ones: list[socket.socket] = []
    yield ones
    for one in ones:
        one.close()


Make = Callable[[Path, list[socket.socket]], None]


def bound(kind: socket.SocketKind, *, listens: bool) -> Make:
    def make(path: Path, ones: list[socket.socket]) -> None:
        one = socket.socket(socket.AF_UNIX, kind)
        ones.append(one)
        one.bind(str(path))
        if listens and kind is socket.SOCK_STREAM:
            one.listen()
        if not listens:
            one.close()

    return make


def full_queue(path: Path, ones: list[socket.socket]) -> None:
    listening = socket.socket(socket.AF_UNIX)
    ones.append(listening)
    listening.bind(str(path))
    listening.listen(0)
    for _ in range(3):
        one = socket.socket(socket.AF_UNIX)
        ones.append(one)
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            one.connect(str(path))


def linked(make: Make) -> Make:
    def link(path: Path, ones: list[socket.socket]) -> None:
        make(path.with_name("target"), ones)
        path.symlink_to("target")

    return link


def private(path: Path, _: list[socket.socket]) -> None:
    path.write_text("cpns1/pne/...")
    path.chmod(0o600)


STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
STAYS: dict[str, Make] = {
    "a credential": private,
    "an empty file": lambda path, _: path.touch(),
    "a folder": lambda path, _: path.mkdir(),
    "a pipe": lambda path, _: os.mkfifo(path),
    "a link to nowhere": lambda path, _: path.symlink_to("nowhere"),
    "a link to itself": lambda path, _: path.symlink_to(path.name),
    "a link to a device": lambda path, _: path.symlink_to("/dev/null"),
    "a link to a file": linked(private),
    "a link to a dead socket": linked(bound(STREAM, listens=False)),
    "a link to a socket": linked(bound(STREAM, listens=True)),
    "a socket": bound(STREAM, listens=True),
    "a socket whose queue is full": full_queue,
    "a socket for datagrams": bound(DATAGRAM, listens=True),
}
GIVES_WAY: dict[str, Make] = {
    "nothing": lambda path, _: None,
    "a dead socket": bound(STREAM, listens=False),
    "a dead socket for datagrams": bound(DATAGRAM, listens=False),
}


def looks(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what lies in a folder."""
    found = {one.name: one.lstat() for one in folder.iterdir()}
    return {name: (one.st_ino, one.st_mode, one.st_size) for name, one in found.items()}


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpns.admin.socket_file.ANSWER_SECONDS", 0.2)


@pytest.mark.parametrize("kind", STAYS)
async def test_what_lies_there_stays(kind: str, tmp_path: Path, open_sockets: list[socket.socket], live: Live) -> None:
    path = tmp_path / "lies" / "sock"
    path.parent.mkdir()
    STAYS[kind](path, open_sockets)
    before = looks(path.parent)
    for take in (lambda: SocketFile(path), lambda: Control(path, {}), Listener(live.admin, path)._bind):
        with pytest.raises(Conflict) as caught:
            take()
        assert caught.value.code == "socket_taken"
        assert str(path) in caught.value.sentence
        assert looks(path.parent) == before


@pytest.mark.parametrize("kind", GIVES_WAY)
async def test_what_died_gives_way(kind: str, tmp_path: Path, open_sockets: list[socket.socket]) -> None:
    path = tmp_path / "sock"
    GIVES_WAY[kind](path, open_sockets)
    umask = os.umask(0)
    try:
        door = Control(path, {})
        assert os.umask(0) == 0
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    await door.start()
    with pytest.raises(Unavailable) as caught:
        await asyncio.to_thread(ask, path, "anything")
    assert caught.value.code == "unknown_action"
    await door.close()
    assert not path.exists()


async def test_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sock"
    bound(STREAM, listens=False)(path, [])
    mine = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: mine + 1)
    with pytest.raises(Conflict, match="another user"):
        SocketFile(path)
    assert path.is_socket()


@pytest.mark.parametrize("then", ["nothing", "a credential", "a socket", "a folder"])
async def test_only_what_is_ours_goes_in_the_end(then: str, tmp_path: Path, open_sockets: list[socket.socket]) -> None:
    """Others may have taken our file away, and put something there."""
    path = tmp_path / "sock"
    door = Control(path, {})
    await door.start()
    path.unlink()
    (STAYS | GIVES_WAY)[then](path, open_sockets)
    before = looks(tmp_path)
    await door.close()
    assert looks(tmp_path) == before


async def test_a_command_that_comes_early_waits(tmp_path: Path) -> None:
    async def act(_: dict[str, object]) -> dict[str, object]:
        return {"done": True}

    door = Control(tmp_path / "sock", {"act": act})
    asked = asyncio.create_task(asyncio.to_thread(ask, tmp_path / "sock", "act"))
    await asyncio.sleep(0)
    await door.start()
    assert await asyncio.wait_for(asked, 40) == {"done": True}
    await door.close()


@pytest.mark.parametrize("said", [b"", b"\n", b"[1]\n", b"no JSON\n", b"\xff\n", b"{" + b"x" * 100_000 + b"\n"])
async def test_what_is_no_command_is_answered(said: bytes, tmp_path: Path) -> None:
    door = Control(tmp_path / "sock", {})
    await door.start()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "sock")
    writer.write(said)
    writer.write_eof()
    assert b"bad_command" in await asyncio.wait_for(reader.read(), 40)
    writer.close()
    await door.close()


TAKES_IT = """
import sys
from pathlib import Path
from cpns.admin.socket_file import SocketFile
from cpns.errors import Conflict
print("here", flush=True)
sys.stdin.readline()
try:
    held = SocketFile(Path(sys.argv[1]))
    print("has it", flush=True)
except Conflict:
    print("refused", flush=True)
sys.stdin.readline()
"""


def test_of_many_that_start_at_once_one_has_it(tmp_path: Path) -> None:
    for path in (tmp_path / "new", tmp_path / "left"):
        if path.name == "left":
            bound(STREAM, listens=False)(path, [])
        ones = [
            subprocess.Popen(
                [sys.executable, "-c", TAKES_IT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(6)
        ]
        for one in ones:
            assert one.stdout is not None
            assert one.stdout.readline() == "here\n"
        for one in ones:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        said = sorted(one.stdout.readline() for one in ones if one.stdout is not None)
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(path))
        for one in ones:
            one.communicate("\n", timeout=60)
        assert said == ["has it\n"] + ["refused\n"] * 5


# the roles


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(tmp_path_factory.mktemp("places"))


@pytest.mark.parametrize("kind", STAYS)
def test_no_role_takes_what_lies_there(
    kind: str, places: Places, tmp_path: Path, open_sockets: list[socket.socket]
) -> None:
    path = tmp_path / "lies" / "sock"
    path.parent.mkdir()
    STAYS[kind](path, open_sockets)
    before = looks(path.parent)
    tried = []
    for words, command in commands():
        if words[-1] == "run" and any(one.name == "control" for one in command.params):
            call = places.words(words, command, control=str(path))
            rule(call, places.run(call), "socket_taken")
            assert looks(path.parent) == before
            tried.append(words[0])
    assert tried == ["gateway", "node", "pne"]


def test_a_second_gateway_leaves_the_first_in_reach(tmp_path: Path) -> None:
    """Until it ends in order; and one that was killed is followed by the next."""
    data, path = tmp_path / "srv", tmp_path / "gw.sock"
    good("server", "init", "--data", data, "--id", "server.example")
    good("gateway", "add", "gw-1", "--data", data, "--out", tmp_path / "gw.key")
    most = ("gateway", "run", "--server", "127.0.0.1:1", "--key", tmp_path / "gw.key", "--pan", "127.0.0.1:0")
    run = (*most, "--no-announce", "--control", path)
    first = Running(tmp_path, "first", *run)
    try:
        first.wait("cpns gateway gw-1")
        fails("socket_taken", *run)
        assert here("gateway", "members", "--control", path).returncode == 0
        first.end(signal.SIGKILL)
        assert path.is_socket()
        second = Running(tmp_path, "second", *run)
        try:
            second.wait("cpns gateway gw-1")
            assert here("gateway", "members", "--control", path).returncode == 0
        finally:
            assert second.end() == 0
        assert not path.exists()
    finally:
        first.end(signal.SIGKILL)


# a copy of the data folder


def test_a_copy_of_the_data_folder_says_so(tmp_path: Path) -> None:
    one, other = tmp_path / "original", tmp_path / "copy"
    name = f"server-{os.getpid()}-{tmp_path.stat().st_ino}"
    good("server", "init", "--data", one, "--id", name)
    subprocess.run(["cp", "-a", one, other], check=True)
    run = ("server", "run", "--listen", "127.0.0.1:0", "--data")
    first = Running(tmp_path, "first", *run, one)
    first.wait("listening at")
    second = Running(tmp_path, "second", *run, other)
    second.wait("listening at")
    (warning,) = second.wait("WARNING", error=True)
    assert name in warning
    assert str(one) in warning
    assert str(other) in warning
    assert (first.end(), second.end()) == (0, 0)
    assert "WARNING" not in first.err.read_text()
    again = Running(tmp_path, "again", *run, other)
    again.wait("listening at")
    assert again.end() == 0
    assert "WARNING" not in again.err.read_text()


@pytest.mark.parametrize("says", [b"", b"/some/where", b"x" * 100_000, b"\xff\xfe\n", None])
async def test_whoever_holds_the_name_may_say_anything(
    says: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Abstract sockets are anybody's: the server starts all the same, and in time."""
    monkeypatch.setattr(twin, "TELL_SECONDS", 0.3)
    name = EntityId(f"server-{os.getpid()}-{tmp_path.stat().st_ino}")

    silent: list[asyncio.StreamWriter] = []

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if says is None:
            silent.append(writer)
            return
        writer.write(says)
        writer.close()

    squatter = await asyncio.start_unix_server(answer, f"\0cpns/{name}")
    with caplog.at_level(logging.WARNING, "cpns.server"):
        async with asyncio.timeout(40), twin.held(name, tmp_path):
            assert len(caplog.records) == 1
            assert str(tmp_path) in caplog.text
    squatter.close()
    for writer in silent:
        writer.close()
    caplog.clear()
    async with twin.held(name, tmp_path):
        assert caplog.records == []
