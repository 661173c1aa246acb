"""``cpns cm``: the Changing-Mode devices and their keys."""

from typing import Annotated

import typer

from cpns.cli.options import All, Data, Output, Print, Yes

app = typer.Typer(
    name="cm", help="Look at devices that can go direct (Changing-Mode), and at their keys.", no_args_is_help=True
)

Id = Annotated[str, typer.Argument(metavar="ID", help="Its CM Device ID, or its device.", show_default=False)]


@app.command("list")
def list_all(data: Data, all: All = False, output: Print = Output.TABLE) -> None:
    """List the CM Devices: which device each is embedded in, who set it up, and who knows its key.

    Example: cpns cm list
    """
    from cpns.cli import talk

    talk.show_cm_devices(talk.current(talk.get(data, "/cm"), all), output)


@app.command()
def show(id: Id, data: Data, output: Print = Output.TABLE) -> None:
    """Show a CM Device: its device, its key, and the newest rows of the audit log.

    Example: cpns cm show tablet
    """
    from cpns.cli import talk

    talk.show_cm_device(data, id, output)


@app.command()
def revoke(
    id: Id,
    data: Data,
    reassign: Annotated[
        bool, typer.Option("--reassign", help="Its device may be assigned another; else it stays behind gateways.")
    ] = False,
    yes: Yes = False,
    output: Print = Output.TABLE,
) -> None:
    """Revoke a CM Device: its device can't go direct any more, and finds a gateway by itself.

    Example: cpns cm revoke tablet --yes
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    talk.confirm(f"Revoke the CM Device {id} for good?", yes)
    revoked = talk.post(data, talk.resource("cm", id, "/revoke"), {"reassign": reassign})
    say(f"{revoked['id']} is revoked; sessions ended: {revoked['ended']}", revoked, output)


@app.command()
def rotate(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="CM Device IDs, or devices.", show_default=False)
    ] = None,
    gateway: Annotated[
        str | None,
        typer.Option("--gateway", help="Those whose key this gateway knows, as it set them up.", show_default=False),
    ] = None,
    *,
    data: Data,
    output: Print = Output.TABLE,
) -> None:
    """Have CM Devices take fresh keys, inside their end-to-end sessions: no gateway knows those.

    Example: cpns cm rotate tablet
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    if (not ids) == (gateway is None):
        raise typer.BadParameter("name CM Devices, or a gateway with --gateway", param_hint="ID")
    whom = list(ids or ()) if gateway is None else talk.known_to(data, gateway)
    found = talk.post(data, "/cm/rotate", {"devices": whom}) if whom else {"items": []}
    names = ", ".join(one["id"] for one in found["items"]) or "none"
    say(f"to take fresh keys: {names}", found, output)
