"""The chapter of the demo about a Changing-Mode device: behind a gateway, then over its own Wi-Fi, and back (S2)."""

import asyncio
import json
from datetime import datetime
from itertools import pairwise
from typing import Any

from cpns.cli import ladder
from cpns.cli.narration import Narration
from cpns.cli.stage import Broadband, DemoFailed, Party

TABLET, EARBUD = "tablet", "earbud"
STEPS = {
    "CM-ASSIGN Response": "1 makes a Key Seed, 2 sends it",
    "CM-ID Request": "3 makes ID and key, 4 names the ID",
    "CM-ID Response": "5 verifies, derives, 6 its code",
    "CM-CONFIRM Request": "7 verifies, 8 its code",
    "CM-CONFIRM Response": "9 verifies, 10 replies",
    "CM-KEY Request": "11 shares ID and key",
    "ACTIVATE Request": "12 ID and code",
    "ACTIVATE Response": "13 checks, 14 its code",
    "INVENTORY Request": "15 verified, 16 secure connection",
}
"""What is done, by the number that S2 gives it; by the receiver before the message, then by its sender."""
DIRECT = ("ACTIVATE Request", "ACTIVATE Response", "INVENTORY Request")
BESIDES = {
    "CM-ASSIGN Request": "asks for it",
    "CM-REKEY Request": "asks for a fresh key",
    "CM-REKEY Response": "which no gateway can derive",
}


class ChangingMode:
    """The chapter.

    Args:
        story: what was told before it; its gateway *home* is the phone.
        home: ID of that gateway.
        server: ID of the server.
    """

    def __init__(self, story: Narration, home: str, server: str) -> None:
        self._story = story
        self._columns = (TABLET, home, server)
        self._home, self._server = home, server
        self._shown: set[str] = set()
        files = [story.stage.folder / f"{name}.trace" for name in (server, home, TABLET)]
        self._traces = ladder.Traces(files)
        self._traces.new()

    async def tell(self) -> None:
        """Tell it. Raises `DemoFailed` where it does not come about."""
        story = self._story
        host, port = story.server_address.rsplit(":", 1)
        wifi = Broadband((host, int(port)))
        address = await wifi.up()
        await wifi.down()
        story.chapter(
            "A tablet that can go direct (a Changing-Mode device)",
            f"Behind {self._home} it gets a CM Device ID and key for that. Then its Wi-Fi comes up, and it talks to",
            "the server itself: the 16 steps of the change request, by number.",
        )
        story.console.print("  ", ladder.header(self._columns), sep="", soft_wrap=True)
        tablet = await self._start(address)
        try:
            await self._until(tablet, '"key"', '"generation": 0')
            story.say("[bold]Wi-Fi comes up[/bold]")
            await wifi.up()
            came = json.loads(await self._until(tablet, '"mode": "both"'))
            await self._until(tablet, '"key"', '"generation": 1')
            self._all_steps()
            story.say(
                "It has agreed with the server on a fresh key, end to end: the gateway that helped knows it no more."
            )
            await self._serves(came["pans"][0])
            before = len(tablet.said)
            story.say("[bold]Wi-Fi is gone[/bold]")
            await wifi.down()
            await tablet.until('"established"', f'"{self._home}"', since=before)
            story.say(f"[green]{TABLET}[/green] is behind {self._home} again")
            await self._readings(tablet)
        finally:
            await tablet.stop()
            await wifi.down()

    async def _start(self, address: str) -> Party:
        stage, story = self._story.stage, self._story
        return await stage.start(
            *(TABLET, "node", "run", "--pne-key", stage.data(f"{TABLET}.key"), "--server", address),
            *("--gateway", story.pans[self._home][0], "--data", stage.data(TABLET), "--interval", "0.25"),
            *("--timer", "3", "--request-timeout", "1.5", "--presence", "1", "--keepalive", "1"),
            *("--trace", stage.data(f"{TABLET}.trace"), "--output", "json"),
        )

    async def _until(self, party: Party, *words: str) -> str:
        """Return the line of *party* with *words*; show the ladder until it comes."""
        waiting = asyncio.create_task(party.until(*words))
        while not waiting.done():
            await asyncio.sleep(0.1)
            self._rungs()
        return waiting.result()

    def _rungs(self) -> None:
        """Print what was traced since the last call of the steps, once each, and of what belongs to them."""
        for one in self._traces.new():
            told = BESIDES.get(one.what, STEPS.get(one.what))
            again = one.what in self._shown and one.what in STEPS
            if told is None or (again and one.what != "ACTIVATE Request"):
                continue
            if one.what in DIRECT and (
                self._home in (one.sender, one.peer) or self._server not in (one.sender, one.peer)
            ):
                continue  # the same message between others
            line = ladder.rung(one, self._columns, frozenset(), "12 with the fresh key" if again else told)
            if line is not None:
                self._shown.add(one.what)
                self._story.console.print("  ", line, sep="", soft_wrap=True)

    def _all_steps(self) -> None:
        missing = set(STEPS) - self._shown
        if missing:
            raise DemoFailed(f"steps were not seen: {', '.join(sorted(missing))}")

    async def _serves(self, pan: str) -> None:
        """Let another device come in through the tablet."""
        stage = self._story.stage
        earbud = await stage.start(
            *(EARBUD, "pne", "run", "--key", stage.data(f"{EARBUD}.key"), "--output", "json"),
            *("--gateway", pan, "--timer", "3", "--source", "host", "--interval", "0.5"),
        )
        there = json.loads(await earbud.until('"established"'))
        await earbud.until('"acknowledged"')
        self._story.say(f"[green]{EARBUD}[/green] comes in through the tablet: its gateway is {there['gateway']}")
        await earbud.stop()

    async def _readings(self, tablet: Party) -> None:
        """Show through which gateway the tablet's readings came, and the longest time between two of them."""
        await asyncio.sleep(1)
        acknowledged = len([line for line in tablet.said if '"acknowledged"' in line])
        rows: list[dict[str, Any]] = []
        async with self._story.tail("--device", TABLET, "--since", "all", "--count", str(acknowledged)) as tail:
            for _ in range(acknowledged):
                rows.append(json.loads(await tail.line()))
        if len({row["id"] for row in rows}) != acknowledged:
            raise DemoFailed("a reading is missing, or there twice")
        times = [datetime.fromisoformat(row["received_at"]) for row in rows]
        gap = max((b - a).total_seconds() for a, b in pairwise(times))
        ways = [
            one
            for one, before in zip(rows, [None, *rows], strict=False)
            if not before or before["gateway"] != one["gateway"]
        ]
        through = ", then ".join(row["gateway"] for row in ways)
        self._story.say(
            f"{acknowledged} readings, one every 0.25 s, none lost, none twice, longest gap {gap:.1f} s; via {through}"
        )
        found = await self._story.ask("cm", "show", TABLET)
        known = "yes" if found["known_to_gateway"] else "no"
        self._story.say(
            f"cpns cm show {TABLET}: {found['id']}, set up by {found['gateway']}, which knows its key: {known}"
        )
