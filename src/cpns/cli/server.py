"""``cpns server``: set up, run and watch a server."""

from pathlib import Path
from typing import Annotated

import typer

from cpns.cli.options import Data, Output, PassphraseFile, Print, address, config, flag
from cpns.domain.group import MAX_GROUPS
from cpns.domain.member_list import Policy

NewPolicy = Annotated[
    Policy, flag("server", "--policy", "Who may come into new networks: all, upon approval, or the invited.")
]
AnswerTimeout = Annotated[
    float, flag("server", "--answer-timeout", "Seconds that a gateway and its devices have to answer.", min=0.1)
]
HalfOpen = Annotated[float, flag("server", "--half-open", "Seconds after which an unconfirmed session ends.", min=0.1)]
SessionAge = Annotated[float, flag("server", "--session-age", "Seconds after which any session ends.", min=1)]
CmUnused = Annotated[
    float, flag("server", "--cm-unused", "Days after which a CM key that was never used expires.", min=0)
]
OwnerAway = Annotated[
    float, flag("server", "--owner-away", "Days that a group's owner may be away before another follows it.", min=0)
]
ReadingsRate = Annotated[
    float,
    flag(
        "server",
        "--readings-rate",
        "Readings a second of one device, on average; ten seconds' worth at once. More is asked to wait.",
        min=0.01,
    ),
]
ReadingsVolume = Annotated[
    float, flag("server", "--readings-volume", "Megabytes a day that the readings of one device may take.", min=1)
]
MaxGroups = Annotated[
    int, flag("server", "--max-groups", "Service groups that one device may be in; who is in more stays.", min=1)
]
Nats = Annotated[
    str | None,
    flag("server", "--nats", "nats://HOST:PORT, where its processes reach each other.", show_default="it is alone"),
]
Workers = Annotated[int, flag("server", "--workers", "Processes on this machine, at one address.", min=1, max=64)]
TraceFile = Annotated[
    Path | None, flag("server", "--trace", "Append a JSON line for each message sent.", show_default=False)
]

app = typer.Typer(name="server", help="Set up, run and watch a server.", no_args_is_help=True)


@app.command()
def init(
    data: Data,
    id: Annotated[str, flag("server", "--id", "The name that gateways and devices know it by.")] = "server.example",
    passphrase_file: PassphraseFile = None,
    store: Annotated[
        str | None,
        flag("server", "--store", "postgresql://[USER@]HOST/DATABASE, which exists.", show_default="a file in --data"),
    ] = None,
) -> None:
    """Set up a server in a new data folder.

    Its vault opens with a key file in that folder, or with a passphrase where --passphrase-file is given. Its store is
    a file there, or a database of PostgreSQL; a password for that comes from ~/.pgpass, PGPASSFILE or PGPASSWORD.

    Example: cpns server init --data ./srv --id server.example
    """
    import asyncio

    from cpns.admin.folder import Folder
    from cpns.cli.private import passphrase_of
    from cpns.service.system import random_bytes

    passphrase = None if passphrase_file is None else passphrase_of(passphrase_file)
    server_id = asyncio.run(Folder(data).create(id, passphrase, random_bytes, store))
    print(f"The server {server_id} is set up in {data}.")
    print(f"Next: cpns server run --data {data}")
    print(f"      cpns gateway add GATEWAY --data {data} --out gateway.key")
    print(f"      cpns device add DEVICE --data {data} --out device.key")


@app.command()
def run(
    data: Data,
    config: Annotated[Path | None, config("server")] = None,
    id: Annotated[str | None, flag("server", "--id", "The server's ID.", show_default="as set up")] = None,
    listen: Annotated[
        str, flag("server", "--listen", "HOST:PORT to listen at, over TCP; port 0 takes a free one.")
    ] = "127.0.0.1:5683",
    tls_certificate: Annotated[
        Path | None, flag("server", "--tls-certificate", "PEM file: listen with TLS.", show_default=False)
    ] = None,
    tls_key: Annotated[
        Path | None, flag("server", "--tls-key", "PEM file: the key of the certificate.", show_default=False)
    ] = None,
    lowest_suite: Annotated[
        int, flag("server", "--lowest-suite", "Let nobody in with a lower suite: 1, 2 or 3.", min=1, max=3)
    ] = 1,
    policy: NewPolicy = Policy.OPEN,
    answer_timeout: AnswerTimeout = 8.0,
    half_open: HalfOpen = 60.0,
    session_age: SessionAge = 86400.0,
    cm_unused: CmUnused = 30.0,
    owner_away: OwnerAway = 30.0,
    max_groups: MaxGroups = MAX_GROUPS,
    readings_rate: ReadingsRate = 20.0,
    readings_volume: ReadingsVolume = 64.0,
    nats: Nats = None,
    workers: Workers = 1,
    passphrase_file: PassphraseFile = None,
    trace: TraceFile = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C. Settings are also taken from DATA/server.toml.

    SIGHUP opens --trace anew and reads a renewed certificate.

    Several processes, on one or more machines, need a store on PostgreSQL and --nats; on another machine DATA is a copy
    of server.toml and kek. `cpns server status` tells which are up.

    Example: cpns server run --data ./srv --listen 0.0.0.0:5683
    """
    from cpns.admin.folder import Folder
    from cpns.cli.run_server import run_server
    from cpns.ids import entity_id
    from cpns.server.config import ServerConfig

    if (tls_certificate is None) != (tls_key is None):
        raise typer.BadParameter("give both --tls-certificate and --tls-key, or none", param_hint="--tls-key")
    host, port = address(listen, "--listen")
    settings = ServerConfig(
        entity_id(id) if id else Folder(data).server_id(),
        *(data, host, port, tls_certificate, tls_key, lowest_suite, policy, answer_timeout, half_open, session_age),
        cm_unused=cm_unused * 86400.0,
        owner_away=owner_away * 86400.0,
        max_groups=max_groups,
        readings_rate=readings_rate,
        readings_volume=readings_volume * 1e6,
        nats=nats,
        workers=workers,
        trace=trace,
    )
    raise typer.Exit(run_server(settings, passphrase_file))


@app.command("set-back")
def set_back(
    data: Data,
    at: Annotated[
        str | None,
        typer.Option("--at", help="The time of now, if the clock of this machine is wrong.", show_default="now"),
    ] = None,
) -> None:
    """Go on after an older copy of the store was put back, with numbers that were never given; the server rests.

    Without it the numbers of readings, of changes and of keys would come a second time: `cpns server tail --since N`
    would miss what is new, and gateways and devices would take it for old.

    Example: cpns server set-back --data ./srv
    """
    from cpns.cli.restore import set_back as go_on

    go_on(data, at)


@app.command()
def status(data: Data, output: Print = Output.TABLE) -> None:
    """Tell what is up: each process with its gateways, clock and disk, the store, the bus, and how many there are.

    A process that is there and can't be asked is shown with "?", and why in a warning.

    Example: cpns server status
    """
    from cpns.cli.status import status as show

    show(data, output)


@app.command()
def tail(
    data: Data,
    device: Annotated[str | None, typer.Option("--device", help="Of this device alone.", show_default=False)] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="Begin after the reading with this number, or with 'all'.", show_default="new ones"
        ),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", help="End after so many.", min=1, show_default=False)] = None,
    output: Print = Output.TABLE,
) -> None:
    """Print readings as they arrive; with --output json, a JSON object a line.

    Example: cpns server tail --since all --output json
    """
    from cpns.cli import talk
    from cpns.cli.output import json_for_output

    query = {} if device is None else {"device": device}
    shown = json_for_output if output is Output.JSON else talk.reading
    talk.tail(data, "/readings", query, _after(since, "a reading's"), count, shown)


@app.command()
def events(
    data: Data,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Begin after the event with this number, or with 'all'.", show_default="new ones"),
    ] = None,
    cursor: Annotated[
        str | None,
        typer.Option(
            "--cursor", metavar="NAME", help="Go on where this name has come to, and keep that.", show_default=False
        ),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", help="End after so many.", min=1, show_default=False)] = None,
    output: Print = Output.TABLE,
) -> None:
    """Print what happens: who did what to whom, and what became of networks and groups; events are kept for a week.

    With --cursor each event is printed at least once, however often the command ends and begins: the server keeps how
    far it came. --since moves a cursor on, never back.

    Example: cpns server events --cursor backup --output json
    """
    from cpns.cli import followed, talk
    from cpns.cli.output import json_for_output

    shown = json_for_output if output is Output.JSON else talk.event
    after = _after(since, "an event's")
    if cursor is None:
        talk.tail(data, "/events", {}, after, count, shown)
    else:
        followed.events(data, cursor, after, count, shown)


def _after(since: str | None, whose: str) -> int | None:
    if since is None or since == "all":
        return None if since is None else 0
    if not since.isascii() or not since.isdigit():
        raise typer.BadParameter(f"give {whose} number, or 'all'", param_hint="--since")
    return int(since)
