"""``cpns group``: the service groups."""

from typing import Annotated

import typer

from cpns.cli.options import Data, Devices, Output, Print, Yes
from cpns.domain.member_list import Policy

app = typer.Typer(
    name="group", help="Look at the service groups; say who may be in them, and who owns them.", no_args_is_help=True
)

Id = Annotated[str, typer.Argument(metavar="GROUP", help="Its ID, or its name.", show_default=False)]


@app.command("list")
def list_all(data: Data, output: Print = Output.TABLE) -> None:
    """List the SG Inventory: each group with its owner and members, whatever networks they are in.

    Example: cpns group list
    """
    from cpns.cli import talk
    from cpns.cli.output import show

    found = talk.get(data, "/groups")
    columns = ("group", "name", "service", "owner", "policy", "version", "members")
    names = ("id", "name", "service", "owner", "policy", "version")
    show(found, output, columns, ((*(one[name] for name in names), list(one["members"])) for one in found["items"]))


@app.command()
def show(id: Id, data: Data, output: Print = Output.TABLE) -> None:
    """Show a group: its owner, its members and since when, and who else is on its list.

    Example: cpns group show family
    """
    from cpns.cli import talk

    talk.show_group(data, id, output)


@app.command()
def invite(id: Id, devices: Devices, data: Data, output: Print = Output.TABLE) -> None:
    """Put devices on the list, and have those that can be reached asked; one that waits for approval is let in.

    Example: cpns group invite family watch
    """
    from cpns.cli import talk
    from cpns.cli.output import show

    found = talk.post(data, talk.resource("groups", id, "/invite"), {"devices": devices})
    show(found, output, ("device", "result"), found["results"].items())


@app.command()
def expel(id: Id, devices: Devices, data: Data, yes: Yes = False, output: Print = Output.TABLE) -> None:
    """Put devices out of a group, and bar them.

    Example: cpns group expel family lamp --yes
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    talk.confirm(f"Expel {', '.join(devices)} from {id}?", yes)
    talk.post(data, talk.resource("groups", id, "/expel"), {"devices": devices})
    say(f"{', '.join(devices)} out of {id}", {"id": id, "expelled": devices}, output)


@app.command()
def owner(
    id: Id,
    data: Data,
    to: Annotated[
        str | None,
        typer.Option("--to", help="The member that is to own it.", show_default="who has been in it longest"),
    ] = None,
    output: Print = Output.TABLE,
) -> None:
    """Give ownership of a group to another member, if that one agrees.

    Example: cpns group owner family --to watch
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    found = talk.post(data, talk.resource("groups", id, "/owner"), {"device": to})
    say(f"{found['name']} is owned by {found['owner']}", found, output)


@app.command("set")
def settle(
    id: Id,
    data: Data,
    policy: Annotated[
        Policy | None,
        typer.Option("--policy", help="Who may join: all, upon approval, or the invited.", show_default=False),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option("--keep", help="Hours that a message waits for who is away.", min=0, max=168, show_default=False),
    ] = None,
    output: Print = Output.TABLE,
) -> None:
    """Change who may join a group, and how long messages wait for members that are away.

    Example: cpns group set family --policy approval --keep 48
    """
    if policy is None and keep is None:
        raise typer.BadParameter("give --policy or --keep", param_hint="--policy")
    from cpns.cli import talk
    from cpns.cli.output import say

    new = {"policy": None if policy is None else policy.value, "keep": None if keep is None else keep * 3600}
    found = talk.post(data, talk.resource("groups", id, "/settings"), new)
    say(f"{found['name']}: policy {found['policy']}, messages kept {found['keep'] // 3600} h", found, output)


@app.command()
def delete(id: Id, data: Data, yes: Yes = False, output: Print = Output.TABLE) -> None:
    """End a group.

    Example: cpns group delete family --yes
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    talk.confirm(f"Delete the group {id}?", yes)
    talk.post(data, talk.resource("groups", id, "/delete"))
    say(f"{id} is deleted", {"id": id}, output)
