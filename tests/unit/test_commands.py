"""Every argument, stream and file of every command: a stable code and one line, never a failure of ours.

The cases are the product of a table and the tree of commands, so a new command is in them without a line here.
"""

import contextlib
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import OWN_PARTIES, Ended, Places, commands, full, is_path, is_word, unread

ALL = commands()
HERE = [(path, command) for path, command in ALL if path not in OWN_PARTIES]
NO_TEXT = os.fsdecode(b"\xff\xfe")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(tmp_path_factory.mktemp("places"))


def rule(words: list[str], done: Ended, *codes: str, quiet: bool = False) -> None:
    """Hold a command to the rule of exit statuses; where it fails, with one of *codes* if there are any."""
    said = done.err.splitlines()
    assert "internal" not in done.err, ascii((words, done))
    assert "Traceback" not in done.err, ascii((words, done))
    assert done.code in (0, 1, 2, 130), ascii((words, done))
    if done.code == 1 and not (quiet and not said):
        assert re.fullmatch(r"error\[[a-z0-9_]+\]: .+\.?", said[-1]), ascii((words, done))
        assert sum(line.startswith("error[") for line in said) == 1, ascii((words, done))
        if codes:
            assert said[-1].startswith(tuple(f"error[{code}]" for code in codes)), ascii((words, done))
    elif codes:
        pytest.fail(ascii((words, done)))


def test_every_argument_that_is_no_text_is_refused(places: Places) -> None:
    tried = 0
    for path, command in ALL:
        for parameter in command.params:
            if not is_word(parameter):
                continue
            words = places.words(path, command, **{str(parameter.name): NO_TEXT})
            if parameter.param_type_name == "argument" and parameter.name != "text":
                rule(words, places.run(words), "bad_id")
            else:
                rule(words, places.run(words), "bad_text")
            tried += 1
    assert tried >= 90  # a walk that finds nothing is no test


def test_what_the_environment_says_is_held_to_the_same(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cpns", "server", "init", "--data", str(places.folder / "other")],
        env={**os.environb, b"CPNS_SERVER_ID": b"\xff"},
        capture_output=True,
    )
    assert (done.returncode, done.stderr[:15]) == (1, b"error[bad_text]")


def test_names_of_files_are_bytes(places: Places) -> None:
    tried = 0
    for path, command in HERE:
        for parameter in filter(is_path, command.params):
            words = places.words(path, command, **{str(parameter.name): str(places.folder / NO_TEXT / NO_TEXT)})
            rule(words, places.run(words))
            tried += 1
    assert tried >= 80  # a walk that finds nothing is no test


def test_a_full_standard_output_is_an_error_of_its_own(places: Places) -> None:
    failed = 0
    for path, command in ALL:
        calls = [[*path, "--help"], *([] if path in OWN_PARTIES else [places.words(path, command)])]
        for words in calls:
            with full() as stream:
                done = places.run(words, stdout=stream)
            rule(words, done)
            failed += done.err.startswith("error[output_failed]")
            if "--help" in words:
                assert done.err == "error[output_failed]: Standard output can't be written: No space left on device.\n"
    assert failed >= len(ALL) + 10  # a walk that finds nothing is no test


def test_a_pipe_that_nobody_reads_ends_quietly_and_a_closed_input_is_empty(places: Places) -> None:
    failed = 0
    for path, command in ALL:
        calls = [[*path, "--help"], *([] if path in OWN_PARTIES else [places.words(path, command)])]
        for words in calls:
            unasked = [word for word in words if word != "--yes"]
            with unread() as stream:
                done = places.run(unasked, stdout=stream, stdin=None)
            rule(words, done, quiet=True)
            assert "--yes" not in words or done.code == 1, words
            failed += done.code == 1 and not done.err
    assert failed >= len(ALL) + 5


def test_with_its_output_closed_a_command_does_nothing(places: Places) -> None:
    for path, command in ALL:
        words = places.words(path, command)
        rule(words, places.run(words, closed_stdout=None), "output_closed")


KINDS = ("missing", "folder", "device", "read-only", "link to itself")


def unfit(places: Places, kind: str) -> str:
    """Return the name of what is no file that a command could use."""
    loop, device = places.folder / "loop", places.folder / "device"
    for link, to in ((loop, loop), (device, Path("/dev/full"))):  # by a link: a command may take it away
        if not link.is_symlink():
            link.symlink_to(to)
    (places.folder / "empty").mkdir(exist_ok=True)
    named = {
        "missing": places.folder / "nowhere" / "there",
        "folder": places.folder / "empty",
        "device": device,
        "read-only": Path("/sys/cpns"),  # nobody may make a file there, whoever it is
        "link to itself": loop,
    }
    return str(named[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_that_a_command_needs_may_be_none(places: Places, kind: str) -> None:
    tried = 0
    for path, command in HERE:
        for parameter in filter(is_path, command.params):
            words = places.words(path, command, **{str(parameter.name): unfit(places, kind)})
            rule(words, places.run(words))
            tried += 1
    assert tried >= 80


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """No file may grow, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_of_its_own(places: Places, tmp_path: Path) -> None:
    for path, command in HERE:
        words = places.words(path, command)
        outs = [str(one.name) for one in command.params if one.name in ("out", "trace", "control")]
        more = [places.words(path, command, **{name: str(tmp_path / name)}) for name in outs]
        for call in [words, *more]:
            with no_room():
                done = places.run(call)
            rule(call, done)
            assert not list(tmp_path.glob("out*")), call


def test_what_can_not_be_shown_is_not_provisioned(places: Places) -> None:
    data = ("--data", str(places.data))
    for number, stream_of in enumerate((full, unread)):
        for noun in ("device", "gateway"):
            words = [noun, "add", f"unseen-{number}", *data]
            with stream_of() as stream:
                done = places.run(words, stdout=stream)
            rule(words, done, "output_failed", "output_closed")
            assert "Nothing was provisioned" in done.err
            rule(words, places.run([noun, "show", f"unseen-{number}", *data]), "unknown_entity")


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("{cpns} device add n1 --data {data} > /dev/full", 1, "error[output_failed]"),
        ("{cpns} device list --data {data} >&-", 1, "error[output_closed]"),
        ("{cpns} device add \"$(printf '\\377\\376')\" --data {data}", 1, "error[bad_id]"),
        ("{cpns} device list --data {data} 2>&- | wc -l", 0, ""),
        ("{cpns} device revoke device-1 --data {data} <&-", 1, "error[not_confirmed]"),
        ("{cpns} device add n1 --data {data} 2> /dev/full > /dev/full", 1, ""),
    ],
)
def test_in_a_shell(places: Places, line: str, code: int, told: str) -> None:
    call = line.format(cpns=f"{sys.executable} -m cpns", data=places.data)
    done = subprocess.run(["/bin/sh", "-c", call], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done
    assert len(done.stderr.splitlines()) == (1 if told else 0)
    assert done.stderr.startswith(told)
    rule([line], places.run(["device", "show", "n1", "--data", str(places.data)]), "unknown_entity")
