"""What roles print where nobody reads it: separate processes, their output on a pipe that is full."""

import contextlib
import json
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.parties import PATIENCE, Parties, Process, until


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    one = Parties(tmp_path)
    try:
        yield one
    finally:
        one.close()


def test_nobody_waits_for_who_does_not_read_what_they_print(parties: Parties, tmp_path: Path) -> None:
    """All goes on, a text is given when somebody reads, and all end."""
    parties.provision("pne-1")
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, b"-" * 511 + b"\n")
    os.set_blocking(theirs, True)

    def start(*arguments: str) -> Process:
        one = Process([sys.executable, "-m", "cpns", *arguments], {}, theirs)
        parties.all.append(one)
        return one

    data, server = ("--data", parties.path("server")), f"127.0.0.1:{parties.server_port}"
    pan, socket = f"127.0.0.1:{parties.pan_port}", parties.path("pne.sock")
    trace = tmp_path / "trace"
    os.mkfifo(trace)
    unread = os.open(trace, os.O_RDONLY | os.O_NONBLOCK)
    roles = [
        start("server", "run", *data, "--listen", server),
        start("gateway", "run", "--key", parties.path("gw-1.key"), "--server", server, "--pan", pan, "--no-announce"),
        start(
            *("pne", "run", "--key", parties.path("pne-1.key"), "--gateway", pan, "--source", "-", "--control", socket),
            *("--trace", str(trace), "--output", "json", "--timer", "3", "--request-timeout", "1.5"),
        ),
    ]

    def stored() -> int:
        with contextlib.suppress(sqlite3.OperationalError):
            return len(parties.readings())
        return 0

    for number in range(200):  # each is said to be acknowledged
        roles[-1].write(f'{{"n": {number}, "more": "{"x" * 300}"}}')
    until(lambda: stored() == 200, "all readings are stored")
    sent = parties.call("device", "send", "pne-1", "water the plants", *data, "--output", "json")
    assert json.loads(sent)["answer"] == "received"
    text = b""
    os.set_blocking(ours, False)
    while b"water the plants" not in text:
        with contextlib.suppress(BlockingIOError):
            text += os.read(ours, 65536)
    for role in reversed(roles):
        role.process.send_signal(signal.SIGTERM)
        assert role.process.wait(PATIENCE) == 0
    for descriptor in (ours, theirs, unread):
        os.close(descriptor)
