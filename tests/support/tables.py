"""Writes what follows from the code (``make tables``): from the declarations of messages the grammar, the tables in
documents and those of a small device; from the tables of state machines their drawings.

A part that is made stands between markers, ``tables: NAME`` and ``tables: end``; all else is written by hand.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from cpns.wire import codec
from cpns.wire.declare import ENTRIES, FIRST_ELECTIVE, LAST_LABEL, MESSAGES, SHAPES, Label, Leg, Message, Row
from tests.support.drawings import MACHINES, drawing

ROOT: Final = Path(__file__).parents[2]
CDDL: Final = Path("src/cpns/wire/cpns.cddl")
DOCUMENT: Final = Path("docs/protocol.md")
STATES: Final = Path("docs/states.md")
DEVICE: Final = Path("micropython/cpns_tables.json")
MODULES: Final = [module.__name__.rpartition(".")[2] for module in codec.DECLARED]
WIDTH: Final = 110


def labels() -> dict[int, Label]:
    """Return all labels by number."""
    return dict(sorted((row.number, row.label) for shape in SHAPES.values() for row in shape.rows))


def of_module(name: str) -> list[type[Message]]:
    """Return the messages that a module declares, by type."""
    return sorted((one for one in MESSAGES if one.__module__.endswith(f".{name}")), key=lambda one: one.TYPE)


ALL: Final = [shape for name in MODULES for shape in of_module(name)]
ALL_ENTRIES: Final = [entry for name in MODULES for entry in ENTRIES if entry.__module__.endswith(f".{name}")]


# the grammar


def rule(shape: type[Any]) -> str:
    """Return the name of a class in the grammar."""
    name = re.sub(r"(?<!^)([A-Z])", r"-\1", shape.__name__).lower()
    return f"{name}-message" if name in {label.name for label in labels().values()} else name


def _body() -> Iterator[str]:
    line = "cpns-body ="
    for shape in ALL:
        name = f" {rule(shape)}" + ("" if shape is ALL[-1] else " /")
        if len(line) + len(name) > WIDTH:
            yield line
            line = "           "
        line += name
    yield line


def _map(name: str, rows: tuple[Row, ...]) -> str:
    parts = [f"{'' if row.required else '? '}{row.number} => {_value(row)}" for row in rows]
    parts.append("* elective => elective-value")
    line = f"{name} = {{{', '.join(parts)}}}"
    if len(line) <= WIDTH:
        return line
    lines = [f"{name} = {{", " "]
    for part in parts:
        if len(lines[-1]) + len(part) > WIDTH:
            lines.append(" ")
        lines[-1] += f" {part},"
    return "\n".join([*lines[:-1], lines[-1].rstrip(","), "}"])


def _value(row: Row) -> str:
    return row.label.name if row.entry is None else f"[1*64 {rule(row.entry)}]"


def grammar(_: str) -> Iterator[str]:
    """Yield the rules of bodies, entries and labels."""
    yield from _body()
    yield ""
    for name in MODULES:
        for shape in of_module(name):
            yield f"; {shape.TITLE}: {ways(shape).replace('`', '')}"
            yield f"{rule(shape)} = [{shape.TYPE}, {rule(shape)}-map]"
            yield _map(f"{rule(shape)}-map", SHAPES[shape].rows)
        yield ""
    for entry in ALL_ENTRIES:
        yield _map(rule(entry), SHAPES[entry].rows)
    yield ""
    yield from (f"{label.name} = {label.kind.cddl}" for label in labels().values() if label.name != "entries")
    yield 'name = text .regexp "[A-Za-z0-9._:-]{1,64}"'
    yield f"elective = {FIRST_ELECTIVE}..{LAST_LABEL}"
    yield "elective-value = uint / bool / bytes / text"


# the document


def _way(leg: Leg, *, back: bool) -> str:
    sender, receiver = (leg.receiver, leg.sender) if back else (leg.sender, leg.receiver)
    return f"{sender.value} to {receiver.value}: {leg.session or 'unprotected'}"


def ways(shape: type[Message]) -> str:
    """Return by which ways a message goes, and in which session."""
    if shape.ANSWERS:
        found = [_way(leg, back=True) for request in shape.ANSWERS for leg in request.LEGS]
    else:
        found = [_way(leg, back=False) for leg in shape.LEGS]
    return "; ".join(dict.fromkeys(found)) or "whoever refuses"


def _fields(rows: tuple[Row, ...]) -> str:
    return ", ".join(
        f"{row.number}{'' if row.required else '?'} {row.name}"
        + (f" [{_fields(SHAPES[row.entry].rows)}]" if row.entry is not None else "")
        for row in rows
    )


def messages(module: str) -> Iterator[str]:
    """Yield the table of the messages of a module."""
    yield "| type | message | from, to, session | labels |"
    yield "|---|---|---|---|"
    for shape in of_module(module):
        answered = any(shape in one.ANSWERS for one in MESSAGES) or not shape.LEGS
        silent = "" if answered else ". Answered by an empty 2.04"
        yield f"| {shape.TYPE} | {shape.TITLE} | {ways(shape)}{silent} | {_fields(SHAPES[shape].rows)} |"


def labels_explained(_: str) -> Iterator[str]:
    """Yield the table of labels, two side by side."""
    cells = [f"{number} | {label.meaning}" for number, label in labels().items()]
    half = -(-len(cells) // 2)
    yield "| label | value | label | value |"
    yield "|---|---|---|---|"
    for left, right in zip(cells[:half], [*cells[half:], " | "][:half], strict=True):
        yield f"| {left} | {right} |"


# a small device


def device() -> str:
    """Return the tables as JSON: labels with what their values may be, entries, and messages with their type.

    A row is label, name, whether it has to be there, and the entry in its array, if that is one.
    """
    parts: dict[str, dict[str, Any]] = {
        "labels": {str(number): label.kind.bounds for number, label in labels().items()},
        "entries": {entry.__name__: _rows(entry) for entry in ALL_ENTRIES},
        "messages": {shape.__name__: (shape.TYPE, _rows(shape)) for shape in ALL},
    }
    blocks = [
        f'"{name}": {{\n' + ",\n".join(f'"{key}": {json.dumps(value)}' for key, value in part.items()) + "\n}"
        for name, part in parts.items()
    ]
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _rows(shape: type[Any]) -> list[tuple[Any, ...]]:
    return [
        (row.number, row.name, row.required) if row.entry is None else (*row[:2], row.required, row.entry.__name__)
        for row in SHAPES[shape].rows
    ]


# all of it


MADE: Final[dict[str, Callable[[str], Iterator[str]]]] = {
    "grammar": grammar,
    "labels": labels_explained,
    **dict.fromkeys(MODULES, messages),
    **dict.fromkeys(MACHINES, drawing),
}
_PART: Final = re.compile(
    r"^(?P<head>\S+ tables: (?P<name>(?!end)\w+)(?: -->)?\n).*?(?=^\S+ tables: end)", re.MULTILINE | re.DOTALL
)


def remade(text: str) -> str:
    """Return *text* with what stands between markers made anew."""

    def made(found: re.Match[str]) -> str:
        return found["head"] + "\n".join(MADE[found["name"]](found["name"])) + "\n"

    return _PART.sub(made, text)


def wanted() -> dict[Path, str]:
    """Return each file that has a part which is made, and what it should be."""
    return {path: remade((ROOT / path).read_text()) for path in (CDDL, DOCUMENT, STATES)} | {DEVICE: device()}


def main() -> int:
    """Write the files that are not as they should be; say which."""
    for path, text in wanted().items():
        full = ROOT / path
        if not full.exists() or full.read_text() != text:
            full.parent.mkdir(exist_ok=True)
            full.write_text(text)
            print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
