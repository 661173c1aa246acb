"""One protected exchange over CoAP with OSCORE, by aiocoap's own server and clients, on uvloop.

The same CoAP library and the same algorithms as in cpns, with a reading of the same size; without a gateway, an
application behind it, or a commit.
"""

import asyncio
import contextlib
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import cbor2

from bench.load import reading
from bench.peers import relay
from bench.peers.edhoc import TO_INSTALL
from bench.peers.peer import IN_FLIGHT, Absent, Cost, Measure, Peer, charged, free_port, serving

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class _Transport:
    """Names of aiocoap for it, and a relay."""

    server: str
    client: str
    scheme: str
    kind: socket.SocketKind
    relay: Callable[[int], AbstractAsyncContextManager[relay.Relay]]


_TCP = _Transport("tcpserver", "tcpclient", "coap+tcp", socket.SOCK_STREAM, relay.tcp)
_UDP = _Transport("udp6", "udp6", "coap", socket.SOCK_DGRAM, relay.udp)


@contextlib.asynccontextmanager
async def _start(folder: Path, transport: _Transport) -> AsyncIterator[Measure]:
    if find_spec("lakers") is None:  # its OSCORE server imports it, used or not
        raise Absent(f"lakers not found, which aiocoap's server needs; {TO_INSTALL}")
    import aiocoap

    from bench.peers.oscore_server import PATH, SERVER_ID, Context, client_id

    port, secret = free_port(transport.kind), secrets.token_bytes(16)
    command = [sys.executable, "-m", "bench.peers.oscore_server", transport.server]
    command += [str(port), secret.hex(), str(IN_FLIGHT)]
    async with contextlib.AsyncExitStack() as opened:
        pid = await opened.enter_async_context(serving(folder, port, *command, cwd=_ROOT))
        between = await opened.enter_async_context(transport.relay(port))
        address = f"{transport.scheme}://127.0.0.1:{between.port}"
        clients = []
        for number in range(IN_FLIGHT):
            client = await aiocoap.Context.create_client_context(transports=["oscore", transport.client])
            opened.push_async_callback(client.shutdown)
            client.client_credentials[f"{address}/*"] = Context(secret, client_id(number), SERVER_ID)
            clients.append(client)

        async def device(client: aiocoap.Context, times: int) -> None:
            for number in range(times):
                payload = cbor2.dumps(reading(number))
                request = aiocoap.Message(code=aiocoap.POST, uri=f"{address}/{PATH}", payload=payload)
                answer = await client.request(request).response
                if answer.code != aiocoap.CHANGED:
                    raise RuntimeError(f"not taken: {answer}")

        async def devices(times: int) -> None:
            await asyncio.gather(*(device(client, times) for client in clients))

        async def measure(count: int) -> Cost:
            # one client to the gate, so that it holds nothing: as with readings of cpns, each device goes its own pace
            return await charged(pid, between, count, [[devices(count // IN_FLIGHT)]])

        await devices(1)  # connects
        yield measure


PEERS = (
    Peer("aiocoap, OSCORE over UDP", forward_secret=False, start=partial(_start, transport=_UDP)),
    Peer("aiocoap, OSCORE over TCP", forward_secret=False, start=partial(_start, transport=_TCP)),
)
