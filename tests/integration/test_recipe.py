"""CONTRIBUTING.md says how to add a message: done as it says, in a copy, it works."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import cbor2
import pytest

from cpns.errors import WireError
from cpns.wire import codec
from cpns.wire.declare import MESSAGES

ROOT = Path(__file__).parents[2]
COPIED = ("src/cpns", "tests/support", "tests/__init__.py", "docs/protocol.md", "micropython")
MADE = {"src/cpns/wire/cpns.cddl", "docs/protocol.md", "micropython/cpns_tables.json"}
TRY = """
import asyncio
import sys
from pathlib import Path

from cpns.errors import Refused
from cpns.wire import pn_messages as pm
from tests.support.world import FAST, world


async def main() -> None:
    async with world(Path(sys.argv[1])) as here:
        await here.start_server()
        gateway = await here.start_gateway()
        pne = await here.joined_pne("alice", gateway, **FAST)
        for sureness in (None, 80, 20):
            request = pm.WarmthRequest(pne.joined.pn_id, 121, sureness)
            print((await pne._way.ask(request, pm.WarmthResponse)).result)
        standing = await gateway.uplink.wait(5)
        try:
            await standing.link.ask(request, pm.WarmthResponse, timeout=5, session=standing.session)
        except Refused as error:
            print(int(error.result))


asyncio.run(main())
"""


def python(copy: Path, *arguments: str) -> str:
    """Run Python on the copy; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": f"{copy / 'src'}:{copy}", "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy with the message of the recipe in it."""
    for name in COPIED:
        source, to = ROOT / name, tmp_path / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to)
    recipe = (ROOT / "CONTRIBUTING.md").read_text().partition("## A message")[2]
    declared, imported, row, handler = re.findall(r"^```python\n(.*?)^```$", recipe, re.MULTILINE | re.DOTALL)
    messages, handlers = re.findall(r"here `(src/\S+\.py)`", recipe)
    path = tmp_path / messages
    head, _, rest = path.read_text().partition("\nfrom ")
    path.write_text(f"{head}\n{imported}from {rest}\n\n{declared}")
    path = tmp_path / handlers
    before, returns, rest = path.read_text().partition("        return (\n")
    path.write_text(f"{before}{returns}            {row.strip()},\n{rest}\n{indent(dedent(handler), '    ')}")
    return tmp_path


def test_a_message_takes_two_files(copy: Path) -> None:
    assert sorted(python(copy, "-m", "tests.support.tables").split()[1::2]) == sorted(MADE)
    changed = {
        str(path.relative_to(copy))
        for path in copy.rglob("*")
        if path.is_file() and not filecmp.cmp(path, ROOT / path.relative_to(copy), shallow=False)
    }
    assert changed - MADE == {"src/cpns/wire/pn_messages.py", "src/cpns/server/network_requests.py"}
    for name in MADE:
        assert "WARMTH" in (copy / name).read_text() or "Warmth" in (copy / name).read_text(), name
    assert "130?" in (copy / "docs/protocol.md").read_text()
    assert python(copy, "-c", TRY, str(copy)).split() == ["0", "0", "60", "11"]


def test_who_does_not_know_it_says_so() -> None:
    with pytest.raises(WireError, match="unknown_message"):
        codec.decode(cbor2.dumps([80, {5: "pn-1", 58: 121, 130: 80}]), *MESSAGES)
