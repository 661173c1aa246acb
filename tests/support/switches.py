"""A CM Device that changes its mode again and again at random moments, under constant traffic both ways (CM-0).

Run by itself it makes 1,000 changes and prints what they cost: ``python -m tests.support.switches 1000``.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cpns.admin.service import Admin
from cpns.domain.actor import OPERATOR
from cpns.domain.inventory import KeptPush
from cpns.errors import Conflict, Refused
from cpns.node.app import Node
from cpns.node.config import Prefer
from cpns.wire.registry import Mode
from tests.support.device import device
from tests.support.tap import TcpTap
from tests.support.world import CLOCK, SERVER, World, until, world

SENDERS = 3
LOOK = 0.05
"""Seconds between the device's looks at its ways: it takes two to leave broadband that is gone."""
KEEP = 300.0


@dataclass
class Told:
    """What came of it.

    Attributes:
        changes: how each mode change came about (command, cut, back), and when.
        acknowledged: when each reading was acknowledged.
        sent: numbers of the readings that were acknowledged.
        pushed: texts that the server was given for the device.
    """

    changes: list[tuple[str, float]] = field(default_factory=list)
    acknowledged: list[float] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    pushed: list[str] = field(default_factory=list)
    kept: int = 0

    def gaps(self, how: str | None = None) -> list[float]:
        """Return, for each change, the longest time without an acknowledgement from its beginning to the next one's."""
        found = []
        ends = [at for _, at in self.changes[1:]] + [self.acknowledged[-1]]
        for (kind, begun), end in zip(self.changes, ends, strict=True):
            if how in (None, kind):
                inside = [at for at in self.acknowledged if begun <= at <= end]
                before = max((at for at in self.acknowledged if at < begun), default=begun)
                points = [before, *inside, *([] if inside else [end])]
                found.append(max(b - a for a, b in itertools.pairwise(points)))
        return found

    def line(self, how: str | None = None) -> str:
        """Return number, median and worst gap, for people."""
        gaps = [gap * 1000 for gap in self.gaps(how)]
        worst = f"median {statistics.median(gaps):4.0f} ms, worst {max(gaps):5.0f} ms"
        return f"{how or 'all':<8}{len(gaps):5} changes   gap: {worst}"


async def _readings(node: Node, told: Told, numbers: "list[int]") -> None:
    while True:
        numbers.append(len(numbers))
        number = numbers[-1]
        await node.send({"n": number})
        told.acknowledged.append(time.monotonic())
        told.sent.append(number)
        await asyncio.sleep(0.005)


async def _pushes(admin: Admin, told: Told) -> None:
    while True:
        text = f"push {len(told.pushed)}"
        told.pushed.append(text)
        while (sent := await _pushed(admin, text)) is None:
            await asyncio.sleep(0.2)
        told.kept += isinstance(sent, KeptPush)
        await asyncio.sleep(0.02)


async def _pushed(admin: Admin, text: str) -> object:
    """Push a text; None: as many as may be wait already, on a machine that is too busy to bring them."""
    try:
        return await admin.send(OPERATOR, "tablet", text, KEEP)
    except Conflict:
        return None


async def changing(here: World, count: int, seed: int, progress: Callable[[int], None] = lambda done: None) -> Told:
    """Let a CM Device change its mode *count* times, by command and as its broadband comes and goes."""
    draw = random.Random(seed)
    server = await here.start_server(readings_rate=10_000.0)
    gateway = await here.start_gateway("gw-1")
    wifi = TcpTap(here.address)
    wifi.keep = False
    where = await wifi.start()
    here.closes(wifi)
    node = await device(here, gateway, server=where, prefer=Prefer.DIRECT, look=LOOK, gateway={"keepalive": 1.0})
    admin = Admin(SERVER, here.store, here.provisioning, server, CLOCK)
    told = Told()
    numbers: list[int] = []
    await until(lambda: node.mode is Mode.BOTH)
    tasks = [asyncio.create_task(_readings(node, told, numbers)) for _ in range(SENDERS)]
    tasks.append(asyncio.create_task(_pushes(admin, told)))
    try:
        await until(lambda: len(told.sent) > 20)
        while len(told.changes) < count:
            await asyncio.sleep(draw.uniform(0, 0.1))
            if draw.random() < 0.5:
                await _by_command(node, told)
            else:
                await _by_broadband(node, wifi, told, draw)
            progress(len(told.changes))
        before = len(told.sent)
        await until(lambda: len(told.sent) > before + 20)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: len(here.inboxes["tablet"]) >= len(told.pushed) - 1)
    for task in tasks:
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()  # type: ignore[misc]
    return told


async def _by_command(node: Node, told: Told) -> None:
    """Command it; again where a way was too slow on a busy machine, which leaves it where it was."""
    wanted = Mode.PNE if node.mode is Mode.BOTH else Mode.BOTH
    told.changes.append(("command", time.monotonic()))
    while node.mode is not wanted:
        with contextlib.suppress(Refused):
            await node.command(wanted)


async def _by_broadband(node: Node, wifi: TcpTap, told: Told, draw: random.Random) -> None:
    """Let it choose by itself, cut its broadband, and give it back."""
    node.choose_by_itself()
    await until(lambda: node.mode is Mode.BOTH)
    await asyncio.sleep(draw.uniform(0, 0.1))
    told.changes.append(("cut", time.monotonic()))
    await wifi.close()
    await until(lambda: node.mode is Mode.PNE)
    await asyncio.sleep(draw.uniform(0, 0.1))
    told.changes.append(("back", time.monotonic()))
    await wifi.start()
    await until(lambda: node.mode is Mode.BOTH)


async def check(here: World, told: Told) -> None:
    """Nothing is lost and nothing doubled, either way."""
    rows = [json.loads(row.body)["n"] for row in await here.store.readings(0, 1_000_000) if row.pne_id == "tablet"]
    assert len(rows) == len(set(rows)), "a reading is stored twice"
    assert set(told.sent) <= set(rows), "an acknowledged reading is not stored"
    got = here.inboxes["tablet"]
    assert len(got) == len(set(got)), "a push was given to the application twice"
    assert set(told.pushed[:-1]) <= set(got), "a push did not arrive"  # the last was under way at the end


def _progress(done: int, count: int) -> None:
    if sys.stdout.isatty():
        print(f"\r{done} of {count} ", end="\r", flush=True)


async def _main(count: int) -> None:
    with tempfile.TemporaryDirectory(prefix="cpns-switches-") as folder:
        async with world(Path(folder)) as here:
            begun = time.monotonic()
            told = await changing(here, count, 1, lambda done: _progress(done, count))
            await check(here, told)
            seconds = time.monotonic() - begun
    print(f"{len(told.changes)} mode changes in {seconds:.0f} s, nothing lost, nothing doubled:")
    print(f"  {len(told.sent)} readings acknowledged, {len(told.pushed)} pushes, {told.kept} of them kept for a while")
    for how in (None, "command", "cut", "back"):
        print(f"  {told.line(how)}")


if __name__ == "__main__":
    logging.getLogger("cpns").setLevel(logging.ERROR)  # that its broadband is away is what this is about
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(int(sys.argv[1])))
