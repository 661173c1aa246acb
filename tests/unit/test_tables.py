"""What follows from the declarations of messages is committed as ``make tables`` writes it, and is true."""

import json
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings

from cpns.wire import codec
from cpns.wire.declare import MESSAGES, SHAPES, TITLES, Leg, Message
from tests.support.tables import ALL, ALL_ENTRIES, DEVICE, ROOT, STATES, of_module, remade, wanted
from tests.support.wire_strategies import messages


@pytest.mark.parametrize("path", wanted(), ids=str)
def test_what_is_committed_is_what_make_tables_writes(path: Any) -> None:
    assert (ROOT / path).read_text() == wanted()[path], "run `make tables`"


@pytest.mark.parametrize("path", wanted(), ids=str)
def test_a_line_that_somebody_changes_by_hand_is_found(path: Any) -> None:
    text = wanted()[path]
    changed = text.replace("52", "53") if path != STATES else text.replace("Seeking -->", "Standing -->")
    assert changed != text
    assert path == DEVICE or remade(changed) != changed


def test_each_message_is_declared_where_it_is_looked_for() -> None:
    assert {*ALL, *ALL_ENTRIES} >= SHAPES.keys() - {one for one in SHAPES if one.__module__.startswith("tests.")}
    assert not of_module("nothing")


def test_each_request_has_a_way_and_each_answer_a_request() -> None:
    for shape in MESSAGES:
        assert bool(shape.LEGS) != bool(shape.ANSWERS) or TITLES[shape.TYPE] == "Error", shape
        assert all(request.LEGS for request in shape.ANSWERS), shape


def test_every_leg_carries_something() -> None:
    assert {leg for shape in MESSAGES for leg in shape.LEGS} == set(Leg)


# A codec made of nothing but the file for a small device: some 30 lines, without a class, as MicroPython has them.

TABLES = json.loads((ROOT / DEVICE).read_text())


def fits(bounds: list[Any], value: Any) -> bool:
    """Return whether a value may stand at a label."""
    kind, *rest = bounds
    takes: dict[str, Callable[[], bool]] = {
        "int": lambda: type(value) is int and rest[0] <= value <= rest[1],
        "bool": lambda: type(value) is bool,
        "bytes": lambda: (
            type(value) is bytes and (rest[1] <= len(value) <= rest[2] if rest[0] == "from" else len(value) in rest)
        ),
        "name": lambda: type(value) is str and 0 < len(value) <= 64,
        "text": lambda: type(value) is str and 0 < len(value.encode()) <= rest[0],
        "names": lambda: type(value) is list and rest[0] <= len(value) <= rest[1],
        "texts": lambda: type(value) is list and len(value) <= rest[0],
        "entries": lambda: type(value) is list and 0 < len(value) <= 64,
    }
    return takes[kind]()


def packed(rows: list[Any], values: dict[str, Any]) -> dict[int, Any]:
    """Return the map of a body or entry."""
    body = {}
    for label, name, required, *entry in rows:
        value = values.get(name)
        if value is None:
            assert not required, name
            continue
        if entry:
            value = [packed(TABLES["entries"][entry[0]], one) for one in value]
        assert fits(TABLES["labels"][str(label)], value), name
        body[label] = value
    return body


def plain(message: object) -> dict[str, Any]:
    """Return the attributes of a message, tuples as lists."""
    values: dict[str, Any] = {}
    for row in SHAPES[type(message)].rows:
        value = getattr(message, row.name)
        if type(value) is tuple:
            value = [plain(one) if row.entry else one for one in value]
        values[row.name] = value
    return values


@pytest.mark.parametrize("shape", ALL, ids=lambda shape: shape.__name__)
def test_a_small_device_says_the_same_bytes_by_its_tables(shape: type[Message]) -> None:
    number, rows = TABLES["messages"][shape.__name__]

    @settings(max_examples=10)
    @given(messages(shape))
    def run(message: Message) -> None:
        assert cbor2.dumps([number, packed(rows, plain(message))]) == codec.encode(message)

    run()
