"""What a device that runs prints of what happens to it."""

import asyncio
import json
import sys

from cpns.cli.options import Output
from cpns.cli.output import plain
from cpns.cli.streams import Lines, not_read
from cpns.errors import NoAnswer, Result, Unavailable, UserError
from cpns.ids import EntityId, PnId
from cpns.protocol.pne_auth.pne import NotLetIn

ANSWER = "received"
"""What a text that was pushed is answered with."""


class Events:
    """The events of one device, a line each.

    They are told out of the device's own work, which must neither wait for who reads them nor end with them: where
    nothing can be printed any more, `lost` says so.
    """

    def __init__(self, device: EntityId, output: Output) -> None:
        self._device = device
        self._json = output is Output.JSON
        self._error: BrokenPipeError | UserError | None = None
        self._lines = Lines(sys.stdout, self._not_read, self._failed)
        self._lost = asyncio.Event()
        self._refusal: tuple[PnId, Result] | None = None

    def tell(self, line: str, event: str, **fields: object) -> None:
        """Print *line*, or the event as JSON; where nobody reads it is lost, and counted."""
        try:
            self._lines.say(self._shown(line, event, **fields))
        except (BrokenPipeError, UserError) as error:
            self._failed(error)

    def keep(self, line: str, event: str, **fields: object) -> None:
        """Print what is not to be lost as `tell`, or as soon as somebody reads.

        Raises:
            NoAnswer: it can't be printed, so that it is not to be acknowledged.
        """
        try:
            kept = self._lines.keep(self._shown(line, event, **fields))
        except (BrokenPipeError, UserError) as error:
            self._failed(error)
            kept = False
        if not kept:
            raise NoAnswer("not_printed")

    def received(self, text: str) -> str:
        """Print a text that was pushed; return the answer. Raises as `keep`."""
        self.keep(f"received {text}", "received", text=text)
        return ANSWER

    def _shown(self, line: str, event: str, **fields: object) -> str:
        return json.dumps({"event": event, "device": self._device, **fields}) if self._json else plain(line)

    def _not_read(self, lines: int) -> str:
        return self._shown(not_read(lines), "lost", lines=lines)

    def _failed(self, error: BrokenPipeError | UserError) -> None:
        self._error = error
        self._lost.set()

    async def end(self) -> None:
        """Give who reads a moment to take what waits.

        Raises:
            BrokenPipeError: nobody reads our standard output any more.
            Unavailable: ``output_failed``; ``output_not_read``: what waits is lost.
        """
        left = await self._lines.end()
        self.check()
        if left:
            told = f"{left} lines are lost: nobody read standard output. Texts among them were acknowledged."
            raise Unavailable("output_not_read", told)

    async def lost(self) -> None:
        """Wait until something could not be printed.

        Raises:
            BrokenPipeError: nobody reads our standard output any more.
            Unavailable: ``output_failed``.
        """
        await self._lost.wait()
        self.check()

    def check(self) -> None:
        """Raise as `lost`, where something could not be printed."""
        if self._error is not None:
            raise self._error

    def established(self, gateway: EntityId, pn: PnId) -> None:
        """Print that the device's sessions stand."""
        self._refusal = None
        line = f"{self._device} established through {gateway} in {pn}"
        self.tell(line, "established", gateway=gateway, pn=pn)

    def not_let_in(self, refusal: NotLetIn) -> None:
        """Print what a device waits for, which has proven itself and is not let in; once, until that changes."""
        if self._refusal == (refusal.pn_id, refusal.result):
            return
        self._refusal = refusal.pn_id, refusal.result
        if refusal.result is Result.PENDING_APPROVAL:
            line = f"{self._device} waits until the owner of {refusal.pn_id}, or the operator, approves it"
        else:
            line = f"{self._device} is not let in: {refusal.pn_id} is closed; its owner, or the operator, may invite it"
        self.tell(line, "not_let_in", reason=refusal.reason, gateway=refusal.gateway_id, pn=refusal.pn_id)
