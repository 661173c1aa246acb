"""The table of what is finite names every container that we keep, numbers of the code, and tests that are there."""

import ast
import asyncio
import dataclasses
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import MagicMock

import pytest

from cpns.domain.inventory import Outcome
from cpns.errors import Result
from cpns.gateway.group_keys import LEFT_GROUPS, GroupKeys
from cpns.ids import EntityId, SgId
from cpns.service.refusals import PACE, STRANGERS_PACE, Refusals
from cpns.service.system import SystemClock, random_bytes
from cpns.shares import exceeded as module
from cpns.shares.exceeded import Exceeded, Excess
from cpns.shares.held import Bound
from cpns.shares.party import Party
from cpns.shares.table import TABLE
from cpns.wire.group_messages import GroupKeyRequest

ROOT = Path(__file__).parents[2]
ROOMS = ("server", "gateway", "service", "transport", "pne", "node", "store", "session", "shares", "coap")
CONTAINERS = {
    *("dict", "list", "set", "deque", "bytearray"),
    *("OrderedDict", "Counter", "defaultdict", "Queue", "LifoQueue", "PriorityQueue", "WeakSet", "WeakValueDictionary"),
}
CONSTANT = re.compile(r"[a-z_]+(\.[A-Za-z_]+)+")


def name_of(node: ast.expr | None) -> str:
    """Return the last name of ``a.b``, ``a.b[c]`` or their text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    if isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def is_container(value: ast.expr | None, kinds: set[str]) -> bool:
    """Whether an expression makes a container."""
    if isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp):
        return True
    if not isinstance(value, ast.Call):
        return False
    if name_of(value.func) != "field":
        return name_of(value.func) in kinds
    made = [one.value for one in value.keywords if one.arg == "default_factory"]
    return any(name_of(one) in kinds or (isinstance(one, ast.Lambda) and is_container(one.body, kinds)) for one in made)


def attributes(node: ast.ClassDef, kinds: set[str]) -> Iterator[str]:
    """Yield the attributes of a class that are containers."""
    for one in ast.walk(node):
        if isinstance(one, ast.AnnAssign):
            targets: list[ast.expr] = [one.target]
            found = name_of(one.annotation) in kinds or is_container(one.value, kinds)
        elif isinstance(one, ast.Assign):
            targets, found = one.targets, is_container(one.value, kinds)
        else:
            continue
        for target in targets if found else ():
            for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(each, ast.Attribute) and name_of(each.value) == "self":
                    yield each.attr
                elif isinstance(each, ast.Name) and one in node.body and isinstance(one, ast.AnnAssign):
                    yield each.id


def kept(source: str, where: str) -> set[str]:
    """Return the containers that classes of *source* keep, a class that is one itself counting as another kind."""
    classes = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.ClassDef)]
    kinds = CONTAINERS | {one.name for one in classes if any(name_of(base) in CONTAINERS for base in one.bases)}
    return {f"{where}.{one.name}.{attribute}" for one in classes for attribute in attributes(one, kinds)}


def all_kept() -> set[str]:
    found: set[str] = set()
    for room in ROOMS:
        for path in sorted((ROOT / "src/cpns" / room).rglob("*.py")):
            if "migrations" not in path.parts and path.name != "models.py":  # the JSON of one answer
                where = ".".join(path.relative_to(ROOT / "src/cpns").with_suffix("").parts)
                found |= kept(path.read_text(encoding="utf-8"), where)
    return found


def value_of(constant: str) -> Any:
    """Return what a dotted name below cpns stands for."""
    parts = ["cpns", *constant.split(".")]
    for end in range(len(parts), 1, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            value = dataclasses.fields(value) if isinstance(value, type) else getattr(value, part)
            if isinstance(value, tuple) and isinstance(value[0], dataclasses.Field):
                value = next(one.default for one in value if one.name == part)
        return value
    raise AssertionError(constant)


def test_every_container_has_a_row() -> None:
    """One that is not in `cpns.shares.table` may grow without end: say there what bounds it, or bound it."""
    named = Counter(name for row in TABLE for name in row.kept)
    assert sorted(all_kept() - set(named)) == []
    assert sorted(set(named) - all_kept()) == []  # a row names what is gone
    assert [name for name, times in named.items() if times > 1] == []


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    def __init__(self):\n        self.x: dict[int, str] = {}",
        "class A:\n    def __init__(self):\n        self.x = set()",
        "class A:\n    def __init__(self):\n        self.x = collections.deque[int]()",
        "class A:\n    def __init__(self):\n        self.x: asyncio.Queue[int] = asyncio.Queue()",
        "class A:\n    def late(self):\n        self.x = [one for one in self.y]",
        "@dataclass\nclass A:\n    x: list[int] = field(default_factory=list)",
        "@dataclass\nclass A:\n    x: 'OrderedDict[int, int]'",
        "class B(dict): ...\nclass A:\n    def __init__(self):\n        self.x = B()",
    ],
)
def test_a_container_is_found_however_it_is_written(source: str) -> None:
    assert kept(source, "room.file") == {"room.file.A.x"}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.what)
def test_each_number_is_the_code_s(row: Bound) -> None:
    constants = [one for one in (row.one, row.total) if CONSTANT.fullmatch(one)]
    for constant in constants:
        value = value_of(constant)
        assert all(number > 0 for number in (value if isinstance(value, tuple) else (value,)))
    assert row.one
    assert row.total


@pytest.mark.parametrize("row", [row for row in TABLE if row.shown], ids=lambda row: row.what)
def test_each_test_is_there(row: Bound) -> None:
    for shown in row.shown:
        path, name = shown.split("::")
        assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / path).read_text(), re.MULTILINE), shown


def test_what_has_a_share_is_shown() -> None:
    """A row with a number for one party, and one for all, names the tests that fill it."""
    bare = [row.what for row in TABLE if CONSTANT.fullmatch(row.one) and CONSTANT.fullmatch(row.total)]
    assert [what for what in bare if not next(row for row in TABLE if row.what == what).shown] == []


async def test_a_gateway_forgets_the_groups_that_its_devices_left() -> None:
    """Whoever makes groups and leaves them, one after the other, fills no memory of its gateway."""

    class Groups:
        copies: ClassVar[dict[str, object]] = {}

        async def at_epoch(self, sg_id: str, epoch: int) -> None:
            return None

    groups: Any = Groups()
    keys = GroupKeys(MagicMock(), groups, lambda pne: None, lambda pne: None, random_bytes)
    for number in range(300):
        keys.taken(GroupKeyRequest(SgId(f"sg-{number}"), 1, bytes(32)))
        await asyncio.sleep(0.001)
    assert len(keys._keyed) <= LEFT_GROUPS + 1
    await keys.close()


def test_who_went_over_a_share_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PARTIES", 3)
    one = Exceeded()
    for number in range(10):
        one.note(EntityId("loud"), "readings", float(number))
        one.note(EntityId(f"pne-{number}"), "readings", float(number))
    assert one.of(EntityId("loud")) == Excess("readings", 10, 9.0)
    assert one.of(EntityId("pne-0")) is None
    one.note(EntityId("loud"), "requests", 11.0)
    assert one.of(EntityId("loud")) == Excess("requests", 1, 11.0)


async def test_refusals_of_one_gateway_bury_those_of_no_other() -> None:
    """A gateway that is refused for 1,000 devices, strangers at 1,000 hosts; and one device elsewhere."""
    written: list[Outcome] = []

    class Store:
        async def record(self, outcomes: list[Outcome]) -> None:
            written.extend(outcomes)

    store: Any = Store()
    refusals = Refusals(store, SystemClock())
    for number in range(1000):
        refusals.pne(EntityId(f"pne-{number}"), Result.AUTHENTICATION_FAILED, "wrong_hash", EntityId("greedy"))
    refusals.pne(EntityId("lamp"), Result.AUTHENTICATION_FAILED, "wrong_hash", EntityId("honest"))
    for number in range(2000):
        refusals.peer(EntityId("gw"), "wrong_hash", Party(f"10.0.{number // 250}.{number % 250}", 1))
    await refusals.flush()
    by = Counter(one.via for one in written if one.via is not None)
    assert by[EntityId("honest")] == 1
    assert PACE[1] <= by[EntityId("greedy")] <= PACE[1] + 5
    assert len(written) - by.total() <= STRANGERS_PACE[1] + 25
    await refusals.close()
