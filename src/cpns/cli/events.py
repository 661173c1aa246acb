"""What a device that runs prints of what happens to it."""

import asyncio
import json

from cpns.cli.options import Output
from cpns.cli.output import plain
from cpns.errors import NoAnswer, UserError
from cpns.ids import EntityId

ANSWER = "received"
"""What a text that was pushed is answered with."""


class Events:
    """The events of one device, a line each.

    They are told out of the device's own work, which must not end with them: where nothing can be printed any more,
    `lost` says so.
    """

    def __init__(self, device: EntityId, output: Output) -> None:
        self._device = device
        self._json = output is Output.JSON
        self._error: BrokenPipeError | UserError | None = None
        self._lost = asyncio.Event()

    def tell(self, line: str, event: str, **fields: object) -> None:
        """Print *line*, or the event as JSON."""
        shown = json.dumps({"event": event, "device": self._device, **fields}) if self._json else plain(line)
        try:
            print(shown, flush=True)
        except (BrokenPipeError, UserError) as error:
            self._error = error
            self._lost.set()

    def received(self, text: str) -> str:
        """Print a text that was pushed; return the answer.

        Raises:
            NoAnswer: it could not be printed, so that it is not acknowledged.
        """
        self.tell(f"received {text}", "received", text=text)
        if self._error is not None:
            raise NoAnswer("not_printed")
        return ANSWER

    async def lost(self) -> None:
        """Wait until something could not be printed.

        Raises:
            BrokenPipeError: nobody reads our standard output any more.
            Unavailable: ``output_failed``.
        """
        await self._lost.wait()
        if self._error is not None:
            raise self._error
