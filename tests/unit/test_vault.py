"""Secure Storage: a sealed key opens in its own place alone, and key files are their owner's alone."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cpns.crypto.secret import Secret
from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import Kind, NewEntity
from cpns.errors import AuthenticationFailed, BadInput, Conflict, NotFound, UserError
from cpns.ids import EntityId
from cpns.store.files import read_private
from cpns.store.server_store import ServerStore
from cpns.store.vault import (
    FileVault,
    create_kek_file,
    create_passphrase_kek,
    open_vault,
    read_key_file,
    write_key_file,
)

KEY = Secret(b"a EUKey of thirty-two bytes here")


def random(size: int) -> bytes:
    return os.urandom(size)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kek"


# --- sealing


def test_a_sealed_key_opens_in_its_place_alone() -> None:
    vault = FileVault(Secret(random(32)), random)
    sealed = vault.seal("eukey", "pne-1", KEY)
    assert vault.open("eukey", "pne-1", sealed) == KEY
    assert KEY.reveal() not in sealed
    assert vault.seal("eukey", "pne-1", KEY) != sealed
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    another = FileVault(Secret(random(32)), random)
    for opener, purpose, owner, content in (
        (vault, "eukey", "pne-2", sealed),
        (vault, "local_eukey", "pne-1", sealed),
        (vault, "eukeyp", "ne-1", sealed),
        (vault, "eukey", "pne-1", changed),
        (vault, "eukey", "pne-1", b""),
        (another, "eukey", "pne-1", sealed),
    ):
        with pytest.raises(AuthenticationFailed):
            opener.open(purpose, owner, content)


async def test_a_row_moved_to_another_owner_does_not_open_and_no_key_is_in_the_file(tmp_path: Path) -> None:
    vault = FileVault(Secret(random(32)), random)
    owners = [EntityId("pne-1"), EntityId("pne-2")]
    store = ServerStore.open(tmp_path / "server.db")
    # pne-2 is given the row of pne-1.
    sealed = vault.seal("eukey", owners[0], KEY)
    await store.add_entities([NewEntity(o, Kind.PNE, None, "", sealed, o.encode(), 1.0) for o in owners], OPERATOR)
    found = await store.credentials(owners)
    assert vault.open("eukey", owners[0], found[owners[0]].sealed_key) == KEY
    with pytest.raises(AuthenticationFailed):
        vault.open("eukey", owners[1], found[owners[1]].sealed_key)
    everything = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    await store.close()
    everything += (tmp_path / "server.db").read_bytes()
    assert sealed in everything
    assert KEY.reveal() not in everything


# --- the key-encryption key


def test_a_kek_file_opens_the_same_vault_again(path: Path) -> None:
    create_kek_file(path, random)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == 32
    sealed = open_vault(path, random).seal("eukey", "pne-1", KEY)
    assert open_vault(path, random).open("eukey", "pne-1", sealed) == KEY


def test_a_kek_is_never_written_over(path: Path, tmp_path: Path) -> None:
    create_kek_file(path, random)
    before = path.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for taken in (path, link):
        for create in (create_kek_file, lambda where, random: create_passphrase_kek(where, Secret(b"x"), random)):
            with pytest.raises(Conflict) as caught:
                create(taken, random)
            assert caught.value.code == "file_exists"
    assert path.read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o601])
def test_a_kek_that_others_can_reach_is_refused(path: Path, mode: int) -> None:
    create_kek_file(path, random)
    path.chmod(mode)
    with pytest.raises(BadInput, match=f"chmod 600 {path}") as caught:
        open_vault(path, random)
    assert caught.value.code == "kek_readable_by_others"


def test_a_kek_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_kek_file(path, random)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(BadInput, match="belongs to another user") as caught:
        open_vault(path, random)
    assert caught.value.code == "kek_readable_by_others"


_PARAMETERS = {"version": 1, "salt": "00" * 16, "iterations": 3, "lanes": 4, "memory_kib": 65536, "check": "00" * 45}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"k" * 31,
        b"k" * 33,
        b"[]",
        b"{}",
        *(
            json.dumps({**_PARAMETERS, **wrong}).encode()
            for wrong in (
                {"version": 2},
                {"salt": "00"},
                {"salt": 7},
                {"iterations": 0},
                {"lanes": "many"},
                {"memory_kib": 31},
                {"memory_kib": 1 << 40},
                {"check": "zz"},
            )
        ),
    ],
)
def test_a_damaged_kek_is_refused(path: Path, content: bytes) -> None:
    write_key_file(path, "")
    path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        open_vault(path, random, Secret(b"right"))
    assert caught.value.code == "kek_damaged"


def test_a_missing_kek_is_told(path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        open_vault(path, random)
    assert caught.value.code == "kek_missing"


def test_a_passphrase_opens_its_vault_alone(path: Path) -> None:
    create_passphrase_kek(path, Secret(b"right"), random)
    assert path.stat().st_mode & 0o777 == 0o600
    fields = json.loads(path.read_text())
    assert (fields["iterations"], fields["lanes"], fields["memory_kib"]) == (3, 4, 65536)
    sealed = open_vault(path, random, Secret(b"right")).seal("eukey", "pne-1", KEY)
    assert open_vault(path, random, Secret(b"right")).open("eukey", "pne-1", sealed) == KEY
    codes = []
    for passphrase in (None, Secret(b"wrong")):
        with pytest.raises(BadInput) as caught:
            open_vault(path, random, passphrase)
        codes.append(caught.value.code)
    assert codes == ["passphrase_needed", "wrong_passphrase"]


# --- key files of gateways and devices


def test_a_key_file_is_read_as_written(path: Path) -> None:
    write_key_file(path, "id: pne-1\nkey: schlüssel\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key_file(path) == "id: pne-1\nkey: schlüssel\n"


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda path: path.unlink(), "key_file_missing"),
        (lambda path: path.chmod(0o644), "key_file_readable_by_others"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "key_file_damaged"),
        (lambda path: path.write_bytes(b"x" * 70_000), "key_file_unreadable"),
        (lambda path: (path.unlink(), path.mkdir()), "key_file_unreadable"),
    ],
)
def test_a_key_file_that_will_not_do_is_told(path: Path, spoil: Callable[[Path], object], code: str) -> None:
    write_key_file(path, "x")
    spoil(path)
    with pytest.raises(UserError) as caught:
        read_key_file(path)
    assert caught.value.code == code


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        write_key_file(tmp_path / "missing" / "key", "x")
    assert caught.value.code == "file_not_written"


def test_a_key_file_half_written_is_taken_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BadInput, match="No space left") as caught:
        write_key_file(path, "x")
    assert caught.value.code == "file_not_written"
    assert not path.exists()


@pytest.mark.parametrize(
    ("mode", "read_only", "good"),
    [(0o400, False, True), (0o440, False, False), (0o440, True, True), (0o444, True, False), (0o640, True, False)],
)
def test_a_secret_that_is_mounted_read_only_may_be_open_to_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, read_only: bool, good: bool
) -> None:
    """As an orchestrator mounts it for a group; where it can be changed, chmod helps, and so does mode 0400."""
    path = tmp_path / "gw.key"
    path.write_text("a credential")
    path.chmod(mode)
    flags = os.ST_RDONLY if read_only else 0
    real = os.fstatvfs
    monkeypatch.setattr(
        os, "fstatvfs", lambda descriptor: os.statvfs_result((*tuple(real(descriptor))[:8], flags, 255))
    )
    if good:
        assert read_private(path, "key_file", "") == b"a credential"
        return
    with pytest.raises(BadInput) as caught:
        read_private(path, "key_file", "")
    assert caught.value.code == "key_file_readable_by_others"
    assert "mode 0400" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a mount")
def test_it_is_read_from_a_real_mount(tmp_path: Path) -> None:
    script = """
set -e
mount -t tmpfs none "$1"; echo -n secret > "$1/key"; chmod 0440 "$1/key"; mount -o remount,ro "$1"
exec "$2" -c 'import sys; from pathlib import Path; from cpns.store.files import read_private
print(read_private(Path(sys.argv[1]), "key_file", ""))' "$1/key"
"""
    command = ["unshare", "-m", "bash", "-c", script, "bash", str(tmp_path), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine lets nobody mount")
    assert done.stdout == "b'secret'\n", done.stderr
