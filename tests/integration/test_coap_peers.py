"""Over sockets against other implementations: aiocoap both ways, with OSCORE and without; coap-client of libcoap."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiocoap
import pytest
from aiocoap import CHANGED, POST, Message, oscore, resource
from aiocoap.message import Direction

from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.ids import EntityId
from cpns.session.table import Session, Sessions
from cpns.transport.endpoint import Endpoint, Inbound
from cpns.transport.errors import Answer
from tests.support.parties import free_port

SECRET, SALT = bytes(range(32)), bytes(range(16))
UDP, TCP = "udp", "tcp"
CLIENTS = {UDP: "simple6", TCP: "tcpclient"}
SERVERS = {UDP: "simplesocketserver", TCP: "tcpserver"}
SCHEMES = {UDP: "coap", TCP: "coap+tcp"}
SIZES = [0, 1, 700, 6000]
COAP_CLIENT = next(filter(None, map(shutil.which, ("coap-client-notls", "coap-client-openssl", "coap-client"))), None)


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


@pytest.mark.skipif(COAP_CLIENT is None, reason="coap-client of Debian's libcoap3-bin is not installed")
@pytest.mark.parametrize("kind", [UDP, TCP])
async def test_coap_client_of_libcoap(ours: Endpoint, kind: str) -> None:
    where = await address_of(ours, kind)
    process = await asyncio.create_subprocess_exec(
        *(str(COAP_CLIENT), "-m", "post", "-e", "abc", f"{SCHEMES[kind]}://{where}/hello"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert out.strip() == b"hello:cba"
