"""Flags that several commands share, and how their values are read."""

import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cpns.cli import settings

DEFAULT_PORT: Final = 5683


class Output(StrEnum):
    """How data is printed."""

    TABLE = "table"
    JSON = "json"


def flag(role: str, name: str, help: str, **more: Any) -> Any:  # noqa: ANN401  # as typer.Option
    """Return the option *name*, also taken from ``CPNS_ROLE_NAME`` where it is not given."""
    long = name.split("/")[0]
    return typer.Option(name, help=help, envvar=env(role, long), **more)


def env(role: str, name: str) -> str:
    """Return the environment variable of a flag."""
    return f"CPNS_{role}_{name.lstrip('-')}".upper().replace("-", "_")


def config(role: str) -> Any:  # noqa: ANN401  # as typer.Option
    """Return the option ``--config`` of a role."""
    help = "TOML file of settings: flags by name, with underscores. A flag or environment variable goes before it."
    return flag(role, "--config", help, is_eager=True, callback=settings.load, show_default=False)


def server_folder() -> Path:
    """Return the data folder of a server where none is named."""
    base = os.environ.get("XDG_DATA_HOME", "")
    try:
        return (Path(base) if base else Path.home() / ".local" / "share") / "cpns" / "server"
    except RuntimeError as error:
        raise typer.BadParameter("there is no home folder: give --data.", param_hint="--data") from error


Data = Annotated[
    Path,
    flag(
        "server",
        "--data",
        "The server's data folder.",
        is_eager=True,
        default_factory=server_folder,
        show_default="~/.local/share/cpns/server",
    ),
]
Print = Annotated[Output, typer.Option("--output", help="How to print: table or json.", envvar="CPNS_OUTPUT")]
PassphraseFile = Annotated[
    Path | None,
    flag(
        "server",
        "--passphrase-file",
        "File (mode 0600) with the passphrase of the server's vault; without it, a terminal is asked.",
        show_default=False,
    ),
]
GatewayControl = Annotated[
    Path | None,
    flag("gateway", "--control", "Unix socket (mode 0600) of a running gateway, for its commands.", show_default=False),
]
PneControl = Annotated[
    Path | None,
    flag("pne", "--control", "Unix socket (mode 0600) of a running device, for its commands.", show_default=False),
]
Devices = Annotated[list[str], typer.Argument(metavar="DEVICE...", help="The devices.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
All = Annotated[bool, typer.Option("--all", help="Revoked ones too.")]
NewNote = Annotated[
    str | None, typer.Option("--note", help="For you: what it is, where it stands.", show_default="as it is")
]
Note = Annotated[str, typer.Option("--note", help="For you: what it is, where it stands.")]
UnknownGateway = Annotated[
    bool, typer.Option("--allow-unknown-gateway", help="Take a gateway that is not provisioned yet.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="New file (mode 0600) for the credential, which is then not shown.", show_default=False),
]


def address(text: str, option: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``, ``[IPv6]:PORT`` or ``HOST``.

    Raises:
        BadParameter: it is none.
    """
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not colon:
        host, port = text, str(DEFAULT_PORT)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise typer.BadParameter(f"{text!r}: put an IPv6 address in brackets, as [::1]:5683.", param_hint=option)
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise typer.BadParameter(f"{text!r} is no HOST:PORT.", param_hint=option)
    return host, int(port)


def addresses(texts: Sequence[str] | None, option: str) -> tuple[tuple[str, int], ...]:
    """Return the addresses in *texts*, of which each may hold several with commas between. Raises as `address`."""
    return tuple(address(one.strip(), option) for text in texts or () for one in text.split(","))
