"""``cpns network``: the personal networks."""

from typing import Annotated

import typer

from cpns.cli.options import Data, Devices, Output, Print, Yes
from cpns.domain.member_list import Policy

app = typer.Typer(name="network", help="Look at the personal networks; say who may be in them.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="NETWORK", help="Its ID, or its alias.", show_default=False)]


@app.command("list")
def list_all(data: Data, output: Print = Output.TABLE) -> None:
    """List the PN Inventory: each personal network with its gateway and members.

    Example: cpns network list
    """
    from cpns.cli import talk
    from cpns.cli.output import show

    found = talk.get(data, "/networks")
    columns = ("network", "alias", "gateway", "owner", "policy", "version", "members")
    rows = (
        (
            *(pn[name] for name in ("id", "alias", "gateway", "owner", "policy", "version")),
            [member["id"] for member in pn["members"]],
        )
        for pn in found["items"]
    )
    show(found, output, columns, rows)


@app.command()
def show(id: Id, data: Data, output: Print = Output.TABLE) -> None:
    """Show a network: its members, where each is, how old that news is, and who told; and who else may come.

    Example: cpns network show home
    """
    from cpns.cli import talk

    talk.show_network(data, id, output)


@app.command()
def invite(id: Id, devices: Devices, data: Data, output: Print = Output.TABLE) -> None:
    """Put devices on the member list, and have the gateway ask those that it reaches.

    Example: cpns network invite home watch scale
    """
    from cpns.cli import talk
    from cpns.cli.output import show

    found = talk.post(data, talk.resource("networks", id, "/invite"), {"devices": devices})
    show(found, output, ("device", "result"), found["results"].items())


@app.command()
def expel(id: Id, devices: Devices, data: Data, yes: Yes = False, output: Print = Output.TABLE) -> None:
    """Put devices out, and bar them: their sessions and hop keys end at once.

    Example: cpns network expel home lamp --yes
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    talk.confirm(f"Expel {', '.join(devices)} from {id}?", yes)
    talk.post(data, talk.resource("networks", id, "/expel"), {"devices": devices})
    say(f"{', '.join(devices)} out of {id}", {"id": id, "expelled": devices}, output)


@app.command()
def release(id: Id, data: Data, yes: Yes = False, output: Print = Output.TABLE) -> None:
    """End a network: every membership in it, and its sessions and hop keys with them.

    Example: cpns network release home --yes
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    talk.confirm(f"Release {id}, with all memberships in it?", yes)
    talk.post(data, talk.resource("networks", id, "/release"))
    say(f"{id} is released", {"id": id}, output)


@app.command()
def switch(
    id: Id,
    gateway: Annotated[str, typer.Argument(help="The gateway that is to serve it.", show_default=False)],
    data: Data,
    output: Print = Output.TABLE,
) -> None:
    """Let another gateway serve a network; its devices go over by themselves, with new hop keys.

    Example: cpns network switch home hub-2
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    found = talk.post(data, talk.resource("networks", id, "/switch"), {"gateway": gateway})
    say(f"{found['id']} is served by {gateway}", found, output)


@app.command("set")
def settle(
    id: Id,
    data: Data,
    policy: Annotated[
        Policy | None, typer.Option("--policy", help="Who may come: all, upon approval, or the invited.")
    ] = None,
    alias: Annotated[str | None, typer.Option("--alias", help="Its name, for people.", show_default=False)] = None,
    owner: Annotated[
        str | None,
        typer.Option("--owner", help="The device that may invite, approve, expel and release.", show_default=False),
    ] = None,
    output: Print = Output.TABLE,
) -> None:
    """Change who may come into a network, what it is called, and who owns it.

    Example: cpns network set home --policy approval --owner watch
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    if policy is None and alias is None and owner is None:
        raise typer.BadParameter("give --policy, --alias or --owner", param_hint="--policy")
    new = {"policy": None if policy is None else policy.value, "alias": alias, "owner": owner}
    found = talk.post(data, talk.resource("networks", id, "/settings"), new)
    say(f"{found['id']}: policy {found['policy']}, owner {found['owner'] or '-'}", found, output)
