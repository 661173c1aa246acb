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

import cpns
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


# a message


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


# a feature

SOURCE = Path(cpns.__file__).parent
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
LINES: Mapping[str, tuple[str, str]] = {
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
def with_feature(tmp_path: Path) -> Path:
    """Return a copy of the package with the made-up feature."""
    to = tmp_path / "src" / "cpns"
    shutil.copytree(SOURCE, to, ignore=shutil.ignore_patterns("__pycache__"))
    last = max(path.name[1:5] for path in (to / "store/migrations/versions").glob("r*.py"))
    for name, text in NEW.items():
        (to / name).write_text(text.replace("{last}", last))
    for name, (before, line) in LINES.items():
        source = (to / name).read_text()
        assert source.count(before) == 1, name
        (to / name).write_text(source.replace(before, line + before))
    store = to / "store/server_store.py"
    imported = ("    inventory_queries,\n", "    inventory_queries,\n    label_queries,\n")
    store.write_text(store.read_text().replace(*imported, 1))
    return tmp_path


def use(copy: Path) -> list[str]:
    return python(copy, "-c", USE, str(copy / "server.db")).splitlines()


def test_a_feature_with_one_action_and_one_event(with_feature: Path) -> None:
    assert use(with_feature) == ["operators_alone", "labelled watch local", "['labelled']", "[]"]


def test_a_table_without_an_answer_is_found(with_feature: Path) -> None:
    table = with_feature / "src/cpns/store/set_back_queries.py"
    table.write_text(table.read_text().replace(LINES["store/set_back_queries.py"][1], ""))
    assert use(with_feature)[-1] == "['labels']"


def test_the_recipe_of_a_feature_names_what_it_takes() -> None:
    """A rule, a query, a migration, and a line in each of three files; and each answer of a table."""
    recipe = (ROOT / "CONTRIBUTING.md").read_text()
    for name in (*LINES, "ports/topics.py", "domain/reasons.py"):
        assert name in recipe, name
    used = set(re.findall(r"Back\.(\w+)", (SOURCE / "store/set_back_queries.py").read_text()))
    assert used - {"ELSEWHERE"} == set(re.findall(r"^ *\|.*\| `([A-Z]+)`", recipe, re.MULTILINE))
