"""Two ends of the CoAP engine, and the links between them, in virtual time."""

import heapq
import itertools
from collections.abc import Callable
from random import Random

from cpns.coap.connection import Connection
from cpns.coap.events import DatagramEvent, RequestArrived, StreamEvent
from cpns.coap.message import Message
from cpns.coap.messaging import MessageLayer
from cpns.coap.numbers import Option, supported
from cpns.coap.oscore import Context, RequestId, said_by
from cpns.coap.tuning import Tuning
from cpns.errors import AuthenticationFailed

FORMS = supported((Option.URI_HOST, Option.OSCORE, Option.URI_PATH))
POST = 0x02
CHANGED = 0x44


class Ends:
    """Several message layers, each at its name, and a link that loses, doubles and delays.

    Attributes:
        now: the time, which `run` moves on.
        passed: every datagram that was sent: when, from, to, bytes, and how many copies arrive.
        events: what happened, by end.
    """

    def __init__(self, names: str, tuning: Tuning | None = None, seed: int = 0) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.tuning = Tuning() if tuning is None else tuning
        self.layers = {
            name: MessageLayer(self.tuning, FORMS, first_mid=1000 * index, group=str)
            for index, name in enumerate(names)
        }
        self.events: dict[str, list[DatagramEvent]] = {name: [] for name in names}
        self.passed: list[tuple[float, str, str, bytes, int]] = []
        self.answer: Callable[[str, RequestArrived], None] = self.echo
        self.loss = self.doubled = self.delay = 0.0
        self.fate: Callable[[bytes], list[float]] | None = None
        self._serial = itertools.count()
        self._flying: list[tuple[float, int, str, str, bytes]] = []
        self._calls: list[tuple[float, int, Callable[[], None]]] = []

    def jitter(self) -> float:
        return self.random.random()

    def echo(self, name: str, request: RequestArrived) -> None:
        self.layers[name].respond(request, Message(CHANGED, payload=request.message.payload), self.now, self.jitter())

    def _fates(self, data: bytes) -> list[float]:
        """Return the delays with which copies of *data* arrive."""
        if self.fate is not None:
            return self.fate(data)
        copies = 0 if self.random.random() < self.loss else 2 if self.random.random() < self.doubled else 1
        return [self.random.random() * self.delay for _ in range(copies)]

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Do that after so many seconds."""
        heapq.heappush(self._calls, (self.now + seconds, next(self._serial), call))

    def flush(self) -> None:
        """Put what all ends want to send on its way."""
        for name, layer in self.layers.items():
            for remote, data in layer.take():
                delays = self._fates(data)
                self.passed.append((self.now, name, str(remote), data, len(delays)))
                for delay in delays:
                    item = (self.now + delay, next(self._serial), name, str(remote), data)
                    heapq.heappush(self._flying, item)

    def inject(self, source: str, target: str, data: bytes) -> None:
        """Let *data* arrive now, as if *source* had sent it."""
        self._take(target, self.layers[target].receive(source, data, self.now))
        self.flush()

    def _take(self, name: str, events: list[DatagramEvent]) -> None:
        self.events[name].extend(events)
        for event in events:
            if isinstance(event, RequestArrived):
                self.answer(name, event)

    def _next(self) -> float | None:
        times = [layer.next_timeout() for layer in self.layers.values()]
        found = [time for time in times if time is not None]
        found.extend(heap[0][0] for heap in (self._flying, self._calls) if heap)
        return min(found, default=None)

    def run(self, until: float) -> None:
        """Let everything happen that is due before *until*."""
        self.flush()
        steps = 0
        while (when := self._next()) is not None and when <= until:
            steps += 1
            if steps > 1_000_000:
                raise RuntimeError("time stands still")
            self.now = max(self.now, when)
            while self._flying and self._flying[0][0] <= self.now:
                _, _, source, target, data = heapq.heappop(self._flying)
                if target in self.layers:
                    self._take(target, self.layers[target].receive(source, data, self.now))
            while self._calls and self._calls[0][0] <= self.now:
                heapq.heappop(self._calls)[2]()
            for name, layer in self.layers.items():
                self._take(name, layer.handle_timeout(self.now))
            self.flush()
        self.now = until


def drained(connection: Connection) -> list[StreamEvent]:
    """Return all events that are there."""
    events = []
    while (event := connection.next_event()) is not None:
        events.append(event)
    return events


def connected(most: int = 66_560) -> tuple[Connection, Connection]:
    """Return two ends of one connection that have said their settings."""
    here, there = Connection(most, FORMS), Connection(most, FORMS)
    carry(here, there)
    carry(there, here)
    drained(here)
    drained(there)
    return here, there


def carry(source: Connection, target: Connection) -> None:
    """Hand over what *source* wants to send."""
    target.receive(b"".join(source.take()))


def opened(context: Context, outer: Message, now: float) -> tuple[Message, RequestId]:
    """Return what *context* finds in *outer*, if that has an OSCORE option."""
    said = said_by(outer)
    if said is None:
        raise AuthenticationFailed("protection_invalid")
    return context.open_request(said, outer.payload, now)
