"""A store and the kek beside it belong together: what was lost or mixed up is told before anything is sealed."""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cpns.admin.folder import Folder
from tests.integration.test_cli import data_of, fails, good, here
from tests.support.stores import databases


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of a server with one gateway."""
    folder = tmp_path / "srv"
    good("server", "init", "--data", folder, "--id", "server.test")
    good("gateway", "add", "hub", "--data", folder, "--out", tmp_path / "hub.key")
    return folder


def run(data: Path, *more: str) -> tuple[str, ...]:
    return ("server", "run", "--data", str(data), "--listen", "127.0.0.1:0", *more)


def contents(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in data.glob("server.db*")}


def zeros(kek: Path, other: Path) -> None:
    kek.write_bytes(bytes(32))


def of_another_server(kek: Path, other: Path) -> None:
    good("server", "init", "--data", other)
    shutil.copy(other / "kek", kek)


def with_a_passphrase(kek: Path, other: Path) -> None:
    (other.parent / "word").write_text("sesame")
    (other.parent / "word").chmod(0o600)
    good("server", "init", "--data", other, "--passphrase-file", other.parent / "word")
    shutil.copy(other / "kek", kek)


@pytest.mark.parametrize("older", [False, True], ids=["", "of an older cpns"])
@pytest.mark.parametrize("change", [zeros, of_another_server, with_a_passphrase])
def test_a_wrong_kek_seals_nothing(
    data: Path, tmp_path: Path, change: Callable[[Path, Path], None], older: bool
) -> None:
    if older:
        forget_origin(data)
    kept = (data / "kek").read_bytes()
    change(data / "kek", tmp_path / "other")
    opens = ("--passphrase-file", str(tmp_path / "word")) if change is with_a_passphrase else ()
    fails("kek_wrong", *run(data, *opens))
    fails("kek_wrong", "device", "add", "watch", "--data", data, "--out", tmp_path / "watch.key", *opens)
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("id\nlamp\n")
    imported = here("device", "import", sheet, "--data", data, "--out", tmp_path / "keys.csv", *opens)
    assert imported.returncode == 1
    assert "kek_wrong" in imported.stdout + imported.stderr, (imported.stdout, imported.stderr)
    assert not (tmp_path / "watch.key").exists()
    assert not (tmp_path / "keys.csv").exists()
    assert data_of("device", "list", "--data", data)["items"] == []
    (data / "kek").write_bytes(kept)
    good("device", "add", "watch", "--data", data, "--out", tmp_path / "watch.key")


def forget_origin(data: Path) -> None:
    """Bring the store to where an older cpns left it."""
    with sqlite3.connect(data / "server.db") as store:
        store.execute("DELETE FROM origin")
    store.close()


def test_an_older_store_takes_the_kek_that_opens_its_keys(data: Path, tmp_path: Path) -> None:
    forget_origin(data)
    good("device", "add", "watch", "--data", data, "--out", tmp_path / "watch.key")
    zeros(data / "kek", tmp_path)
    fails("kek_wrong", *run(data))


@pytest.mark.parametrize("gone", [False, True], ids=["empty", "gone"])
def test_an_empty_store_beside_a_kek_is_refused_and_left_as_it_is(data: Path, tmp_path: Path, gone: bool) -> None:
    """The log beside it may hold all data: it must not be thrown away."""
    (data / "server.db-wal").write_bytes(b"all that was written since")
    (data / "server.db").unlink() if gone else (data / "server.db").write_bytes(b"")
    before = contents(data)
    assert "this server was set up on 20" in fails("store_empty", *run(data))
    fails("store_empty", "device", "add", "watch", "--data", data, "--out", tmp_path / "watch.key")
    fails("store_empty", "device", "list", "--data", data)
    assert contents(data) == before


def test_an_empty_database_is_refused(tmp_path: Path) -> None:
    """PostgreSQL was set up anew, and nobody put the store back."""
    data = tmp_path / "srv"
    good("server", "init", "--data", data, "--store", databases().new())
    settings = data / "server.toml"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("store")]
    settings.write_text("\n".join([f'store = "{databases().new()}"', *lines]))
    fails("store_empty", *run(data))
    fails("store_empty", "device", "list", "--data", data)


def test_the_store_of_another_server_is_refused(data: Path, tmp_path: Path) -> None:
    """A folder of one server, and the store of another."""
    other = tmp_path / "other"
    good("server", "init", "--data", other, "--id", "server.other")
    for path in data.glob("server.db*"):
        path.unlink()
    for path in other.glob("server.db*"):
        shutil.copy(path, data / path.name)
    fails("store_in_use", *run(data))
    fails("store_in_use", "device", "add", "watch", "--data", data, "--out", tmp_path / "watch.key")


def test_a_database_that_has_a_server_takes_no_other(tmp_path: Path) -> None:
    """Also where nothing was provisioned yet: its processes have a kek that opens what will be in it."""
    url = databases().new()
    good("server", "init", "--data", tmp_path / "one", "--store", url)
    fails("store_in_use", "server", "init", "--data", tmp_path / "two", "--store", url)
    assert not (tmp_path / "two" / "kek").exists()


def test_a_store_that_was_put_back_goes_on_while_its_server_rests(data: Path) -> None:
    before = int(time.time()) * 2**20
    said = good("server", "set-back", "--data", data)
    number = int(said.split("beyond ")[1].split(".")[0])
    assert before <= number < before + 60 * 2**20
    assert "revocations first" in said
    later = good("server", "set-back", "--data", data, "--at", "2040-01-01T00:00:00Z")
    assert "beyond 2316292639948800" in later
    with Folder(data).hold():
        fails("server_running", "server", "set-back", "--data", data)
    fails("bad_time", "server", "set-back", "--data", data)  # the row of the one before is newer
    assert [one["event"] for one in audit(data)[-2:]] == ["set_back", "set_back"]


def audit(data: Path) -> list[dict[str, object]]:
    with contextlib.closing(sqlite3.connect(data / "server.db")) as store:
        rows = store.execute("SELECT number, event FROM audit ORDER BY number").fetchall()
    return [{"number": number, "event": event} for number, event in rows]


@pytest.mark.parametrize("at", ["now", "", "1969-12-31", "2089-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "1e400"])
def test_a_time_that_is_none_is_refused(data: Path, at: str) -> None:
    kept = contents(data)
    fails("bad_time", "server", "set-back", "--data", data, "--at", at)
    assert contents(data) == kept
