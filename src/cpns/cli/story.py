"""The story that ``cpns demo`` tells: every party a process of its own. Only the people are simulated."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cpns.cli import ladder
from cpns.errors import CpnsError

SERVER, HOME, MALLORY = "cloud", "home", "mallory"
WATCH, SCALE, RING = "watch", "scale", "ring"
VICTIMS = ("lamp", "lock")
COLUMNS = ("devices", HOME, SERVER)
PATIENCE = 25.0
"""Seconds that any one step of the story may take."""


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


class Stage:
    """The folder of the demo, and its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parties: list[Party] = []

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
        party = await self.start(" ".join(arguments[:2]), *arguments)
        code = await asyncio.wait_for(party.process.wait(), PATIENCE)
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


class Story:
    """The chapters, in order."""

    def __init__(self, stage: Stage, console: Console) -> None:
        self.stage = stage
        self.console = console
        self.traces = ladder.Traces([stage.folder / f"{name}.trace" for name in (SERVER, HOME, WATCH, SCALE, RING)])
        self.server_address = ""
        self.pans: list[str] = []

    def chapter(self, title: str, *lines: str) -> None:
        """Print a heading and what it is about."""
        self.console.print(f"\n[bold]{title}[/bold]")
        for line in lines:
            self.console.print(f"  {line}", style="dim")

    async def provision(self) -> None:
        """Make the server, and the credentials of everybody."""
        self.chapter(
            "1. Provisioning",
            "A server, two gateways, five devices. Each gets one random key, shared with the server alone.",
        )
        data = self.stage.data("server")
        await self.stage.call("server", "init", "--data", data, "--id", SERVER)
        server = await self.stage.start(
            *(SERVER, "server", "run", "--data", data, "--listen", "127.0.0.1:0"),
            *("--trace", self.stage.data(f"{SERVER}.trace")),
        )
        self.server_address = (await server.line()).rsplit(" ", 1)[-1]
        adding = [("gateway", name) for name in (HOME, MALLORY)]
        adding += [("device", name) for name in (WATCH, SCALE, RING, *VICTIMS)]
        await asyncio.gather(
            *(
                self.stage.call(kind, "add", name, "--data", data, "--out", self.stage.data(f"{name}.key"))
                for kind, name in adding
            )
        )
        self.console.print(f"  server {SERVER} listens at {self.server_address}; {len(adding)} credentials written")

    async def establish(self) -> None:
        """Start the gateway and three devices, and show every message until all sessions stand."""
        self.chapter(
            "2. Three devices prove themselves to the server, through a gateway",
            f"{WATCH} and {SCALE} are on an open PAN: they get a LocalEUKey each, and go up in one SETUP Request.",
            f"{RING} is on a Secure PAN, and needs none.",
        )
        gateway = await self.stage.start(
            *(HOME, "gateway", "run", "--key", self.stage.data(f"{HOME}.key"), "--server", self.server_address),
            *("--pan", "127.0.0.1:0", "--secure-pan", "127.0.0.1:0", "--data", self.stage.data(HOME), "--no-announce"),
            *("--trace", self.stage.data(f"{HOME}.trace"), "--batch-window", "1.5"),
        )
        self.pans = [word.strip(",") for word in (await gateway.line()).split() if ":" in word]
        devices = [
            await self.device(WATCH, self.pans[0]),
            await self.device(SCALE, self.pans[0]),
            await self.device(RING, self.pans[1], "--secure-pan"),
        ]
        self.console.print("  ", ladder.header(COLUMNS), sep="", soft_wrap=True)
        waiting = [asyncio.create_task(self._established(device)) for device in devices]
        while not all(task.done() for task in waiting):
            await asyncio.sleep(0.2)
            self.rungs()
        await asyncio.gather(*waiting)
        await asyncio.sleep(0.5)
        self.rungs(until="/readings")

    async def device(self, name: str, pan: str, *more: str) -> Party:
        """Start a device that sends live readings of this machine."""
        return await self.stage.start(
            *(name, "pne", "run", "--key", self.stage.data(f"{name}.key"), "--gateway", pan),
            *("--source", "host", "--interval", "1", "--trace", self.stage.data(f"{name}.trace"), *more),
        )

    @staticmethod
    async def _established(device: Party) -> None:
        while "established" not in await device.line():
            pass

    def rungs(self, until: str | None = None) -> None:
        """Print what was traced since the last call, readings left out."""
        for one in self.traces.new():
            line = ladder.rung(one, COLUMNS, frozenset({RING}))
            if line is not None and one.what != (until or "/readings"):
                self.console.print("  ", line, sep="", soft_wrap=True)

    async def readings(self, count: int) -> None:
        """Show live readings as the server commits them."""
        self.chapter(
            "3. Live readings of this machine, end to end",
            "The server stores each with the device that its session proved. The gateway carried it, unread.",
        )
        async with self.tail("--count", str(count)) as tail:
            for _ in range(count):
                self.reading(json.loads(await tail.line()))

    def reading(self, one: dict[str, object]) -> None:
        """Print one reading as a line."""
        body = json.dumps(one["body"]) if not isinstance(one["body"], str) else one["body"]
        self.console.print(
            f"  [green]{one['device']:<6}[/green] through {one['gateway']:<6} verified [bold]{one['verified']}[/bold]  "
            f"[dim]{body}[/dim]",
            soft_wrap=False,
            no_wrap=True,
            overflow="ellipsis",
        )

    @contextlib.asynccontextmanager
    async def tail(self, *more: str) -> AsyncIterator[Party]:
        """Give a `cpns server tail` that runs meanwhile."""
        data = self.stage.data("server")
        party = await self.stage.start("tail", "server", "tail", "--data", data, "--output", "json", *more)
        try:
            yield party
        finally:
            await party.stop()

    async def push(self) -> None:
        """Reach a device from the server."""
        self.chapter("4. The other way: the server reaches a device through the gateway")
        data = self.stage.data("server")
        for name, text in ((WATCH, "stand up and stretch"), (RING, "good morning")):
            answer = await self.stage.call("device", "send", name, text, "--data", data, "--output", "json")
            self.console.print(f"  server ▶ {name}: {text!r}   {name} ▶ server: {json.loads(answer)['answer']!r}")
        self.rungs()

    async def attacks(self) -> None:
        """Let a registered, lying gateway try."""
        self.chapter(
            f"5. {MALLORY}: a gateway with a valid key of its own, and bad intentions",
            f"Its PNEs are {' and '.join(VICTIMS)}, two ordinary devices that have no other gateway.",
        )
        mallory = await self.stage.start(
            *(MALLORY, "--key", self.stage.data(f"{MALLORY}.key"), "--server", self.server_address),
            *("--poses-as", HOME, "--never-spoke", WATCH, "--victims", str(len(VICTIMS))),
            module="cpns.cli.attacks",
        )
        pan = json.loads(await mallory.line())["pan"]
        for name in VICTIMS:
            await self.device(name, pan, "--timer", "2")
        table = Table("what it tried", "refused by", "why", box=None, padding=(0, 2, 0, 2))
        failed = []
        while True:
            one = json.loads(await mallory.line())
            if "done" in one:
                break
            self.console.print(f"  tried: {one['tried']}", style="dim")
            expected = one["refused_by"] == "nobody"
            if one["refused"] == expected:
                failed.append(one["tried"])
            table.add_row(one["tried"], f"[bold]{one['refused_by']}[/bold]", one["how"])
        self.console.print(table)
        if failed:
            raise DemoFailed(f"an attack was not refused: {'; '.join(failed)}")

    async def end(self) -> None:
        """Show that the honest devices have their sessions, and what the server wrote down."""
        self.chapter(
            "6. After all that",
            f"Every device has its session. What failed is written down, with the gateway that brought it: {MALLORY}.",
        )
        data = self.stage.data("server")
        networks = json.loads(await self.stage.call("network", "list", "--data", data, "--output", "json"))["items"]
        through = {pne: one["gateway"] for one in networks for pne in [member["id"] for member in one["members"]]}
        table = Table("device", "state", "member through", "newest attempt", box=None, padding=(0, 2, 0, 2))
        for name in (WATCH, SCALE, RING, *VICTIMS):
            one = json.loads(await self.stage.call("device", "show", name, "--data", data, "--output", "json"))
            newest = f"{one['last_result']} through {one['last_via']} {one['last_reason'] or ''}"
            table.add_row(name, "connected" if one["connected"] else "away", through.get(name, "-"), newest)
        self.console.print(table)


async def tell(console: Console, once: bool) -> None:
    """Tell the story in a folder of its own, which goes with it.

    Raises:
        DemoFailed: a step did not come about.
    """
    with tempfile.TemporaryDirectory(prefix="cpns-demo-") as folder:
        stage = Stage(Path(folder))
        story = Story(stage, console)
        try:
            await story.provision()
            await story.establish()
            await story.readings(9)
            await story.push()
            await story.attacks()
            await story.end()
            if not once:
                story.chapter("7. The readings go on. Ctrl-C ends it all.")
                async with story.tail() as tail:
                    while True:
                        story.reading(json.loads(await tail.line()))
        finally:
            await stage.close()


def run(once: bool) -> int:
    """Tell the story on this terminal; return the exit status."""
    console = Console(highlight=False)
    try:
        asyncio.run(tell(console, once))
    except DemoFailed as error:
        console.print(f"\n[bold red]The demo failed:[/bold red] {error}")
        return 1
    except KeyboardInterrupt:
        console.print("\n[dim]ended[/dim]")
    return 0
