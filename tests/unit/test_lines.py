"""Every special character through every stream: a line ends at LF alone, and a terminal is steered by nobody.

The cases are the product of all such characters and a table of streams.
"""

import asyncio
import contextlib
import gc
import io
import json
import logging
import os
import pty
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from cpns.admin.folder import Folder
from cpns.admin.listener import Listener
from cpns.cli import groups, ladder
from cpns.cli import output as o
from cpns.cli.control import Control, ask
from cpns.cli.events import Events
from cpns.cli.options import Output
from cpns.cli.run import NotedHandler, Trace
from cpns.domain.sheet import read_sheet
from cpns.ids import EntityId, SgId
from cpns.pne import sources
from cpns.pne.group_messages import GroupText
from cpns.service.system import random_bytes
from cpns.shares.noted import by
from cpns.transport.watch import Passed
from tests.integration.test_cli import data_of, environment, good
from tests.support.characters import SPECIAL, around
from tests.support.commands import OWN_PARTIES, Places, commands
from tests.unit.test_admin import Live, live

__all__ = ["live"]

PNE = EntityId("pne-1")
SAID = [around(char) for char in SPECIAL]


def whole(lines: bytes) -> list[str]:
    """Return the lines of an output, all of them ended."""
    *found, rest = lines.split(b"\n")
    assert rest == b""
    return [line.decode() for line in found]


def shown(lines: list[str], parts: list[str] = SAID) -> None:
    """Hold lines for people to: one for each of *parts*, nothing in them that is not seen, and nothing left out."""
    assert len(lines) == len(parts)
    for line, part in zip(lines, parts, strict=True):
        assert line.isprintable(), ascii(line)
        assert o.plain(part) in line


def test_the_characters_are_those_that_matter() -> None:
    assert len(SPECIAL) > 200
    assert {"\0", "\n", "\v", "\f", "\r", "\x1b", "\x1c", "\x7f", "\x85", "\x9b"} < set(SPECIAL)
    assert set("\u061c\u200b\u200d\u200e\u200f\u2028\u2029\u202a\u202e\u2060\u2066\u2069\ufeff\U000e0001") < set(
        SPECIAL
    )
    ends = {chr(n) for n in range(sys.maxunicode + 1) if len(around(chr(n)).splitlines()) > 1}
    assert ends < set(SPECIAL)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(tmp_path_factory.mktemp("places"))


# a command of its own, over real sockets


async def cpns(*arguments: str | Path) -> bytes:
    """Run a command that must succeed, as a process; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cpns", *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err
    return out


@contextlib.asynccontextmanager
async def served(live: Live, folder: Folder) -> AsyncIterator[None]:
    """Serve the API of a running server in *folder*."""
    await folder.create("server.example", None, random_bytes)
    with folder.hold():
        listener = Listener(live.admin, folder.socket)
        await listener.start()
        yield
        await listener.close()


async def test_readings_are_followed_whatever_they_hold(live: Live, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "srv")
    pne = await live.established()
    pairs = [SAID[at : at + 2] for at in range(0, len(SAID), 2)]
    for pair in pairs:
        await pne.send(pne.next_reading({"v": list(pair)}))
    async with served(live, folder):
        tail = ("server", "tail", "--data", folder.path, "--since", "all", "--count", str(len(pairs)))
        lines, table = await asyncio.gather(cpns(*tail, "--output", "json"), cpns(*tail))
    assert [json.loads(line)["body"]["v"] for line in whole(lines)] == pairs
    shown(whole(table), [json.dumps(pair, ensure_ascii=False) for pair in pairs])


async def test_control_sockets_carry_whatever_is_said(tmp_path: Path) -> None:
    async def echo(given: dict[str, Any]) -> dict[str, Any]:
        return {"said": given["text"] * given["times"]}

    door = Control(tmp_path / "sock", {"echo": echo})
    await door.start()
    try:
        for text in SAID:
            found = await asyncio.to_thread(ask, tmp_path / "sock", "echo", text=text, times=1)
            assert found == {"said": text}
        long = "".join(SAID)
        found = await asyncio.to_thread(ask, tmp_path / "sock", "echo", text=long, times=100)
        assert found == {"said": long * 100}  # longer than a command may be
    finally:
        await door.close()


async def test_who_watches_a_group_sees_whatever_is_said(tmp_path: Path) -> None:
    texts = groups.Texts()
    path = tmp_path / "sock"
    door = Control(path, groups.of_pne(lambda: pytest.fail("no device is asked"), texts))
    await door.start()
    watch = (sys.executable, "-m", "cpns", "pne", "group", "watch", "--control", path, "--count", str(len(SAID)))
    try:
        watchers = [
            await asyncio.create_subprocess_exec(
                *watch, *more, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment()
            )
            for more in ((), ("--output", "json"))
        ]
        for one in watchers:
            assert one.stderr is not None
            assert b"Listening" in await asyncio.wait_for(one.stderr.readline(), 60)
        for text in SAID:
            texts.add(GroupText(SgId("sg-1"), "family", PNE, text, late=False))
        (table, _), (lines, _) = [await asyncio.wait_for(one.communicate(), 60) for one in watchers]
    finally:
        await door.close()
    shown(whole(table))
    assert [json.loads(line)["text"] for line in whole(lines)] == SAID


# in this process


async def test_readings_from_stdin(tmp_path: Path) -> None:
    """Each as it is, where JSON allows that, and escaped; with what a file of another system has at its lines' ends."""
    given = [json.dumps({"v": text}, ensure_ascii=escaped) for escaped in (False, True) for text in SAID]
    for end in ("\n", "\r\n"):
        (tmp_path / "lines").write_bytes(end.join(given).encode())
        with (tmp_path / "lines").open("rb") as file:
            bodies = [body async for body in sources.lines(file.fileno(), lambda *why: pytest.fail(str(why)))]
        assert [body["v"] for body in bodies] == [*SAID, *SAID]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_sheet_has_the_lines_that_it_has(tmp_path: Path, end: str) -> None:
    """NUL and LF are refused, and a line end; all others come into a note, and out of it, as they are."""
    notes = {f"dev-{n}": text for n, text in enumerate(SAID) if not {"\0", "\n"} & set(text)}
    text = end.join(["id,note", *(f"{name},{note}" for name, note in notes.items())])
    assert {row.id: row.note for row in read_sheet(text).rows} == notes
    data, sheet = tmp_path / "srv", tmp_path / "sheet.csv"
    good("server", "init", "--data", data, "--id", "server.example")
    sheet.write_bytes(text.encode())
    good("device", "import", sheet, "--data", data, "--out", tmp_path / "out.csv")
    listed = data_of("device", "list", "--data", data)["items"]
    assert {one["id"]: one["note"] for one in listed} == notes
    shown([line for line in good("device", "list", "--data", data).split("\n")[1:] if line], sorted_notes(notes))


def sorted_notes(notes: dict[str, str]) -> list[str]:
    return [notes[name] for name in sorted(notes)]


def test_events_of_a_device(capsys: pytest.CaptureFixture[str]) -> None:
    for text in SAID:
        Events(PNE, Output.TABLE).received(text)
    shown(whole(capsys.readouterr().out.encode()))
    for text in SAID:
        Events(PNE, Output.JSON).received(text)
    assert [json.loads(line)["text"] for line in whole(capsys.readouterr().out.encode())] == SAID


def test_a_trace(tmp_path: Path) -> None:
    trace, traces = Trace(tmp_path / "trace"), ladder.Traces([tmp_path / "trace"])
    for text in SAID:
        trace(Passed(PNE, text, text, "-"))
    assert [(one.peer, one.what) for one in traces.new()] == [(text, text) for text in SAID]


def test_the_log() -> None:
    written = io.StringIO()
    handler = NotedHandler(logging.StreamHandler(written))
    for number, text in enumerate(SAID):
        record = logging.LogRecord("cpns", logging.INFO, "", 0, "it said %s", (text,), None)
        record.__dict__.update(by(f"pne-{number}"))
        handler.emit(record)
    assert len(whole(written.getvalue().encode())) == len(SAID)
    assert all(line.isprintable() for line in whole(written.getvalue().encode()))


TABLES: dict[str, Callable[[str], None]] = {
    "table": lambda text: o.print_table(("what",), [(text,)]),
    "fields": lambda text: o.print_fields({"what": text}),
    "sentence": lambda text: o.say(text, {}, Output.TABLE),
    "list": lambda text: o.show({}, Output.TABLE, ("what",), [([text, text],)]),
}


@pytest.mark.parametrize("name", TABLES)
def test_what_is_printed_for_people(capsys: pytest.CaptureFixture[str], name: str) -> None:
    for text in SAID:
        TABLES[name](text)
    lines = [line.rstrip() for line in whole(capsys.readouterr().out.encode())]
    shown([line for line in lines if line != "what"])


@pytest.mark.parametrize("text", [*SAID[1::16], "a\nb", "a\u202eb"], ids=ascii)
def test_an_error_is_one_line(places: Places, text: str) -> None:
    done = places.run(["device", "import", text, "--data", str(places.data), "--dry-run"])
    assert done.code == 1
    shown(whole(done.err.encode()), [text])


# JSON at a terminal


@contextlib.contextmanager
def terminal() -> Iterator[tuple[IO[str], list[bytes]]]:
    """Give a stream to a terminal, and what came out there, when it is over."""
    ours, theirs = pty.openpty()
    came: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while chunk := os.read(ours, 65536):
                came.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with open(theirs, "w", encoding="utf-8", closefd=True) as stream:
        yield stream, came
    reader.join(0.2)
    if reader.is_alive():  # a role's own end of the terminal goes with the role, which others refer to in a circle
        gc.collect()
        reader.join()
    os.close(ours)


NOTE = "".join(char for char in SPECIAL if char not in "\0")[:200]
PRINT_JSON = {
    " ".join(path): (path, command)
    for path, command in commands()
    if path not in OWN_PARTIES and any(one.name == "output" for one in command.params)
}


@pytest.fixture(scope="module")
def noted(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A server whose notes are hostile."""
    places = Places(tmp_path_factory.mktemp("noted"))
    for noun in ("device", "gateway"):
        good(noun, "set", f"{noun}-1", "--note", NOTE, "--data", places.data)
    return places


@pytest.mark.parametrize("words", ["device show device-1", "device list", "gateway show gateway-1", "gateway list"])
def test_a_note_in_json_does_not_steer_a_terminal(tmp_path: Path, words: str) -> None:
    """What is printed is the same document."""
    places = Places(tmp_path)
    noun = words.split()[0]
    good(noun, "set", f"{noun}-1", "--note", NOTE, "--data", places.data)
    call = [*words.split(), "--data", str(places.data)]
    with terminal() as (stream, came):
        assert places.run([*call, "--output", "json"], stdout=stream).code == 0
    assert NOTE not in b"".join(came).decode()
    raw = good(*call, "--output", "json")
    assert json.loads(b"".join(came)) == json.loads(raw)
    assert "\x9b" in raw
    assert "\u202e" in raw


def test_the_commands_that_print_json_are_found() -> None:
    assert len(PRINT_JSON) >= 40


@pytest.mark.parametrize("name", PRINT_JSON)
def test_no_command_lets_json_steer_a_terminal(noted: Places, name: str) -> None:
    """Whatever those before it have made of the server."""
    with terminal() as (stream, came):
        noted.run(noted.words(*PRINT_JSON[name], output="json"), stdout=stream)
    text = b"".join(came).decode()
    assert all(char.isprintable() or char in "\r\n" for char in text), ascii(text)


async def test_following_readings_on_a_terminal(live: Live, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "srv")
    pne = await live.established()
    body = {"v": "".join(SPECIAL)}
    await pne.send(pne.next_reading(dict(body)))
    async with served(live, folder):
        with terminal() as (stream, came):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cpns", "server", "tail", "--data", folder.path, "--since", "all"),
                *("--count", "1", "--output", "json"),
                stdout=stream.fileno(),
                env=environment(),
            )
            assert await asyncio.wait_for(process.wait(), 60) == 0
    text = b"".join(came).decode()
    assert text.endswith("\r\n")
    assert text[:-2].isprintable()
    assert json.loads(text)["body"] == body
