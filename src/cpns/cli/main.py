"""The entry point: all nouns in one application, and how errors end."""

import contextlib
import sys
from typing import Annotated, NoReturn

import typer

from cpns.cli import (
    audit,
    bench,
    cm,
    cursor,
    demo,
    device,
    explain,
    export,
    gateway,
    group,
    network,
    node,
    pne,
    pne_group,
    server,
    streams,
)
from cpns.cli.output import plain
from cpns.cli.words import text_alone
from cpns.domain.reasons import sentence
from cpns.errors import CpnsError, Refused, UserError
from cpns.service.system import hide_memory

app = typer.Typer(
    name="cpns",
    help="Converged Personal Network Service: devices prove themselves to a server through gateways it need not trust.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "CPNS"},
)
for noun in (server, gateway, device, pne, node, network, group, cm, export, audit, cursor):
    app.add_typer(noun.app)
pne.app.add_typer(pne_group.app)
app.command()(explain.explain)
app.command()(demo.demo)
app.command()(bench.bench)
text_alone(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"cpns {version('cpns')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Take what stands before the noun."""


def main() -> None:
    """Run the command of ``sys.argv``.

    Exit codes: 0, 1 for an error (``error[code]: sentence`` on stderr), 2 for wrong usage, 130 for Ctrl-C. Where nobody
    reads standard output any more that is 1 too, without a word, as people end a pipe so.
    """
    try:
        hide_memory()
        streams.prepare()
        try:
            app()
        except SystemExit:
            sys.stdout.flush()
            raise
    except CpnsError as error:
        _fail(*_told(error))
    except BrokenPipeError:
        streams.finish()
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from cpns.cli.run import place_of

        _fail("internal", f"cpns failed ({place_of(error)}): please report it with the command that you gave.")


def _told(error: CpnsError) -> tuple[str, str]:
    if isinstance(error, UserError):
        return error.code, error.sentence
    if isinstance(error, Refused):
        return error.reason, sentence(error)
    return "failed", str(error)


def _fail(code: str, sentence: str) -> NoReturn:
    streams.finish()
    with contextlib.suppress(OSError):
        print(f"error[{code}]: {plain(sentence)}", file=sys.stderr, flush=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
