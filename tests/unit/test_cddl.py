"""cpns.cddl says what the codec does: what is encoded validates, a body with a wrong label, size or kind does not.

pycddl 0.6 is more lenient than RFC 8610 in places, and here is how the tests get by: it does not see extra keys of a
map inside an array, so the map of a body and each of its entries are validated on their own as well; nor in a map of
which it matched none, so the labels are compared with the rule's; it does not anchor
``.regexp`` and takes bytes or a number for any ``.size``, so no case here depends on either; nested objects in ``json``
it refuses, so readings are flat here. It knows no range as the type of a key, so electives are left out of the grammar.
"""

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import cbor2
import pycddl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns.errors import WireError
from cpns.ids import EntityId, PnId
from cpns.wire import application, codec, declare
from cpns.wire.declare import SHAPES
from tests.support.wire_strategies import any_message, messages

WHOLE = files("cpns.wire").joinpath("cpns.cddl").read_text(encoding="utf-8")
CDDL = re.sub(r",\s*\* elective => elective-value", "", WHOLE)
"""Without electives, which have a test of their own."""
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "wire-1.json").read_text())["cases"]
MAPS = re.findall(r"^\S+ = \[(\d+), (\S+-map)\]$", CDDL, re.MULTILINE)
"""Type number and name of the map, for each shape."""
ENTRIES = dict(re.findall(r"^(\S+-map) = \{[^}]*16 => \[1\*64 (\S+-entry)\]", CDDL, re.MULTILINE))
"""Name of a map that has entries, to the name of these."""
LABELS = {
    name: {int(label) for label in re.findall(r"(\d+) =>", rule)}
    for name, rule in re.findall(r"^(\S+-map) = \{([^}]*)\}", CDDL, re.MULTILINE)
}
"""Name of a map to the labels that it may have."""


@cache
def schema(rule: str) -> Any:
    return pycddl.Schema(f"start = {rule}\n{CDDL}")


def fits(item: object, rule: str) -> bool:
    try:
        schema(rule).validate_cbor(item if isinstance(item, bytes) else cbor2.dumps(item))
    except pycddl.ValidationError:
        return False
    return True


def validates(data: bytes) -> bool:
    """Return whether *data* is a body by cpns.cddl."""
    number, body = cbor2.loads(data)
    entries = body.get(16, [])
    maps = [body, *(entry for entry in entries if isinstance(entry, dict))] if isinstance(entries, list) else [body]
    if not all(map(critical, maps)):
        return False
    return fits([number, body], "cpns-body") and any(
        body.keys() <= LABELS[name]
        and fits(body, name)
        and (name not in ENTRIES or all(fits(entry, ENTRIES[name]) for entry in body.get(16, ())))
        for kind, name in MAPS
        if int(kind) == number
    )


def critical(body: dict[Any, Any]) -> bool:
    """Take the electives out of a map; return whether they are by the grammar."""
    more = {label: body.pop(label) for label in list(body) if isinstance(label, int) and label >= 128}
    return all(fits(label, "elective") and fits(cbor2.dumps(value), "elective-value") for label, value in more.items())


def test_every_shape_is_there_once() -> None:
    assert sorted(int(kind) for kind, _name in MAPS) == sorted(shape.TYPE for shape in declare.MESSAGES)
    assert len(ENTRIES) == sum(any(row.entry for row in SHAPES[shape].rows) for shape in declare.MESSAGES)
    assert len(set(ENTRIES.values())) == len(declare.ENTRIES)


def test_every_map_may_have_electives() -> None:
    maps = re.findall(r"^\S+-(?:map|entry) = \{[^}]*\}", WHOLE, re.MULTILINE)
    assert len(maps) == len(SHAPES)
    assert all(re.search(r"\* elective => elective-value\s*\}", one) for one in maps)


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_vector(case: dict[str, Any]) -> None:
    assert validates(bytes.fromhex(case["encoded"]))


@pytest.mark.parametrize("shape", declare.MESSAGES, ids=lambda shape: shape.__name__)
def test_what_is_encoded_validates(shape: type[Any]) -> None:
    @settings(max_examples=10)
    @given(messages(shape))
    def run(message: Any) -> None:
        assert validates(codec.encode(message))

    run()


_SIZED = frozenset({6, 7, 8, 12, 13, 14, 15, 21, 23})
_NUMBERS = frozenset({1, 11, 17, 18})
_OTHERS: list[Any] = [None, True, 1.5, "", [], {}]


def change(data: st.DataObject, body: dict[int, Any]) -> None:
    """Change one thing in *body* or in one of its entries."""
    if not body:
        body[5] = "pn-1"
    if 16 in body and data.draw(st.booleans(), "in an entry"):
        body = body[16][-1]
    label = data.draw(st.sampled_from(sorted(body)), "label")
    how = data.draw(st.sampled_from(["add", "value", "size", "leave out"]), "how")
    if how == "add":
        new = data.draw(st.integers(1, 40) | st.sampled_from([126, 127, 128, 129, 65535, 65536]), "new label")
        values: list[Any] = (
            [None] if new < 126 else [None, "x", b"x", True, 7, -7, 1.5, [], {}]
        )  # a number passes .size
        body[new] = data.draw(st.sampled_from(values), "value")
    elif how == "value":
        others = [*_OTHERS, -1, 1000] if label in _NUMBERS else _OTHERS
        body[label] = data.draw(st.sampled_from(others), "value")
    elif how == "size" and label in _SIZED:
        body[label] = body[label] * 9
    elif how == "leave out":
        del body[label]


@settings(max_examples=200)
@given(any_message, st.data())
def test_codec_and_cddl_agree_on_a_changed_body(message: Any, data: st.DataObject) -> None:
    kind, body = cbor2.loads(codec.encode(message))
    change(data, body)
    kind = data.draw(st.sampled_from([kind, kind, kind, kind + 1, 9, 255]), "type")
    changed = cbor2.dumps([kind, body], canonical=True)
    try:
        codec.decode(changed, *declare.MESSAGES)
    except WireError:
        assert not validates(changed)
    else:
        assert validates(changed)


@pytest.mark.parametrize("count", [0, 65])
def test_number_of_entries(count: int) -> None:
    entry = {2: "pne-1", 14: bytes(16)}
    assert validates(cbor2.dumps([4, {15: bytes(8), 16: [entry] * 64}]))
    assert not validates(cbor2.dumps([4, {15: bytes(8), 16: [entry] * count}]))


_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, width=32)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8), _SCALARS | st.text(max_size=8), max_size=4), st.text(max_size=64))
def test_application_payloads(body: Any, text: str) -> None:
    body = {key: value for key, value in body.items() if value not in (float("inf"), float("-inf"))}
    assert fits(application.encode_reading(application.Reading(bytes(12), body)), "reading")
    assert fits(application.encode_text(text), "short-text")
    assert fits(application.encode_away(len(text)), "away")
    assert fits(application.encode_home(None), "home")
    assert fits(application.encode_home((PnId("pn-1"), EntityId("hub"))), "home")


@pytest.mark.parametrize("item", [[bytes(11), {}], [bytes(12)], [bytes(12), {"a": b"x"}], [bytes(12), {1: 2}], {}])
def test_no_reading(item: object) -> None:
    assert not fits(item, "reading")
