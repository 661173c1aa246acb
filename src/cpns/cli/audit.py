"""``cpns audit``: who did what, and when."""

from typing import Annotated, Final

import typer

from cpns.cli.options import Data, Output, Print, Yes

app = typer.Typer(name="audit", help="Look into the audit log, take it out, drop what is old.", no_args_is_help=True)

About = Annotated[
    str | None, typer.Option("--about", help="Rows about this ID alone, whatever it is of.", show_default=False)
]
After = Annotated[int, typer.Option("--since", help="Begin after the row with this number.", min=0, show_default="all")]
_SHOWN: Final = ("number", "at", "by", "role", "event", "id", "result", "reason", "times", "via")


@app.command("list")
def list_all(
    data: Data,
    about: About = None,
    since: After = 0,
    limit: Annotated[int, typer.Option("--limit", help="Rows at the most.", min=1, max=10_000)] = 100,
    output: Print = Output.TABLE,
) -> None:
    """List who did what to whom, oldest first, and how it ended.

    Example: cpns audit list --about watch-7
    """
    from urllib.parse import urlencode

    from cpns.cli import output as o
    from cpns.cli import talk

    query = {"after": since, "limit": limit, **({} if about is None else {"about": about})}
    found = talk.get(data, f"/audit?{urlencode(query)}")
    o.show(found, output, _SHOWN, (tuple(one[name] for name in _SHOWN) for one in found["items"]))


@app.command()
def export(data: Data, about: About = None, since: After = 0) -> None:
    """Print all rows, oldest first, a JSON object a line; then say on stderr how many there were.

    Example: cpns audit export --since 1200 > audit.ndjson
    """
    from cpns.cli.talk import export as print_all

    print_all(data, "rows", "/audit", {} if about is None else {"about": about}, since)


@app.command()
def prune(
    data: Data,
    older: Annotated[
        int, typer.Option("--older", metavar="DAYS", help="Drop rows that are older than so many days.", min=0)
    ] = 365,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many these are.")] = False,
    yes: Yes = False,
    output: Print = Output.TABLE,
) -> None:
    """Drop rows that are older than so many days. Nothing else hangs on them; export them first, if you need them.

    Example: cpns audit prune --older 365 --dry-run
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    if not dry_run:
        talk.confirm(f"Drop the rows of the audit log that are older than {older} days for good?", yes)
    path = f"/audit/prune?dry_run={'true' if dry_run else 'false'}"
    done = talk.post(data, path, {"older": older * 86400})
    said = "would be dropped" if dry_run else "are dropped"
    say(f"{done['rows']} rows from before {done['before']} {said}", done, output)
