"""``cpns device import``."""

import csv
import io
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx

from cpns.admin.client import answer_of
from cpns.cli import credentials as c
from cpns.cli import output as o
from cpns.cli import talk
from cpns.cli.options import Output
from cpns.domain.inventory import Kind
from cpns.domain.sheet import COLUMNS, SEPARATORS, Row, read_sheet, write_csv
from cpns.errors import BadInput, Conflict, NotFound
from cpns.store.files import read_bounded

MAX_BYTES: Final = 256 << 20
"""Of a file: two million devices with their keys."""


@dataclass(frozen=True, slots=True)
class How:
    """How a file is to be imported.

    Attributes:
        out: for the credentials; None: it is only checked.
        new_only: leave devices that exist as the file has them.
        allow_unknown_gateway: take a gateway that is not provisioned yet.
    """

    out: Path | None
    new_only: bool
    allow_unknown_gateway: bool


def import_devices(data: Path, file: Path, how: How, passphrase_file: Path | None, output: Output) -> int:
    """Import *file*; return the exit code."""
    place = None if how.out is None else c.Place(how.out)
    content = _read(file)
    params = {"new_only": how.new_only, "allow_unknown_gateway": how.allow_unknown_gateway}
    report = talk.ask(data, partial(_post, content, params | {"dry_run": True}), passphrase_file)
    made = report["credentials"]
    if place is not None and made:
        rows = {row.line: row for row in read_sheet(content.decode()).rows}
        keys = {one["line"]: bytes.fromhex(rows[one["line"]].key or "") or c.draw() for one in made}
        lines = [(one["id"], c.line_of(Kind.PNE, one, keys[one["line"]])) for one in made]
        sheet = _sheet([(one["id"], rows[one["line"]], keys[one["line"]]) for one in made])
        text = write_csv(("id", "credential"), lines).rstrip("\n")
        place.provision(data, text, partial(_commit, sheet, params), passphrase_file)
        report["imported"] = len(made)
    _print(report, how.out, output)
    return 1 if report["bad"] else 0


def _read(file: Path) -> bytes:
    try:
        return read_bounded(file, MAX_BYTES)
    except FileNotFoundError as error:
        raise NotFound("file_missing", f"There is no file {file}.") from error
    except OSError as error:
        raise BadInput("file_unreadable", f"{file} can't be read: {error.strerror}.") from error


def _sheet(rows: list[tuple[str, Row, bytes]]) -> bytes:
    """Return a sheet for the server, with the keys that were drawn."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)  # a note may hold a CR
    writer.writerow(COLUMNS)
    writer.writerows((id, row.gateway or "", row.note or "", row.owner or "", key.hex()) for id, row, key in rows)
    return text.getvalue().encode()


async def _post(content: bytes, params: dict[str, bool], client: httpx.AsyncClient) -> dict[str, Any]:
    headers = {"Content-Type": "text/csv"}
    return answer_of(await client.post("/devices/import", content=content, params=params, headers=headers))


async def _commit(content: bytes, params: dict[str, bool], client: httpx.AsyncClient) -> dict[str, Any]:
    report = await _post(content, params, client)
    if report["bad"]:  # it was good a moment ago
        first = report["bad"][0]
        raise Conflict(first["code"], first["detail"])
    return report


def _print(report: dict[str, Any], out: Path | None, output: Output) -> None:
    names = ("rows", "separator", "imported", "unchanged", "bad")
    respelled = {one["given"]: one["id"] for one in report["credentials"] if one["given"] != one["id"]}
    if output is Output.JSON:
        o.print_json({name: report[name] for name in names} | {"respelled": respelled})
        return
    if report["separator"] != ",":
        print(f"The file has {SEPARATORS.get(report['separator'], repr(report['separator']))} between its cells.")
    for given, id in respelled.items():
        print(f"{o.plain(given)} is written {id} from now on.")
    if report["unchanged"]:
        print(f"{report['unchanged']} devices exist as the file has them, and are left.")
    if report["bad"]:
        o.print_table(("line", "error", "what"), ((row["line"], row["code"], row["detail"]) for row in report["bad"]))
        print(f"\n{report['rows']} rows, {len(report['bad'])} bad: nothing is imported.")
    elif out is None:
        print(f"{report['rows']} rows, all good: nothing is imported yet.")
    elif not report["imported"]:
        print("No device is new: nothing is imported, and no file is written.")
    else:
        print(f"{report['imported']} devices imported; credentials in {out}")
