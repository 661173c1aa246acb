"""What all chapters of the demo use: the stage, what was told so far, and the server's folder to ask."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from rich.console import Console

from cpns.cli.stage import Party, Stage


class Narration:
    """Chapters that are told one after the other.

    Attributes:
        server_address: ``host:port`` of the server, once it runs.
        pans: ``host:port`` of the open and the Secure PAN of each gateway that was started, by its name.
    """

    def __init__(self, stage: Stage, console: Console) -> None:
        self.stage = stage
        self.console = console
        self.number = 0
        self.server_address = ""
        self.pans: dict[str, list[str]] = {}

    def chapter(self, title: str, *lines: str) -> None:
        """Print a heading and what it is about."""
        self.number += 1
        self.console.print(f"\n[bold]{self.number}. {title}[/bold]")
        for line in lines:
            self.console.print(f"  {line}", style="dim")

    def say(self, text: str) -> None:
        """Print a line of the story."""
        self.console.print(f"  {text}", soft_wrap=True)

    async def ask(self, *arguments: str) -> Any:  # noqa: ANN401  # JSON
        """Run a command on the server's folder and return its JSON."""
        data = self.stage.data("server")
        return json.loads(await self.stage.call(*arguments, "--data", data, "--output", "json"))

    @contextlib.asynccontextmanager
    async def tail(self, *more: str) -> AsyncIterator[Party]:
        """Give a `cpns server tail` that runs meanwhile."""
        data = self.stage.data("server")
        party = await self.stage.start("tail", "server", "tail", "--data", data, "--output", "json", *more)
        try:
            yield party
        finally:
            await party.stop()
