"""``cpns demo``: the whole system at work on this machine."""

from typing import Annotated

import typer


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the story; exit status 0 if all came about.")] = False,
) -> None:
    """Show the whole system at work on this machine: server, gateway, devices, and a gateway that lies.

    Example: cpns demo --once
    """
    from cpns.cli.story import run

    raise typer.Exit(run(once))
