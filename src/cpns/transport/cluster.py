"""The other processes of a server, over core NATS: who asks, asks all of them, and each answers what it can.

NATS carries, and holds nothing: what it loses is asked again, or found in the store, which is the only truth. All that
goes over it is sealed with the vault's key, which no other but a process of this server has; so whoever can reach NATS
can keep the processes apart, and neither read what they say nor say anything in their name.

    cpns.SERVER.all          questions and signs of life, to all
    cpns.SERVER.to.PROCESS   answers, to who asked
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import cbor2
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from cpns.crypto.secret import Secret
from cpns.errors import AuthenticationFailed, CpnsError, Unavailable
from cpns.ids import EntityId
from cpns.ports import Clock, Randomness, Vault
from cpns.ports.cluster import Answers, Handler
from cpns.ports.topics import BACK
from cpns.shares.noted import by
from cpns.shares.party import Party

_log = logging.getLogger("cpns.server")

PURPOSE: Final = "siblings"
"""What is said is sealed for that. Processes of all versions have to agree on it, so this word stays."""
VERSION: Final = 1
"""Of how things are said. A newer one may have more behind it; what is said of a thing is in `cpns.ports.topics`."""
HELLO_SECONDS: Final = 0.3
CONNECT_SECONDS: Final = 3.0
MEET_SECONDS: Final = 0.2
"""What the others have to say so when one starts."""
SILENT_SECONDS: Final = 1.5
"""After so long without a sign of life a process is not waited for any more."""
STALE_SECONDS: Final = 30.0
"""What is older is no news any more. All processes go by the clock of the store."""
REMEMBERED: Final = 10_000
"""Messages that are remembered, so that none is taken twice."""
MAX_BYTES: Final = 900_000
"""NATS carries 1 MB by default."""


@dataclass(slots=True)
class _Question:
    """One that waits for answers.

    Attributes:
        waited_for: the processes that have not answered.
        answers: by the process.
    """

    waited_for: set[str]
    answers: dict[str, Any] = field(default_factory=dict)
    done: asyncio.Event = field(default_factory=asyncio.Event)


class NatsCluster:
    """`cpns.ports.cluster.Bus` over NATS.

    Args:
        url: ``nats://host:port``.
        server_id: whose processes these are.
        vault: seals what is said.
        random: names this process, and each message.
        clock: that of all processes.
    """

    def __init__(self, url: str, server_id: EntityId, vault: Vault, random: Randomness, clock: Clock) -> None:
        self.url = url
        self._server_id = server_id
        self._prefix = f"cpns.{server_id.encode().hex()}"
        self._vault = vault
        self._random = random
        self._clock = clock
        self.name = random(8).hex()
        self._nats = Client()
        self._handlers: dict[str, Handler] = {}
        self._alive: dict[str, float] = {}
        self._questions: dict[bytes, _Question] = {}
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._work: set[asyncio.Task[None]] = set()
        self._closing = False

    async def start(self) -> None:
        """Connect, and wait until those that are there have said so; where NATS is away, it is tried on and on."""
        connecting = self._start(self._connect())
        await asyncio.wait([connecting], timeout=CONNECT_SECONDS)
        if not self.connected:
            await self._away()

    async def _connect(self) -> None:
        await self._nats.connect(
            self.url,
            name="cpns",
            error_cb=self._failed,
            disconnected_cb=self._away,
            reconnected_cb=self._back,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            pending_size=4 * MAX_BYTES,
        )
        for subject in ("all", f"to.{self.name}"):
            await self._nats.subscribe(f"{self._prefix}.{subject}", cb=self._heard)
        self._start(self._live())
        await asyncio.sleep(MEET_SECONDS)

    async def close(self) -> None:
        """Say nothing more."""
        self._closing = True
        with contextlib.suppress(NatsError, OSError):
            await self._publish("all", "bye", b"", None)
            await self._nats.flush(1)
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        # TypeError: what Python 3.12 and 3.13 make of a lost connection that has something left to write.
        with contextlib.suppress(NatsError, OSError, TypeError):
            await self._nats.close()

    @property
    def connected(self) -> bool:
        """See `Bus`."""
        return bool(self._nats.is_connected)

    @property
    def heard(self) -> frozenset[str]:
        """See `Bus`."""
        self._forget_the_silent()
        return frozenset(self._alive)

    def serve(self, what: str, handler: Handler) -> None:
        """See `Bus`."""
        self._handlers[what] = handler

    async def ask(self, what: str, argument: Any, seconds: float = 2.0) -> Answers[Any]:  # any CBOR
        """See `Bus`."""
        if not self.connected:
            return Answers((), complete=False)
        question = _Question(set(self.heard))
        if not question.waited_for:
            return Answers((), complete=True)
        number = self._random(8)
        self._questions[number] = question
        try:
            await self._publish("all", what, number, argument)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await question.done.wait()
        except NatsError as error:
            _log.warning("the other processes can't be asked: %s", error, extra=by("cluster"))
        finally:
            del self._questions[number]
        answers = question.answers
        return Answers(tuple(answers.values()), not question.waited_for, frozenset(answers))

    def tell(self, what: str, argument: Any) -> None:
        """See `Bus`."""
        if self.connected:
            self._start(self._publish("all", what, b"", argument))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._quietly(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        task.add_done_callback(lambda _: work.close())  # it may have ended before it began
        return task

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (NatsError, CpnsError) as error:
            said = "something was not said to the other processes, or not done for them: %s"
            _log.warning(said, error, extra=by("cluster"))

    async def _live(self) -> None:
        """Say that we are there, again and again."""
        while True:
            with contextlib.suppress(NatsError):
                await self._publish("all", "hello", b"", None)
            await asyncio.sleep(HELLO_SECONDS)

    def _forget_the_silent(self) -> None:
        now = self._clock.monotonic()
        for process in [one for one, heard in self._alive.items() if now - heard > SILENT_SECONDS]:
            self._gone(process)

    def _gone(self, process: str) -> None:
        """Wait for a process no longer."""
        self._alive.pop(process, None)
        for question in self._questions.values():
            question.waited_for.discard(process)
            if not question.waited_for:
                question.done.set()

    async def _publish(self, to: str, what: str, number: bytes, argument: Any) -> None:
        subject = f"{self._prefix}.{to}"
        said = cbor2.dumps([self._random(8), self._clock.now(), self.name, what, number, argument, VERSION])
        if len(said) > MAX_BYTES:
            raise Unavailable("too_much_at_once", "That is more than the processes can say to each other at once.")
        await self._nats.publish(subject, self._vault.seal(PURPOSE, subject, Secret(said)))

    async def _heard(self, message: Msg) -> None:
        said = self._opened(message)
        if said is None:
            return
        process, what, number, argument = said
        if what == "bye":
            self._gone(process)
            return
        if process not in self._alive:  # it has just started, and does not know of us
            self._start(self._publish("all", "hello", b"", None))
        self._alive[process] = self._clock.monotonic()
        if what == "answer":
            question = self._questions.get(number)
            if question is not None and process in question.waited_for:
                question.answers[process] = argument
                question.waited_for.discard(process)
                if not question.waited_for:
                    question.done.set()
        elif what in self._handlers:
            self._start(self._answer(process, self._handlers[what], number, argument))

    def _opened(self, message: Msg) -> tuple[str, str, bytes, Any] | None:
        """Return who says what; None of what is forged, too old, a repetition, or our own."""
        try:
            opened = self._vault.open(PURPOSE, message.subject, message.data).reveal()
        except AuthenticationFailed:
            said = (
                "what came over NATS in the name of %s was not sealed by our vault: another server has its ID, or lies"
            )
            _log.warning(said, self._server_id, extra=by(Party("NATS", 0)))
            return None
        one, at, process, what, number, argument, *version = cbor2.loads(opened)
        if not version:  # of a cpns whose processes said things without types
            return None
        if process == self.name or one in self._seen or abs(self._clock.now() - at) > STALE_SECONDS:
            return None
        self._seen[one] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return process, what, number, argument

    async def _answer(self, process: str, handler: Handler, number: bytes, argument: Any) -> None:
        answer = None
        try:
            answer = await handler(argument)
        finally:
            if number:
                await self._publish(f"to.{process}", "answer", number, answer)

    async def _failed(self, error: Exception) -> None:
        _log.debug("NATS: %s", error)

    async def _away(self) -> None:
        if self._closing:  # it is we who went
            return
        _log.warning("NATS at %s is away: what is behind other processes can't be reached", self.url)
        for process in list(self._alive):
            self._gone(process)

    async def _back(self) -> None:
        _log.info("NATS is back")
        if BACK.name in self._handlers:
            self._start(self._answer("", self._handlers[BACK.name], b"", {}))


async def connect(url: str, server_id: EntityId, vault: Vault, random: Randomness, clock: Clock) -> NatsCluster:
    """Return the bus, connected where NATS is there."""
    cluster = NatsCluster(url, server_id, vault, random, clock)
    await cluster.start()
    return cluster
