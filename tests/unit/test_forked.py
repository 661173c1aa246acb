"""A process that is forked is as one that was started."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.forked import Forked

ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
SHOWS = "import os, signal, sys; print(os.environ['SAYS'], os.getcwd(), sys.argv[0][-9:], sys.stdin.read())"
STATE = "import os, signal; print(len(os.listdir('/proc/self/fd')), signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL)"
SLEEPS = "import time; print('up', flush=True); time.sleep(600)"


def timeit(code: str) -> list[str]:
    """Return what has Python run *code* from a module."""
    return [sys.executable, "-m", "timeit", "-n", "1", "-r", "1", code]


def ended(arguments: list[str], given: str = "", **more: str) -> tuple[int, str, str]:
    """Fork; return exit status and what was printed."""
    with (
        tempfile.TemporaryFile("w+") as stdin,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        stdin.write(given)
        stdin.seek(0)
        one = Forked(arguments, env={**ENVIRONMENT, **more}, stdin=stdin, stdout=out, stderr=err)
        code = one.wait(60)
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()


@pytest.mark.parametrize(
    "words", ["--version", "device lst", "device list --data /nowhere", "server run --data /nowhere --listen x"]
)
def test_a_command_says_the_same(words: str) -> None:
    arguments = [sys.executable, "-m", "cpns", *words.split()]
    done = subprocess.run(arguments, env=ENVIRONMENT, capture_output=True, text=True)
    assert ended(arguments) == (done.returncode, done.stdout, done.stderr)


def test_it_has_the_environment_the_folder_and_the_streams_that_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = ended(timeit(SHOWS), "and more", SAYS="this")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"this {tmp_path} timeit.py and more"


def test_it_has_no_signal_and_no_descriptor_of_another() -> None:
    _, out, _ = ended(timeit(STATE))
    assert out.splitlines()[0] == "4 True"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_by_a_signal(number: signal.Signals) -> None:
    one = Forked(
        timeit(SLEEPS), env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert one.stdout is not None
    assert one.stdout.readline() == b"up\n"
    assert one.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        one.wait(0.01)
    one.send_signal(number)
    assert one.wait(60) == -number
    one.stdout.close()
