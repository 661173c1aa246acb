"""``cpns readings``: what is stored, to go on with elsewhere."""

from typing import Annotated

import typer

from cpns.cli.options import Data

app = typer.Typer(name="readings", help="Take stored readings out.", no_args_is_help=True)


@app.command()
def export(
    data: Data,
    device: Annotated[str | None, typer.Option("--device", help="Of this device alone.", show_default=False)] = None,
    since: Annotated[
        int, typer.Option("--since", help="Begin after the reading with this number.", min=0, show_default="all")
    ] = 0,
) -> None:
    """Print all stored readings, oldest first, a JSON object a line; then say on stderr how many there were.

    The server may run or not. What comes in meanwhile is printed too, up to the moment when all was printed.

    Example: cpns readings export --since 1200 > readings.ndjson
    """
    from cpns.cli.talk import export as print_all

    print_all(data, "readings", "/readings", {} if device is None else {"device": device}, since)
