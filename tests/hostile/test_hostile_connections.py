"""Connections to a server that prove nothing: they take no place from anybody else, whatever way they end.

The honest parties come from 127.0.0.1, the others from 127.9.x.y.
"""

import asyncio
import errno
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from cpns.transport import door
from tests.integration.test_uplink import certificate
from tests.support.raw import CSM, RawTcp
from tests.support.siege.attackers import CONNECT_AND_CLOSE, SILENCE, Attack, Attacker, run
from tests.support.world import World, until, world


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_CONNECTIONS", (32, 4))
    monkeypatch.setattr(door, "MAX_HANDSHAKES", (16, 2))


async def tls_server(w: World, folder: Path) -> Path:
    """Start a server with TLS; return the certificate."""
    cert, key = certificate(folder, "127.0.0.1")
    await w.start_server(tls_certificate=cert, tls_key=key)
    return cert


async def new_gateway(w: World, name: str, **options: object) -> None:
    """Let a gateway that was never here connect within two seconds."""
    async with asyncio.timeout(2.0):
        gateway = await w.start_gateway(name, wait=False, **options)  # type: ignore[arg-type]
        await gateway.uplink.wait(2.0)


async def connections_from(w: World, host: str, count: int, *, says: bytes = CSM) -> list[RawTcp]:
    """Open connections that prove nothing."""
    opened = []
    for _ in range(count):
        one = RawTcp(*await asyncio.open_connection(*w.address, local_addr=(host, 0)))
        one.writer.write(says)
        opened.append(one)
    return opened


async def closed(*ones: RawTcp) -> None:
    for one in ones:
        await one.close()


@pytest.mark.usefixtures("few")
async def test_connections_that_end_before_their_handshake_leave_nothing(tmp_path: Path) -> None:
    """A health check each second, or a stranger: 300 times as many as there are places would be too many for ever."""
    async with world(tmp_path) as w:
        cert = await tls_server(w, tmp_path)
        await run(Attack(CONNECT_AND_CLOSE, w.address, "", 1000.0, 0.3, tcp=True))
        await new_gateway(w, "gw-1", tls=True, tls_ca=cert)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n"])
async def test_handshakes_that_do_not_go_on_keep_nobody_out(tmp_path: Path, hello: bytes) -> None:
    async with world(tmp_path) as w:
        cert = await tls_server(w, tmp_path)
        silent = await connections_from(w, "127.9.0.1", 40, says=hello)
        await new_gateway(w, "gw-1", tls=True, tls_ca=cert)
        await closed(*silent)


async def test_a_handshake_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_SECONDS", 0.3)
    async with world(tmp_path) as w:
        await tls_server(w, tmp_path)
        silent = await connections_from(w, "127.9.0.1", 10, says=b"")
        await until(lambda: all(one.closed for one in silent))
        await closed(*silent)


async def test_what_comes_with_the_end_of_a_handshake_is_taken(tmp_path: Path) -> None:
    """A peer may send its first message right behind its last one of the handshake."""
    async with world(tmp_path) as w:
        cert = await tls_server(w, tmp_path)
        reader, writer = await asyncio.open_connection(*w.address, ssl=ssl.create_default_context(cafile=cert))
        writer.write(CSM + bytes.fromhex("00e2"))  # settings, then a ping (RFC 8323 5.4)
        async with asyncio.timeout(2.0):
            said = b""
            while bytes([0xE3]) not in said:  # its pong
                said += await reader.read(100)
        writer.close()
        await writer.wait_closed()


@pytest.mark.usefixtures("few")
async def test_the_newest_of_the_host_with_most_gives_way(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_server()
        few = await connections_from(w, "127.9.0.2", 5)
        many = await connections_from(w, "127.9.0.1", 40)
        await until(lambda: sum(one.closed for one in many) == 40 - 23)
        assert not any(one.closed for one in many[:23])
        await new_gateway(w, "gw-1")
        await until(lambda: many[22].closed)
        assert not any(one.closed for one in [*few, *many[:22]])
        more = await connections_from(w, "127.9.0.3", 20)
        await until(lambda: sum(one.closed for one in more) + sum(one.closed for one in many[:22]) > 15)
        assert not any(one.closed for one in few), "none of a host with less than its part gives way"
        await closed(*few, *many, *more)


@pytest.mark.usefixtures("few")
async def test_a_connection_that_has_proven_itself_gives_way_to_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_server()
        gateways = [await w.start_gateway(f"gw-{n}") for n in range(10)]
        standing = [one.uplink.standing for one in gateways]
        silent = await connections_from(w, "127.9.0.1", 60)
        await new_gateway(w, "gw-new")
        assert [one.uplink.standing for one in gateways] == standing
        await closed(*silent)


async def test_4096_silent_connections_keep_nobody_out(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.start_server()
        quiet = await w.start_gateway("gw-quiet")
        standing = quiet.uplink.standing
        attack = Attack(SILENCE, w.address, "", 2500.0, 30.0, hosts=20, ports=5000, tcp=True)
        async with Attacker(attack):
            await until(lambda: len(w.server._endpoint._uplinks.connections) >= 3584)
            for number in range(3):
                await new_gateway(w, f"gw-{number}")
            assert quiet.uplink.standing is standing


async def test_a_host_begins_so_many_connections_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes above that costs an accept and a close; a host that proved itself before has more."""
    monkeypatch.setattr(door, "CONNECTIONS", (0.001, 20.0))
    monkeypatch.setattr(door, "KNOWN_CONNECTIONS", (0.001, 40.0))
    async with world(tmp_path) as w:
        await w.start_server()
        many = await connections_from(w, "127.9.0.1", 200)
        await until(lambda: sum(one.closed for one in many) >= 180)
        assert len(w.server._endpoint._uplinks.connections) == 20
        await new_gateway(w, "gw-1")
        known = await connections_from(w, "127.0.0.1", 60)
        await until(lambda: sum(one.closed for one in known) >= 20)
        assert sum(one.closed for one in known) == 20
        await closed(*many, *known)


async def test_who_listens_goes_on_when_there_are_files_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = 0

    def none_left(self: socket.socket) -> Any:
        nonlocal tried
        tried += 1
        raise OSError(errno.EMFILE, "too many open files")

    async with world(tmp_path) as w:
        await w.start_server()
        with monkeypatch.context() as patched:
            patched.setattr(socket.socket, "accept", none_left)
            waiting = await connections_from(w, "127.9.0.1", 5)
            await until(lambda: tried > 1)
            assert tried < 50, "it looks again from time to time, not at each turn of the loop"
        await until(lambda: len(w.server._endpoint._uplinks.connections) == 5)
        await closed(*waiting)
