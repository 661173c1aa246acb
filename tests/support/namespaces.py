"""Network namespaces with lossy, slow links between them, for processes that are to meet real networks (iproute2).

A host is a namespace; a switch is a namespace with a bridge; a link joins two of them. A link may be *shaped*: LOSS of
the packets are lost and the others take DELAY seconds, each way and by themselves, so 200 ms for there and back. It is

- a veth pair with ``tc qdisc ... netem loss 10% delay 100ms`` on each side, where the kernel has netem, or
- two TAP devices joined by a thread of this process that does the same, where it has not (``/dev/net/tun``).

Either way both ends are the kernel's own network stacks, TCP with its repetitions included. Addresses exist inside the
namespaces alone, whose names have our process ID. `Net.close` removes all; end what runs inside before.
"""

import contextlib
import ctypes
import fcntl
import functools
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOSS: Final = 0.1
DELAY: Final = 0.1
NETEM: Final = ("netem", "loss", f"{LOSS:.0%}", "delay", f"{1000 * DELAY:.0f}ms")

_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_TAP_WITHOUT_HEADER: Final = 0x1002
_FRAME: Final = 65536
_BRIDGE: Final = "bridge"


@dataclass(frozen=True, slots=True)
class End:
    """One end of a link.

    Attributes:
        host: the namespace.
        device: its name there, up to 15 characters.
        address: with the length of its prefix; none: that of IPv6 within the link alone; the end at a switch is a port
            of its bridge.
    """

    host: str
    device: str
    address: str = ""


class Wire:
    """Joins two TAP devices; loses and delays what passes."""

    def __init__(self, one: int, other: int, seed: int) -> None:
        self._other = {one: other, other: one}
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due: deque[tuple[float, int, bytes]] = deque()  # in their order, as all take the same time
        while not self._stop.is_set():
            patience = max(0.0, due[0][0] - time.monotonic()) if due else 0.2
            for device in select.select(list(self._other), [], [], patience)[0]:
                with contextlib.suppress(OSError):  # the link is down
                    frame = os.read(device, _FRAME)
                    if self._random.random() >= LOSS:
                        due.append((time.monotonic() + DELAY, self._other[device], frame))
            while due and due[0][0] <= time.monotonic():
                _, device, frame = due.popleft()
                with contextlib.suppress(OSError):
                    os.write(device, frame)

    def close(self) -> None:
        """Take both devices away."""
        self._stop.set()
        self._thread.join()
        for device in self._other:
            os.close(device)


class Net:
    """Hosts, switches and links.

    Args:
        netem: whether the kernel shapes the links; False: a `Wire` does.
    """

    def __init__(self, netem: bool) -> None:
        self._netem = netem
        self._hosts: list[str] = []
        self._switches: set[str] = set()
        self._wires: list[Wire] = []

    def name(self, host: str) -> str:
        """Return the name of a host's namespace."""
        return f"cpns-{os.getpid()}-{host}"

    def host(self, host: str) -> None:
        """Make a host."""
        self._hosts.append(host)
        _do("ip", "netns", "add", self.name(host))
        self._ip(host, "link", "set", "lo", "up")

    def switch(self, host: str) -> None:
        """Make a switch."""
        self.host(host)
        self._switches.add(host)
        self._ip(host, "link", "add", _BRIDGE, "type", "bridge")
        self._ip(host, "link", "set", _BRIDGE, "up")

    def link(self, one: End, other: End, *, shaped: bool) -> None:
        """Join two hosts."""
        if shaped and not self._netem:
            self._wires.append(Wire(self._tap(one), self._tap(other), seed=len(self._wires)))
        else:
            peer = ("peer", "name", other.device, "netns", self.name(other.host))
            self._ip(one.host, "link", "add", one.device, "type", "veth", *peer)
        for end in (one, other):
            if shaped and self._netem:
                _do(*self.inside(end.host), "tc", "qdisc", "add", "dev", end.device, "root", *NETEM)
            if end.address:
                self._ip(end.host, "address", "add", end.address, "dev", end.device)
            elif end.host in self._switches:
                self._ip(end.host, "link", "set", end.device, "master", _BRIDGE)
            self.cut(end, False)

    def own(self, host: str, network: str) -> None:
        """Let *host* be at each address of a network: what is sent there comes back to it."""
        self._ip(host, "route", "add", "local", network, "dev", "lo")

    def addresses(self, end: End, *changes: str) -> None:
        """Give an end more addresses (``+192.0.2.1/24``), or take them away (``-192.0.2.1/24``)."""
        for change in changes:
            self._ip(end.host, "address", "add" if change[0] == "+" else "del", change[1:], "dev", end.device)

    def cut(self, end: End, away: bool = True) -> None:
        """Cut a link at one end of it, or (False) mend it."""
        self._ip(end.host, "link", "set", end.device, "down" if away else "up")

    def inside(self, host: str) -> tuple[str, ...]:
        """Return what runs the command that follows it on *host*, as the same process."""
        return ("ip", "netns", "exec", self.name(host))

    def enter(self, host: str) -> None:
        """Put this process on *host*, with what it starts from now on; it must have no other thread."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/run/netns", self.name(host)).open() as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def close(self) -> None:
        """Remove everything."""
        for wire in self._wires:
            wire.close()
        for host in self._hosts:
            with contextlib.suppress(subprocess.CalledProcessError):  # it was never made
                _do("ip", "netns", "delete", self.name(host))
        self._wires, self._hosts = [], []

    def _ip(self, host: str, *arguments: str) -> None:
        _do("ip", "-netns", self.name(host), *arguments)

    def _tap(self, end: End) -> int:
        """Make the TAP device of *end*; it is gone when what is returned is closed."""
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            asked = struct.pack("16sH22x", f"ct{os.getpid()}-%d".encode(), _TAP_WITHOUT_HEADER)
            made = fcntl.ioctl(device, _TUNSETIFF, asked)[:16].rstrip(b"\0").decode()
            _do("ip", "link", "set", made, "netns", self.name(end.host), "name", end.device)
        except BaseException:
            os.close(device)
            raise
        return device


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@functools.cache
def shaping() -> str:
    """Return what can shape links between namespaces here, ``netem`` or ``tap``, by trying; nothing where neither can.

    It takes root, and ``ip``; netem takes ``tc`` and a kernel that has it.
    """
    for kind in ("netem", "tap"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError), net(kind) as trial:
            trial.switch("try-1")
            trial.host("try-2")
            trial.link(End("try-1", "trial"), End("try-2", "trial", "10.213.9.1/24"), shaped=True)
            _do(*trial.inside("try-2"), "true")
            return kind
    return ""


@functools.cache
def possible() -> bool:
    """Return whether this machine has hosts and links that are not shaped, by trying."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError), net("veth") as trial:
        trial.host("try-1")
        trial.host("try-2")
        trial.link(End("try-1", "trial"), End("try-2", "trial"), shaped=False)
        return True
    return False


def allowed() -> bool:
    """Return whether the machine allows shaped links."""
    return os.geteuid() == 0 and bool(shaping())


@contextlib.contextmanager
def net(kind: str) -> Iterator[Net]:
    """Give a `Net` shaped by *kind*, removed in the end."""
    one = Net(netem=kind == "netem")
    try:
        yield one
    finally:
        one.close()
