"""``cpns node``: run a device that is PNE and gateway."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cpns.cli.options import Output, Print, address, config, flag

app = typer.Typer(name="node", help="Run a device that can be PNE, gateway, or both.", no_args_is_help=True)


class As(StrEnum):
    """As what a device runs (DEF-2)."""

    PNE = "pne"
    GATEWAY = "gateway"
    BOTH = "both"


Control = Annotated[
    Path | None,
    flag("node", "--control", "Unix socket (mode 0600) of the running device, for its commands.", show_default=False),
]


@app.command()
def run(
    pne_key: Annotated[Path, flag("node", "--pne-key", "File with the credential of its PNE.", show_default=False)],
    gateway_key: Annotated[
        Path, flag("node", "--gateway-key", "File with the credential of its gateway.", show_default=False)
    ],
    server: Annotated[str, flag("node", "--server", "HOST:PORT of the server, for its gateway.", show_default=False)],
    config: Annotated[Path | None, config("node")] = None,
    gateway: Annotated[
        list[str] | None,
        flag(
            "node", "--gateway", "HOST:PORT of an external gateway; repeatable.", show_default="looked for on the PAN"
        ),
    ] = None,
    pan: Annotated[str, flag("node", "--pan", "HOST:PORT of the PAN that its gateway opens.")] = "127.0.0.1:0",
    mode: Annotated[As, flag("node", "--mode", "As what it starts.")] = As.PNE,
    may_change: Annotated[
        bool, flag("node", "--may-change/--stays", "Become a gateway when another device asks for that.")
    ] = False,
    interval: Annotated[float, flag("node", "--interval", "Seconds between readings of this machine.", min=0.01)] = 5.0,
    control: Control = None,
    output: Print = Output.TABLE,
) -> None:
    """Run a device that hosts a PNE and a gateway until SIGTERM or Ctrl-C; it sends readings of this machine.

    Example: cpns node run --pne-key tablet.key --gateway-key tablet-gw.key --server 192.0.2.1:5683 --mode both
    """
    from cpns.cli.private import credential_of
    from cpns.cli.run_node import MODES, run_node
    from cpns.domain.inventory import Kind
    from cpns.gateway.config import GatewayConfig, PanConfig
    from cpns.node.config import NodeConfig
    from cpns.pne.config import PneConfig
    from cpns.wire.registry import Mode

    own, serves = credential_of(pne_key, Kind.PNE), credential_of(gateway_key, Kind.GATEWAY)
    where = tuple(address(text, "--gateway") for text in gateway or ())
    host, port = address(server, "--server")
    pans = (PanConfig(*address(pan, "--pan"), secure=False),)
    settings = NodeConfig(
        PneConfig(own.entity_id, own.server_id, own.eukey, gateways=where),
        GatewayConfig(serves.entity_id, serves.server_id, serves.eukey, host, port, pans, mode=Mode.BOTH),
        MODES[mode.value],
        may_change,
    )
    raise typer.Exit(run_node(settings, interval, control, output))


@app.command()
def mode(
    to: Annotated[As, typer.Argument(metavar="MODE", help="pne, gateway or both.", show_default=False)],
    control: Control = None,
    output: Print = Output.TABLE,
) -> None:
    """Change the mode of a running device.

    Example: cpns node mode both --control tablet.sock
    """
    from cpns.cli.members import act

    act(control, "mode", f"runs as {to.value}", output, to=to.value)
