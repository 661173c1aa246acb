"""The demo as a test: every party a process of its own, every procedure, and a gateway that lies."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cpns.cli import stage, story
from tests.support.forked import awaited


@pytest.mark.long
@pytest.mark.req(
    *("DEF-1", "DEF-6", "DEF-7", "DEF-9", "SES-1", "SES-2", "SES-5", "AUTH-0", "AUTH-7.5.5", "AUTH-G1", "AUTH-G5"),
    *("AUTH-S4", "FN-7", "FN-8", "CM-0"),
)
def test_the_story_comes_about(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(asyncio, "create_subprocess_exec", awaited)
    ended, told = story.run(once=True), capsys.readouterr().out
    assert ended == 0, told[-3000:]
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
    # watch went up with scale and band in one SETUP Request, ring in another: two in all between gateway and server
    ladder = told[: told.index("Live readings")]
    upward = [line for line in ladder.splitlines() if re.search(r"│ {10,}│─+ SETUP Request", line)]
    assert len(upward) == 2
    assert any("PNChangeNotify" in line and line.endswith("hop session") for line in ladder.splitlines())
    assert "shy was asked, and does not come" in told
    assert "ring joined; the inventory is at version 2" in told
    for gateway in ("shed", "home"):  # one died, then the other was stolen
        assert len(re.findall(rf"(watch|scale|band|ring) +through {gateway}, +[\d.]+ s later", told)) == 4
    assert "could ever read" in told
    group = told[told.index("A group across two networks") : told.index("A tablet that can go direct")]
    for text in ("dinner is ready", "the door code is 4711"):
        assert re.findall(rf"(\w+) +(\w+) +'{text}' +tv", group) == [
            ("radio", "home"),
            ("hub", "home"),
            ("car", "shed"),
        ]
    assert "guest heard it too" in group
    assert group.count("that it has kept opens it") == 2
    assert any("GroupKeyNotify" in line and "a signature" in line for line in group.splitlines())
    steps = told[told.index("A tablet that can go direct") : told.index("Wi-Fi is gone")]
    numbers = re.findall(r"(?<=[ ,])(\d+) [a-zA-Z]", "\n".join(line for line in steps.splitlines() if "│" in line))
    assert [int(number) for number in numbers][:16] == list(range(1, 17))
    assert re.search(r"earbud comes in through the tablet: its gateway is cm-", told)
    assert re.search(r"\d+ readings, .* none lost, none twice.*; via home, then cm-\S+, then home", told)
    assert "which knows its key: no" in told


def test_help_shows_an_example() -> None:
    done = subprocess.run([sys.executable, "-m", "cpns", "demo", "--help"], capture_output=True, text=True, check=True)
    assert "Example: cpns demo" in done.stdout


async def test_a_command_that_does_not_end_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "PATIENCE", 0.0)
    demo = stage.Stage(tmp_path)
    with pytest.raises(stage.DemoFailed, match="cpns server --help did not end"):
        await demo.call("server", "--help")
    await demo.close()
