"""CONTRIBUTING.md says how to add a message, and a feature: done as it says, in a copy, each works."""

import filecmp
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent, indent

import cbor2
import pytest

from cpns.errors import WireError
from cpns.wire import codec
from cpns.wire.declare import MESSAGES

ROOT = Path(__file__).parents[2]
COPIED = ("src/cpns", "tests/support", "tests/__init__.py", "docs/protocol.md", "docs/states.md", "micropython")
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


def recipe(name: str) -> str:
    """Return the section of CONTRIBUTING.md with that heading."""
    return (ROOT / "CONTRIBUTING.md").read_text().partition(f"\n## {name}\n")[2].partition("\n## ")[0]


BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy."""
    for name in COPIED:
        source, to = ROOT / name, tmp_path / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to)
    return tmp_path


def changed(copy: Path) -> set[str]:
    """Return the files of a copy that are not as they are here."""
    found = set()
    for path in copy.rglob("*"):
        name = path.relative_to(copy)
        if path.is_file() and not ((ROOT / name).exists() and filecmp.cmp(path, ROOT / name, shallow=False)):
            found.add(str(name))
    return found


# a message


@pytest.fixture
def with_message(copy: Path) -> Path:
    """Return a copy with the message of the recipe in it."""
    text = recipe("A message")
    declared, imported, row, handler = BLOCK.findall(text)
    messages, handlers = re.findall(r"here `(src/\S+\.py)`", text)
    path = copy / messages
    head, _, rest = path.read_text().partition("\nfrom ")
    path.write_text(f"{head}\n{imported}from {rest}\n\n{declared}")
    path = copy / handlers
    before, returns, rest = path.read_text().partition("        return (\n")
    path.write_text(f"{before}{returns}            {row.strip()},\n{rest}\n{indent(dedent(handler), '    ')}")
    return copy


def test_a_message_takes_two_files(with_message: Path) -> None:
    copy = with_message
    assert sorted(python(copy, "-m", "tests.support.tables").split()[1::2]) == sorted(MADE)
    assert changed(copy) - MADE == {"src/cpns/wire/pn_messages.py", "src/cpns/server/networks/requests.py"}
    for name in MADE:
        assert "WARMTH" in (copy / name).read_text() or "Warmth" in (copy / name).read_text(), name
    assert "130?" in (copy / "docs/protocol.md").read_text()
    assert python(copy, "-c", TRY, str(copy)).split() == ["0", "0", "60", "11"]


def test_who_does_not_know_it_says_so() -> None:
    with pytest.raises(WireError, match="unknown_message"):
        codec.decode(cbor2.dumps([80, {5: "pn-1", 58: 121, 130: 80}]), *MESSAGES)


# a feature

RING = """
import asyncio
import sys
from pathlib import Path

import httpx

from cpns.admin.api import create_app
from cpns.admin.service import Admin
from cpns.domain.actor import OPERATOR, Actor, Role
from cpns.errors import Refused
from cpns.ids import EntityId
from cpns.server.rings import store as rows
from tests.support.world import CLOCK, FAST, SERVER, until, world


async def main() -> None:
    async with world(Path(sys.argv[1])) as here:
        server = await here.start_server()
        await here.joined_pne("watch", await here.start_gateway(), **FAST)
        for running in (server, None):
            app = create_app(Admin(SERVER, here.store, here.provisioning, running, CLOCK))
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cpns") as client:
                print((await client.post("/api/v1/devices/watch/ring")).status_code)
                print((await client.post("/api/v1/devices/nobody/ring")).json()["code"])
        try:
            await here.store.do(rows.ring, EntityId("watch"), 5.0, Actor(Role.PNE, "watch"))
        except Refused as error:
            print(error.reason)
        await until(lambda: here.inboxes["watch"] == ["ring", "ring"])
        rung = [one.event for one in await here.store.events(0, 99) if one.event.kind == "rung"]
        print([(one.subject, one.actor == OPERATOR) for one in rung], len(await here.audit("watch", "rung")))


asyncio.run(main())
"""
OF_IT = {f"src/cpns/server/rings/{name}.py" for name in ("rules", "store", "__init__")}
LINES = "src/cpns/server/features.py"


@pytest.fixture
def with_feature(copy: Path) -> Path:
    """Return a copy with the feature of the recipe in it."""
    text = recipe("A feature")
    *files, line = BLOCK.findall(text)
    names = re.findall(r"^\*\*\d\. .*?`(src/\S+\.py)`", text, re.MULTILINE)
    assert len(names) == len(files) + 1
    for name, source in zip(names, files, strict=False):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text(source)
    assert line.count("\n") == 1
    path = copy / names[-1]
    path.write_text(path.read_text().replace("\n\nFEATURES", f"\n{line}\nFEATURES", 1))
    return copy


def test_a_feature_takes_one_folder_and_one_line(with_feature: Path) -> None:
    assert changed(with_feature) == {*OF_IT, LINES}
    lines = [(root / LINES).read_text().splitlines() for root in (ROOT, with_feature)]
    assert len(lines[1]) == len(lines[0]) + 1
    assert set(lines[0]) <= set(lines[1])
    assert python(with_feature, "-c", RING, str(with_feature)).splitlines() == [
        *("200", "unknown_entity") * 2,
        "operators_alone",
        "[('watch', True), ('watch', True)] 2",
    ]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("rings/rules.py", "from cpns.server.networks.actions import NetworkActions\n"),
        ("peers/pnes.py", "from cpns.server.rings import Rings\n"),
    ],
    ids=["another feature", "from below"],
)
def test_the_walls_keep_features_apart(with_feature: Path, file: str, line: str) -> None:
    shutil.copy(ROOT / ".importlinter", with_feature)
    assert "0 broken" in walls(with_feature)
    path = with_feature / "src/cpns/server" / file
    path.write_text(path.read_text() + line)
    assert "no feature imports another BROKEN" in walls(with_feature)


def walls(copy: Path) -> str:
    """Return what the import walls say of a copy."""
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    call = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", call, "--no-cache", "--no-logo"]
    ended = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=120, check=False)
    return ended.stdout


# a table

NEW: Mapping[str, str] = {
    "domain/label.py": '''"""What an operator calls a thing: the rule."""

from cpns.domain.actor import Actor
from cpns.domain.member_list import check_operator


def label(text: str, actor: Actor) -> str:
    """Return the label that a thing gets. Raises `Refused`."""
    check_operator(actor)
    return text.strip()
''',
    "store/label_queries.py": '''"""Labels in their table."""

from sqlalchemy import Connection

from cpns.domain import label as rules
from cpns.domain.actor import Actor
from cpns.domain.inventory import Outcome
from cpns.errors import Result
from cpns.ids import EntityId
from cpns.store.audit_queries import record
from cpns.store.dialect import insert_or_update
from cpns.store.schema import labels

_PUT = insert_or_update(labels, "entity_id")


def put(connection: Connection, entity_id: EntityId, text: str, at: float, actor: Actor) -> None:
    """Label an entity."""
    connection.execute(_PUT, {"entity_id": entity_id, "label": rules.label(text, actor)})
    record(connection, [Outcome(at, "labelled", entity_id, actor, Result.SUCCESS)])
''',
    "store/migrations/versions/r9999_labels.py": '''"""Things have labels."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{last}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("labels", sa.Column("entity_id", sa.Text, primary_key=True), sa.Column("label", sa.Text))
''',
}
TABLE_LINES: Mapping[str, tuple[str, str]] = {
    "store/schema.py": (
        "meta = Table(",
        'labels = Table("labels", metadata, Column("entity_id", Text, primary_key=True), Column("label", Text))\n\n',
    ),
    "store/set_back_queries.py": ('    "readings": Back.NUMBERED,', '    "labels": Back.TOLD,\n'),
    "store/server_store.py": ("    # readings\n", "    label = writes(label_queries.put)\n\n"),
}
"""Edited files: before what, and the line."""
USE = """
import asyncio, sys
from pathlib import Path
from cpns.domain.actor import OPERATOR, SERVER, Actor, Role
from cpns.errors import Refused
from cpns.ids import EntityId
from cpns.store.schema import metadata
from cpns.store.server_store import ServerStore
from cpns.store.set_back_queries import ANSWERS

async def main():
    store = ServerStore.open(Path(sys.argv[1]))
    await store.label(EntityId("watch"), " on the wrist ", 5.0, OPERATOR)
    try:
        await store.label(EntityId("watch"), "mine", 6.0, Actor(Role.PNE, "watch"))
    except Refused as error:
        print(error.reason)
    for one in await store.events(0, 9):
        print(one.event.kind, one.event.subject, one.event.actor.name)
    print([row.event for row in await store.audit(None, 9)])
    print(sorted(set(metadata.tables) - set(ANSWERS)))
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def with_table(copy: Path) -> Path:
    """Return a copy with a made-up feature that has a table."""
    to = copy / "src/cpns"
    last = max(path.name[1:5] for path in (to / "store/migrations/versions").glob("r*.py"))
    for name, text in NEW.items():
        (to / name).write_text(text.replace("{last}", last))
    for name, (before, line) in TABLE_LINES.items():
        source = (to / name).read_text()
        assert source.count(before) == 1, name
        (to / name).write_text(source.replace(before, line + before))
    store = to / "store/server_store.py"
    imported = ("    inventory_queries,\n", "    inventory_queries,\n    label_queries,\n")
    store.write_text(store.read_text().replace(*imported, 1))
    return copy


def use(copy: Path) -> list[str]:
    return python(copy, "-c", USE, str(copy / "server.db")).splitlines()


def test_a_table_with_one_action_and_one_event(with_table: Path) -> None:
    assert use(with_table) == ["operators_alone", "labelled watch local", "['labelled']", "[]"]


def test_a_table_without_an_answer_is_found(with_table: Path) -> None:
    table = with_table / "src/cpns/store/set_back_queries.py"
    table.write_text(table.read_text().replace(TABLE_LINES["store/set_back_queries.py"][1], ""))
    assert use(with_table)[-1] == "['labels']"


def test_the_recipe_of_a_table_names_what_it_takes() -> None:
    """A rule, a query, a migration, and a line in each of three files; and each answer of a table."""
    recipe = (ROOT / "CONTRIBUTING.md").read_text()
    for name in (*TABLE_LINES, "ports/topics.py", "domain/reasons.py"):
        assert name in recipe, name
    used = set(re.findall(r"Back\.(\w+)", (ROOT / "src/cpns/store/set_back_queries.py").read_text()))
    assert used - {"ELSEWHERE"} == set(re.findall(r"^ *\|.*\| `([A-Z]+)`", recipe, re.MULTILINE))
