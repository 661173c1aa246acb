"""``cpns node``: run a device that is PNE and gateway."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cpns.cli.options import Output, Print, address, addresses, config, flag
from cpns.cli.pne import Source
from cpns.node.config import Prefer

app = typer.Typer(name="node", help="Run a device that can be PNE, gateway, or both.", no_args_is_help=True)


class As(StrEnum):
    """As what a device runs (DEF-2)."""

    PNE = "pne"
    GATEWAY = "gateway"
    BOTH = "both"


class To(StrEnum):
    """What a running device can be told to be."""

    PNE = "pne"
    GATEWAY = "gateway"
    BOTH = "both"
    AUTO = "auto"


Control = Annotated[
    Path | None,
    flag("node", "--control", "Unix socket (mode 0600) of the running device, for its commands.", show_default=False),
]
PneKey = Annotated[Path, flag("node", "--pne-key", "File with the credential of its PNE.", show_default=False)]
GatewayKey = Annotated[
    Path | None,
    flag(
        "node",
        "--gateway-key",
        "File with the credential of its gateway.",
        show_default="a CM Device: its first external gateway gets it an ID and key",
    ),
]
Server = Annotated[
    str, flag("node", "--server", "HOST:PORT of the server, over its own broadband.", show_default=False)
]
External = Annotated[
    list[str] | None,
    flag("node", "--gateway", "HOST:PORT of an external gateway; repeatable.", show_default="looked for on the PAN"),
]
Pan = Annotated[str, flag("node", "--pan", "HOST:PORT of the PAN that its gateway opens.")]
Start = Annotated[As, flag("node", "--mode", "As what it starts.")]
Choice = Annotated[
    Prefer | None,
    flag(
        "node",
        "--prefer",
        "Change the mode by itself: go direct when it can, only without a gateway, or (metered) only when it must.",
        show_default="direct for a CM Device, else it stays as told",
    ),
]
MayChange = Annotated[bool, flag("node", "--may-change/--stays", "Become a gateway when another device asks for that.")]
Keep = Annotated[
    Path | None,
    flag("node", "--data", "Folder for its keys and members; without it a restart begins anew.", show_default=False),
]
From = Annotated[
    Source, flag("node", "--source", "Readings of this machine (host), of JSON lines from stdin (-), or none.")
]
Interval = Annotated[float, flag("node", "--interval", "Seconds between readings of this machine.", min=0.01)]
Suite = Annotated[int, flag("node", "--suite", "Suite: 1, 2 or 3; going direct takes none under 2.", min=1, max=3)]
Timer = Annotated[float, flag("node", "--timer", "Seconds to wait for each step of a SETUP.", min=0.1)]
RequestTimeout = Annotated[float, flag("node", "--request-timeout", "Seconds to wait for an answer.", min=0.1)]
Presence = Annotated[float, flag("node", "--presence", "Seconds between signs of life to its gateway.", min=0.1)]
SignOfLife = Annotated[
    float,
    flag("node", "--sign-of-life", "Seconds without a word of the server before it is given one; 0: never.", min=0),
]
Keepalive = Annotated[
    float, flag("node", "--keepalive", "When direct: seconds of silence before it asks for a sign of life.", min=0.1)
]
TraceFile = Annotated[
    Path | None, flag("node", "--trace", "Append a JSON line for each message sent.", show_default=False)
]


@app.command()
def run(
    pne_key: PneKey,
    server: Server,
    config: Annotated[Path | None, config("node")] = None,
    gateway_key: GatewayKey = None,
    gateway: External = None,
    pan: Pan = "127.0.0.1:0",
    mode: Start = As.PNE,
    prefer: Choice = None,
    may_change: MayChange = False,
    data: Keep = None,
    source: From = Source.HOST,
    interval: Interval = 5.0,
    suite: Suite = 2,
    timer: Timer = 10.0,
    request_timeout: RequestTimeout = 6.0,
    presence: Presence = 20.0,
    sign_of_life: SignOfLife = 300.0,
    keepalive: Keepalive = 5.0,
    control: Control = None,
    trace: TraceFile = None,
    output: Print = Output.TABLE,
) -> None:
    """Run a device that hosts a PNE and a gateway until SIGTERM or Ctrl-C; readings go on through every change of mode.

    Without --gateway-key it is a Changing-Mode device: behind its first gateway it is assigned an ID and a key, with
    which it goes direct over its own broadband, and serves others, as long as it has that.

    Example: cpns node run --pne-key tablet.key --gateway 192.0.2.7:5683 --server 192.0.2.1:5683 --data ./tablet
    """
    from cpns.cli.private import credential_of
    from cpns.cli.run_node import MODES, Habits, gateway_maker, run_node
    from cpns.domain.inventory import Kind
    from cpns.node.config import NodeConfig
    from cpns.pne.config import PneConfig, Where

    own = credential_of(pne_key, Kind.PNE)
    serves = None if gateway_key is None else credential_of(gateway_key, Kind.GATEWAY)
    where = Where(addresses(gateway, "--gateway"))
    settings = NodeConfig(
        PneConfig(
            *(own.entity_id, own.server_id, own.eukey, where, suite, timer, request_timeout, presence),
            sign_of_life=sign_of_life,
        ),
        address(server, "--server"),
        MODES[mode.value],
        may_change,
        prefer or (Prefer.DIRECT if serves is None else None),
    )
    gateway_of = gateway_maker(settings, address(pan, "--pan"), suite, keepalive)
    habits = Habits(serves, gateway_of, data, source.value, interval, control, trace)
    raise typer.Exit(run_node(settings, habits, output))


@app.command()
def mode(
    to: Annotated[To, typer.Argument(metavar="MODE", help="pne, gateway, both, or auto.", show_default=False)],
    control: Control = None,
    output: Print = Output.TABLE,
) -> None:
    """Change the mode of a running device; it stays so until it is told auto, which lets it choose by itself.

    Example: cpns node mode both --control tablet.sock
    """
    from cpns.cli.members import act

    chosen = "chooses its mode by itself" if to is To.AUTO else f"runs as {to.value}"
    act(control, "mode", chosen, output, to=to.value)


@app.command()
def rekey(control: Control = None, output: Print = Output.TABLE) -> None:
    """Have a running CM Device agree with the server on a fresh key, end to end.

    Example: cpns node rekey --control tablet.sock
    """
    from cpns.cli.members import act

    act(control, "rekey", "takes a fresh key", output)


@app.command()
def status(control: Control = None, output: Print = Output.TABLE) -> None:
    """Show a running device: its mode, the gateway that it goes through, its CM Device ID and key generation.

    Example: cpns node status --control tablet.sock
    """
    from cpns.cli import control as door
    from cpns.cli.output import print_fields, print_json

    found = door.ask(control, "status")
    if output is Output.JSON:
        print_json(found)
    else:
        print_fields(found)
