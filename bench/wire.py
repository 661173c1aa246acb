"""Between the driver's objects and their sockets: payload bytes, round trips, and a gate for bursts."""

import asyncio
import contextlib
import functools
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from cpns.transport.datagrams import EITHER, Address, Ours
from cpns.transport.pan import PanSocket
from cpns.transport.uplink import Connection

OUT, IN = "out", "in"


class Wire:
    """Payload of every socket of one kind in this process, in order.

    Attributes:
        passed: socket to its (direction, bytes), as long as `recording`.
    """

    def __init__(self) -> None:
        self.recording = False
        self.passed: dict[object, list[tuple[str, int]]] = defaultdict(list)

    def note(self, socket: object, direction: str, data: bytes) -> None:
        if self.recording:
            self.passed[socket].append((direction, len(data)))

    @contextlib.contextmanager
    def record(self) -> Iterator[dict[object, list[tuple[str, int]]]]:
        self.passed.clear()
        self.recording = True
        try:
            yield self.passed
        finally:
            self.recording = False


def total(passed: list[tuple[str, int]]) -> int:
    """Return the bytes, both ways."""
    return sum(size for _, size in passed)


def round_trips(passed: list[tuple[str, int]]) -> int:
    """Return how often this end spoke and was then answered, whatever the number of packets."""
    trips, last = 0, IN
    for direction, _ in passed:
        trips += direction == IN and last == OUT
        last = direction
    return trips


class Gate:
    """Holds what this process sends to a server until *level* messages wait, then lets all go at once.

    A driver, Python too and doing the work of gateways and PNEs, is slower than the server. Without the gate the
    server sleeps between packets, and each wake-up is charged to it.

    Args:
        patience: seconds after which those that wait go, though some are missing.
    """

    def __init__(self, patience: float = 2.0) -> None:
        self.level = 1
        self.timeouts = 0
        self._patience = patience
        self._held: list[Callable[[], object]] = []
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, send: Callable[[], object]) -> None:
        """Call *send* when it is time."""
        self._held.append(send)
        if len(self._held) >= self.level:
            self._open()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._patience, self._give_up)

    def leave(self) -> None:
        """Wait for one sender less: it has nothing more to say."""
        self.level -= 1
        if len(self._held) >= self.level:
            self._open()

    def _open(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, []
        for send in held:
            send()

    def _give_up(self) -> None:
        self._timer = None
        self.timeouts += 1
        self._open()


class _Gated:
    """A transport whose writes pass the gate."""

    def __init__(self, transport: asyncio.Transport, connection: Connection, uplink: Wire, gate: Gate) -> None:
        self._transport, self._connection, self._uplink, self._gate = transport, connection, uplink, gate

    def write(self, data: bytes) -> None:
        self._uplink.note(self._connection, OUT, data)
        self._gate.hold(partial(self._write, data))

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._transport, name)


@functools.cache  # each of several loads has the same ones, of which one is at work at a time
def install() -> tuple[Wire, Wire, Gate]:
    """Put PAN and uplink of this process on the record; return them, and the gate of the uplink."""
    pan, uplink, gate = Wire(), Wire(), Gate()
    send, received = PanSocket.send, PanSocket.datagram_received
    made, data_received = Connection.connection_made, Connection.data_received

    def pan_send(self: PanSocket, data: bytes, address: Address, ours: Ours = EITHER) -> None:
        pan.note(self, OUT, data)
        send(self, data, address, ours)

    def pan_received(self: PanSocket, data: bytes, source: Address, ours: Ours) -> None:
        pan.note(self, IN, data)
        received(self, data, source, ours)

    def uplink_made(self: Connection, transport: asyncio.Transport) -> None:
        made(self, _Gated(transport, self, uplink, gate))  # type: ignore[arg-type]

    def uplink_received(self: Connection, data: bytes) -> None:
        uplink.note(self, IN, data)
        data_received(self, data)

    PanSocket.send = pan_send  # type: ignore[method-assign]
    PanSocket.datagram_received = pan_received  # type: ignore[method-assign]
    Connection.connection_made = uplink_made  # type: ignore[method-assign]
    Connection.data_received = uplink_received  # type: ignore[method-assign]
    return pan, uplink, gate
