"""``cpns pne run``."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator

from cpns.cli.options import Output
from cpns.cli.output import plain
from cpns.cli.run import log_to_stderr, run, trace_to
from cpns.errors import Refused, Unavailable
from cpns.ids import EntityId, PnId
from cpns.pne import sources
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig
from cpns.service.system import SystemClock, random_bytes

ANSWER = "received"
"""What a text that was pushed is answered with."""


def run_pne(config: PneConfig, source: str, interval: float, output: Output) -> int:
    """Run the PNE of *config* until a signal, or until its source ends; return the exit code.

    Args:
        config: see `PneConfig`.
        source: ``host``, ``-`` for lines of JSON from stdin, or ``none``.
        interval: seconds between readings of this machine.
        output: how events are printed.
    """
    log_to_stderr()

    async def role(stop: asyncio.Event) -> int:
        return await _Run(config, output).until(stop, source, interval)

    return run(role)


class _Run:
    """One PNE, its source and its events."""

    def __init__(self, config: PneConfig, output: Output) -> None:
        self._id = config.pne_id
        self._json = output is Output.JSON
        self._pne = Pne(config, SystemClock(), random_bytes, self._received, trace_to(config.trace), self._established)
        self._refused = 0
        self._unheard = asyncio.Event()

    async def until(self, stop: asyncio.Event, source: str, interval: float) -> int:
        """Run until *stop* or the end of the source.

        Raises:
            BrokenPipeError: nobody reads our standard output any more.
        """
        try:
            await self._pne.start()
        except OSError as error:
            raise Unavailable("no_network", f"No socket to reach the gateway ({error.strerror or error}).") from error
        tasks: list[asyncio.Task[object]] = [
            asyncio.create_task(self._pne.run()),
            asyncio.create_task(stop.wait()),
            asyncio.create_task(self._unheard.wait()),
        ]
        if source != "none":
            found = sources.host(interval) if source == "host" else sources.lines(sys.stdin.fileno(), self._bad_line)
            tasks.append(asyncio.create_task(self._send(found)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._pne.close()
        if self._unheard.is_set():
            raise BrokenPipeError
        return 1 if self._refused else 0

    async def _send(self, bodies: AsyncIterator[sources.Body]) -> None:
        """Send one after the other; the next is taken when the server has acknowledged the one before."""
        async for body in bodies:
            reading = self._pne.next_reading(body)
            try:
                await self._pne.send(reading)
            except Refused as error:
                self._refused += 1
                print(f"error[{error.reason}]: The server does not take {json.dumps(body)}.", file=sys.stderr)
                continue
            text = json.dumps(body, ensure_ascii=False)
            self._tell(f"acknowledged {text}", "acknowledged", id=reading.reading_id.hex(), body=body)

    def _established(self, gateway: EntityId, pn: PnId) -> None:
        self._tell(f"{self._id} established through {gateway} in {pn}", "established", gateway=gateway, pn=pn)

    def _received(self, text: str) -> str:
        self._tell(f"received {text}", "received", text=text)
        return ANSWER

    def _bad_line(self, number: int, why: str) -> None:
        print(f"error[bad_line]: Line {number} is no reading: {why}.", file=sys.stderr, flush=True)

    def _tell(self, line: str, event: str, **fields: object) -> None:
        shown = json.dumps({"event": event, "device": self._id, **fields}) if self._json else plain(line)
        try:
            print(shown, flush=True)
        except BrokenPipeError:  # raised here, it would end in the PNE's own care for lost sockets
            self._unheard.set()
