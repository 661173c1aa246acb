"""What other users of a machine get of a process and its folder: nothing."""

import ctypes
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cpns.errors import BadInput, Unavailable
from cpns.store import files
from cpns.store.gateway_store import GatewayStore
from cpns.store.server_store import ServerStore
from tests.integration.test_cli import environment
from tests.support.commands import Places, commands
from tests.unit.test_commands import rule


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(tmp_path_factory.mktemp("places"))


# memory

LOOKS = """
import ctypes, os, resource, sys
from cpns.store import files

def look(*_):
    hidden = not ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
    print("hidden", hidden, "core", resource.getrlimit(resource.RLIMIT_CORE), flush=True)
    os._exit(7)

files.read_private = look
import cpns.store.vault, cpns.cli.private
cpns.store.vault.read_private = cpns.cli.private.read_private = look
from cpns.cli.main import main
sys.argv[0] = "cpns"
main()
"""
"""Says what the kernel would show of the process at the moment when it reads its first key."""


def test_no_key_comes_into_memory_that_others_see(places: Places) -> None:
    """Of every command that reads a key; in each the parent allows core dumps of any size, as far as it may."""

    def allow() -> None:
        most = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (most, most))

    readers: set[tuple[str, ...]] = set()
    for path, command in commands():
        if path[-1] not in ("run", "add"):
            continue
        words = places.words(path, command)
        done = subprocess.run(
            [sys.executable, "-c", LOOKS, *words],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
            preexec_fn=allow,
        )
        if done.returncode == 7:
            assert done.stdout == "hidden True core (0, 0)\n", words
            readers.add(path)
        else:
            assert done.returncode == 0, done
    roles = {(noun, "run") for noun in ("server", "gateway", "pne", "node")}
    assert roles <= readers


def test_what_is_forked_is_hidden_too() -> None:
    """As the workers of a server are."""
    program = (
        "import os; from cpns.service.system import hide_memory; hide_memory(); import ctypes\n"
        "child = os.fork()\n"
        "os._exit(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) + 3) if not child else None\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "3\n", done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_figures_of_a_hidden_process_can_be_read_by_its_user() -> None:
    """`cpns bench` and its like: CPU time, memory and children, by a user that is not root."""
    program = (
        "import ctypes, os, sys, subprocess, psutil, time; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "child = os.fork()\n"
        "if not child:\n ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\n print('hidden', flush=True)\n time.sleep(60)\n"
        "sys.stdin.readline(); one = psutil.Process(child)\n"
        "open(f'/proc/{child}/task/{child}/schedstat').read()\n"
        "print(one.memory_info().rss > 0, one.cpu_percent() >= 0, one.ppid() == os.getpid(), flush=True)\n"
        "try: open(f'/proc/{child}/environ').read(); print('seen')\n"
        "except PermissionError: print('not seen')\n"
        "os.kill(child, 9); os.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == "hidden\n"
        out, _ = one.communicate("\n", timeout=60)
    assert out == "True True True\nnot seen\n"


def test_hiding_is_what_the_kernel_knows() -> None:
    """PR_GET_DUMPABLE is 3: this process is not hidden, so the tests above see a difference."""
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) in (0, 1)


# folders


def ours(path: Path, mode: int, *, filled: bool) -> None:
    path.mkdir()
    if filled:
        (path / "something").touch()
    path.chmod(mode)


FOLDERS: dict[str, tuple[Callable[[Path], None], bool]] = {
    "none": (lambda path: None, True),
    "none, nor the one above": (lambda path: path.parent.rmdir(), True),
    "ours": (lambda path: ours(path, 0o700, filled=True), True),
    "open and empty": (lambda path: ours(path, 0o777, filled=False), True),
    "open and filled": (lambda path: ours(path, 0o777, filled=True), False),
    "readable and filled": (lambda path: ours(path, 0o755, filled=True), False),
    "of the group": (lambda path: ours(path, 0o770, filled=True), False),
    "a file": (lambda path: path.touch(), False),
    "a link to nowhere": (lambda path: path.symlink_to("nowhere"), False),
}


def roles_with_data(places: Places, data: Path) -> list[list[str]]:
    """Return the calls that make, or take, a data folder."""
    calls = [["server", "init", "--data", str(data), "--id", "server.example"]]
    for path, command in commands():
        if path[-1] == "run" and path[0] in ("gateway", "node"):
            calls.append(places.words(path, command, data=str(data)))
    assert len(calls) == 3
    return calls


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_data_folder_is_its_owners_alone(kind: str, places: Places, tmp_path: Path) -> None:
    make, good = FOLDERS[kind]
    for number in range(3):
        data = tmp_path / str(number) / "data"
        data.parent.mkdir()
        make(data)
        call = roles_with_data(places, data)[number]
        done = places.run(call)
        if good:
            assert done.code == 0, (call, done)
            assert stat.S_IMODE(data.stat().st_mode) == 0o700
        else:
            rule(call, done, "data_open_to_others", "data_not_made")
            if data.is_dir():
                assert [one.name for one in data.iterdir()] == ["something"]


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_a_folder_of_another_user_is_not_taken(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    ours(data, mode, filled=False)
    mine = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: mine + 1)
    for take in (lambda: files.private_folder(data), lambda: GatewayStore.open(data / "gateway.db")):
        with pytest.raises(BadInput, match="another user") as caught:
            take()
        assert caught.value.code == "data_open_to_others"
    assert list(data.iterdir()) == []
    assert stat.S_IMODE(data.stat().st_mode) == mode


def test_the_lock_of_a_server_is_no_link(places: Places, tmp_path: Path) -> None:
    """Whoever runs writes its number into it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    lock = places.data / "server.lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(elsewhere)
    for words in (["server", "run", "--listen", "127.0.0.1:0"], ["device", "list"]):
        call = [*words, "--data", str(places.data)]
        rule(call, places.run(call), "data_not_yours")
    lock.unlink()
    assert elsewhere.read_text() == "mine"


@pytest.mark.parametrize("target", ["a file", "an empty file", "nothing", "itself"])
def test_no_store_is_reached_through_a_link(target: str, places: Places, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    if target != "nothing":
        elsewhere.write_text("mine" if target == "a file" else "")
    for number, name in enumerate(("server.db", "gateway.db", "node.db")):
        data = tmp_path / f"data-{number}"
        data.mkdir(mode=0o700)
        link = data / name
        link.symlink_to(link if target == "itself" else elsewhere)
        if number:
            call = roles_with_data(places, data)[number]
            done = places.run(call)
            rule(call, done, "store_unavailable")
            assert target == "itself" or "is a link" in done.err
        else:
            with pytest.raises(Unavailable, match="is a link"):
                ServerStore.open(link)
        assert sorted(one.name for one in data.iterdir()) == [name]
        assert elsewhere.exists() == (target != "nothing")
        assert not elsewhere.exists() or elsewhere.read_text() == ("mine" if target == "a file" else "")
