"""The bytes of an honest run: SETUP, a reading, a text, and a message to a group, both ways of both hops.

Each party draws from a seed, so all runs say the same. What its sender counts from where it likes, and what a slow
machine changes, is left out: type, message ID and token of a datagram, token of a frame, empty messages, repetitions.
In a group several tell and ask at once, in any order; so of sealed messages there, form and length are compared.

    python -m tests.support.recorded

`recorded.json` is what it said in commit 56d2bec, whose CoAP was aiocoap's; this file runs there unchanged.
"""

import asyncio
import hashlib
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from aiocoap import Message
from aiocoap.transports.tcp import _decode_message

from cpns.pne.app import Pne
from cpns.ports import Randomness
from cpns.wire.registry import JoinPolicy
from tests.support import tap
from tests.support import world as worlds
from tests.support.groups import all_have
from tests.support.tap import Scene, scene, settled
from tests.support.world import World, address_of, push_of, until, world

NAMES = ("pne-1", "pne-2")
JOINED = {"pne-1": (20, 14), "pne-2": (28, 30)}
"""Messages on the uplink and on the PAN, when a PNE has joined and been told all; then it is still."""
SAID = (32, 34)
"""Likewise, when a reading and a text were said."""
IN_A_GROUP = 8
"""On the PAN, of a message to a group: it is said and told, and its key is asked for."""
Run = dict[str, list[str]]
"""By PNE and direction, in order; and of the uplink, where the order is that of the machine, sorted."""


def seeded(name: str) -> Randomness:
    """Return a source of bytes that gives the same to each run."""
    count = itertools.count()

    def draw(size: int) -> bytes:
        return hashlib.shake_128(f"{name} {next(count)}".encode()).digest(size)

    return draw


def of_datagram(data: bytes) -> str:
    """Return code, options and payload of a datagram, as they stand in it; nothing of an empty one."""
    return "" if data[1] == 0 else (data[1:2] + data[4 + (data[0] & 0x0F) :]).hex()


def of_frame(data: bytes) -> str:
    """Return a frame without its token, whose length becomes 0."""
    length, token = data[0] >> 4, data[0] & 0x0F
    head = 2 + {13: 1, 14: 2, 15: 4}.get(length, 0)  # RFC 8323 3.2
    return (bytes((length << 4,)) + data[1:head] + data[head + token :]).hex()


def on_pan(on: Scene, port: int, *, up: bool) -> list[str]:
    """Return what one PNE sent or got."""
    seen = dict.fromkeys(one.data for one in on.pan.seen if one.up == up and one.pne[1] == port)
    return [said for said in map(of_datagram, seen) if said]


def form(said: str) -> str:
    """Return *said* with the length of what is sealed in place of it; Partial IVs count from what was said before."""
    data = bytes.fromhex(said)
    message = Message.decode(b"\x40" + data[:1] + b"\0\0" + data[1:])
    if message.opt.oscore is None:
        return said
    size = message.opt.oscore[0] & 7 if message.opt.oscore else 0
    return f"{message.code} to {message.opt.uri_host}, number of {size}, {len(message.payload)} bytes"


class Recorder:
    """Two PNEs, their PN GW and the server, and what passes."""

    def __init__(self, here: World, on: Scene, frames: list[bytes]) -> None:
        self.here = here
        self.on = on
        self.frames = frames
        self.pnes: list[Pne] = []

    def passed(self) -> Run:
        """Return what passed until now."""
        found = {}
        for name, pne in zip(NAMES, self.pnes, strict=False):
            for way in ("up", "down"):
                found[f"{name} {way}"] = on_pan(self.on, address_of(pne._endpoint)[1], up=way == "up")
        return {**found, "uplink": sorted(map(of_frame, self.frames))}

    async def until(self, count: tuple[int, int]) -> None:
        """Wait until so much passed."""
        await until(lambda: (len(self.frames), self._on_pan()) == count)

    async def quiet(self) -> None:
        """Wait until each message to a PNE, and of it, is answered."""
        await until(lambda: all(len(ups) == len(downs) for ups, downs in self._ways()))

    def _on_pan(self) -> int:
        return sum(len(ups) + len(downs) for ups, downs in self._ways())

    def _ways(self) -> list[tuple[list[str], list[str]]]:
        now = self.passed()
        return [(now.get(f"{name} up", []), now.get(f"{name} down", [])) for name in NAMES]

    async def join(self, name: str) -> None:
        """Let a PNE join."""
        pne = await self.here.make_pne(name, self.on.pan.address, random=seeded(name), presence=3600.0)
        self.here.run(pne)
        await settled(pne)
        self.pnes.append(pne)

    async def alone(self) -> Run:
        """SETUP of two PNEs, a reading and a text."""
        for name in NAMES:
            await self.join(name)
            await self.until(JOINED[name])
        first = self.pnes[0]
        await first.send(first.next_reading({"temperature": 21.5}))
        await self.here.server.sending.send(first.config.pne_id, "inbox", push_of("hello"))
        await self.until(SAID)
        return self.passed()

    async def in_a_group(self) -> list[str]:
        """Make a group of both, then return what a message to it brings."""
        first, second = self.pnes
        sg_id, _ = await first.groups.create("family", JoinPolicy.OPEN)
        await second.groups.join(sg_id)
        await all_have(self.here, sg_id, first, second)
        await until(lambda: all(self.here.group_changes[name] for name in NAMES))
        await self.quiet()
        before, count = self.passed(), self._on_pan()
        await first.messages.send(sg_id, "to all")
        await until(lambda: self._on_pan() >= count + IN_A_GROUP)
        after = self.passed()
        del before["uplink"]
        return [f"{name}: {form(one)}" for name, said in before.items() for one in after[name][len(said) :]]


async def recorded(folder: Path) -> Run:
    """Do what an honest run does, and return what passed."""
    frames: list[bytes] = []

    def noted(data: bytes) -> Any:
        frames.append(data)
        return _decode_message(data)

    with mock.patch.object(worlds, "random_bytes", seeded("server")), mock.patch.object(tap, "_decode_message", noted):
        async with world(folder) as here:
            recorder = Recorder(here, await scene(here, random=seeded("gw-1"), keepalive=3600.0), frames)
            run = await recorder.alone()
            return {**run, "message to a group": await recorder.in_a_group()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        json.dump(asyncio.run(recorded(Path(folder))), sys.stdout, indent=1)
        sys.stdout.write("\n")


if __name__ == "__main__":
    main()
