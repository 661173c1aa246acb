"""``cpns gateway``: provision gateways, and run one."""

from pathlib import Path
from typing import Annotated

import typer

from cpns.cli.options import (
    All,
    Data,
    Devices,
    GatewayControl,
    NewNote,
    Note,
    Out,
    Output,
    PassphraseFile,
    Print,
    Yes,
    address,
    addresses,
    config,
    flag,
)

app = typer.Typer(name="gateway", help="Provision gateways, and run one.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="The gateway.", show_default=False)]
Server = Annotated[
    str,
    flag("gateway", "--server", "HOST:PORT of the server; of all its processes, with commas.", show_default=False),
]
ServerOrder = Annotated[
    bool,
    flag(
        "gateway",
        "--server-order/--no-server-order",
        "Prefer the processes in the order of --server; else gateways spread over them.",
    ),
]
Key = Annotated[Path, flag("gateway", "--key", "File (mode 0600) with the credential.", show_default=False)]
Pans = Annotated[
    list[str] | None,
    flag("gateway", "--pan", "HOST:PORT of a PAN to open, over UDP; may be repeated.", show_default=False),
]
SecurePans = Annotated[
    list[str] | None,
    flag("gateway", "--secure-pan", "The same, of a PAN that itself is secure (DEF-9).", show_default=False),
]
Keep = Annotated[
    Path | None,
    flag("gateway", "--data", "Folder for what outlives a restart; without it nothing does.", show_default=False),
]
Alias = Annotated[
    str | None, flag("gateway", "--alias", "Name of the personal network, for people.", show_default=False)
]
Suite = Annotated[int, flag("gateway", "--suite", "Suite for the uplink: 1, 2 or 3.", min=1, max=3)]
LowestSuite = Annotated[int, flag("gateway", "--lowest-suite", "Accept no lower suite on a hop.", min=1, max=3)]
Tls = Annotated[bool, flag("gateway", "--tls/--no-tls", "Use TLS below the uplink.")]
TlsCa = Annotated[
    Path | None, flag("gateway", "--tls-ca", "PEM file: who may sign the server's certificate.", show_default=False)
]
Announce = Annotated[bool, flag("gateway", "--announce/--no-announce", "Tell the PANs by mDNS.")]
BatchWindow = Annotated[float, flag("gateway", "--batch-window", "Seconds that a SETUP waits for others.", min=0)]
AnswerTimeout = Annotated[float, flag("gateway", "--answer-timeout", "Seconds that a device has to answer.", min=0.1)]
SetupTimeout = Annotated[float, flag("gateway", "--setup-timeout", "Seconds that the server has for a SETUP.", min=0.1)]
UplinkPatience = Annotated[
    float, flag("gateway", "--uplink-patience", "Seconds that a SETUP waits for the uplink.", min=0)
]
Keepalive = Annotated[
    float, flag("gateway", "--keepalive", "Seconds of silence before it asks the server for a sign of life.", min=0.1)
]
HalfOpen = Annotated[
    float, flag("gateway", "--half-open", "Seconds after which an unconfirmed hop session ends.", min=0.1)
]
SessionAge = Annotated[float, flag("gateway", "--session-age", "Seconds after which it authenticates anew.", min=1)]
Hold = Annotated[float, flag("gateway", "--hold", "Seconds to keep sealed messages while the uplink is away.", min=0)]
TakeOver = Annotated[
    bool, flag("gateway", "--take-over/--no-take-over", "Serve another gateway's network when asked to.")
]
TraceFile = Annotated[
    Path | None, flag("gateway", "--trace", "Append a JSON line for each message sent.", show_default=False)
]


@app.command()
def add(
    id: Id,
    data: Data,
    note: Note = "",
    out: Out = None,
    passphrase_file: PassphraseFile = None,
    output: Print = Output.TABLE,
) -> None:
    """Provision a gateway, and show its credential once.

    Example: cpns gateway add gw-1 --note "hall" --out gw-1.key
    """
    from cpns.cli import credentials

    credentials.add("gateways", data, {"id": id, "note": note}, out, passphrase_file, output, qr=False)


@app.command("list")
def list_all(data: Data, all: All = False, output: Print = Output.TABLE) -> None:
    """List the gateways.

    Example: cpns gateway list --output json
    """
    from cpns.cli import talk

    talk.list_all("gateways", data, all, output)


@app.command()
def show(id: Id, data: Data, output: Print = Output.TABLE) -> None:
    """Show a gateway: its state, its PN, how its last authentication ended and why.

    Example: cpns gateway show gw-1
    """
    from cpns.cli import talk

    talk.show("gateways", data, id, output)


@app.command("set")
def settle(id: Id, data: Data, note: NewNote = None, output: Print = Output.TABLE) -> None:
    """Change the note of a gateway.

    Example: cpns gateway set gw-1 --note "attic"
    """
    from cpns.cli import talk

    talk.settle("gateways", data, id, {"note": note}, output)


@app.command()
def revoke(
    id: Id,
    data: Data,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it could ever read.")] = False,
    output: Print = Output.TABLE,
) -> None:
    """Revoke a lost gateway for good: show what it could ever read, and end exactly its hop keys and sessions.

    The devices behind it find another gateway by themselves.

    Example: cpns gateway revoke gw-1 --yes
    """
    from cpns.cli import talk

    if dry_run or output is Output.TABLE:
        talk.exposure(data, id, output)
    if dry_run:
        return
    talk.revoke("gateways", data, id, yes, output)
    if output is Output.TABLE:
        talk.offer_rotation(data, id, yes)


@app.command()
def run(
    server: Server,
    key: Key,
    config: Annotated[Path | None, config("gateway")] = None,
    server_order: ServerOrder = False,
    pan: Pans = None,
    secure_pan: SecurePans = None,
    data: Keep = None,
    alias: Alias = None,
    suite: Suite = 2,
    lowest_suite: LowestSuite = 1,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    announce: Announce = True,
    batch_window: BatchWindow = 0.02,
    answer_timeout: AnswerTimeout = 5.0,
    setup_timeout: SetupTimeout = 9.0,
    uplink_patience: UplinkPatience = 6.0,
    keepalive: Keepalive = 20.0,
    half_open: HalfOpen = 60.0,
    session_age: SessionAge = 43200.0,
    hold: Hold = 60.0,
    take_over: TakeOver = True,
    control: GatewayControl = None,
    trace: TraceFile = None,
) -> None:
    """Run a gateway until SIGTERM or Ctrl-C.

    Example: cpns gateway run --server 192.0.2.1:5683 --key gw-1.key --pan 0.0.0.0:5683 --data ./gw

    Example: cpns gateway run --server 192.0.2.1:5683,192.0.2.2:5683 --server-order --key gw-1.key --pan 0.0.0.0:5683
    """
    from cpns.cli.private import credential_of
    from cpns.cli.run_gateway import run_gateway
    from cpns.domain.given import name_for_people
    from cpns.domain.inventory import Kind
    from cpns.gateway.config import GatewayConfig, PanConfig

    pans = [PanConfig(*address(text, "--pan"), secure=False) for text in pan or ()]
    pans += [PanConfig(*address(text, "--secure-pan"), secure=True) for text in secure_pan or ()]
    if not pans:
        raise typer.BadParameter("give at least one --pan or --secure-pan", param_hint="--pan")
    if tls_ca is not None and not tls:
        raise typer.BadParameter("give --tls too", param_hint="--tls-ca")
    named = None if alias is None else name_for_people(alias, "a network")
    (host, port), *more_servers = addresses([server], "--server")
    credential = credential_of(key, Kind.GATEWAY)
    settings = GatewayConfig(
        credential.entity_id,
        credential.server_id,
        *(host, port, tuple(pans), data, named, suite, lowest_suite, tls, tls_ca, announce),
        *(batch_window, answer_timeout, setup_timeout, uplink_patience, keepalive, half_open, session_age),
        hold=hold,
        take_over=take_over,
        more_servers=tuple(more_servers),
        server_order=server_order,
        trace=trace,
    )
    raise typer.Exit(run_gateway(settings, credential.eukey, control))


OfNetwork = Annotated[
    str | None, typer.Option("--network", help="Where it serves more than one.", show_default="the only one")
]


@app.command()
def members(control: GatewayControl = None, output: Print = Output.TABLE) -> None:
    """Show the members of the networks that a running gateway serves, by its copy of the PN Inventory.

    Example: cpns gateway members --control hub.sock
    """
    from cpns.cli.members import show_members

    show_members(control, output)


@app.command()
def invite(
    devices: Devices, control: GatewayControl = None, network: OfNetwork = None, output: Print = Output.TABLE
) -> None:
    """Have a running gateway invite devices in its reach; whether they are let in is the server's to decide.

    Example: cpns gateway invite lamp --control hub.sock
    """
    from cpns.cli import members

    members.invite(control, devices, network, output)


@app.command()
def expel(
    devices: Devices, control: GatewayControl = None, network: OfNetwork = None, output: Print = Output.TABLE
) -> None:
    """Have a running gateway put members out; it can't bar them.

    Example: cpns gateway expel lamp --control hub.sock
    """
    from cpns.cli.members import act

    act(control, "expel", f"{', '.join(devices)} out", output, devices=devices, network=network)


@app.command()
def release(control: GatewayControl = None, network: OfNetwork = None, output: Print = Output.TABLE) -> None:
    """Have a running gateway end a network that it serves.

    Example: cpns gateway release --control hub.sock
    """
    from cpns.cli.members import act

    act(control, "release", "released", output, network=network)


@app.command("hand-over")
def hand_over(
    to: Annotated[str, typer.Argument(help="The gateway that is to serve the network.", show_default=False)],
    control: GatewayControl = None,
    network: OfNetwork = None,
    output: Print = Output.TABLE,
) -> None:
    """Have a running gateway give a network to another gateway, if that one and the server agree.

    Example: cpns gateway hand-over hub-2 --control hub.sock
    """
    from cpns.cli.members import act

    act(control, "hand-over", f"handed over to {to}", output, to=to, network=network)


@app.command("make-gateway")
def make_gateway(
    device: Annotated[str, typer.Argument(help="A member that can be a gateway too.", show_default=False)],
    control: GatewayControl = None,
    network: OfNetwork = None,
    output: Print = Output.TABLE,
) -> None:
    """Have a running gateway ask a member to become the gateway of its network in its place.

    Example: cpns gateway make-gateway tablet --control hub.sock
    """
    from cpns.cli.members import act

    act(control, "make-gateway", f"{device} becomes the gateway", output, device=device, network=network)
