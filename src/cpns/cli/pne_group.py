"""``cpns pne group``: what a running device does about service groups, with the right that it has."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cpns.cli.options import Devices, Output, PneControl, Print
from cpns.domain.member_list import Policy

HOW_TO_JOIN = "`cpns pne group join`."
app = typer.Typer(name="group", help="Service groups of a running device.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="GROUP", help="Its ID, or its name.", show_default=False)]


def _ask(path: Path | None, action: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401  # as JSON has them
    from cpns.cli import control

    return control.ask(path, f"group {action}", **arguments)


Service = Annotated[str | None, typer.Option("--service", help="What it is for.", show_default=False)]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Its name, for people.", show_default=False)],
    control: PneControl = None,
    policy: Annotated[
        Policy, typer.Option("--policy", help="Who may join: all, upon approval, or the invited.")
    ] = Policy.OPEN,
    service: Service = None,
    invite: Annotated[
        list[str] | None, typer.Option("--invite", help="A device to ask at once; repeatable.", show_default=False)
    ] = None,
    vouched: Annotated[
        bool,
        typer.Option("--vouched", help="Believe the gateways who sent a message: for devices that can't sign."),
    ] = False,
    keep: Annotated[
        int | None,
        typer.Option("--keep", help="Hours that a message waits for who is away.", min=0, max=168, show_default="24"),
    ] = None,
    output: Print = Output.TABLE,
) -> None:
    """Have a running device make a group, which it then owns.

    Example: cpns pne group create family --invite watch --control tablet.sock
    """
    from cpns.cli import output as o

    found = _ask(
        control,
        "create",
        name=name,
        policy=policy.value,
        service=service,
        invite=invite or [],
        vouched=vouched,
        keep=None if keep is None else keep * 3600,
    )
    o.say(f"{name}: {found['id']}", found, output)
    if output is Output.TABLE and found["results"]:
        o.show_invited(found, output, HOW_TO_JOIN)


@app.command()
def find(
    keyword: Annotated[str | None, typer.Argument(help="In its name or service.", show_default=False)] = None,
    control: PneControl = None,
    service: Service = None,
    output: Print = Output.TABLE,
) -> None:
    """Have a running device look for groups.

    Example: cpns pne group find fam --control watch.sock
    """
    from cpns.cli import output as o

    found = _ask(control, "find", keyword=keyword, service=service)
    columns = ("id", "name", "service", "owner", "policy")
    o.show(found, output, ("group", *columns[1:]), ([one[name] for name in columns] for one in found["items"]))


@app.command("list")
def list_all(control: PneControl = None, output: Print = Output.TABLE) -> None:
    """Show the groups that a running device is in.

    Example: cpns pne group list --control watch.sock
    """
    from cpns.cli import output as o

    found = _ask(control, "list")
    rows = (
        (
            one["id"],
            one["name"],
            one["owner"],
            one["version"],
            [f"{pne} ({how})" for pne, how in one["devices"].items()],
        )
        for one in found["items"]
    )
    o.show(found, output, ("group", "name", "owner", "version", "devices"), rows)


@app.command()
def join(id: Id, control: PneControl = None, output: Print = Output.TABLE) -> None:
    """Have a running device join a group; of several groups of one name it says which there are, and joins none.

    Example: cpns pne group join family --control watch.sock
    """
    from cpns.cli import output as o

    found = _ask(control, "join", group=id)
    whose = "" if found["owner"] is None else f" of {found['owner']}"
    o.say(f"{id} ({found['id']}{whose}): {found['result'].replace('_', ' ')}", found, output)


@app.command()
def invite(id: Id, devices: Devices, control: PneControl = None, output: Print = Output.TABLE) -> None:
    """Have a running device invite others into a group; its owner lets in who waits that way.

    Example: cpns pne group invite family watch --control tablet.sock
    """
    from cpns.cli import output as o

    found = _ask(control, "invite", group=id, devices=list(devices))
    o.show_invited(found, output, HOW_TO_JOIN)


@app.command()
def leave(id: Id, control: PneControl = None, output: Print = Output.TABLE) -> None:
    """Have a running device leave a group.

    Example: cpns pne group leave family --control watch.sock
    """
    from cpns.cli import output as o

    o.say(f"left {id}", _ask(control, "leave", group=id), output)


@app.command()
def expel(id: Id, devices: Devices, control: PneControl = None, output: Print = Output.TABLE) -> None:
    """Have a running device put others out of a group, as its owner.

    Example: cpns pne group expel family lamp --control tablet.sock
    """
    from cpns.cli import output as o

    o.say(f"{', '.join(devices)} out of {id}", _ask(control, "expel", group=id, devices=list(devices)), output)


@app.command()
def owner(
    id: Id,
    control: PneControl = None,
    to: Annotated[
        str | None, typer.Option("--to", help="The member that is to own it.", show_default="the server chooses")
    ] = None,
    output: Print = Output.TABLE,
) -> None:
    """Have a running device give a group that it owns to another member, if that one agrees.

    Example: cpns pne group owner family --to watch --control tablet.sock
    """
    from cpns.cli import output as o

    found = _ask(control, "owner", group=id, to=to)
    o.say(f"{id} is owned by {found['owner']}", found, output)


@app.command()
def send(
    id: Id,
    text: Annotated[str, typer.Argument(help="What to say, up to 1024 characters.", show_default=False)],
    control: PneControl = None,
    output: Print = Output.TABLE,
) -> None:
    """Have a running device say something to a group; it waits until each member has it, or the server keeps it.

    It says how many have it, and for how many it is kept.

    Example: cpns pne group send family "dinner is ready" --control tablet.sock
    """
    from cpns.cli import output as o

    found = _ask(control, "send", group=id, text=text)
    o.say(f"sent to {id}{_reached(found)}", found, output)


def _reached(found: dict[str, Any]) -> str:
    """Return how many have what was sent, where that is known."""
    if "have" not in found:
        return ""
    others = f"kept for {found['kept']}" if "kept" in found else f"{found['missed']} missed it"
    return f": {found['have']} have it, {others}"


@app.command()
def watch(
    id: Annotated[
        str | None, typer.Argument(metavar="[GROUP]", help="Its ID, or its name.", show_default="all of them")
    ] = None,
    control: PneControl = None,
    count: Annotated[int | None, typer.Option("--count", help="End after so many.", min=1, show_default=False)] = None,
    output: Print = Output.TABLE,
) -> None:
    """Print what others say to the groups of a running device, from now on, until Ctrl-C.

    Example: cpns pne group watch family --control watch.sock
    """
    import json
    import sys

    from cpns.cli.output import plain

    left = -1 if count is None else count
    wanted = None if id is None else _ask(control, "which", group=id)["id"]
    last = _ask(control, "heard", after=None)["last"]
    print("Listening; Ctrl-C ends it.", file=sys.stderr, flush=True)
    while left:
        found = _ask(control, "heard", after=last)
        last = found["last"]
        for one in (one for one in found["items"] if wanted in (None, one["group"])):
            said = "(too late to be opened)" if one["text"] is None else one["text"]
            late = " (late)" if one["late"] else ""
            line = json.dumps(one) if output is Output.JSON else plain(f"{one['name']}  {one['from']}{late}  {said}")
            print(line, flush=True)
            left -= 1
            if not left:
                return


@app.command()
def delete(id: Id, control: PneControl = None, output: Print = Output.TABLE) -> None:
    """Have a running device end a group that it owns.

    Example: cpns pne group delete family --control tablet.sock
    """
    from cpns.cli import output as o

    o.say(f"{id} is deleted", _ask(control, "delete", group=id), output)
