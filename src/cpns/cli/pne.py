"""``cpns pne``: run a device."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cpns.cli.options import Devices, Output, PneControl, Print, addresses, config, flag

app = typer.Typer(name="pne", help="Run a device (PNE), and what a running one can be asked.", no_args_is_help=True)


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
        show_default="looked for on the PAN",
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
SignOfLife = Annotated[
    float,
    flag("pne", "--sign-of-life", "Seconds without a word of the server before it is given one; 0: never.", min=0),
]
SessionAge = Annotated[float, flag("pne", "--session-age", "Seconds after which it sets up anew.", min=1)]
ToJoin = Annotated[
    str | None,
    flag("pne", "--join", "The network to join, by its ID.", show_default="the gateway's, or a new one"),
]
ToInvite = Annotated[
    list[str] | None,
    flag("pne", "--invite", "When it sets up: a device for the gateway to invite; repeatable.", show_default=False),
]
InviteAll = Annotated[bool, flag("pne", "--invite-all", "When it sets up: invite all in the gateway's reach.")]
Wait = Annotated[bool, flag("pne", "--wait", "Set up nothing; wait to be invited.")]
Accept = Annotated[bool, flag("pne", "--accept/--refuse", "Come where it is invited, or not.")]
Sleepy = Annotated[bool, flag("pne", "--sleepy", "Sleep between readings of this machine.")]
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
    sign_of_life: SignOfLife = 300.0,
    session_age: SessionAge = 43200.0,
    join: ToJoin = None,
    invite: ToInvite = None,
    invite_all: InviteAll = False,
    wait: Wait = False,
    accept: Accept = False,
    sleepy: Sleepy = False,
    control: PneControl = None,
    trace: TraceFile = None,
    output: Print = Output.TABLE,
) -> None:
    """Run a device until SIGTERM or Ctrl-C, or until all that stdin gave is acknowledged.

    It prints a line when its sessions stand, for each reading that the server acknowledged, and for each text that the
    server sent.

    Example: cpns pne run --key pne-1.key --gateway 192.0.2.7:5683,192.0.2.8:5683 --source host --sign-of-life 60
    """
    from cpns.cli.private import credential_of
    from cpns.cli.run_pne import Habits, run_pne
    from cpns.domain.given import devices_to_name
    from cpns.domain.inventory import Kind
    from cpns.ids import PnId, entity_id
    from cpns.pne.config import PneConfig, Where
    from cpns.wire.registry import SetupType

    where = addresses(gateway, "--gateway")
    credential = credential_of(key, Kind.PNE)
    settings = PneConfig(
        credential.entity_id,
        credential.server_id,
        credential.eukey,
        where=Where(where, None if gateway_id is None else entity_id(gateway_id), secure_pan),
        suite=suite,
        timer=timer,
        request_timeout=request_timeout,
        presence=presence,
        sign_of_life=sign_of_life,
        session_age=session_age,
        join=None if join is None else PnId(entity_id(join)),
        setup_type=SetupType.ALL_IN_REACH if invite_all else SetupType.LISTED if invite else SetupType.GATEWAY_ONLY,
        invite=tuple(devices_to_name(invite)) if invite else (),
        waits=wait,
        trace=trace,
    )
    raise typer.Exit(run_pne(settings, Habits(source.value, interval, accept, sleepy, control), output))


@app.command()
def network(control: PneControl = None, output: Print = Output.TABLE) -> None:
    """Show what a running device may see of its network, as the server tells it end to end.

    Example: cpns pne network --control watch.sock
    """
    from cpns.cli.members import show_network

    show_network(control, output)


@app.command("invite")
def invite_more(devices: Devices, control: PneControl = None, output: Print = Output.TABLE) -> None:
    """Have a running device invite others into its network, with the right that it has there.

    Example: cpns pne invite scale lamp --control watch.sock
    """
    from cpns.cli import members

    members.invite(control, devices, None, output)


@app.command()
def expel(devices: Devices, control: PneControl = None, output: Print = Output.TABLE) -> None:
    """Have a running device put others out of its network, as its owner.

    Example: cpns pne expel lamp --control watch.sock
    """
    from cpns.cli.members import act

    act(control, "expel", f"{', '.join(devices)} out", output, devices=devices)


@app.command()
def leave(control: PneControl = None, output: Print = Output.TABLE) -> None:
    """Have a running device leave its network; its run then ends.

    Example: cpns pne leave --control watch.sock
    """
    from cpns.cli.members import act

    act(control, "leave", "left", output)


@app.command()
def release(control: PneControl = None, output: Print = Output.TABLE) -> None:
    """Have a running device end its network, as its owner.

    Example: cpns pne release --control watch.sock
    """
    from cpns.cli.members import act

    act(control, "release", "released", output)
