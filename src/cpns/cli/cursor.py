"""``cpns cursor``: how far those have come that follow the events by a name."""

from typing import Annotated, Final

import typer

from cpns.cli.options import Data, Output, Print, Yes

app = typer.Typer(
    name="cursor", help="See how far those have come that follow the events by a name.", no_args_is_help=True
)

_SHOWN: Final = ("name", "number", "at", "by")


@app.command("list")
def list_all(data: Data, output: Print = Output.TABLE) -> None:
    """List the cursors of `cpns server events --cursor NAME`: the newest event that each was told, and when.

    Example: cpns cursor list
    """
    from cpns.cli import output as o
    from cpns.cli import talk

    found = talk.get(data, "/cursors")
    o.show(found, output, _SHOWN, (tuple(one[name] for name in _SHOWN) for one in found["items"]))


@app.command()
def drop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.", show_default=False)],
    data: Data,
    yes: Yes = False,
    output: Print = Output.TABLE,
) -> None:
    """Forget a cursor: who follows by that name begins anew.

    Example: cpns cursor drop backup --yes
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    talk.confirm(f"Forget how far {name} has come?", yes)
    done = talk.post(data, talk.resource("cursors", name, "/drop"))
    say(f"The cursor {name} is dropped", done, output)
