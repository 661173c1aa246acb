"""One host without a key that sends as many bytes as it is told: ``python -m tests.support.siege.flooder '{...}'``.

It runs until SIGTERM, then says as JSON what it did. Plain sockets and no loop, as it is to be faster than whoever it
floods. A rate is in bytes; what has few bytes or none counts the heads of its packets.
"""

import asyncio
import contextlib
import errno
import json
import os
import random
import resource
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

CSM: Final = b"\x00\xe1"
DATAGRAM_HEAD: Final = 42
"""Bytes of Ethernet, IPv4 and UDP before what a datagram says."""
SEGMENT_HEAD: Final = 66
"""Likewise of TCP, with its timestamps."""
CONNECTION: Final = 4 * SEGMENT_HEAD + 8
"""What it sends to begin a connection and to end it."""
SLICE: Final = 0.005
"""Seconds between two bursts."""
LOOKS: Final = 256
"""Connections that it looks at in one burst."""
BLOCK: Final = 65_536
FILES: Final = 12_000
"""Files that it would have open at most: 10,000 connections."""


@dataclass(frozen=True)
class Stream:
    """What is said on a connection, again and again.

    Attributes:
        unit: the bytes.
        anew: whether each unit has a connection of its own.
        connections: at a time.
        piece: bytes of a segment; 0: as many as the socket takes.
    """

    unit: bytes
    anew: bool = False
    connections: int = 1
    piece: int = 0


def _two(code: int) -> bytes:
    return bytes((0, code)) * (BLOCK // 2)


def _long(code: int, rest: bytes) -> bytes:
    """Return a frame of *code* with these options and this payload (RFC 8323 3.2), at least 269 bytes."""
    return b"\xe0" + (len(rest) - 269).to_bytes(2) + bytes((code,)) + rest


_garbage = random.Random(1)
STREAMS: Final[dict[str, Stream]] = {
    "pings": Stream(_two(0xE2)),
    "pings on 1,000 connections": Stream(_two(0xE2), connections=1000),
    "pongs": Stream(_two(0xE3)),
    "settings": Stream(_two(0xE1)),
    "empty messages": Stream(_two(0)),
    "answers that nobody waits for": Stream(_two(0x44)),
    "requests of two bytes": Stream(_two(0x02)),
    "requests of 65,000 zero bytes": Stream(_long(0x02, bytes(65_000))),
    "answers of 65,000 bytes": Stream(_long(0x44, b"\xff" + bytes(64_999))),
    "half frames": Stream(_long(0x02, bytes(65_000))[:-1], anew=True),
    "half frames, a byte a segment": Stream(_long(0x02, bytes(65_000))[:-1], anew=True, piece=1),
    "garbage": Stream(_garbage.randbytes(4096), anew=True),
    "connections that end without a byte": Stream(b"", anew=True),
    "connections that say nothing": Stream(b"", connections=10_000),
}
Maker = Callable[[int], bytes]
"""Takes a running number; returns what a datagram says."""
DATAGRAMS: Final[dict[str, Maker]] = {
    "empty datagrams": lambda number: b"",
    "datagrams of two bytes": lambda number: number.to_bytes(4)[2:],
    "pings": lambda number: b"\x40\x00" + (number & 0xFFFF).to_bytes(2),
    "acknowledgements": lambda number: b"\x60\x00" + (number & 0xFFFF).to_bytes(2),
    "answers that nobody waits for": lambda number: b"\x40\x44" + (number & 0xFFFF).to_bytes(2),
    "requests of four bytes": lambda number: b"\x40\x02" + (number & 0xFFFF).to_bytes(2),
    "requests of 8,000 zero bytes": lambda number: b"\x40\x02" + (number & 0xFFFF).to_bytes(2) + bytes(8000),
    "65,000 zero bytes": lambda number: bytes(65_000),
    "garbage": lambda number: _garbage.randbytes(64),
}


@dataclass(frozen=True)
class Flood:
    """What one host sends.

    Attributes:
        what: a name of `STREAMS` where it goes to an uplink, else of `DATAGRAMS`.
        target: the uplink or the PAN.
        rate: bytes a second.
        source: its address.
        tcp: whether the target is an uplink.
    """

    what: str
    target: tuple[str, int]
    rate: float
    source: str = "127.9.0.1"
    tcp: bool = False


@dataclass(frozen=True)
class Sent:
    """What came of it.

    Attributes:
        rate: bytes a second that it got rid of.
        cpu: the part of a core that it took.
        connections: that it began.
    """

    rate: float
    cpu: float
    connections: int


class _Connection:
    """One connection, which never waits."""

    def __init__(self, flood: Flood, stream: Stream) -> None:
        self._stream = stream
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((flood.source, 0))
        self._left = memoryview(CSM + stream.unit if stream.unit else b"")
        self.ended = self._socket.connect_ex(flood.target) not in (0, errno.EINPROGRESS)

    def send(self, most: float) -> int:
        """Send up to about *most* bytes; return how many went, or count as gone."""
        went = 0
        try:
            while went < most:
                if not self._left:
                    self.ended = self._stream.anew
                    if self.ended or not self._stream.unit:
                        break
                    self._left = memoryview(self._stream.unit)
                piece = self._left[: self._stream.piece or max(1, int(most - went))]
                sent = self._socket.send(piece)
                self._left = self._left[sent:]
                went += sent + (SEGMENT_HEAD if self._stream.piece else 0)
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        self._look()
        return went

    def _look(self) -> None:
        """Take what came, and whether it is the end."""
        with contextlib.suppress(BlockingIOError):
            try:
                self.ended |= not self._socket.recv(BLOCK)
            except OSError as error:
                if isinstance(error, BlockingIOError):
                    raise
                self.ended = True

    def close(self) -> None:
        self._socket.close()


class OnUplink:
    """Floods an uplink.

    Attributes:
        begun: connections so far.
        ended: of these, those that are over.
    """

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._stream = STREAMS[flood.what]
        self._open: deque[_Connection] = deque()
        self.begun = self.ended = 0

    def burst(self, most: float) -> float:
        """Send up to about *most* bytes; return how many went."""
        went = 0.0
        for _ in range(LOOKS):
            if went >= most:
                break
            if len(self._open) < self._stream.connections:
                with contextlib.suppress(OSError):  # no port, or no file is left for now
                    self._open.append(_Connection(self._flood, self._stream))
                    self.begun += 1
                went += CONNECTION
            else:
                self._open.rotate()
            if self._open:
                one = self._open[-1]
                went += one.send(most - went)
                if one.ended:
                    self._open.pop().close()
                    self.ended += 1
        return went

    def close(self) -> None:
        """End all."""
        for one in self._open:
            one.close()


class OnPan:
    """Floods a PAN."""

    begun = 0

    def __init__(self, flood: Flood) -> None:
        self._make = DATAGRAMS[flood.what]
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((flood.source, 0))
        self._socket.connect(flood.target)
        self._number = 0

    def burst(self, most: float) -> float:
        """Send up to about *most* bytes; return how many went."""
        went = 0
        with contextlib.suppress(OSError):  # its own queue is full, or a port was unreachable
            while went < most:
                self._number += 1
                went += DATAGRAM_HEAD + self._socket.send(self._make(self._number))
        return went

    def close(self) -> None:
        """Close its socket."""
        self._socket.close()


def files() -> int:
    """Let this process have `FILES` open, if it may; return how many it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def run(flood: Flood) -> Sent:
    """Flood until SIGTERM."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda *of: ended.append(1))
    sender = OnUplink(flood) if flood.tcp else OnPan(flood)
    print("at it", flush=True)
    begun, cpu, went, credit = time.monotonic(), time.process_time(), 0.0, 0.0
    last = begun
    while not ended:
        now = time.monotonic()
        credit = min(credit + (now - last) * flood.rate, flood.rate / 10)  # what it could not send is not made up for
        last = now
        sent = sender.burst(credit)
        went += sent
        credit -= sent
        if sent == 0 or credit <= 0:
            time.sleep(SLICE)
    seconds = time.monotonic() - begun
    return Sent(went / seconds, (time.process_time() - cpu) / seconds, sender.begun)


class Flooder:
    """The process of one flood.

    Attributes:
        sent: what came of it, once it has ended.
    """

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._process: asyncio.subprocess.Process | None = None
        self.sent = Sent(0.0, 0.0, 0)

    async def __aenter__(self) -> "Flooder":
        pipe = asyncio.subprocess.PIPE
        arguments = ("-m", "tests.support.siege.flooder", json.dumps(asdict(self._flood)))
        self._process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=pipe)
        if self._process.stdout is None:
            raise RuntimeError("no pipe")
        async with asyncio.timeout(40):
            await self._process.stdout.readline()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        out, _ = await self._process.communicate()
        self.sent = Sent(**json.loads(out)) if out else self.sent


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    files()
    os.nice(10)  # other hosts have cores of their own: this one's is not part of what it does to them
    print(json.dumps(asdict(run(Flood(**{**given, "target": tuple(given["target"])})))))
