"""A PAN that loses datagrams: a UDP forwarder in front of one gateway."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

Address = tuple[str, int]
_LONGEST = 65536


class LossyPan:
    """Forwards between PNEs and one gateway, with a socket of its own for each PNE; open at once.

    Args:
        gateway: where the gateway is.
        loss: share of the datagrams that are lost, each way.
        chance: draws from 0 to 1.

    Attributes:
        address: where the PNEs send to.

    Raises:
        OSError: no socket could be had.
    """

    def __init__(self, gateway: Address, loss: float, chance: Callable[[], float]) -> None:
        self._gateway = gateway
        self._loss = loss
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._backs: dict[Address, socket.socket] = {}
        self._front = _socket()
        self._front.bind((gateway[0], 0))
        self._loop.add_reader(self._front, self._from_pnes)
        self.address: Address = self._front.getsockname()

    def _from_pnes(self) -> None:
        for data, pne in _arrived(self._front):
            if pne not in self._backs:
                back = self._backs[pne] = _socket()
                back.connect(self._gateway)
                self._loop.add_reader(back, self._from_gateway, pne, back)
            if self._chance() >= self._loss:
                with contextlib.suppress(OSError):  # a full buffer is a loss too
                    self._backs[pne].send(data)

    def _from_gateway(self, pne: Address, back: socket.socket) -> None:
        for data, _ in _arrived(back):
            if self._chance() >= self._loss:
                with contextlib.suppress(OSError):
                    self._front.sendto(data, pne)

    def close(self) -> None:
        """Close all sockets."""
        for one in (self._front, *self._backs.values()):
            self._loop.remove_reader(one)
            one.close()


def _socket() -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setblocking(False)
    return one


def _arrived(one: socket.socket) -> Iterator[tuple[bytes, Address]]:
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while True:
            yield one.recvfrom(_LONGEST)
