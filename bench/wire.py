"""Between the driver's objects and their sockets: payload bytes, round trips, and a gate for bursts."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

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
    """Holds what the uplinks of this process write until *level* writes wait, then lets all go at once.

    The driver, Python too and doing the work of gateways and PNEs, is slower than the server. Without the gate the
    server sleeps between packets, and each wake-up is charged to it.
    """

    PATIENCE = 2.0

    def __init__(self) -> None:
        self.level = 1
        self.timeouts = 0
        self._held: list[tuple[asyncio.Transport, bytes]] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        self._held.append((transport, data))
        if len(self._held) >= self.level:
            self._open()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.PATIENCE, self._give_up)

    def _open(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, []
        for transport, data in held:
            transport.write(data)

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
        self._gate.write(self._transport, data)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._transport, name)


def install() -> tuple[Wire, Wire, Gate]:
    """Put PAN and uplink of this process on the record; return them, and the gate of the uplink."""
    pan, uplink, gate = Wire(), Wire(), Gate()
    send, received = PanSocket.send, PanSocket.datagram_received
    made, data_received = Connection.connection_made, Connection.data_received

    def pan_send(self: PanSocket, data: bytes, address: tuple[Any, ...]) -> None:
        pan.note(self, OUT, data)
        send(self, data, address)

    def pan_received(self: PanSocket, data: bytes, addr: tuple[Any, ...]) -> None:
        pan.note(self, IN, data)
        received(self, data, addr)

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
