"""The processes of one server: the store tells which are there, so that none is missed in silence (FN-1).

Each says there again and again that it is there, what its machine's clock says, and up to where it has heeded the
revocations that it finds there. What they say to each other goes over the bus; but who is there and can't be asked is
named, whatever the reason: no bus, two of them, or one that is away.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from cpns.domain.process import Process
from cpns.errors import UserError
from cpns.ports import Randomness, Store
from cpns.ports.cluster import A, Answers, Bus, Q
from cpns.ports.topics import Topic
from cpns.service.cluster import warn
from cpns.service.spoken import Misunderstood, plain, understood
from cpns.service.system import StoreClock, this_process
from cpns.shares.noted import by

_log = logging.getLogger("cpns.server")

SAY_SECONDS: Final = 2.0
"""How often a process says in the store that it is there."""
WARN_SECONDS: Final = 3600.0
"""How often a warning that stays true is written."""
APART_SECONDS: Final = 5.0
"""Clocks that differ by more are warned of."""
HEED_SECONDS: Final = 15.0
"""How long to wait for processes to heed what was committed."""
HEED_LOOK_SECONDS: Final = 0.1


class Processes:
    """`cpns.ports.cluster.Cluster` of this process; where the store is its own alone, there are none.

    Args:
        clock: is compared with the store's.
        bus: carries what the processes say.
        random: names this process where the bus does not.

    Attributes:
        name: of this process.
        url: of the bus; None where there is none.
    """

    def __init__(self, store: Store, clock: StoreClock, bus: Bus, random: Randomness) -> None:
        self.others = store.shared
        self.name = bus.name or random(8).hex()
        self.url = bus.url
        self._store = store
        self._clock = clock
        self._bus = bus
        self._own = Process(self.name, *this_process(), "", bus.url, clock.now())
        self._there: tuple[Process, ...] = ()
        self._said_at = -SAY_SECONDS
        self._unheard: frozenset[str] = frozenset()
        self._warned: dict[str, tuple[frozenset[str], float]] = {}

    # as `Cluster`

    @property
    def connected(self) -> bool:
        """Whether the bus is there."""
        return self._bus.connected

    def serve(self, topic: Topic[Q, A], handler: Callable[[Q], Awaitable[A | None]]) -> None:
        """See `Cluster`."""

        async def answer(said: object) -> object:
            return plain(await handler(understood(topic.question, said)))

        self._bus.serve(topic.name, answer)

    def tell(self, topic: Topic[Q, A], question: Q) -> None:
        """See `Cluster`."""
        if self.others:
            self._bus.tell(topic.name, plain(question))

    async def ask(self, topic: Topic[Q, A], question: Q, seconds: float = 2.0) -> Answers[A]:
        """See `Cluster`. Who is there and did not answer makes the answers incomplete, and who asks is warned."""
        if not self.others:  # each SETUP asks
            return Answers((), complete=True)
        said = await self._bus.ask(topic.name, plain(question), seconds)
        answers = Answers(tuple(_answer(topic, one) for one in said.values), said.complete, said.who)
        missing = self._missing(answers)
        if missing:  # it may have left meanwhile
            with suppress(UserError):
                self._take(*await self._store.processes())
            missing = self._missing(answers)
        for one in missing:
            warn(f"{one} can't be asked, so what is behind it is missing here: {self._why(one)}.")
        return replace(answers, complete=answers.complete and not missing)

    def _missing(self, answers: Answers[A]) -> list[Process]:
        return [one for one in self._there if one.process_id not in answers.who]

    async def all_have(self, answers: Answers[A]) -> tuple[str, ...]:
        """See `Cluster`."""
        if not self.others:
            return ()
        self._take(*await self._store.processes())
        waited_for = {one.process_id for one in self._missing(answers)}
        if not waited_for:
            return ()
        number, _ = await self._store.ended_after(None)
        deadline = self._clock.monotonic() + HEED_SECONDS
        while True:
            now, rows = await self._store.processes()
            late = [one for one in rows if one.process_id in waited_for and one.heeded < number]
            if not any(one.is_there(now) for one in late) or self._clock.monotonic() > deadline:
                return tuple(map(str, late))
            await asyncio.sleep(HEED_LOOK_SECONDS)

    # in the store

    async def begin(self, listening: str) -> None:
        """Say that this process is there, and where gateways reach it."""
        self._own = replace(self._own, listening=listening)
        if self.others:
            await self._say()

    async def heeded(self, number: int, *, anew: bool) -> None:
        """Say that this process has heeded who is out, up to a number; at once where *anew*, else when it is time."""
        self._own = replace(self._own, heeded=number)
        if self.others and (anew or self._clock.monotonic() - self._said_at >= SAY_SECONDS):
            await self._say()
            self._warn()

    async def close(self) -> None:
        """Say that this process ends."""
        if self.others:
            with suppress(UserError):  # else its time runs out there
                await self._store.leaves(self.name)

    async def all(self) -> tuple[float, Process, list[Process]]:
        """Return what the store's clock says, this process, and the others that were there lately.

        While the store is away, they are those that were there when it went.
        """
        if self.others:
            with suppress(UserError):
                now, rows = await self._store.processes()
                return now, self._own, [one for one in rows if one.process_id != self.name]
        return self._clock.now(), self._own, list(self._there)

    async def _say(self) -> None:
        asked = self._clock.of_machine()
        self._own = replace(self._own, ahead=self._clock.ahead)
        now, rows = await self._store.is_there(self._own)
        self._clock.compare(asked, now, self._clock.of_machine())
        self._said_at = self._clock.monotonic()
        self._take(now, rows)

    def _take(self, now: float, rows: list[Process]) -> None:
        self._there = tuple(one for one in rows if one.process_id != self.name and one.is_there(now))

    # warnings

    def _why(self, one: Process) -> str:
        """Return why a process can't be asked, and what to do."""
        if one.process_id in self._bus.heard:
            return "it did not answer in time"
        if self.url is None and one.bus is None:
            return "start both with --nats"
        if self.url is None or one.bus is None:
            return f"start {'this one' if self.url is None else 'that one'} with --nats {self.url or one.bus} too"
        if self.url != one.bus:
            return f"it is at {one.bus}, this one at {self.url}; start both with one --nats"
        return f"it is not heard at {self.url}" if self.connected else f"NATS at {self.url} is away"

    def _warn(self) -> None:
        """Write, now and then, what an operator has to mend."""
        unheard = frozenset(one.process_id for one in self._there) - self._bus.heard
        lasts = unheard & self._unheard if self.connected else frozenset()  # that NATS is away is said already
        alone = frozenset(one.process_id for one in self._there if self.url is None or one.bus is None)
        apart = [one for one in self._there if one.process_id in alone | lasts]
        self._unheard = unheard
        if self._is_news("bus", apart):
            said = "; ".join(f"{one}: {self._why(one)}" for one in apart)
            _log.warning("what is behind other processes can't be reached: %s", said, extra=by("processes"))
        off = [one for one in (self._own, *self._there) if abs(one.ahead) > APART_SECONDS]
        if self._is_news("clocks", off):
            now = self._clock.now()
            said = "; ".join(f"{one} has {_time(now + one.ahead)}" for one in off)
            text = "clocks are apart: %s; the store has %s, which counts: set the other"
            _log.warning(text, said, _time(now), extra=by("processes"))

    def _is_news(self, what: str, whom: Sequence[Process]) -> bool:
        """Whether it is time to warn of something: it is new, or an hour has passed."""
        now, names = self._clock.monotonic(), frozenset(one.process_id for one in whom)
        known, at = self._warned.get(what, (frozenset(), now))
        if names == known and now - at < WARN_SECONDS:
            return False
        self._warned[what] = names, now
        return bool(names)


async def compare(clock: StoreClock, store: Store) -> None:
    """Compare the machine's clock with that of *store*, where that counts."""
    if not store.shared:
        return
    asked = clock.of_machine()
    now, _ = await store.processes()
    clock.compare(asked, now, clock.of_machine())


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _answer(topic: Topic[Q, A], said: object) -> A | None:
    """Return what a process answered; what we do not understand is none."""
    try:
        return None if said is None else understood(topic.answer, said)
    except Misunderstood as error:
        _log.warning("another process said what this version does not understand: %s", error, extra=by("processes"))
        return None
