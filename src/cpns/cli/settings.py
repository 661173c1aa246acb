"""Settings from a TOML file: below flags and environment, above the defaults."""

import tomllib
from pathlib import Path
from typing import Any, Final

import typer

from cpns.errors import BadInput, NotFound
from cpns.store.files import read_bounded

MAX_BYTES: Final = 1 << 20

OF_THE_FOLDER: Final = ("store",)
"""Keys of ``server.toml`` in a server's data folder that are no flags: all commands that work on it heed them."""


def load(context: typer.Context, value: Path | None) -> Path | None:
    """Take up the file of ``--config``; the eager callback of that option.

    Without the option, ``server.toml`` in a server's data folder is taken where it exists.

    Raises:
        NotFound: ``config_missing``.
        BadInput: ``bad_config``; ``unknown_setting`` for a key that is no flag.
    """
    path = value or _in_data(context)
    if path is None:
        return None
    found = _read(path)
    names = _names(context)
    for key in found:
        if key not in names and not (value is None and key in OF_THE_FOLDER):
            raise BadInput("unknown_setting", f"{path}: unknown setting {key!r}; known are {', '.join(sorted(names))}.")
    context.default_map = {names[key]: setting for key, setting in found.items() if key in names}
    source = context.get_parameter_source("data")
    if "data" in found and source is not None and source.name == "DEFAULT":  # read before this file was
        context.params["data"] = Path(str(found["data"]))
    return path


def _in_data(context: typer.Context) -> Path | None:
    if context.command.name != "run" or context.parent is None or context.parent.command.name != "server":
        return None
    data = context.params.get("data")
    path = None if data is None else Path(data) / "server.toml"
    return path if path is not None and path.exists() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_bounded(path, MAX_BYTES).decode())
    except FileNotFoundError as error:
        raise NotFound("config_missing", f"There is no settings file {path}.") from error
    except OSError as error:
        raise BadInput("bad_config", f"{path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise BadInput("bad_config", f"{path} is no TOML: {error}.") from error


def _names(context: typer.Context) -> dict[str, str]:
    """Return the parameter's name for each key that a file may have."""
    names = {}
    for parameter in context.command.params:
        longest = max(parameter.opts, key=len, default="")
        if longest.startswith("--") and parameter.name is not None and longest not in ("--config", "--help"):
            names[longest[2:].replace("-", "_")] = parameter.name
    return names
