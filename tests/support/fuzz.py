"""Mutants of recorded traffic, from a seed: for UDP datagrams and for CoAP frames on TCP."""

import asyncio
import gc
import logging
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any

import psutil
import pytest

from tests.support.lossy import Address


class Mutator:
    """Makes datagrams: the same seed and corpus give the same ones."""

    def __init__(self, seed: int, corpus: Sequence[bytes]) -> None:
        self.random = random.Random(seed)
        self.corpus = list(corpus)
        self._ways: list[Callable[[bytearray], bytearray]] = [
            *(self._flip, self._cut, self._splice, self._insert, self._delete),
            *(self._byte, self._length, self._token, self._code, self._grow),
        ]

    def __call__(self) -> bytes:
        """Return one datagram: 1 in 10 random, the others 0 to 3 changes away from honest ones."""
        draw = self.random
        if draw.random() < 0.1:
            return draw.randbytes(draw.randrange(1, 200))
        data = bytearray(draw.choice(self.corpus))
        for _ in range(draw.choice((0, 1, 1, 1, 2, 3))):
            if data:
                data = draw.choice(self._ways)(data)
        return bytes(data)

    def fresh(self) -> bytes:
        """Return one datagram whose message ID was not used before, most of the time: else it is a repetition."""
        data = bytearray(self())
        if len(data) >= 4 and self.random.random() < 0.95:
            data[2:4] = self.random.randbytes(2)
        return bytes(data)

    def _at(self, data: bytearray) -> int:
        return self.random.randrange(len(data))

    def _flip(self, data: bytearray) -> bytearray:
        for _ in range(self.random.choice((1, 1, 2, 8))):
            data[self._at(data)] ^= 1 << self.random.randrange(8)
        return data

    def _byte(self, data: bytearray) -> bytearray:
        data[self._at(data)] = self.random.choice((0, 1, 0x7F, 0x80, 0xFF, 0xF0, 0x0F, self.random.randrange(256)))
        return data

    def _cut(self, data: bytearray) -> bytearray:
        return data[: self._at(data)]

    def _splice(self, data: bytearray) -> bytearray:
        other = self.random.choice(self.corpus)
        return data[: self._at(data)] + bytearray(other[self.random.randrange(len(other)) :])

    def _insert(self, data: bytearray) -> bytearray:
        at = self._at(data)
        return data[:at] + bytearray(self.random.randbytes(self.random.randrange(1, 9))) + data[at:]

    def _delete(self, data: bytearray) -> bytearray:
        at = self._at(data)
        return data[:at] + data[at + self.random.randrange(1, 9) :]

    def _length(self, data: bytearray) -> bytearray:
        """Lie about a length: CBOR's additional information or an option's nibbles, wherever they are."""
        at = self._at(data)
        data[at] = data[at] & 0xE0 | self.random.choice((23, 24, 25, 26, 27, 28, 31))
        return data

    def _token(self, data: bytearray) -> bytearray:
        data[0] = data[0] & 0xF0 | self.random.randrange(16)
        return data

    def _code(self, data: bytearray) -> bytearray:
        if len(data) > 1:
            data[1] = self.random.choice(
                (0, 1, 2, 4, 0x44, 0x81, 0xA0, 0xE1, 0xE2, 0x20, 0x60, self.random.randrange(256))
            )
        return data

    def _grow(self, data: bytearray) -> bytearray:
        return data + bytearray(self.random.randbytes(self.random.choice((1, 50, 500, 2000))))


def framed(datagram: bytes) -> bytes:
    """Return a UDP datagram (or a mutant) as a CoAP frame for TCP whose length is right for what follows."""
    if len(datagram) < 4:
        return datagram
    token = datagram[0] & 0x0F
    rest = datagram[4 + token :] if token <= 8 else datagram[4:]
    size = len(rest)
    code_and_token = datagram[1:2] + datagram[4 : 4 + token]
    if size < 13:
        return bytes([size << 4 | token]) + code_and_token + rest
    if size < 269:
        return bytes([13 << 4 | token, size - 13]) + code_and_token + rest
    return bytes([14 << 4 | token]) + (size - 269).to_bytes(2, "big") + code_and_token + rest


class Health:
    """What must stay well while a party is fuzzed: no unhandled exception, no error in the log, bounded memory."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.unhandled: list[dict[str, Any]] = []
        self._caplog = caplog
        caplog.set_level(logging.ERROR)
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.unhandled.append(context))
        self.before = rss()

    def start(self) -> None:
        """Begin to measure memory, after a warm-up."""
        self.before = rss()

    def check(self, megabytes: float = 30.0) -> None:
        assert self.unhandled == []
        errors = [record for record in self._caplog.records if record.levelno >= logging.ERROR]
        assert [(record.name, record.getMessage(), record.exc_text) for record in errors] == []
        grown = (rss() - self.before) / 2**20
        assert grown < megabytes, f"{grown:.1f} MB more"


def rss() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


async def pour(
    address: Address, datagrams: Callable[[], bytes], count: int, taken: Callable[[], int], sockets: int = 8
) -> None:
    """Send *count* datagrams, no faster than *taken* grows, so that none is lost in the socket's buffer."""
    sources = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(sockets)]
    for source in sources:
        source.setblocking(False)
        source.connect(address)
    goal = taken() + count
    try:
        while (have := taken()) < goal:
            part = min(40, goal - have)
            for number in range(part):
                _send(sources[number % sockets], datagrams())
            for _ in range(2000):
                await asyncio.sleep(0)
                if taken() >= have + part:
                    break
    finally:
        for source in sources:
            source.close()


def _send(source: socket.socket, data: bytes) -> None:
    try:
        source.send(data)
    except ConnectionError:  # an ICMP error of an earlier one
        source.send(data)


async def drained(done: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until a party has nothing left to work on."""
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.05)
