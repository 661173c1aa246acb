"""A PN GW with a key of its own, gone bad: it brings PNEs that are not there, at a given rate.

It is a process of its own: ``python -m tests.support.siege.gateways '{...}'``, which prints the codes that it was told.
"""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from cpns.crypto.secret import Secret
from cpns.errors import Refused
from cpns.ids import EntityId
from cpns.service.system import random_bytes
from cpns.wire import messages as m
from cpns.wire import registry
from tests.support.raw import ScriptedGateway, guesses

SLICE = 0.01


def made_up(count: int, suite: int = 2) -> tuple[m.SetupEntry, ...]:
    """Return entries of PNEs that nobody provisioned."""
    return tuple(
        m.SetupEntry(
            suite=suite,
            entity_id=EntityId(f"made-up-{random_bytes(8).hex()}"),
            rand=random_bytes(registry.RAND_BYTES),
            kid=bytes([number + 1]),
            need_local=True,
            pan_secure=False,
            procedure=1,
            eph=random_bytes(32) if suite == 2 else None,
        )
        for number in range(count)
    )


@dataclass(frozen=True)
class BadGateway:
    """What it does.

    Attributes:
        key: its EUKey, in hex.
        rate: SETUP Requests a second.
        each: PNEs in a request.
        silent: whether it leaves AUTHENTICATE Requests unanswered, or answers with wrong hashes.
    """

    name: str
    key: str
    target: tuple[str, int]
    rate: float
    seconds: float
    each: int
    silent: bool


class _Attack:
    def __init__(self, what: BadGateway) -> None:
        self._what = what
        self._gateway = ScriptedGateway(what.name, Secret(bytes.fromhex(what.key)))
        self._gateway.answer_with = self._never if what.silent else guesses
        self._entries = made_up(what.each)
        self._asking: set[asyncio.Task[None]] = set()
        self.told: Counter[int] = Counter()

    async def _never(self, challenge: m.GatewayChallenge) -> Any:
        await asyncio.sleep(self._what.seconds)

    async def run(self) -> None:
        await self._gateway.connect(self._what.target)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        sent = 0
        while (now := loop.time() - begun) < self._what.seconds:
            while sent < now * self._what.rate:
                sent += 1
                task = loop.create_task(self._ask())
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            await asyncio.sleep(SLICE)
        for task in list(self._asking):
            task.cancel()
        await self._gateway.close()

    async def _ask(self) -> None:
        with contextlib.suppress(Refused):
            self.told[(await self._gateway.setup(*self._entries)).code] += 1


class Attacking:
    """The process of a bad PN GW."""

    def __init__(self, what: BadGateway) -> None:
        self._what = what
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Attacking":
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.siege.gateways", json.dumps(asdict(self._what))),
            stdout=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def told(self) -> dict[int, int]:
        """Wait for its end; return how often it was told which code."""
        if self._process is None:
            return {}
        out, _ = await self._process.communicate()
        return {int(code): times for code, times in json.loads(out or b"{}").items()}


async def _main(what: BadGateway) -> None:
    attack = _Attack(what)
    await attack.run()
    print(json.dumps(attack.told))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    asyncio.run(_main(BadGateway(**{**given, "target": tuple(given["target"])})))
