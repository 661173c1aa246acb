"""One protected exchange over CoAP on TCP with OSCORE, by aiocoap's own server and clients, on uvloop.

The same CoAP library and the same algorithms as in cpns, with a reading of the same size; without a gateway, an
application behind it, or a commit.
"""

import asyncio
import contextlib
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import cbor2

from bench.load import reading
from bench.peers import relay
from bench.peers.edhoc import TO_INSTALL
from bench.peers.peer import IN_FLIGHT, Absent, Cost, Measure, Peer, charged, free_port, serving

_ROOT = Path(__file__).resolve().parents[2]


@contextlib.asynccontextmanager
async def _start(folder: Path) -> AsyncIterator[Measure]:
    if find_spec("lakers") is None:  # its OSCORE server imports it, used or not
        raise Absent(f"lakers not found, which aiocoap's server needs; {TO_INSTALL}")
    import aiocoap

    from bench.peers.oscore_server import PATH, SERVER_ID, Context, client_id

    port, secret = free_port(socket.SOCK_STREAM), secrets.token_bytes(16)
    command = [sys.executable, "-m", "bench.peers.oscore_server", str(port), secret.hex(), str(IN_FLIGHT)]
    async with contextlib.AsyncExitStack() as opened:
        pid = await opened.enter_async_context(serving(folder, port, *command, cwd=_ROOT))
        between = await opened.enter_async_context(relay.tcp(port))
        address = f"coap+tcp://127.0.0.1:{between.port}"
        clients = []
        for number in range(IN_FLIGHT):
            client = await aiocoap.Context.create_client_context(transports=["oscore", "tcpclient"])
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

        async def measure(count: int) -> Cost:
            # as with readings of cpns, nothing is held: each device waits for its answer and goes on
            return await charged(pid, between, count, [[device(each, count // IN_FLIGHT) for each in clients]])

        await asyncio.gather(*(device(client, 1) for client in clients))  # connects
        yield measure


PEERS = (Peer("aiocoap, OSCORE over TCP", forward_secret=False, start=_start),)
