"""Printing: tables for people, JSON for programs."""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cpns.cli.options import Output

if TYPE_CHECKING:
    from rich.table import Table


def plain(text: object) -> str:
    """Return *text* without control characters: what a device sent must not steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(text))


def cell(value: object) -> str:
    """Return what a table shows for *value*."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return plain(", ".join(map(str, value))) or "-"
    return plain(value)


def known(value: object) -> object:
    """Return *value* for a table, or that nobody knows it."""
    return "?" if value is None else value


def age(seconds: float | None) -> str:
    """Return an age for people: ``12 s``, ``3 min``, ``5 h``, ``2 d``."""
    if seconds is None:
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def json_text(document: object) -> str:
    """Return one JSON document as it is printed."""
    return json_for_output(json.dumps(document, indent=2, ensure_ascii=False))


def json_for_output(text: str) -> str:
    """Return the same JSON as *text*; on a terminal without what would steer it, or show letters in another order."""
    if not sys.stdout.isatty():
        return text
    return "".join(char if char == "\n" or char.isprintable() else json.dumps(char)[1:-1] for char in text)


def print_json(document: object) -> None:
    """Print one JSON document."""
    print(json_text(document))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under the names of *columns*."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    _print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one pair a line."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name, Text(cell(value)))
    _print(table)


def _print(what: "Table") -> None:
    from rich.console import Console

    # A pipe has no width: nothing is to be folded there.
    width = None if sys.stdout.isatty() else max(200, shutil.get_terminal_size().columns)
    Console(width=width, highlight=False).print(what)


def show_invited(document: Mapping[str, Any], output: Output, how_to_join: str) -> None:
    """Print how it ended for each that was invited; of who said no, how it may come all the same."""
    results = document["results"]
    show(document, output, ("device", "result"), results.items())
    if output is Output.TABLE and "refused_by_user" in results.values():
        print(f"Who says no is not asked again for an hour. It may come by itself: {how_to_join}", file=sys.stderr)


def say(sentence: str, document: object, output: Output) -> None:
    """Print *document* as JSON, or *sentence*."""
    if output is Output.JSON:
        print_json(document)
    else:
        print(plain(sentence))


def show(document: object, output: Output, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print *document* as JSON, or *rows* as a table."""
    if output is Output.JSON:
        print_json(document)
    else:
        print_table(columns, rows)
