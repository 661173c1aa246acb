"""The tables of docs/protocol.md name what the code has: no number, label, result, code or resource is missing."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpns.errors import Result
from cpns.transport.errors import Code
from cpns.wire import application, codec
from cpns.wire.declare import MESSAGES, SHAPES, TITLES
from cpns.wire.messages import ActivateRequest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text()
SECTIONS = {int(number): text for number, text in re.findall(r"^## (\d+)\. (.*?)(?=^## |\Z)", TEXT, re.M | re.S)}


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Yield head and rows of each table in *text*."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
        yield head, rows


def rows(head: str, text: str = TEXT) -> list[list[str]]:
    """Return the rows of all tables in *text* whose first column is called *head*."""
    return [row for names, found in tables(text) if names[0] == head for row in found]


def numbers(text: str) -> set[int]:
    return set(map(int, re.findall(r"\d+", text)))


def documented() -> dict[int, tuple[str, str]]:
    """Return name and labels of each type."""
    found: dict[int, tuple[str, str]] = {}
    for number, name, _, labels in rows("type"):
        found[int(number)] = (name, f"{found.get(int(number), ('', ''))[1]} {labels}")
    return found


def test_each_type_is_there_by_its_name() -> None:
    assert {kind: name for kind, (name, _) in documented().items()} == TITLES


@pytest.mark.parametrize("shape", MESSAGES, ids=lambda shape: shape.__name__)
def test_each_label_of_a_message_is_in_its_row(shape: type[codec.Message]) -> None:
    _, labels = documented()[shape.TYPE]
    assert {row.number for row in SHAPES[shape].rows} <= numbers(labels)


def test_each_label_is_explained() -> None:
    listed = [cell for row in rows("label") for cell in row[::2] if cell.isdigit()]
    assert sorted(map(int, listed)) == sorted({row.number for shape in SHAPES.values() for row in shape.rows})


def test_each_result_is_there() -> None:
    listed = [cell for row in rows("result") for cell in row[::2] if cell]
    assert sorted(map(int, listed)) == sorted(Result)


def test_each_code_is_there() -> None:
    assert {code for code, *_ in rows("code", SECTIONS[8])} == {str(code) for code in Code}


def test_each_message_with_a_result_says_which() -> None:
    """By the number of what it answers; SETUP to a PNE, ACTIVATE and error bodies have tables of their own."""
    answers = {
        shape.TYPE for shape in MESSAGES if shape.ANSWERS and any(row.name == "result" for row in SHAPES[shape].rows)
    }
    told = {int(number) for what, *_ in rows("message", SECTIONS[8]) for number in re.findall(r"\b\d+(?= [A-Z])", what)}
    assert {number - 1 for number in answers} - told == {ActivateRequest.TYPE}


def test_each_resource_is_there() -> None:
    paths = {value for name, value in vars(application).items() if name.endswith("_PATH")}
    assert {name.strip("`/") for name, *_ in rows("resource")} == paths


def test_each_file_of_known_answers_is_there() -> None:
    named = {name for cell, _ in rows("file") for name in re.findall(r"`(\S+)`", cell)}
    assert named == {path.name for path in (ROOT / "tests" / "vectors").glob("*.json")}
