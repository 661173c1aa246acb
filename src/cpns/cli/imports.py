"""``cpns device import``."""

import contextlib
import csv
import io
from pathlib import Path
from typing import Any

import httpx

from cpns.admin.client import answer_of
from cpns.cli import output as o
from cpns.cli import private, talk
from cpns.cli.options import Output
from cpns.errors import BadInput, NotFound


def import_devices(data: Path, file: Path, out: Path | None, passphrase_file: Path | None, output: Output) -> int:
    """Import *file*, with the credentials to *out* (None: only check it); return the exit code."""
    content = _read(file)

    async def post(client: httpx.AsyncClient) -> dict[str, Any]:
        params = {"dry_run": "true" if out is None else "false"}
        headers = {"Content-Type": "text/csv"}
        return answer_of(await client.post("/devices/import", content=content, params=params, headers=headers))

    with contextlib.ExitStack() as stack:
        write = None if out is None else stack.enter_context(private.new_private_file(out))
        report = talk.ask(data, post, passphrase_file)
        if write is not None and not report["bad"]:
            write(_credentials(report["credentials"]))
    _print(report, out, output)
    return 1 if report["bad"] else 0


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise NotFound("file_missing", f"There is no file {file}.") from error
    except OSError as error:
        raise BadInput("file_unreadable", f"{file} can't be read: {error.strerror}.") from error


def _credentials(credentials: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "credential"))
    writer.writerows((one["id"], one["credential"]) for one in credentials)
    return text.getvalue()


def _print(report: dict[str, Any], out: Path | None, output: Output) -> None:
    told = {name: report[name] for name in ("rows", "imported", "bad")}
    if output is Output.JSON:
        o.print_json(told)
        return
    if report["bad"]:
        o.print_table(("line", "error", "what"), ((row["line"], row["code"], row["detail"]) for row in report["bad"]))
        print(f"\n{report['rows']} rows, {len(report['bad'])} bad: nothing is imported.")
    elif out is None:
        print(f"{report['rows']} rows, all good: nothing is imported yet.")
    else:
        print(f"{report['imported']} devices imported; credentials in {out}")
