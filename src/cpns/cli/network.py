"""``cpns network``: the personal networks."""

import typer

from cpns.cli.options import Data, Output, Print

app = typer.Typer(name="network", help="Look at the personal networks.", no_args_is_help=True)


@app.callback()
def network() -> None:
    """Look at the personal networks."""


@app.command("list")
def list_all(data: Data, output: Print = Output.TABLE) -> None:
    """List the PN Inventory: each personal network with its gateway and members.

    Example: cpns network list
    """
    from cpns.cli import talk
    from cpns.cli.output import show

    found = talk.get(data, "/networks")
    columns = ("pn", "gateway", "alias", "created", "members")
    rows = ((pn["id"], pn["gateway"], pn["alias"], pn["created_at"], pn["members"]) for pn in found["items"])
    show(found, output, columns, rows)
