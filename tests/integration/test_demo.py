"""The demo as a test: every party a process of its own, every procedure, and a gateway that lies."""

import re
import subprocess
import sys

import pytest


@pytest.mark.req("DEF-1", "DEF-9", "SES-1", "SES-2", "SES-5", "AUTH-0", "AUTH-7.5.5", "AUTH-G1", "AUTH-G5", "AUTH-S4")
@pytest.mark.timeout(150)
def test_the_story_comes_about() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cpns", "demo", "--once"], capture_output=True, text=True, timeout=140, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    told = done.stdout
    for message in (
        "SETUP Request",
        "AUTHENTICATE Request",
        "AUTHENTICATE Response",
        "SETUP Response",
        "ACTIVATE Request",
    ):
        assert message in told
    for protection in ("gateway session", "hop session", "end-to-end session", "the Secure PAN itself"):
        assert protection in told
    assert told.count("verified e2e") == 9
    assert told.count("tried: ") == 8
    # watch and scale went up in one SETUP Request, ring in another: two in all between gateway and server
    ladder = told[: told.index("3. Live readings")]
    upward = [line for line in ladder.splitlines() if re.search(r"│ {10,}│─+ SETUP Request", line)]
    assert len(upward) == 2
    hop = [line for line in ladder.splitlines() if "/presence" in line]
    assert {line.split()[-2] + " " + line.split()[-1] for line in hop} == {"hop session", "PAN itself"}


def test_help_shows_an_example() -> None:
    done = subprocess.run([sys.executable, "-m", "cpns", "demo", "--help"], capture_output=True, text=True, check=True)
    assert "Example: cpns demo" in done.stdout
