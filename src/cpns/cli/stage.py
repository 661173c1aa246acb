"""What the demo plays on: every party a process of its own, in one folder."""

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

from cpns.errors import CpnsError

PATIENCE = 25.0
"""Seconds that any one step of the story may take."""
POLL = 0.05
CALLS_AT_ONCE = 4
"""Commands that run at once: of many, all would take as long as all of them together."""


class DemoFailed(CpnsError):
    """A step of the story did not come about."""


class Party:
    """One process of the demo, its output kept line by line."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self.lines: asyncio.Queue[str] = asyncio.Queue()
        self.said: list[str] = []
        self._readers = [asyncio.create_task(self._read(stream)) for stream in (process.stdout, process.stderr)]

    async def _read(self, stream: asyncio.StreamReader | None) -> None:
        while stream is not None and (line := await stream.readline()):
            self.said.append(line.decode(errors="replace").rstrip())
            if stream is self.process.stdout:
                self.lines.put_nowait(self.said[-1])

    async def line(self) -> str:
        """Return the next line of its standard output; raises `DemoFailed` when none comes."""
        try:
            return await asyncio.wait_for(self.lines.get(), PATIENCE)
        except TimeoutError:
            raise DemoFailed(f"{self.name} said nothing for {PATIENCE:.0f} s; last: {self.said[-3:]}") from None

    async def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 5)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        await asyncio.gather(*self._readers)

    async def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        await self.process.wait()
        await asyncio.gather(*self._readers)

    async def until(self, *words: str, since: int = 0) -> str:
        """Return the first line of its output, *since* that many, that has all of *words*, also one that was read."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for line in self.said[since:]:
                if all(word in line for word in words):
                    return line
            await asyncio.sleep(POLL)
        raise DemoFailed(f"{self.name} did not say {' '.join(words)}; last: {self.said[-3:]}")


class Broadband:
    """A device's own way to the server, such as Wi-Fi: a TCP forwarder that comes and goes."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._port = 0
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def up(self) -> str:
        """Be there; return its address, the same each time."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]
        return f"127.0.0.1:{self._port}"

    async def down(self) -> None:
        """Be gone, with all connections."""
        if self._listener is not None:
            self._listener.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self._server)
        except OSError:
            writer.transport.abort()
            return
        for source, target in ((reader, back), (there, writer)):
            self._open.add(target)
            pump = asyncio.create_task(self._pump(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        self._open.discard(target)
        target.close()


class Stage:
    """The folder of the demo, and its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parties: list[Party] = []
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)

    async def start(self, name: str, *arguments: str, module: str = "cpns") -> Party:
        """Start a party as a process of its own."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        party = Party(name, process)
        self.parties.append(party)
        return party

    async def call(self, *arguments: str) -> str:
        """Run a command to its end and return what it printed; raises `DemoFailed` when it fails."""
        async with self._calls:
            party = await self.start(" ".join(arguments[:2]), *arguments)
            try:
                code = await asyncio.wait_for(party.process.wait(), PATIENCE)
            except TimeoutError:
                raise DemoFailed(f"cpns {' '.join(arguments)} did not end in {PATIENCE:.0f} s") from None
            await party.stop()
        if code != 0:
            raise DemoFailed(f"cpns {' '.join(arguments)} ended with {code}: {' '.join(party.said)}")
        return "\n".join(party.said)

    def data(self, name: str) -> str:
        """Return a path in the folder."""
        return str(self.folder / name)

    async def close(self) -> None:
        """End all parties."""
        await asyncio.gather(*(party.stop() for party in self.parties))
