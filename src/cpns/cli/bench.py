"""``cpns bench``: load a server, and tell what it bears."""

from pathlib import Path
from typing import Annotated

import typer

from cpns.cli.options import Output, Print, address

Gateways = Annotated[int, typer.Option("--gateways", help="Gateways.", min=1)]
Pnes = Annotated[int, typer.Option("--pnes", help="Devices behind each gateway.", min=1, max=64)]
Rate = Annotated[float, typer.Option("--rate", help="Readings a second, of all devices together.", min=0.1)]
Duration = Annotated[float, typer.Option("--duration", help="Seconds that readings are offered for.", min=1)]
Batch = Annotated[
    int,
    typer.Option(
        "--batch", help="Devices that set up at a gateway at once.", min=1, max=64, show_default="all, up to 64"
    ),
]
Loss = Annotated[
    float,
    typer.Option("--loss", help="Share of datagrams lost between devices and gateways, each way.", min=0, max=0.5),
]
Churn = Annotated[float, typer.Option("--churn", help="Devices a minute that leave and come back.", min=0)]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes",
        help="Processes for the gateways, and as many for the devices.",
        min=1,
        show_default="half the cores",
    ),
]
Suite = Annotated[int, typer.Option("--suite", help="Suite: 1, 2 or 3.", min=1, max=3)]
Presence = Annotated[
    float, typer.Option("--presence", help="Seconds between a device's signs of life to its gateway.", min=0.1)
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Data folder of a running server to load.", show_default="a new server, thrown away in the end"
    ),
]
Server = Annotated[
    str | None,
    typer.Option("--server", help="HOST:PORT of the server of --data.", show_default="where it listens"),
]
Tls = Annotated[bool, typer.Option("--tls/--no-tls", help="Use TLS below the uplinks to the server of --data.")]
TlsCa = Annotated[
    Path | None,
    typer.Option("--tls-ca", help="PEM file: who may sign the server's certificate.", show_default=False),
]
Report = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for report.json, latency.svg and throughput.svg.", show_default=False),
]


def bench(
    gateways: Gateways = 4,
    pnes: Pnes = 10,
    rate: Rate = 100.0,
    duration: Duration = 30.0,
    batch: Batch = 64,
    loss: Loss = 0.0,
    churn: Churn = 0.0,
    processes: Processes = None,
    suite: Suite = 2,
    presence: Presence = 20.0,
    data: Data = None,
    server: Server = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    out: Report = None,
    output: Print = Output.TABLE,
) -> None:
    """Load a server with real gateways and devices, and tell what it bears: latency, throughput, memory, CPU.

    Readings come due at an even pace, whatever the answers do; their latency counts from then until the server has
    said that they are committed. On a running server (--data), what is provisioned for the load is revoked in the end.
    Ctrl-C ends it with what was measured so far. Exit status 0 when every device stood in the end and every reading
    was acknowledged.

    Example: cpns bench --gateways 20 --pnes 50 --rate 200 --loss 0.01 --churn 5 --out report
    """
    import os

    from cpns.cli.run_bench import run_bench
    from cpns.loadgen.plan import Plan

    if server is not None and data is None:
        raise typer.BadParameter("give --data too: devices are provisioned there", param_hint="--server")
    if tls and data is None:
        raise typer.BadParameter(
            "give --data too: the server that is thrown away has no certificate", param_hint="--tls"
        )
    if tls_ca is not None and not tls:
        raise typer.BadParameter("give --tls too", param_hint="--tls-ca")
    half = min(gateways, max(1, (os.cpu_count() or 1) // 2))
    plan = Plan(gateways, pnes, rate, duration, min(batch, pnes), loss, churn, processes or half, suite, presence, tls)
    place = None if server is None else address(server, "--server")
    raise typer.Exit(run_bench(plan, data, place, tls_ca, out, output))
