"""Between clients and the server of a peer: what passes is counted, and goes to the server in bursts.

Both are there for programs of others too, as clients talk to an address of ours.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from bench.wire import IN, OUT, Gate, Wire
from tests.support.lossy import Datagram, Fates, UdpProxy

PATIENCE = 0.3
"""Seconds for which the gate waits for the slowest client: longer than `eapol_test` rests between two runs."""


@dataclass(slots=True)
class Relay:
    """A relay to one server.

    Attributes:
        port: of 127.0.0.1, where clients find it.
        wire: what passed, by client socket.
        gate: holds what clients send; at level 1 nothing.
    """

    port: int
    wire: Wire
    gate: Gate


@contextlib.asynccontextmanager
async def udp(port: int) -> AsyncIterator[Relay]:
    """A relay to a server at the UDP *port* of 127.0.0.1."""
    wire, gate = Wire(), Gate(PATIENCE)

    def policy(datagram: Datagram) -> Fates:
        wire.note(datagram.pne, OUT if datagram.up else IN, datagram.data)
        if not datagram.up:
            return [(0.0, datagram.data)]
        gate.hold(partial(proxy.send, datagram.pne, True, datagram.data))
        return []

    proxy = UdpProxy(("127.0.0.1", port), policy)
    try:
        yield Relay(proxy.address[1], wire, gate)
    finally:
        await proxy.close()


@contextlib.asynccontextmanager
async def tcp(port: int) -> AsyncIterator[Relay]:
    """A relay to a server at the TCP *port* of 127.0.0.1.

    The gate holds connections, each with the first that its client said; what follows passes at once, as a server may
    have to hear one client to the end before it turns to the next.
    """
    wire, gate = Wire(), Gate(PATIENCE)
    tasks: set[asyncio.Task[None]] = set()

    async def pump(link: object, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            wire.note(link, direction, data)
            writer.write(data)
        if not writer.is_closing():
            writer.write_eof()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            first = await reader.read(2**16)
            wire.note(writer, OUT, first)
            turn = asyncio.Event()
            gate.hold(turn.set)
            await turn.wait()
            there, back = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(back):
                back.write(first)
                await asyncio.gather(pump(writer, OUT, reader, back), pump(writer, IN, there, writer))

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(connected(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, backlog=256)
    try:
        yield Relay(server.sockets[0].getsockname()[1], wire, gate)
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
