"""``cpns explain``: why a device is where it is."""

from typing import Annotated

import typer

from cpns.cli.options import Data, Output, Print

_MARKS = {True: "ok", False: "NO", None: "?"}


def explain(
    id: Annotated[str, typer.Argument(metavar="DEVICE", help="The device's ID.")],
    data: Data,
    output: Print = Output.TABLE,
) -> None:
    """Tell why a device is where it is: each hop, why it failed, how old that is, and what to do next.

    Example: cpns explain watch
    """
    from cpns.cli import talk
    from cpns.cli.output import age, show

    found = talk.get(data, talk.resource("devices", id, "/explain"))
    rows = (
        (_MARKS[one["good"]], one["step"], one["what"], age(one["age"]), one["next_step"]) for one in found["items"]
    )
    show(found, output, ("", "step", "what", "age", "next"), rows)
