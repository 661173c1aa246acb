"""TLS 1.3 with an external PSK (RFC 8446, 2.2): OpenSSL on both sides, no certificate, no ticket.

Once without a Diffie-Hellman exchange, which is the nearest to suite 1, and once with X25519, as in suite 2. The
server knows one key, has no third party, and stores nothing.
"""

import contextlib
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

from bench.peers import relay
from bench.peers.peer import IN_FLIGHT, Cost, Measure, Peer, charged, environment, free_port, need, run, serving

_IDENTITY = "pne-00000"


def _start(folder: Path, *, diffie_hellman: bool) -> AbstractAsyncContextManager[Measure]:
    # With no group in common, the PSK alone is what is left to agree on.
    server = ["-groups", "X25519" if diffie_hellman else "P-256"]
    client = ["-groups", "X25519"]
    if not diffie_hellman:
        server.append("-allow_no_dhe_kex")
        client.append("-allow_no_dhe_kex")
    return _started(folder, server, client)


@contextlib.asynccontextmanager
async def _started(folder: Path, server: list[str], client: list[str]) -> AsyncIterator[Measure]:
    need("openssl", "openssl")
    port = free_port(socket.SOCK_STREAM)
    both = ["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-psk", secrets.token_hex(32)]
    both += ["-psk_identity", _IDENTITY]
    listen = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-nocert", "-quiet", "-num_tickets", "0"]
    async with serving(folder, port, *listen, *both, *server) as pid, relay.tcp(port) as between:
        connect = ["openssl", "s_client", "-connect", f"127.0.0.1:{between.port}", *both, *client]

        async def device() -> None:
            printed = await run(*connect, env=environment(), cwd=folder)
            if "Reused, TLSv1.3" not in printed:  # OpenSSL's word for a session that comes from a PSK
                raise RuntimeError(f"no handshake: {printed[-500:]}")

        async def measure(count: int) -> Cost:
            rounds = ([device() for _ in range(IN_FLIGHT)] for _ in range(count // IN_FLIGHT))
            return await charged(pid, between, count, rounds)

        yield measure


PEERS = (
    Peer("TLS 1.3, PSK alone (OpenSSL)", forward_secret=False, start=partial(_start, diffie_hellman=False)),
    Peer("TLS 1.3, PSK and X25519 (OpenSSL)", forward_secret=True, start=partial(_start, diffie_hellman=True)),
)
