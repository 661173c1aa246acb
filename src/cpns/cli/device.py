"""``cpns device``: provision devices, and talk to them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cpns.cli.options import All, Data, NewNote, Note, Out, Output, PassphraseFile, Print, UnknownGateway, Yes

app = typer.Typer(name="device", help="Provision devices (PNEs), and talk to them.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The device.", show_default=False)]
Network = Annotated[str | None, typer.Option("--network", help="Where it waits for more than one.", show_default=False)]


@app.command()
def add(
    id: Id,
    data: Data,
    gateway: Annotated[
        str | None, typer.Option("--gateway", help="Admit it through this gateway alone.", show_default="any")
    ] = None,
    allow_unknown_gateway: UnknownGateway = False,
    owner: Annotated[bool, typer.Option("--owner", help="It may own a network.")] = False,
    note: Note = "",
    out: Out = None,
    qr: Annotated[
        bool | None, typer.Option("--qr/--no-qr", help="Show a QR code too.", show_default="on a terminal")
    ] = None,
    passphrase_file: PassphraseFile = None,
    output: Print = Output.TABLE,
) -> None:
    """Provision a device, and show its credential once: as text and as a QR code, or in a file.

    Who may own has all rights in the network that it is the first such member of: to invite, approve, expel and bar,
    and to end it.

    Example: cpns device add pne-1 --owner --gateway gw-1 --note "kitchen"
    """
    from cpns.cli import credentials

    new = {"id": id, "gateway": gateway, "owner": owner, "note": note}
    new |= {"allow_unknown_gateway": allow_unknown_gateway}
    shown = sys.stdout.isatty() if qr is None else qr
    credentials.add("devices", data, new, out, passphrase_file, output, qr=shown)


@app.command("list")
def list_all(data: Data, all: All = False, output: Print = Output.TABLE) -> None:
    """List the devices.

    Example: cpns device list --output json
    """
    from cpns.cli import talk

    talk.list_all("devices", data, all, output)


@app.command()
def show(id: Id, data: Data, output: Print = Output.TABLE) -> None:
    """Show a device: its state, its gateway and PN, how its last authentication ended and why.

    Example: cpns device show pne-1
    """
    from cpns.cli import talk

    talk.show("devices", data, id, output)


@app.command("set")
def settle(
    id: Id,
    data: Data,
    gateway: Annotated[
        str | None, typer.Option("--gateway", help="Admit it through this gateway alone.", show_default="as it is")
    ] = None,
    any_gateway: Annotated[bool, typer.Option("--any-gateway", help="Admit it through any gateway.")] = False,
    allow_unknown_gateway: UnknownGateway = False,
    note: NewNote = None,
    output: Print = Output.TABLE,
) -> None:
    """Change through which gateway a device is admitted, or its note. A session through another gateway ends at once.

    Example: cpns device set pne-1 --gateway gw-2 --note "cellar"
    """
    from cpns.cli import talk

    if gateway is not None and any_gateway:
        raise typer.BadParameter("give one of the two", param_hint="--gateway or --any-gateway")
    via = "" if any_gateway else gateway
    new = {"gateway": via, "note": note, "allow_unknown_gateway": allow_unknown_gateway}
    talk.settle("devices", data, id, new, output)


@app.command()
def revoke(id: Id, data: Data, yes: Yes = False, output: Print = Output.TABLE) -> None:
    """Revoke a device for good: its session ends at once, and it can't come back.

    Example: cpns device revoke pne-1 --yes
    """
    from cpns.cli import talk

    talk.revoke("devices", data, id, yes, output)


@app.command()
def pending(data: Data, output: Print = Output.TABLE) -> None:
    """List the devices that wait to be let in: into a network, or (not provisioned yet) at all.

    Example: cpns device pending
    """
    from cpns.cli import talk

    talk.pending(data, output)


@app.command()
def approve(
    id: Id,
    data: Data,
    network: Network = None,
    note: Note = "",
    out: Out = None,
    passphrase_file: PassphraseFile = None,
    output: Print = Output.TABLE,
) -> None:
    """Let a waiting device in; one that is not provisioned gets a credential, shown once or written to a file.

    Example: cpns device approve lamp --out lamp.key
    """
    from cpns.cli import credentials

    credentials.approve(data, id, {"network": network, "note": note}, out, passphrase_file, output)


@app.command()
def refuse(id: Id, data: Data, network: Network = None, output: Print = Output.TABLE) -> None:
    """Do not let a waiting device in: it is barred from that network, or forgotten where it is not provisioned.

    Example: cpns device refuse lamp
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    refused = talk.post(data, talk.resource("devices", id, "/refuse"), {"network": network})
    say(f"{id} is refused", refused, output)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV with a header: id; gateway, note, owner (yes, no), key as wanted.")],
    data: Data,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is wrong with it.")] = False,
    new_only: Annotated[
        bool, typer.Option("--new-only", help="Leave devices that exist as the file has them.")
    ] = False,
    allow_unknown_gateway: UnknownGateway = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="New CSV (mode 0600) for the credentials: id,credential.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFile = None,
    output: Print = Output.TABLE,
) -> None:
    """Provision a device for each row of a file: all, or with any bad row none.

    Example: cpns device import devices.csv --out credentials.csv
    """
    from cpns.cli.imports import How, import_devices

    if out is None and not dry_run:
        raise typer.BadParameter("give a file for the credentials, or --dry-run", param_hint="--out")
    how = How(None if dry_run else out, new_only, allow_unknown_gateway)
    raise typer.Exit(import_devices(data, file, how, passphrase_file, output))


@app.command()
def send(
    id: Id,
    text: Annotated[str, typer.Argument(help="Up to 1024 characters.", show_default=False)],
    data: Data,
    keep: Annotated[
        float, typer.Option("--keep", help="Seconds to keep it for a device that can't be reached now.", min=0)
    ] = 0.0,
    output: Print = Output.TABLE,
) -> None:
    """Send a text to a device, end to end, and print what it answers; or keep it until the device is back.

    Example: cpns device send pne-1 "water the plants" --keep 3600
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    answer = talk.post(data, talk.resource("devices", id, "/send"), {"text": text, "keep": keep})
    kept = f"{id} can't be reached: kept until {answer['kept_until']}, and sent as soon as it is heard"
    say(kept if answer["answer"] is None else answer["answer"], answer, output)


@app.command()
def ping(id: Id, data: Data, output: Print = Output.TABLE) -> None:
    """Ask a device whether it is there, end to end.

    Example: cpns device ping pne-1
    """
    from cpns.cli import talk
    from cpns.cli.output import say

    answer = talk.post(data, talk.resource("devices", id, "/ping"))
    say(f"{id} answered in {answer['seconds'] * 1000:.1f} ms", answer, output)
