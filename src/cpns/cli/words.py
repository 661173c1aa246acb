"""The words of a command: text, but for the names of files, which are bytes; and numbers that end."""

import math
from typing import Any

import typer
from typer.core import TyperCommand

from cpns.errors import BadInput


class Command(TyperCommand):
    """A command that takes no word with bytes that are no UTF-8, and no infinite number, be it from the environment."""

    def invoke(self, ctx: Any) -> object:  # noqa: ANN401  # a Context of click, which typer has of its own
        """See `click.Command`.

        Raises:
            BadInput: ``bad_id``, or ``bad_text`` where the word names nothing; ``bad_number``.
        """
        for parameter in self.params:
            given = ctx.params.get(parameter.name or "")
            for word in given if isinstance(given, list | tuple) else [given]:
                if isinstance(word, str) and not _is_text(word):
                    names = parameter.param_type_name == "argument" and parameter.name != "text"
                    told = f"{parameter.opts[0]}: {word[:80]!r} is no UTF-8 text."
                    raise BadInput("bad_id" if names else "bad_text", told)
                if isinstance(word, float) and not math.isfinite(word):
                    raise BadInput("bad_number", f"{parameter.opts[0]}: {word} is no number to count with.")
        return super().invoke(ctx)


def _is_text(word: str) -> bool:
    return not any(0xD800 <= ord(char) < 0xE000 for char in word)


def text_alone(app: typer.Typer) -> None:
    """Let every command of *app* be a `Command`."""
    for command in app.registered_commands:
        command.cls = Command
    for group in app.registered_groups:
        if group.typer_instance is not None:
            text_alone(group.typer_instance)
