"""Credentials are written down before anything is provisioned: whatever fails, none is lost and none is invented."""

import asyncio
import contextlib
import csv
import errno
import io
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from cpns.admin.folder import Folder
from cpns.cli import talk
from cpns.cli.main import main
from cpns.domain.actor import SERVER
from cpns.domain.credential import parse_credential
from cpns.domain.inventory import Kind
from cpns.errors import Unavailable, UserError
from cpns.service.system import random_bytes


class Site:
    """A server that does not run, and the commands on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "srv"
        asyncio.run(Folder(self.data).create("server.test", None, random_bytes))

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        out, err, code = io.StringIO(), io.StringIO(), 0
        words = ["cpns", *map(str, arguments), "--data", str(self.data)]
        with (
            mock.patch.object(sys, "argv", words),
            mock.patch.object(sys, "stdin", io.StringIO()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
        return code, out.getvalue(), err.getvalue()

    def good(self, *arguments: str | Path) -> str:
        code, out, err = self.run(*arguments)
        assert code == 0, err
        return out

    def fails(self, error: str, *arguments: str | Path) -> str:
        code, _, err = self.run(*arguments)
        assert code == 1
        assert err.splitlines()[-1].startswith(f"error[{error}]: "), err
        return err

    def devices(self) -> list[str]:
        return [one["id"] for one in json.loads(self.good("device", "list", "--output", "json"))["items"]]

    def sheet(self, text: str) -> Path:
        path = self.folder / "devices.csv"
        path.write_text(text)
        return path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    with mock.patch("os.fsync", side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))):
        yield


@contextlib.contextmanager
def answers_lost(count: int, *, done: bool = True, error: type[Exception] = Unavailable) -> Iterator[list[int]]:
    """Lose the answers to *count* askings that provision; *done*: the server did what it was asked."""
    asked: list[int] = []

    def ask(data: Path, what: Any, passphrase_file: Path | None = None) -> Any:
        async def talking(client: httpx.AsyncClient) -> Any:
            if done or len(asked) > 1 + count:
                return await what(client)
            raise httpx.ReadError("gone")

        asked.append(1)
        if len(asked) == 1:  # only asks whether it could
            return real(data, what, passphrase_file)
        found = real(data, talking, passphrase_file)
        if len(asked) <= 1 + count:
            raise error("server_gone", "The server closed the connection.")
        return found

    real = talk.ask
    with mock.patch.object(talk, "ask", ask):
        yield asked


def key_of(path: Path) -> str:
    return parse_credential(path.read_text(), Kind.PNE).entity_id


def test_a_file_is_whole_or_not_there(site: Site) -> None:
    out = site.folder / "lamp.key"
    site.good("device", "add", "lamp-1", "--out", out)
    assert key_of(out) == "lamp-1"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert sorted(path.name for path in site.folder.iterdir()) == ["lamp.key", "srv"]
    site.fails("file_exists", "device", "add", "lamp-2", "--out", out)
    part = site.folder / "other.key.part"
    part.write_text("kept")
    assert "Nothing was provisioned" in site.fails(
        "file_exists", "device", "add", "lamp-2", "--out", part.with_suffix("")
    )
    assert part.read_text() == "kept"
    assert site.devices() == ["lamp-1"]


def test_a_full_disk_provisions_nothing(site: Site) -> None:
    out, sheet = site.folder / "new", site.sheet("id\nlamp-2\nlamp-3\n")
    asyncio.run(_stranger(site))
    calls: list[tuple[str | Path, ...]] = [
        ("device", "add", "lamp-1"),
        ("gateway", "add", "hub"),
        ("device", "import", sheet),
        ("device", "approve", "stranger"),
    ]
    for call in calls:
        with full_disk():
            said = site.fails("file_not_written", *call, "--out", out)
        assert "No space left" in said
        assert "Nothing was provisioned" in said
        assert not list(site.folder.glob("new*"))
    assert site.devices() == []
    for number, call in enumerate(calls):
        site.good(*call, "--out", site.folder / f"new-{number}")
    assert site.devices() == ["lamp-1", "lamp-2", "lamp-3", "stranger"]


async def _stranger(site: Site) -> None:
    from cpns.domain.inventory import Outcome
    from cpns.errors import Result
    from cpns.ids import EntityId
    from cpns.store.server_store import ServerStore

    store = ServerStore.open(site.data / "server.db")
    why = Result.AUTHENTICATION_FAILED, "unknown"
    await store.record([Outcome(1.0, "refused", EntityId("stranger"), SERVER, *why, EntityId("gw"))])
    await store.close()


def test_a_refusal_leaves_no_credential(site: Site) -> None:
    site.good("device", "add", "lamp-1", "--out", site.folder / "lamp-1")
    out = site.folder / "new"
    code, shown, err = site.run("device", "add", "lamp-1")
    assert (code, shown) == (1, "")
    assert "Nothing was provisioned" not in err  # nothing was shown, so nothing is to be taken back
    site.fails("id_exists", "device", "add", "lamp-1", "--out", out)
    with mock.patch.object(talk, "ask", side_effect=_taken_meanwhile(talk.ask)):
        assert "Nothing was provisioned" in site.fails("id_exists", "device", "add", "lamp-2", "--out", out)
    with mock.patch.object(talk, "ask", side_effect=_taken_meanwhile(talk.ask)):
        code, shown, err = site.run("device", "add", "lamp-3")
    assert shown.startswith("cpns1/pne/lamp-3/")
    assert "The credential above is void." in err
    with mock.patch.object(talk, "ask", side_effect=_taken_meanwhile(talk.ask)):
        said = site.fails("id_exists", "device", "import", site.sheet("id\nlamp-4\n"), "--out", out)
    assert "Nothing was provisioned" in said
    assert not list(site.folder.glob("new*"))


def _taken_meanwhile(real: Any) -> Any:
    """Between the look and the leap somebody else takes the ID."""
    asked: list[Any] = []

    def ask(data: Path, what: Any, passphrase_file: Path | None = None) -> Any:
        found = real(data, what, passphrase_file)
        if not asked:
            id = found["id"] if "id" in found else found["credentials"][0]["id"]
            asked.append(real(data, lambda client: client.post("/devices", json={"id": id})))
        return found

    return ask


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("error", [Unavailable, UserError])
def test_a_lost_answer_is_asked_for_again(site: Site, done: bool, error: type[Exception]) -> None:
    out = site.folder / "new"
    with answers_lost(1, done=done, error=error) as asked:
        site.good("device", "add", "lamp-1", "--out", out)
    assert len(asked) == 3
    assert key_of(out) == "lamp-1"
    sheet = site.sheet("id,note\nlamp-2,a\nlamp-3,b\n")
    with answers_lost(1, done=done, error=error):
        assert "2 devices imported" in site.good("device", "import", sheet, "--out", site.folder / "many")
    assert len((site.folder / "many").read_text().splitlines()) == 3
    assert site.devices() == ["lamp-1", "lamp-2", "lamp-3"]
    shown = json.loads(site.good("device", "show", "lamp-1", "--output", "json"))
    assert [row["event"] for row in shown["audit"]] == ["provisioned"]


@pytest.mark.parametrize("done", [True, False])
def test_where_no_answer_comes_at_all_the_credential_stays(site: Site, done: bool) -> None:
    out, part = site.folder / "new", site.folder / "new.part"
    with answers_lost(2, done=done):
        said = site.fails("not_known", "device", "add", "lamp-1", "--out", out)
    assert str(part) in said
    assert key_of(part) == "lamp-1"
    assert not out.exists()
    with answers_lost(2, done=done):
        code, shown, err = site.run("device", "add", "lamp-2")
    assert code == 1
    assert shown.startswith("cpns1/pne/lamp-2/")
    assert "has it, keep the credential above; if not, that is void" in err
    assert site.devices() == (["lamp-1", "lamp-2"] if done else [])


def test_what_came_there_meanwhile_is_not_written_over(site: Site) -> None:
    out = site.folder / "new"
    with mock.patch("os.path.lexists", return_value=False):
        out.write_text("mine")
        assert "new.part" in site.fails("file_exists", "device", "add", "lamp-1", "--out", out)
    assert out.read_text() == "mine"
    assert key_of(site.folder / "new.part") == "lamp-1"
    with mock.patch("os.link", side_effect=PermissionError):  # a file system without links
        site.good("device", "add", "lamp-2", "--out", site.folder / "other")
    assert key_of(site.folder / "other") == "lamp-2"


def test_an_import_says_what_it_understood(site: Site) -> None:
    out = site.folder / "new.csv"
    said = site.good("device", "import", site.sheet("ID;Note\nAA-BB-CC-DD-EE-01;=1\n-x;a\n"), "--out", out)
    assert "semicolons" in said
    assert "AA-BB-CC-DD-EE-01 is written aa:bb:cc:dd:ee:01" in said
    rows = list(csv.reader(io.StringIO(out.read_text())))
    assert [row[0] for row in rows] == ["id", "aa:bb:cc:dd:ee:01", "'-x"]
    assert parse_credential(rows[2][1], Kind.PNE).entity_id == "-x"
    assert json.loads(site.good("device", "show", "aabbccddee01", "--output", "json"))["note"] == "=1"

    again = site.sheet("ID;Note\nAA-BB-CC-DD-EE-01;=1\n-x;a\nlamp-3;\n")
    more = site.folder / "more.csv"
    assert "3 rows, 2 bad" in site.run("device", "import", again, "--out", more)[1]
    said = site.good("device", "import", again, "--new-only", "--out", more)
    assert "2 devices exist" in said
    assert "1 devices imported" in said
    assert [row[0] for row in csv.reader(io.StringIO(more.read_text()))] == ["id", "lamp-3"]
    said = site.good("device", "import", again, "--new-only", "--out", site.folder / "none.csv")
    assert "no file is written" in said
    assert not list(site.folder.glob("none*"))


def test_a_key_of_the_sheet_is_the_one_that_is_written(site: Site) -> None:
    key, out = bytes(range(7, 39)), site.folder / "new.csv"
    site.good("device", "import", site.sheet(f"id,key\nlamp-1,{key.hex()}\nlamp-2,\n"), "--out", out)
    [first, second] = list(csv.DictReader(io.StringIO(out.read_text())))
    assert parse_credential(first["credential"], Kind.PNE).eukey.reveal() == key
    assert parse_credential(second["credential"], Kind.PNE).eukey.reveal() != key


@pytest.mark.parametrize(
    ("text", "code"),
    [("id,note\n", "no_rows"), ("name\nx\n", "bad_csv")],
)
def test_a_file_that_is_none_writes_none(site: Site, text: str, code: str) -> None:
    out = site.folder / "new.csv"
    site.fails(code, "device", "import", site.sheet(text), "--out", out)
    site.fails(code, "device", "import", site.sheet(text), "--dry-run")
    assert not list(site.folder.glob("new*"))


def test_a_device_is_set_and_lists_show_what_counts(site: Site) -> None:
    site.good("gateway", "add", "hub", "--out", site.folder / "hub")
    for name in ("lamp-1", "lamp-2"):
        site.good("device", "add", name, "--out", site.folder / name)
    assert "is changed" in site.good("device", "set", "lamp-1", "--gateway", "hub", "--note", "attic")
    shown = json.loads(site.good("device", "show", "lamp-1", "--output", "json"))
    assert (shown["gateway"], shown["note"]) == ("hub", "attic")
    assert json.loads(site.good("device", "set", "lamp-1", "--any-gateway", "--output", "json")) == {
        "id": "lamp-1",
        "ended": 0,
    }
    assert json.loads(site.good("device", "show", "lamp-1", "--output", "json"))["gateway"] is None
    assert "is changed" in site.good("gateway", "set", "hub", "--note", "roof")
    site.fails("nothing_to_change", "device", "set", "lamp-1")
    assert site.run("device", "set", "lamp-1", "--gateway", "hub", "--any-gateway")[0] == 2

    site.good("device", "revoke", "lamp-2", "--yes")
    site.good("gateway", "revoke", "hub", "--yes")
    assert site.devices() == ["lamp-1"]
    assert "hub" not in site.good("gateway", "list")
    everything = json.loads(site.good("device", "list", "--all", "--output", "json"))["items"]
    assert [(one["id"], one["state"]) for one in everything] == [("lamp-1", "active"), ("lamp-2", "revoked")]
    assert "hub" in site.good("gateway", "list", "--all")


MAC = "aa:bb:cc:dd:ee:01"
KEYS = "".join(f"{number:02x}" for number in range(7, 39))
SHEETS = {
    "open quote": ('id,note,gateway,key\nlamp-1,"Kitchen,,\nlamp-2,Hall,,\nlamp-3,Attic,,\n', {2: "open_quote"}, 3),
    "comma in note": ("id,note,gateway,key\nlamp-11,Kitchen, left,,\nlamp-12,Hall,,\n", {2: "bad_row"}, 2),
    "unknown gateway": ("id,note,gateway,key\nlamp-21,Kitchen,hub-that-nobody-added,\n", {2: "unknown_gateway"}, 1),
    "semicolons, upper case": ("ID;Note;Gateway\r\nlamp-31;Kitchen;\r\n", {}, 1),
    "trailing empty columns": ("id,note,,\nlamp-51,Kitchen,,\n", {}, 1),
    "one MAC, three spellings": (f"id\n{MAC}\nAA-BB-CC-DD-EE-01\naabbccddee01\n", {3: "id_twice", 4: "id_twice"}, 3),
    "tabs": ("id\tnote\nlamp-91\tKitchen\n", {}, 1),
    "space after the ID": ("id,note\nlamp-101,Kitchen\nlamp-101 ,Again\n", {3: "id_twice"}, 2),
    "blank lines": ('id,note\n"lamp-111",Kitchen\n\n\nlamp-112,Hall\n', {}, 2),
    "equal keys": (f"id,note,key\nlamp-121,A,{KEYS}\nlamp-122,B,{KEYS}\n", {3: "key_twice"}, 2),
    "formula": ('id,note\nlamp-151,=HYPERLINK("x")\n', {}, 1),
    "weak keys": (f"id,key\nlamp-123,{'00' * 32}\nlamp-124,{'ab' * 32}\n", {2: "weak_key", 3: "weak_key"}, 2),
}


@pytest.mark.parametrize("name", SHEETS)
def test_sheets_that_others_had(site: Site, name: str) -> None:
    text, bad, rows = SHEETS[name]
    out = site.folder / "new.csv"
    for call in (("--dry-run",), ("--out", out)):
        code, said, _ = site.run("device", "import", site.sheet(text), *call, "--output", "json")
        report = json.loads(said)
        assert {row["line"]: row["code"] for row in report["bad"]} == bad
        assert (report["rows"], code) == (rows, 1 if bad else 0)
        assert report["imported"] == (rows if call[0] == "--out" and not bad else 0)
    assert out.exists() is (not bad)
    assert len(site.devices()) == (0 if bad else rows)


def test_a_sheet_in_another_encoding_is_refused(site: Site) -> None:
    sheet = site.folder / "latin1.csv"
    sheet.write_bytes(b"id,note\nlamp-131,K\xfcche\n")
    site.fails("bad_csv", "device", "import", sheet, "--out", site.folder / "new.csv")
    assert not list(site.folder.glob("new*"))
