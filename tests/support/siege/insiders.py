"""Parties with a key that take more than their share, each in a process: ``python -m tests.support.siege.insiders``.

Its standard input gives one line of JSON: the insider, and its key; it ends when its standard input does. A device
sends datagrams as fast as it is told, without waiting for answers; a gateway sends requests in its session the same
way.
"""

import asyncio
import contextlib
import functools
import itertools
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any
from unittest.mock import Mock, patch

from cpns.coap import datagram
from cpns.coap.numbers import Type
from cpns.crypto.secret import Secret
from cpns.errors import CpnsError, NoAnswer
from cpns.ids import EntityId, PnId, SgId
from cpns.pne import app as pne_app
from cpns.pne.app import Pne
from cpns.pne.config import PneConfig, Where
from cpns.pne.inbox import Inbox
from cpns.service.system import random_bytes
from cpns.transport.coap import request_of
from cpns.transport.errors import Answer
from cpns.wire import application, codec, registry
from cpns.wire import cm_messages as cm
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire import sg_messages as sg
from cpns.wire.registry import JoinPolicy, Mode
from tests.support.raw import ScriptedGateway, entry_of, guesses
from tests.support.siege.attackers import SLICE, Attacker, setup
from tests.support.world import CLOCK, SERVER

ADDRESS = "127.9.8.7"
BATCH = 64
DISTINCT = 256
"""SETUP Requests with other PNEs than those before."""


@dataclass(frozen=True)
class Insider:
    """What one party does.

    Attributes:
        what: a name of `DEVICES` or `GATEWAYS`.
        name: its ID.
        target: the PAN that a device joins, or the uplink that a gateway connects to.
        rate: messages a second.
        seconds: that it lasts at most.
        is_gateway: whether it is a PN GW; else a device.
    """

    what: str
    name: str
    target: tuple[str, int]
    rate: float
    seconds: float
    is_gateway: bool = False


class Device:
    """A PNE that has set up, and sends what it likes."""

    def __init__(self, pne: Pne, target: tuple[str, int]) -> None:
        self.pne = pne
        self._target = target
        self._ids = itertools.count()

    @property
    def pn_id(self) -> PnId:
        """The network that it is in."""
        if self.pne.joined is None:
            raise NoAnswer("not_joined")
        return self.pne.joined.pn_id

    def send(self, path: str, payload: bytes) -> None:
        """Send a sealed request that asks for no acknowledgement of its datagram."""
        session = self.pne.sessions.with_peer(SERVER)
        if session is None:
            return
        message, _ = request_of(session, path, payload)
        number = next(self._ids)
        pan: Any = self.pne._endpoint._pan
        pan.send(datagram.encode(Type.NON, number & 0xFFFF, message, b"\x77" + number.to_bytes(4)), self._target)

    def ask(self, message: codec.Message) -> None:
        """Send a CPNS message the same way."""
        self.send(registry.CPNS_PATH, codec.encode(message))


def _reading(device: Device, number: int) -> None:
    reading = application.Reading(random_bytes(application.READING_ID_BYTES), {"x": "y" * 4000})
    device.send(application.READINGS_PATH, application.encode_reading(reading))


def _names(number: int) -> tuple[EntityId, ...]:
    return tuple(EntityId(f"made-up-{number}-{one}") for one in range(BATCH))


GROUP: list[SgId] = []
"""The group that the device made before it began."""

DEVICES: dict[str, Callable[[Device, int], None]] = {
    "readings of 4 kB": _reading,
    "status of 1,024 characters": lambda device, number: device.send(
        application.STATUS_PATH, application.encode_text(f"{number} " + "z" * 1000)
    ),
    "SG-CREATE": lambda device, number: device.ask(sg.SgCreateRequest(f"name-{number}", JoinPolicy.OPEN)),
    "SG-INVITE of 64 names": lambda device, number: device.ask(sg.SgInviteRequest(GROUP[0], _names(number))),
    "SG-INVENTORY": lambda device, number: device.ask(sg.SgInventoryRequest(GROUP[0])),
    "SG-DISCOVERY": lambda device, number: device.ask(sg.SgDiscoveryRequest(member_req=True)),
    "SG-LEAVE and SG-JOIN": lambda device, number: device.ask(
        sg.SgLeaveRequest(GROUP[0]) if number % 2 else sg.SgJoinRequest(GROUP[0])
    ),
    "Gateway Change": lambda device, number: device.ask(
        pm.GatewayChangeRequest(EntityId("mallory"), Mode.BOTH, device.pn_id)
    ),
    "INVENTORY": lambda device, number: device.ask(pm.InventoryRequest()),
    "INVITE of 64 names": lambda device, number: device.ask(pm.InviteRequest(device.pn_id, _names(number))),
}


async def _a_group(pne: Pne) -> SgId:
    """Return a group that the device owns: it may have as many as it is let from runs before."""
    with contextlib.suppress(CpnsError):
        sg_id, _ = await pne.groups.create(f"mallory's {random_bytes(4).hex()}", JoinPolicy.OPEN)
        return sg_id
    await pne.groups.refresh()
    return next(iter(pne.groups.views))


async def _device(insider: Insider, key: Secret) -> None:
    config = PneConfig(EntityId(insider.name), SERVER, key, Where((insider.target,)), suite=2)
    pne = Pne(config, CLOCK, random_bytes, Inbox(lambda text: text))
    with patch.object(pne_app, "any_address", Mock(return_value=ADDRESS)):
        await pne.start()
    running = asyncio.create_task(pne.run())
    await pne.wait_established()
    if insider.what.startswith("SG-"):
        GROUP.append(await _a_group(pne))
    device = Device(pne, insider.target)
    does = DEVICES[insider.what]
    await _at_rate(insider, lambda number: does(device, number))
    running.cancel()


async def _at_rate(insider: Insider, does: Callable[[int], None]) -> None:
    print("at it", flush=True)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    begun = loop.time()
    sent = 0
    while (now := loop.time() - begun) < insider.seconds and not ended.is_set():
        while sent < now * insider.rate:
            with contextlib.suppress(CpnsError, OSError):
                does(sent)
            sent += 1
        await asyncio.sleep(SLICE)
    loop.remove_reader(sys.stdin)


@functools.cache  # they are to cost the others, not this process
def _made_up(number: int, count: int) -> tuple[m.SetupEntry, ...]:
    return tuple(entry_of(setup(number, f"made-up-{number}-{one}")) for one in range(count))


def _entries(number: int, count: int) -> tuple[m.SetupEntry, ...]:
    return _made_up(number % DISTINCT, count)


GATEWAYS: dict[str, tuple[bool, Callable[["Gateway", int], Coroutine[Any, Any, Answer]]]] = {
    "SETUP, AUTHENTICATE never answered": (
        False,
        lambda gateway, number: gateway.setup(*_entries(number, 1)),
    ),
    "SETUP of 64, wrong hashes": (True, lambda gateway, number: gateway.setup(*_entries(number, BATCH))),
    "SETUP of 64, never answered": (False, lambda gateway, number: gateway.setup(*_entries(number, BATCH))),
    "CM-ASSIGN": (
        True,
        lambda gateway, number: gateway.ask(cm.CmAssignRequest(EntityId("steady-home-0"), random_bytes(8))),
    ),
    "PN GW switching": (True, lambda gateway, number: gateway.ask(gateway.takes(number))),
    "INVENTORY": (True, lambda gateway, number: gateway.ask(pm.InventoryRequest())),
    "SG-INVENTORY": (True, lambda gateway, number: gateway.ask(sg.SgInventoryRequest())),
}
"""What a gateway does, and whether it answers AUTHENTICATE Requests (with hashes that nobody computed)."""


class Gateway(ScriptedGateway):
    """A PN GW that asks what it likes."""

    async def ask(self, message: codec.Message) -> Answer:
        """Ask in its session."""
        return await self.to_server.exchange(registry.CPNS_PATH, codec.encode(message), timeout=5, session=self.session)

    def takes(self, number: int) -> pm.PnGwSwitchingRequest:
        """Return the request to serve a network that is none of ours."""
        return pm.PnGwSwitchingRequest(PnId(f"made-up-{number}"), self.name)


async def _gateway(insider: Insider, key: Secret) -> Counter[int]:
    """Attack; return how often it was told which code."""
    gateway = Gateway(insider.name, key)
    answers, does = GATEWAYS[insider.what]
    gateway.answer_with = guesses if answers else lambda challenge: None
    await gateway.connect(insider.target)
    under_way: set[asyncio.Task[None]] = set()
    told: Counter[int] = Counter()

    async def one(number: int) -> None:
        with contextlib.suppress(CpnsError):
            told[(await does(gateway, number)).code] += 1

    def start(number: int) -> None:
        if len(under_way) < 5000:
            task = asyncio.create_task(one(number))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

    await _at_rate(insider, start)
    for task in list(under_way):
        task.cancel()
    await gateway.close()
    return told


class InsiderProcess(Attacker):
    """The process of one insider."""

    def __init__(self, insider: Insider, key: Secret) -> None:
        self._line = json.dumps({"insider": asdict(insider), "key": key.reveal().hex()}).encode() + b"\n"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "InsiderProcess":
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.siege.insiders"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("no pipes")
        self._process.stdin.write(self._line)
        await self._process.stdin.drain()
        async with asyncio.timeout(40):
            await self._process.stdout.readline()
        return self

    async def told(self) -> dict[int, int]:
        """End it; return how often a gateway was told which code."""
        if self._process is None or self._process.stdin is None:
            return {}
        self._process.stdin.close()
        out, _ = await self._process.communicate()
        return {int(code): times for code, times in json.loads(out or b"{}").items()}


async def main() -> None:
    """Be the insider that standard input tells."""
    logging.disable(logging.ERROR)
    os.nice(10)  # as the attackers of `attackers`
    given = json.loads(sys.stdin.readline())
    insider = Insider(**{**given["insider"], "target": tuple(given["insider"]["target"])})
    key = Secret(bytes.fromhex(given["key"]))
    if insider.is_gateway:
        print(json.dumps(await _gateway(insider, key)))
    else:
        await _device(insider, key)


if __name__ == "__main__":
    asyncio.run(main())
