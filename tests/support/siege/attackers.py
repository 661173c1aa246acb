"""Senders without a key, in a process of their own: ``python -m tests.support.siege.attackers '{...}'``.

They speak just enough CoAP to be decoded, and answer nothing, but show that they are where they say. Rate, time and
source addresses are bounded: loopback.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from cpns.ids import EntityId
from cpns.service.system import random_bytes
from cpns.wire import codec, registry
from cpns.wire import messages as m
from cpns.wire.pn_messages import EntityDiscoveryRequest
from cpns.wire.registry import Mode
from tests.support.siege.flooder import files

PATH_AND_FORMAT = b"\xb4" + registry.CPNS_PATH.encode() + b"\x12" + registry.CONTENT_FORMAT.to_bytes(2)
"""Options Uri-Path (11) and Content-Format (12)."""
ECHO = bytes((0xD9, 252 - 13))
"""How an Echo of ours begins, where it is the first option: of 9 bytes (RFC 9175)."""
MOST_REMEMBERED = 1024
POST = 2
CSM = bytes.fromhex("00e1")
LONG_FRAME = b"\xe0"
"""The first byte of a frame of up to 65,804 bytes; the same bytes go on with it."""
SLICE = 0.01
"""Seconds between two bursts of a sender."""
SILENCE = "silence"
"""Connections, as many as there are ports, that say nothing; one that is closed is opened again."""
CONNECT_AND_CLOSE = "connect and close"
DRIP = "drip"
"""Connections as of `SILENCE`, each of which says one more byte of a long message when its turn comes."""
OPENING = 4000.0
"""Connections of these a second at first, until all are there."""
FORGED = 0xC6120000
"""198.18.0.0/15, where nobody is (RFC 2544): `forged` senders are anywhere there."""

Maker = Callable[[int, str], codec.Message]
"""Takes a running number and the ID that the attack is about; returns what is sent."""


def activate(number: int, entity: str) -> m.ActivateRequest:
    rand, kid = random_bytes(registry.RAND_BYTES), random_bytes(1)
    return m.ActivateRequest(2, EntityId(entity), rand, kid, random_bytes(32))


def cm_activate(number: int, entity: str) -> m.CmActivateRequest:
    rand, kid, code = random_bytes(registry.RAND_BYTES), random_bytes(1), random_bytes(registry.PROOF_BYTES)
    return m.CmActivateRequest(2, EntityId(entity), rand, kid, code, random_bytes(32))


def setup(number: int, entity: str) -> m.SetupRequest:
    return m.SetupRequest(
        suite=2,
        entity_id=EntityId(entity),
        rand=random_bytes(registry.RAND_BYTES),
        kid=random_bytes(1),
        eph=random_bytes(32),
        need_local=True,
        pan_secure=False,
        procedure=1,
    )


MAKERS: dict[str, Maker] = {
    "setup of new IDs": lambda number, entity: setup(number, f"{entity}-{number}"),
    "setup of one ID": setup,
    "activate of new IDs": lambda number, entity: activate(number, f"{entity}-{number}"),
    "activate of one ID": activate,
    "cm activate": lambda number, entity: cm_activate(number, f"cm-{entity}-{number}"),
    "discovery": lambda number, entity: EntityDiscoveryRequest(EntityId(f"{entity}-{number}"), Mode.PNE),
}


@dataclass(frozen=True)
class Attack:
    """What one attacker does.

    Attributes:
        what: a name of `MAKERS`; or `SILENCE`, `DRIP` or `CONNECT_AND_CLOSE`.
        target: where it sends to.
        entity: the ID, or how its IDs begin.
        rate: messages a second.
        seconds: that it lasts.
        hosts: source addresses, from 127.9.0.1 on.
        ports: sockets or connections, spread over the hosts.
        tcp: whether the target is an uplink.
        forged: whether each datagram says another source, which takes a raw socket.
    """

    what: str
    target: tuple[str, int]
    entity: str
    rate: float
    seconds: float
    hosts: int = 1
    ports: int = 1
    tcp: bool = False
    forged: bool = False

    def sources(self) -> Iterator[str]:
        for number in range(self.ports):
            host = number % self.hosts
            yield f"127.9.{host // 250}.{host % 250 + 1}"


def datagram(number: int, payload: bytes, echo: bytes = b"") -> bytes:
    """Return a confirmable POST to the CPNS resource, with a token of 4 bytes (RFC 7252), and maybe an Echo."""
    token = number.to_bytes(4)
    mid = (number + 0x8000 * bool(echo)) & 0xFFFF  # another message
    shown = bytes([0xD0 | len(echo), 252 - 12 - 13]) + echo if echo else b""
    return bytes([0x44, POST]) + mid.to_bytes(2) + token + PATH_AND_FORMAT + shown + b"\xff" + payload


def frame(number: int, payload: bytes) -> bytes:
    """Return the same over TCP (RFC 8323)."""
    rest = PATH_AND_FORMAT + b"\xff" + payload
    length = len(rest)
    if length < 13:
        head = bytes([length << 4 | 4])
    elif length < 269:
        head = bytes([13 << 4 | 4, length - 13])
    else:
        head = bytes([14 << 4 | 4]) + (length - 269).to_bytes(2)
    return head + bytes([POST]) + number.to_bytes(4) + rest


class _Ignores(asyncio.DatagramProtocol, asyncio.Protocol):
    """Sends, and looks at nothing that comes back, save who asks whether it is where it says."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._sent: dict[int, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, number: int, payload: bytes) -> None:
        """Send a datagram."""
        self._sent[number] = payload
        if len(self._sent) > MOST_REMEMBERED:
            del self._sent[next(iter(self._sent))]
        self.transport.sendto(datagram(number, payload))

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Say the same again with the Echo that is asked for."""
        number = int.from_bytes(data[4:8])
        if data[8:10] == ECHO and number in self._sent:
            self.transport.sendto(datagram(number, self._sent.pop(number), data[10:19]))

    def error_received(self, exc: Exception) -> None:
        """Nobody there is no matter."""


class _Forges(_Ignores):
    """Sends datagrams in the name of hosts that did not: IPv4 and UDP by hand (RFC 791, 768), without checksum."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._target = target
        self.transport = self

    def sendto(self, payload: bytes) -> None:
        """Send a datagram from anybody."""
        host, port = self._target
        source = FORGED | random.getrandbits(17)
        head = struct.pack("!BBHHHBBHI", 0x45, 0, 28 + len(payload), 0, 0, 64, socket.IPPROTO_UDP, 0, source)
        udp = struct.pack("!HHHH", random.randrange(1024, 65536), port, 8 + len(payload), 0)
        self._socket.sendto(head + socket.inet_aton(host) + udp + payload, (host, 0))

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self._socket.close()


async def _opened(attack: Attack, source: str) -> _Ignores:
    if attack.forged:
        return _Forges(attack.target)
    loop = asyncio.get_running_loop()
    if not attack.tcp:
        _, one = await loop.create_datagram_endpoint(_Ignores, local_addr=(source, 0), remote_addr=attack.target)
        return one
    _, one = await loop.create_connection(_Ignores, *attack.target, local_addr=(source, 0))
    if attack.what == CONNECT_AND_CLOSE:
        one.transport.abort()
    elif attack.what != SILENCE:
        one.transport.write(CSM)
    return one


def _say(one: _Ignores, attack: Attack, number: int) -> None:
    if attack.what == DRIP:
        one.transport.write(LONG_FRAME)
    if attack.what not in MAKERS:
        return
    payload = codec.encode(MAKERS[attack.what](number, attack.entity))
    if attack.tcp:
        one.transport.write(frame(number, payload))
    else:
        one.send(number, payload)


async def run(attack: Attack) -> int:
    """Attack; return how many messages were sent."""
    sources = list(attack.sources())
    sockets: list[_Ignores | None] = [None] * len(sources)
    opened_first = len(sources) if attack.what in (SILENCE, DRIP) else 0
    loop = asyncio.get_running_loop()
    begun = loop.time()
    sent = 0
    for number in count():
        now = loop.time() - begun
        if now >= attack.seconds:
            break
        while sent < now * attack.rate or sent < min(now * OPENING, opened_first):
            place = sent % len(sources)
            one = sockets[place]
            with contextlib.suppress(OSError):
                if one is None or one.transport.is_closing():
                    one = sockets[place] = await _opened(attack, sources[place])
                _say(one, attack, sent)
            sent += 1
        await asyncio.sleep(SLICE if number else 0)
    for left in sockets:
        if left is not None:
            left.transport.abort()
    return sent


class Attacker:
    """The process of one attack."""

    def __init__(self, attack: Attack) -> None:
        self._attack = attack
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "Attacker":
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.siege.attackers", json.dumps(asdict(self._attack))),
            stdout=asyncio.subprocess.PIPE,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def sent(self) -> int:
        """Wait for its end; return how many messages it sent."""
        if self._process is None:
            return 0
        out, _ = await self._process.communicate()
        return int(out)  # one that failed said nothing: its row would show nothing


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    files()
    os.nice(10)  # other hosts have cores of their own: this one's is not part of what it does to them
    print(asyncio.run(run(Attack(**{**given, "target": tuple(given["target"])}))))
