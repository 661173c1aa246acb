"""Over sockets against other implementations, both ways, UDP and TCP: aiocoap, with OSCORE and without; libcoap.

Debian's libcoap 4.3.1 has no OSCORE. Where `libcoap3-bin` is not installed its tests say that they were left out.
"""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiocoap
import pytest
from aiocoap import ABORT, CHANGED, CSM, PONG, POST, Message, oscore, resource
from aiocoap.message import Direction

from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.ids import EntityId
from cpns.session.table import Session, Sessions
from cpns.transport.endpoint import Endpoint, Inbound
from cpns.transport.errors import Answer
from cpns.transport.uplink import is_reachable
from tests.support.parties import free_port
from tests.support.tap import frames_of

SECRET, SALT = bytes(range(32)), bytes(range(16))
UDP, TCP = "udp", "tcp"
CLIENTS = {UDP: "simple6", TCP: "tcpclient"}
SERVERS = {UDP: "simplesocketserver", TCP: "tcpserver"}
SCHEMES = {UDP: "coap", TCP: "coap+tcp"}
SIZES = [0, 1, 700, 6000]


def libcoap(program: str) -> str | None:
    """Return the path of a program of libcoap, whatever it uses for TLS; None: it is not installed."""
    return next(filter(None, (shutil.which(program + kind) for kind in ("-notls", "-openssl", "-gnutls", ""))), None)


COAP_CLIENT, COAP_SERVER = libcoap("coap-client"), libcoap("coap-server")
needs_libcoap = pytest.mark.skipif(
    COAP_CLIENT is None or COAP_SERVER is None, reason="left out: apt install libcoap3-bin (coap-client, coap-server)"
)


class Keys:
    def oscore_master_secret(self) -> Secret:
        return Secret(SECRET)

    def oscore_master_salt(self) -> bytes:
        return SALT


class Theirs(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """aiocoap's OSCORE, in memory."""

    id_context = None
    echo_recovery = None

    def __init__(self, sender: bytes, recipient: bytes) -> None:
        self.alg_aead = oscore.algorithms["AES-CCM-16-64-128"]
        self.hashfun = oscore.hashfunctions["sha256"]
        self.sender_id, self.recipient_id = sender, recipient
        self.derive_keys(SALT, SECRET)
        self.sender_sequence_number = 0
        self.recipient_replay_window = oscore.ReplayWindow(32, lambda: None)
        self.recipient_replay_window.initialize_empty()

    def post_seqnoincrease(self) -> None:
        pass


def session(own_kid: bytes, peer_kid: bytes) -> Session:
    keys: Any = Keys()
    return Session(Profile.PNE_SERVER, EntityId("ours"), EntityId("theirs"), own_kid, peer_kid, keys, 0.0)


async def turned(inbound: Inbound) -> Answer:
    """Answer with the body turned around; late where it says so."""
    if inbound.payload.startswith(b"late"):
        await asyncio.sleep(0.3)
    return Answer(0x44, inbound.path.encode() + b":" + inbound.payload[::-1])


@pytest.fixture
async def ours() -> AsyncIterator[Endpoint]:
    sessions = Sessions()
    endpoint = Endpoint(EntityId("ours"), sessions, turned)
    sessions.add(session(b"\x01", b"\x02"))
    yield endpoint
    await endpoint.close()


async def address_of(endpoint: Endpoint, kind: str) -> str:
    if kind == UDP:
        return await endpoint.open_pan("127.0.0.1", 0)
    host, port = await endpoint.listen("127.0.0.1", 0)
    return f"{host}:{port}"


@pytest.mark.parametrize("kind", [UDP, TCP])
async def test_aiocoap_as_client(ours: Endpoint, kind: str) -> None:
    where = await address_of(ours, kind)
    client = await aiocoap.Context.create_client_context(transports=[CLIENTS[kind]])
    try:
        for body in (*map(bytes, SIZES), b"late"):
            if len(body) > 1000:
                continue  # aiocoap cuts it into blocks, which we do not know
            request = Message(code=POST, uri=f"{SCHEMES[kind]}://{where}/hello", payload=body)
            answer = await asyncio.wait_for(client.request(request).response, 40)
            assert (answer.code, answer.payload) == (CHANGED, b"hello:" + body[::-1])
    finally:
        await client.shutdown()


@pytest.mark.parametrize("kind", [UDP, TCP])
async def test_aiocoap_as_client_with_oscore(ours: Endpoint, kind: str) -> None:
    where = await address_of(ours, kind)
    client, theirs = await aiocoap.Context.create_client_context(transports=[CLIENTS[kind]]), Theirs(b"\x01", b"\x02")
    try:
        for size in (0, 700, 900):
            outer, request_id = theirs.protect(Message(code=POST, uri_path=("hello",), payload=bytes(size)))
            request = Message(code=outer.code, uri=f"{SCHEMES[kind]}://{where}", payload=outer.payload)
            request.opt.oscore = outer.opt.oscore
            received = await asyncio.wait_for(client.request(request).response, 40)
            received.direction = Direction.INCOMING
            answer, _ = theirs.unprotect(received, request_id)
            assert (answer.code, answer.payload) == (CHANGED, b"hello:" + bytes(size))
    finally:
        await client.shutdown()


class Turned(resource.Resource):  # type: ignore[misc]
    """What `turned` is, of aiocoap; it opens and seals where it has a context."""

    def __init__(self, theirs: Theirs | None = None) -> None:
        super().__init__()
        self._theirs = theirs

    async def render_post(self, request: Message) -> Message:
        if self._theirs is None:
            return Message(code=CHANGED, payload=request.payload[::-1])
        inner, request_id = self._theirs.unprotect(request)
        outer, _ = self._theirs.protect(Message(code=CHANGED, payload=inner.payload[::-1]), request_id)
        return outer


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("kind", [UDP, TCP])
async def test_aiocoap_as_server(ours: Endpoint, kind: str, sealed: bool) -> None:
    port = free_port(socket.SOCK_STREAM if kind == TCP else socket.SOCK_DGRAM)
    site = resource.Site()
    site.add_resource(["hello"], Turned())
    site.add_resource([], Turned(Theirs(b"\x01", b"\x02")))
    server = await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port), transports=[SERVERS[kind]])
    try:
        if kind == UDP:
            await ours.open_pan("127.0.0.1", 0)
            link = await ours.link_to("127.0.0.1", port)
        else:
            link = await ours.connect("127.0.0.1", port)
        under = session(b"\x01", b"\x02") if sealed else None
        for size in (0, 1, 700, 900):
            answer = await link.exchange("hello", b"a" + bytes(size), timeout=40, session=under)
            assert (answer.code, answer.payload) == (0x44, bytes(size) + b"a")
    finally:
        await server.shutdown()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("0902", b"token_invalid"),
        ("f0ffffffff", b"message_too_long"),
        ("00ff", b"unknown_signal"),
        ("20e12102" + "00e2", b"too_long_for_peer"),  # it takes two bytes, and a pong with a token has three
    ],
)
async def test_a_peer_is_told_why_its_connection_ends(ours: Endpoint, said: str, reason: bytes) -> None:
    """RFC 8323 5.6: what was asked before is answered, then comes an Abort with the reason, then the end."""
    host, _, port = (await address_of(ours, TCP)).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    ping = "01e242"
    writer.write(bytes.fromhex("00e1" + ping + said.replace("00e2", ping)))
    async with asyncio.timeout(40):
        settings, pong, abort = frames_of(await reader.read())
    assert (settings.code, pong.code, pong.token) == (CSM, PONG, b"\x42")
    assert (abort.code, abort.payload) == (ABORT, reason)
    writer.close()


async def test_a_peer_that_releases_a_connection_sees_it_end(ours: Endpoint) -> None:
    """RFC 8323 5.5."""
    host, _, port = (await address_of(ours, TCP)).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(bytes.fromhex("00e1" + "01e242" + "00e4"))
    async with asyncio.timeout(40):
        assert [one.code for one in frames_of(await reader.read())] == [CSM, PONG]
    writer.close()


@needs_libcoap
@pytest.mark.parametrize("kind", [UDP, TCP])
async def test_libcoap_as_client(ours: Endpoint, kind: str) -> None:
    where = await address_of(ours, kind)
    process = await asyncio.create_subprocess_exec(
        *(str(COAP_CLIENT), "-m", "post", "-e", "abc", f"{SCHEMES[kind]}://{where}/hello"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 40)
    assert out.strip() == b"hello:cba"


@needs_libcoap
async def test_libcoap_as_server(ours: Endpoint) -> None:
    """It answers POST to one of its resources with 4.05, and to none of them with 4.04."""
    port = free_port(socket.SOCK_STREAM)
    process = await asyncio.create_subprocess_exec(str(COAP_SERVER), "-A", "127.0.0.1", "-p", str(port))
    try:
        async with asyncio.timeout(40):
            while not await is_reachable("127.0.0.1", port, 5):
                await asyncio.sleep(0.05)
        await ours.open_pan("127.0.0.1", 0)
        for link in (await ours.link_to("127.0.0.1", port), await ours.connect("127.0.0.1", port)):
            for path, code in (("example_data", 0x85), ("elsewhere", 0x84)):
                assert (await link.exchange(path, b"abc", timeout=40)).code == code
    finally:
        process.kill()
        await process.wait()
