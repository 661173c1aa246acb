"""Sheets of devices: CSV as people and spreadsheets write it, read so that no row is lost and none invented.

What is understood: commas, semicolons or tabs, a line ``sep=;``, any case in the header, empty columns at its end,
blank lines. Lines end at LF, which a CR may precede; in a file without any LF, at CR. A quote has to close in the line
where it opens: a cell that goes on in the next line could as well be a quote that was forgotten, which takes whole rows
in.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cpns.errors import BadInput

COLUMNS: Final = ("id", "gateway", "note", "owner", "key")
SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}

_DECLARED = re.compile(r'"?sep=([^A-Za-z0-9"\s]|\t)"?\Z', re.IGNORECASE)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be taken, and why."""

    line: int
    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Row:
    """A device of a sheet; None: the sheet has no such column. Blanks around a value are left out.

    Attributes:
        line: where it stands; the first is 1.
        key: 64 hex digits; empty where one is to be made.
        owner: yes or no: whether it may own a network.
    """

    line: int
    id: str
    gateway: str | None = None
    note: str | None = None
    key: str | None = field(default=None, repr=False)
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Sheet:
    """What stands in a sheet; `separator` is what stood between its cells."""

    separator: str
    rows: tuple[Row, ...]
    bad: tuple[BadRow, ...]

    @property
    def size(self) -> int:
        """How many devices it is about."""
        return len(self.rows) + len(self.bad)


def read_sheet(text: str) -> Sheet:
    """Return what stands in the CSV *text*; a row that can't be read is among the bad ones.

    Raises:
        BadInput: ``bad_csv``: there is no header, or one with a column that is not known; ``no_rows``.
    """
    ends = "\n" if "\n" in text else "\r"  # as spreadsheets once wrote them
    whole = (line.removesuffix("\r") for line in text.lstrip("\ufeff").split(ends))
    lines = [(number, line) for number, line in enumerate(whole, 1) if line.strip()]
    declared = _DECLARED.match(lines[0][1].strip(" ")) if lines else None
    if declared is not None:
        del lines[0]
    if not lines:
        raise BadInput("no_rows", "The file has no rows: it needs a header, and a row for each device.")
    separator, header = _header(*lines[0], declared and declared[1])
    columns = _columns(header)
    rows: list[Row] = []
    bad: list[BadRow] = []
    for number, line in lines[1:]:
        try:
            cells = _cells(number, line, separator)
            if any(cells):
                rows.append(_row(number, cells, columns, len(header)))
        except BadInput as error:
            bad.append(BadRow(number, error.code, error.sentence))
    if not rows and not bad:
        raise BadInput("no_rows", "The file has no rows: below its header it needs one for each device.")
    return Sheet(separator, tuple(rows), tuple(bad))


def _header(number: int, line: str, declared: str | None) -> tuple[str, list[str]]:
    """Return the separator and the names of the columns, in lower case."""
    tries: list[tuple[str, list[str]]] = []
    for separator in SEPARATORS if declared is None else (declared,):
        try:
            tries.append((separator, [cell.casefold() for cell in _cells(number, line, separator)]))
        except BadInput:
            continue
    fitting = [one for one in tries if "id" in one[1]]
    known = [one for one in fitting if set(one[1]) <= {*COLUMNS, ""}]
    if known or fitting:
        return (known or fitting)[0]
    between = "commas, semicolons or tabs" if declared is None else f"{declared!r}, as its first line says"
    raise BadInput(
        "bad_csv",
        f"Line {number} is {line[:80]!r}: expected is a header with the column id, and {', '.join(COLUMNS[1:])} as "
        f"wanted, with {between} between them.",
    )


def _columns(header: Sequence[str]) -> dict[str, int]:
    columns: dict[str, int] = {}
    named = len(header)
    while not header[named - 1]:  # as spreadsheets leave them behind
        named -= 1
    for at, name in enumerate(header[:named]):
        if name not in COLUMNS:
            raise BadInput("bad_csv", f"Unknown column {name[:80]!r}: known are {', '.join(COLUMNS)}.")
        if name in columns:
            raise BadInput("bad_csv", f"The column {name} stands twice in the header: leave one out.")
        columns[name] = at
    return columns


def _cells(number: int, line: str, separator: str) -> list[str]:
    if '"' not in line:
        return [cell.strip() for cell in line.split(separator)]
    try:
        [cells] = csv.reader([line], delimiter=separator, strict=True)
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise BadInput(
                "open_quote",
                f"A quote opens in line {number} and does not close in it: close it, and keep each row in one line.",
            ) from error
        raise BadInput("bad_csv", f"Line {number} is no CSV: {error}.") from error
    return [cell.strip() for cell in cells]


def _row(number: int, cells: Sequence[str], columns: dict[str, int], width: int) -> Row:
    if len(cells) != width:
        raise BadInput(
            "bad_row",
            f"Line {number} has {len(cells)} cells, the header {width}: put a value with a separator in it in quotes.",
        )
    if any(cells[max(columns.values()) + 1 :]):
        raise BadInput("bad_row", f"Line {number} has a value in a column without a name: name it, or take it out.")
    return Row(number, **{name: cells[at] for name, at in columns.items()})


def write_csv(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a CSV for people and their spreadsheets: a value that a spreadsheet would run as a formula is quoted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *(map(_inert, row) for row in rows)])
    return text.getvalue()


def _inert(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) else value
