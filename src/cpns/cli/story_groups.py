"""The chapter of the demo about a service group across two networks, and a member that is put out (DEF-5, FN-7)."""

import asyncio
import json

from rich.table import Table

from cpns.cli import ladder
from cpns.cli.narration import Narration
from cpns.cli.stage import DemoFailed, Party

TV, RADIO, HUB, GUEST, CAR = "tv", "radio", "hub", "guest", "car"
MEMBERS = (TV, RADIO, HUB, CAR)
SHOWN = {
    "SG-CREATE Request": "makes the group",
    "SG-JOIN Request": "joins",
    "SG-EXPEL Request": "puts a member out",
    "GROUP-KEY Request": "a new epoch, a new key",
    "GKDK Request": "its path in the key tree",
    "GroupKeyNotify": "one message for all that stay",
    "GROUP-MESSAGE Request": "sealed for the members, signed",
}
FIRST, SECOND = "dinner is ready", "the door code is 4711"


class ServiceGroup:
    """The chapter.

    Args:
        story: what was told before it.
        home: ID of the gateway that most of the members are behind.
        shed: ID of the gateway of the other network.
        server: ID of the server.
    """

    def __init__(self, story: Narration, home: str, shed: str, server: str) -> None:
        self._story = story
        self._home, self._shed = home, shed
        self._columns = ("members", home, server)
        self._traces = ladder.Traces([story.stage.folder / f"{name}.trace" for name in (server, home, shed, *MEMBERS)])
        self._traces.new()
        self._seen: set[tuple[str, str, str]] = set()

    async def tell(self) -> None:
        """Tell it. Raises `DemoFailed` where it does not come about."""
        story = self._story
        story.chapter(
            "A group across two networks, and a guest that is put out",
            f"{TV}, {RADIO}, {HUB} and {GUEST} are behind {self._home}, {CAR} behind {self._shed}. What one says all",
            "can open, and nobody else. Each change of who is in it begins an epoch with a key of its own.",
        )
        guest = await story.stage.start(
            *(GUEST, "--key", story.stage.data(f"{GUEST}.key"), "--gateway", story.pans[self._home][0]),
            module="cpns.cli.curious",
        )
        air = json.loads(await guest.line())["air"]
        home, shed = story.pans[self._home][0], story.pans[self._shed][0]
        ways = {TV: home, HUB: home, RADIO: air, CAR: shed}
        parties = dict(zip(ways, await asyncio.gather(*(self._start(*one) for one in ways.items())), strict=True))
        try:
            await asyncio.gather(*(one.until('"established"') for one in parties.values()))
            story.console.print("  ", ladder.header(self._columns), sep="", soft_wrap=True)
            await self._do(TV, "create", "party")
            await asyncio.gather(*(self._do(name, "join", "party") for name in (RADIO, HUB, CAR)))
            await guest.until('"joined"')
            await self._keyed(5)
            await self._say(FIRST, parties)
            heard = json.loads(await guest.until("GROUP-MESSAGE"))
            if not heard["opens"] or heard["text"] != FIRST:
                raise DemoFailed(f"{GUEST} did not hear what it was to hear: {heard}")
            story.say(f"[green]{GUEST}[/green] heard it too: it is a member")
            before = len(guest.said)
            await self._do(TV, "expel", "party", GUEST)
            await self._keyed(4)
            await self._say(SECOND, parties)
            await self._reads_on(guest, before)
        finally:
            await asyncio.gather(*(one.stop() for one in (*parties.values(), guest)))

    async def _start(self, name: str, gateway: str) -> Party:
        stage = self._story.stage
        return await stage.start(
            *(name, "pne", "run", "--key", stage.data(f"{name}.key"), "--gateway", gateway, "--output", "json"),
            *("--timer", "3", "--request-timeout", "1.5", "--presence", "1", "--source", "none"),
            *("--control", stage.data(f"{name}.sock"), "--trace", stage.data(f"{name}.trace")),
        )

    async def _do(self, name: str, *command: str) -> None:
        """Run a command on a device, and show what it brought about."""
        control = self._story.stage.data(f"{name}.sock")
        await self._story.stage.call("pne", "group", *command, "--control", control)
        self._rungs()

    async def _keyed(self, members: int) -> None:
        """Wait until there are so many members, and the key of that epoch was given out."""
        while len((await self._story.ask("group", "show", "party"))["members"]) != members:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.7)
        self._rungs()

    async def _say(self, text: str, parties: dict[str, Party]) -> None:
        self._seen.clear()
        await self._do(TV, "send", "party", text)
        table = Table("who", "behind", "heard", "from", box=None, padding=(0, 2, 0, 2))
        for name in (RADIO, HUB, CAR):
            one = json.loads(await parties[name].until('"group_text"', text))
            table.add_row(name, self._shed if name == CAR else self._home, repr(one["text"]), one["from"])
        self._rungs()
        self._story.console.print(table)

    async def _reads_on(self, guest: Party, since: int) -> None:
        """Show what the one that was put out makes of what is in the air."""
        told = [json.loads(await guest.until(f'"{what}', since=since)) for what in ("GroupKeyNotify", "GROUP-MESSAGE")]
        for one in told:
            if one["opens"]:
                raise DemoFailed(f"{GUEST} reads on: {one}")
            self._story.say(
                f"[bold red]{GUEST}[/bold red] hears {one['heard']} of epoch {one['epoch']} in the air: "
                f"none of the {one['keys']} Group Keys and paths that it has kept opens it"
            )

    def _rungs(self) -> None:
        """Print what was traced since the last call and belongs here, one of a kind between the same two."""
        for one in self._traces.new():
            kind = (one.sender, one.peer, one.what)
            if one.what not in SHOWN or self._shed in kind or kind in self._seen:
                continue
            self._seen.add(kind)
            line = ladder.rung(one, self._columns, frozenset(), SHOWN[one.what])
            if line is not None:
                self._story.console.print("  ", line, sep="", soft_wrap=True)
