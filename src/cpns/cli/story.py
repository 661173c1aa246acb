"""The story that ``cpns demo`` tells: every party a process of its own. Only the people are simulated."""

import asyncio
import json
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cpns.cli import ladder
from cpns.cli.narration import Narration
from cpns.cli.stage import DemoFailed, Party, Stage
from cpns.cli.story_cm import EARBUD, TABLET, ChangingMode
from cpns.cli.story_groups import GUEST, MEMBERS, ServiceGroup

SERVER, HOME, SHED, MALLORY = "cloud", "home", "shed", "mallory"
WATCH, SCALE, BAND, RING, SHY = "watch", "scale", "band", "ring", "shy"
DEVICES = (WATCH, SCALE, BAND, RING)
VICTIMS = ("lamp", "lock")
COLUMNS = ("devices", HOME, SERVER)
NOT_SHOWN = ("/readings", "/presence", "Entity Discovery Request")
QUICK = ("--timer", "3", "--request-timeout", "1.5", "--presence", "1")
"""A demo does not wait as long as a device in a cellar would."""


class Story(Narration):
    """The chapters, in order."""

    def __init__(self, stage: Stage, console: Console) -> None:
        super().__init__(stage, console)
        names = (SERVER, HOME, *DEVICES, SHY)
        self.traces = ladder.Traces([stage.folder / f"{name}.trace" for name in names])
        self.gateways: dict[str, Party] = {}
        self.devices: dict[str, Party] = {}

    async def provision(self) -> None:
        """Make the server, and the credentials of everybody."""
        self.chapter(
            "Provisioning",
            "A server, gateways, devices. Each gets one random key, shared with the server alone.",
        )
        data = self.stage.data("server")
        await self.stage.call("server", "init", "--data", data, "--id", SERVER)
        server = await self.stage.start(
            *(SERVER, "server", "run", "--data", data, "--listen", "127.0.0.1:0"),
            *("--trace", self.stage.data(f"{SERVER}.trace")),
        )
        self.server_address = (await server.line()).rsplit(" ", 1)[-1]
        adding = [("gateway", name) for name in (HOME, SHED, MALLORY)]
        adding += [("device", name) for name in (*DEVICES, SHY, *VICTIMS, TABLET, EARBUD, GUEST, *MEMBERS)]
        await asyncio.gather(
            *(
                self.stage.call(kind, "add", name, "--data", data, "--out", self.stage.data(f"{name}.key"))
                for kind, name in adding
            )
        )
        self.say(f"server {SERVER} listens at {self.server_address}; {len(adding)} credentials written")
        await asyncio.gather(self.gateway(HOME), self.gateway(SHED))

    async def gateway(self, name: str) -> None:
        """Start a gateway with an open and a Secure PAN; a second time at the same addresses."""
        pans = self.pans.get(name, ["127.0.0.1:0", "127.0.0.1:0"])
        self.gateways[name] = await self.stage.start(
            *(name, "gateway", "run", "--key", self.stage.data(f"{name}.key"), "--server", self.server_address),
            *("--pan", pans[0], "--secure-pan", pans[1], "--data", self.stage.data(name), "--no-announce"),
            *("--alias", name, "--trace", self.stage.data(f"{name}.trace")),
        )
        line = await self.gateways[name].line()
        self.pans[name] = [word.strip(",") for word in line.split() if ":" in word]

    async def establish(self) -> None:
        """Let a device set up a network with two others, and show every message until all sessions stand."""
        self.chapter(
            "Three devices become a network, in one go",
            f"{WATCH} asks for a network with all in reach. {HOME} invites {SCALE} and {BAND}, which accept,",
            f"and {SHY}, which does not. One SETUP Request takes those that come to the server.",
        )
        for name in (SCALE, BAND):
            await self.device(name, 0, "--wait", "--accept")
        await self.device(SHY, 0, "--wait", "--refuse", source=False)
        await self.in_reach(SCALE, BAND, SHY)
        await self.device(WATCH, 0, "--invite-all")
        self.console.print("  ", ladder.header(COLUMNS), sep="", soft_wrap=True)
        waiting = [asyncio.create_task(self.devices[n].until('"established"')) for n in (WATCH, SCALE, BAND)]
        while not all(task.done() for task in waiting):
            await asyncio.sleep(0.2)
            self.rungs()
        await asyncio.gather(*waiting)
        declined = json.loads(await self.devices[WATCH].until('"changed"', '"declined"'))
        self.rungs()
        self.say(f"{WATCH} is told: {', '.join(declined['devices'])} was asked, and does not come")

    async def in_reach(self, *names: str) -> None:
        """Wait until devices have said that they are there (Entity Discovery)."""
        said: set[str] = set()
        while said < set(names):
            await asyncio.sleep(0.1)
            found = self.traces.new()
            said.update(one.sender for one in found if one.what == "Entity Discovery Request")

    async def join(self) -> None:
        """Let a fourth come in."""
        self.chapter(
            "A fourth joins",
            f"{RING} is on a PAN that is secure by itself (DEF-9): it needs no hop key. The others hear of it.",
        )
        [network] = [one for one in (await self.ask("network", "list"))["items"] if one["gateway"] == HOME]
        self.console.print("  ", ladder.header(COLUMNS), sep="", soft_wrap=True)
        await self.device(RING, 1, "--secure-pan", "--join", network["id"])
        await self.devices[RING].until('"established"')
        heard = json.loads(await self.devices[WATCH].until('"changed"', '"joined"', RING))
        await asyncio.sleep(0.3)
        self.rungs()
        self.say(
            f"{WATCH} is told: {', '.join(heard['devices'])} joined; the inventory is at version {heard['version']}"
        )

    async def device(self, name: str, pan: int, *more: str, source: bool = True) -> None:
        """Start a device that sends live readings of this machine, through HOME or else SHED."""
        sends = ("--source", "host", "--interval", "1") if source else ()
        self.devices[name] = await self.stage.start(
            *(name, "pne", "run", "--key", self.stage.data(f"{name}.key"), "--output", "json", *QUICK, *sends),
            *("--gateway", self.pans[HOME][pan], "--gateway", self.pans[SHED][pan]),
            *("--trace", self.stage.data(f"{name}.trace"), *more),
        )

    def rungs(self) -> None:
        """Print what was traced since the last call, what comes all the time left out."""
        for one in self.traces.new():
            line = ladder.rung(one, COLUMNS, frozenset({RING}))
            if line is not None and one.what not in NOT_SHOWN:
                self.console.print("  ", line, sep="", soft_wrap=True)

    async def readings(self, count: int) -> None:
        """Show live readings as the server commits them."""
        self.chapter(
            "Live readings of this machine, end to end",
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

    async def push(self) -> None:
        """Reach a device from the server."""
        self.chapter("The other way: the server reaches a device through the gateway")
        for name, text in ((WATCH, "stand up and stretch"), (RING, "good morning")):
            answer = await self.ask("device", "send", name, text)
            self.say(f"server ▶ {name}: {text!r}   {name} ▶ server: {answer['answer']!r}")
        self.rungs()

    async def attacks(self) -> None:
        """Let a registered, lying gateway try."""
        self.chapter(
            f"{MALLORY}: a gateway with a valid key of its own, and bad intentions",
            f"Its PNEs are {' and '.join(VICTIMS)}, two ordinary devices that have no other gateway.",
        )
        mallory = await self.stage.start(
            *(MALLORY, "--key", self.stage.data(f"{MALLORY}.key"), "--server", self.server_address),
            *("--poses-as", HOME, "--never-spoke", WATCH, "--victims", str(len(VICTIMS))),
            module="cpns.cli.attacks",
        )
        pan = json.loads(await mallory.line())["pan"]
        for name in VICTIMS:
            await self.stage.start(
                *(name, "pne", "run", "--key", self.stage.data(f"{name}.key"), "--gateway", pan, "--timer", "2"),
                *("--source", "host", "--interval", "1"),
            )
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

    async def death(self) -> None:
        """Kill a gateway, and see where its devices turn up."""
        self.chapter(
            f"{HOME} dies; its devices turn up at {SHED}",
            "No new provisioning: each proves itself to the server again, and gets a new hop key there.",
        )
        await self.gateways[HOME].kill()
        self.say(f"[bold red]kill -9 {HOME}[/bold red]")
        await self.turn_up(SHED)

    async def turn_up(self, gateway: str) -> None:
        """Wait until all devices are established through *gateway*, and say when each was."""
        begun = time.monotonic()
        before = {name: len(self.devices[name].said) for name in DEVICES}

        async def one(name: str) -> None:
            await self.devices[name].until('"established"', f'"{gateway}"', since=before[name])
            self.say(f"[green]{name:<6}[/green] through {gateway}, {time.monotonic() - begun:4.1f} s later")

        await asyncio.gather(*(one(name) for name in DEVICES))

    async def lost(self) -> None:
        """Revoke a gateway that was stolen; the devices go home."""
        self.chapter(
            f"{SHED} is stolen: one command",
            "It shows what that gateway could ever read, and ends exactly its hop keys and sessions.",
        )
        await self.gateway(HOME)
        self.say(f"{HOME} was mended, and runs again")
        printed = await self.stage.call("gateway", "revoke", SHED, "--data", self.stage.data("server"), "--yes")
        self.console.print(f"  $ cpns gateway revoke {SHED}", style="bold")
        for line in printed.split("\n"):
            self.console.print(f"  {line}", style="dim", soft_wrap=True, highlight=False)
        await self.turn_up(HOME)

    async def end(self) -> None:
        """Show that the honest devices have their sessions, and what the server wrote down."""
        self.chapter(
            "After all that",
            f"Every device has its session. What failed is written down, with the gateway that brought it: {MALLORY}.",
        )
        networks = (await self.ask("network", "list"))["items"]
        inside = {member["id"]: (one, member) for one in networks for member in one["members"]}
        table = Table("device", "network of", "as", "state", "by", "newest attempt", box=None, padding=(0, 2, 0, 2))
        for name in (*DEVICES, *VICTIMS):
            one = await self.ask("device", "show", name)
            network, member = inside[name]
            newest = f"{one['last_result']} through {one['last_via']} {one['last_reason'] or ''}"
            guest = "guest" if member["guest"] else "member"
            table.add_row(name, network["gateway"], guest, member["state"], member["source"], newest)
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
            await story.join()
            await story.readings(9)
            await story.push()
            await ServiceGroup(story, HOME, SHED, SERVER).tell()
            await ChangingMode(story, HOME, SERVER).tell()
            await story.attacks()
            await story.death()
            await story.lost()
            await story.end()
            if not once:
                story.chapter("The readings go on. Ctrl-C ends it all.")
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
