"""Scripted peers: a party that says what the test tells it to, over real sockets.

`Scripted` speaks correct CoAP with whatever content; `RawUdp` and `RawTcp` send bytes that need not be CoAP at all.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from cpns.crypto.schedule import Profile
from cpns.crypto.secret import Secret
from cpns.errors import Refused, Result
from cpns.ids import EntityId
from cpns.protocol.established import Established
from cpns.protocol.link_auth import claimant
from cpns.protocol.pne_auth import pne as pne_auth
from cpns.service.sessions import session_of
from cpns.service.system import random_bytes
from cpns.session.table import Session, Sessions
from cpns.transport.endpoint import Endpoint, Inbound, Link
from cpns.transport.errors import Answer, Code
from cpns.wire import codec, registry
from cpns.wire import messages as m
from cpns.wire import pn_messages as pm
from cpns.wire.registry import CPNS_PATH
from tests.support.tap import body_of
from tests.support.world import SERVER

Script = Callable[[Inbound, Any], Awaitable[Any]]
"""Takes a request and the CPNS message in it; returns a message, an Answer, or None for silence."""


class Scripted:
    """A peer whose answers a function gives."""

    def __init__(self, own_id: str, script: Script | None = None) -> None:
        self.got: list[Any] = []
        self.sessions = Sessions()
        self.endpoint = Endpoint(EntityId(own_id), self.sessions, self._handle)
        self.script = script

    async def _handle(self, inbound: Inbound) -> Answer | None:
        body = body_of(inbound.payload)
        self.got.append(body)
        answer = None if self.script is None else await self.script(inbound, body)
        if answer is None or isinstance(answer, Answer):
            return answer
        return Answer(Code.CHANGED, codec.encode(answer))

    async def link(self, address: tuple[str, int]) -> Link:
        """Return the link to a gateway on the PAN, from a UDP socket of our own."""
        if self.endpoint._pan is None:
            await self.endpoint.open_pan("127.0.0.1", 0)
        return await self.endpoint.link_to(*address)

    async def close(self) -> None:
        await self.endpoint.close()


async def ask(
    link: Link, message: Any, *, path: str = CPNS_PATH, seconds: float = 5.0, session: Session | None = None
) -> Answer:
    """Send *message* (or bytes) and return the first answer, whatever it is."""
    payload = message if isinstance(message, bytes) else codec.encode(message)
    return await link.request(path, payload, timeout=seconds, session=session, accept=lambda answer: answer)


async def said(link: Link, message: Any, shape: type[Any]) -> Any:
    """Send *message*; return the answer, which must be a *shape*."""
    answer = await ask(link, message)
    body = body_of(answer.payload)
    assert type(body) is shape, (Code(answer.code), body)
    return body


def result_of(answer: Answer) -> tuple[str, Result]:
    """Return code and result of an answer that refuses."""
    body = body_of(answer.payload)
    return str(Code(answer.code)), Result(body.result)


class ScriptedPne(Scripted):
    """A PNE that runs 7.5.4 step by step with the real procedures, as often and as oddly as a test wants.

    Its AUTHENTICATE Requests go to `challenges`; `answer_with` makes the answer (None: silence).
    """

    def __init__(self, name: str, key: Secret, **options: Any) -> None:
        super().__init__(name, self._challenged)
        self.name = EntityId(name)
        self.key = key
        self.options = {"suite": 1, "pan_secure": False, "gateway_id": None, **options}
        self.challenges: list[m.Challenge] = []
        self.proofs: list[m.Proof] = []
        self.state: Any = None
        self.answer_with: Callable[[m.Challenge], Any] = self.answer
        self.hop: Any = None

    def begin(self) -> m.SetupRequest:
        options = self.options
        self.state, request = pne_auth.begin(
            own_id=self.name,
            server_id=SERVER,
            gateway_id=options["gateway_id"],
            key=self.key,
            suite=options["suite"],
            rand=random_bytes(registry.RAND_BYTES),
            kid=random_bytes(1),
            eph_seed=random_bytes(96),
            need_local=not options["pan_secure"],
            pan_secure=options["pan_secure"],
            procedure=options.get("procedure", 1),
        )
        if "need_local" in options:  # what no PNE of ours would say
            self.state = replace(self.state, need_local=options["need_local"])
            request = replace(request, need_local=options["need_local"])
        return request

    def answer(self, challenge: m.Challenge) -> Any:
        """Answer as an honest PNE does; without the key of W it can't, and is silent."""
        with contextlib.suppress(Refused):
            self.state, proof = pne_auth.answer(self.state, challenge)
            self.proofs.append(proof)
            return proof
        return None

    def guess(self, challenge: m.Challenge) -> m.Proof:
        """Answer with a hash that nobody computed."""
        return m.Proof(self.name, random_bytes(16))

    async def _challenged(self, inbound: Inbound, body: Any) -> Any:
        if isinstance(body, m.Challenge):
            self.challenges.append(body)
            return self.answer_with(body)
        if isinstance(body, m.LinkChallengeFromGateway):
            self.hop, proof = claimant.answer(self.hop, body)
            return proof
        if isinstance(body, pm.PnChangeNotify):  # who does not take one is silent, and told no more
            return Answer(Code.CHANGED)
        return None

    async def setup(self, address: tuple[str, int], request: m.SetupRequest | None = None) -> m.SetupResponse:
        """Run a SETUP; return the SETUP Response as it came."""
        response: m.SetupResponse = await said(await self.link(address), request or self.begin(), m.SetupResponse)
        return response

    async def join(self, address: tuple[str, int]) -> pne_auth.Joined:
        """Run a SETUP to its good end."""
        response = await self.setup(address)
        joined = pne_auth.finish(self.state, response)
        self.sessions.add(session_of(joined.session, 0.0))
        return joined

    async def activate(self, address: tuple[str, int], key: Secret, binding: bytes, gateway: str) -> Established:
        """Run `pne-gw` with whatever key."""
        link = await self.link(address)
        self.hop, request = claimant.begin(
            Profile.PNE_GW,
            own_id=self.name,
            responder_id=EntityId(gateway),
            key=key,
            suite=self.options["suite"],
            rand=random_bytes(registry.RAND_BYTES),
            kid=random_bytes(1),
            eph_seed=random_bytes(96),
            binding=binding,
        )
        answer = await ask(link, request)
        body = body_of(answer.payload)
        if not isinstance(body, m.ActivateResponse):
            code, result = result_of(answer)
            raise Refused(result, code)
        return claimant.finish(self.hop, body)


class ScriptedGateway(Scripted):
    """A PN GW that authenticates itself with the real procedure, then says to the server what the test wants.

    AUTHENTICATE Requests go to `challenges`; `answer_with` makes the AUTHENTICATE Response. `outcomes` is for tests.
    """

    def __init__(self, name: str, key: Secret) -> None:
        super().__init__(name, self._asked)
        self.name = EntityId(name)
        self.key = key
        self.challenges: list[m.GatewayChallenge] = []
        self.outcomes: list[Any] = []
        self.answer_with: Callable[[m.GatewayChallenge], Any] = guesses
        self.to_server: Link
        self.session: Session
        self.run: Any = None

    async def _asked(self, inbound: Inbound, body: Any) -> Any:
        if isinstance(body, m.LinkChallengeFromServer):
            self.run, proof = claimant.answer(self.run, body)
            return proof
        if isinstance(body, m.GatewayChallenge) and inbound.source is not None:
            self.challenges.append(body)
            answer = self.answer_with(body)
            return await answer if asyncio.iscoroutine(answer) else answer
        return None

    async def connect(self, address: tuple[str, int], **changes: Any) -> None:
        """Connect and authenticate."""
        self.to_server = await self.endpoint.connect(*address)
        self.run, request = claimant.begin(
            Profile.GW_SERVER,
            own_id=self.name,
            responder_id=SERVER,
            key=self.key,
            suite=1,
            rand=random_bytes(registry.RAND_BYTES),
            kid=random_bytes(1),
            eph_seed=random_bytes(96),
        )
        response = await said(self.to_server, replace(request, **changes), m.ActivateResponse)
        established = claimant.finish(self.run, response)
        self.session = session_of(established, 0.0)
        self.sessions.add(self.session)

    async def setup(self, *entries: m.SetupEntry, **changes: Any) -> Answer:
        """Send one SETUP Request in the session; return the answer."""
        request = m.GatewaySetupRequest(random_bytes(8), False, entries)
        return await ask(self.to_server, replace(request, **changes), session=self.session)


def entry_of(request: m.SetupRequest) -> m.SetupEntry:
    """Return what a PN GW says of one PNE's SETUP Request."""
    r = request
    entry = m.SetupEntry(r.suite, r.entity_id, r.rand, r.kid, r.need_local, r.pan_secure, r.procedure, r.eph)
    return replace(entry, electives=r.electives)


def guesses(challenge: m.GatewayChallenge) -> m.GatewayProofs:
    """Answer with hashes that nobody computed."""
    return m.GatewayProofs(
        challenge.txn, tuple(m.ProofEntry(entry.entity_id, random_bytes(16)) for entry in challenge.entries)
    )


class RawUdp(asyncio.DatagramProtocol):
    """A UDP socket that sends any bytes and keeps what comes back."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self._transport: Any = None

    @classmethod
    async def open(cls, address: tuple[str, int]) -> "RawUdp":
        loop = asyncio.get_running_loop()
        _, self = await loop.create_datagram_endpoint(cls, remote_addr=address)
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append(data)

    def error_received(self, exc: Exception) -> None:
        pass

    def send(self, data: bytes) -> None:
        self._transport.sendto(data)

    def close(self) -> None:
        self._transport.close()


CSM = bytes.fromhex("00e1")


class RawTcp:
    """A TCP connection that sends any bytes and keeps what comes back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.got = bytearray()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, address: tuple[str, int], *, csm: bool = True) -> "RawTcp":
        self = cls(*await asyncio.open_connection(*address))
        if csm:
            self.writer.write(CSM)
        return self

    async def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self._reader.read(65536):
                self.got += data

    @property
    def closed(self) -> bool:
        return self._task.done()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
