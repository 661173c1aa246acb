"""``cpns pne``: run a device."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cpns.cli.options import Output, Print, address, config, flag

app = typer.Typer(name="pne", help="Run a device (PNE).", no_args_is_help=True)


@app.callback()
def pne() -> None:
    """Run a device (PNE)."""


class Source(StrEnum):
    """Where readings come from."""

    HOST = "host"
    STDIN = "-"
    NONE = "none"


Key = Annotated[Path, flag("pne", "--key", "File (mode 0600) with the credential.", show_default=False)]
Gateway = Annotated[
    list[str] | None,
    flag(
        "pne",
        "--gateway",
        "HOST:PORT of a gateway; more than one are tried in turn.",
        show_default="looked for on the PAN, by mDNS",
    ),
]
GatewayId = Annotated[
    str | None,
    flag("pne", "--gateway-id", "Go through this gateway alone.", show_default="any that the server vouches for"),
]
SecurePan = Annotated[
    bool, flag("pne", "--secure-pan/--no-secure-pan", "The PAN itself is secure (DEF-9); both ends must say so.")
]
Suite = Annotated[int, flag("pne", "--suite", "Suite: 1, 2 or 3.", min=1, max=3)]
From = Annotated[
    Source, flag("pne", "--source", "Readings of this machine (host), of JSON lines from stdin (-), or none.")
]
Interval = Annotated[float, flag("pne", "--interval", "Seconds between readings of this machine.", min=0.01)]
Timer = Annotated[float, flag("pne", "--timer", "Seconds to wait for each step of a SETUP.", min=0.1)]
RequestTimeout = Annotated[float, flag("pne", "--request-timeout", "Seconds to wait for an answer.", min=0.1)]
Presence = Annotated[float, flag("pne", "--presence", "Seconds between signs of life to the gateway.", min=0.1)]
SessionAge = Annotated[float, flag("pne", "--session-age", "Seconds after which it sets up anew.", min=1)]
TraceFile = Annotated[
    Path | None, flag("pne", "--trace", "Append a JSON line for each message sent.", show_default=False)
]


@app.command()
def run(
    key: Key,
    config: Annotated[Path | None, config("pne")] = None,
    gateway: Gateway = None,
    gateway_id: GatewayId = None,
    secure_pan: SecurePan = False,
    suite: Suite = 2,
    source: From = Source.NONE,
    interval: Interval = 5.0,
    timer: Timer = 10.0,
    request_timeout: RequestTimeout = 6.0,
    presence: Presence = 20.0,
    session_age: SessionAge = 43200.0,
    trace: TraceFile = None,
    output: Print = Output.TABLE,
) -> None:
    """Run a device until SIGTERM or Ctrl-C, or until all that stdin gave is acknowledged.

    It prints a line when its sessions stand, for each reading that the server acknowledged, and for each text that the
    server sent.

    Example: cpns pne run --key pne-1.key --gateway 192.0.2.7:5683 --source host --interval 10
    """
    from cpns.cli.private import credential_of
    from cpns.cli.run_pne import run_pne
    from cpns.domain.inventory import Kind
    from cpns.ids import entity_id
    from cpns.pne.config import PneConfig

    where = tuple(address(text, "--gateway") for text in gateway or ())
    credential = credential_of(key, Kind.PNE)
    settings = PneConfig(
        credential.entity_id,
        credential.server_id,
        credential.eukey,
        gateways=where,
        gateway_id=None if gateway_id is None else entity_id(gateway_id),
        pan_secure=secure_pan,
        suite=suite,
        timer=timer,
        request_timeout=request_timeout,
        presence=presence,
        session_age=session_age,
        trace=trace,
    )
    raise typer.Exit(run_pne(settings, source.value, interval, output))
