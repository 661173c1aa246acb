"""Addresses of our own: which there are, why one can't be had, and what a user is told of it."""

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psutil

from cpns.errors import Unavailable

LOOK_SECONDS: Final = 5.0
"""How often the interfaces of this machine are looked at again."""
MAX_INTERFACES: Final = 32
"""Interfaces that are looked at; a machine with more has made them for its own containers."""

_WHY: Final = {
    errno.EADDRNOTAVAIL: "this machine does not have it",
    errno.EACCES: "this user may not have that port",
    errno.EAFNOSUPPORT: "this machine has no addresses of that kind",
}

OwnAddress = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface of this machine.

    Attributes:
        name: as the system calls it.
        index: likewise.
        addresses: those that it has, and their networks; IPv6 within one link has no zone here.
    """

    name: str
    index: int
    addresses: tuple[OwnAddress, ...]

    @property
    def is_loopback(self) -> bool:
        """Whether nobody else is on it."""
        return any(one.ip.is_loopback for one in self.addresses)

    def has(self, host: str) -> bool:
        """Whether *host* (IPv6: with its zone, or without) is on its link, as far as its addresses tell."""
        plain, _, zone = host.partition("%")
        address = ipaddress.ip_address(plain)
        return zone in ("", self.name, str(self.index)) and any(address in one.network for one in self.addresses)

    def at(self, host: str) -> "Interface | None":
        """Return it with those addresses alone that a socket bound to *host* is at; None: there is none."""
        plain = host.partition("%")[0]
        bound = ipaddress.ip_address(plain)
        if bound.is_unspecified:
            found = tuple(one for one in self.addresses if bound.version in (one.version, 6))
        elif self.is_loopback and self.has(host):  # all of 127.0.0.0/8 is ours, listed or not
            found = (ipaddress.ip_interface(plain),)
        else:
            found = tuple(one for one in self.addresses if one.ip == bound and self.has(host))
        return Interface(self.name, self.index, found) if found else None


def interfaces() -> tuple[Interface, ...]:
    """Return the interfaces of this machine that are up and have addresses, by index."""
    up, found = psutil.net_if_stats(), []
    for name, listed in psutil.net_if_addrs().items():
        addresses = {_own(one) for one in listed if one.family in (socket.AF_INET, socket.AF_INET6)}
        if addresses and name in up and up[name].isup:
            with contextlib.suppress(OSError):  # gone meanwhile
                found.append(Interface(name, socket.if_nametoindex(name), tuple(sorted(addresses, key=_first))))
    return tuple(sorted(found, key=lambda one: one.index)[:MAX_INTERFACES])


def _own(listed: Any) -> OwnAddress:  # of psutil
    address = listed.address.partition("%")[0]
    if not listed.netmask:  # the end of a tunnel
        return ipaddress.ip_interface(address)
    return ipaddress.ip_interface(f"{address}/{int(ipaddress.ip_address(listed.netmask)).bit_count()}")


def _first(address: OwnAddress) -> tuple[bool, int, int]:
    return address.ip.is_link_local, address.version, int(address.ip)


async def looks() -> AsyncIterator[tuple[Interface, ...]]:
    """Yield the interfaces of this machine, at once and again and again: addresses come and go."""
    while True:
        yield interfaces()
        await asyncio.sleep(LOOK_SECONDS)


def any_address() -> str:
    """Return the any-address to ask from: that of IPv6 asks by IPv4 too, where the machine has it."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return "0.0.0.0"  # noqa: S104  # whatever leads there
    return "::"


def reachable(bound: Sequence[str]) -> list[str]:
    """Return ``HOST:PORT`` of each PAN in *bound* as others may ask there: each address in place of an any-address."""
    found: list[str] = []
    for host, port in map(split_address, bound):
        if not ipaddress.ip_address(host.partition("%")[0]).is_unspecified:
            found.append(at(host, port))
            continue
        here = [one for one in (own.at(host) for own in interfaces()) if one is not None]
        others = [own.ip for one in here for own in one.addresses if not one.is_loopback and not own.ip.is_link_local]
        found += [at(str(ip), port) for ip in others]
    return found


async def _found(host: str, port: int) -> list[Any]:
    """Return what `socket.getaddrinfo` finds for UDP."""
    if "%" in host:  # an address with a zone, which uvloop would leave out
        return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)


async def resolve(host: str, port: int, families: Sequence[socket.AddressFamily]) -> list[tuple[Any, ...]]:
    """Return the socket addresses of *host* for UDP, of those families alone, in the order of RFC 6724.

    Raises:
        OSError: there is none.
    """
    known = [address for family, _, _, _, address in await _found(host, port) if family in families]
    if not known:
        raise OSError(errno.EAFNOSUPPORT, "no address of a kind that we have")
    return list(dict.fromkeys(known))


def source_to(address: tuple[Any, ...]) -> str:
    """Return the address of ours that the kernel would ask *address* from. Raises OSError where there is no way."""
    with socket.socket(socket.AF_INET if len(address) == 2 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.connect(address)  # sends nothing
        return str(probe.getsockname()[0])


def host_in(address: tuple[Any, ...]) -> str:
    """Return the host of a socket address: of IPv6 with the zone, where one is needed."""
    host, zone = str(address[0]), address[3] if len(address) > 3 else 0
    if not zone or "%" in host:
        return host
    try:
        return f"{host}%{socket.if_indextoname(zone)}"
    except OSError:  # gone meanwhile
        return f"{host}%{zone}"


def at(host: str, port: int) -> str:
    """Return ``HOST:PORT``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[IPv6]:port``; port 0 where it names none that there can be."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() and int(port) < 65536 else 0


async def bind_udp(host: str, port: int) -> socket.socket:
    """Return a UDP socket at the first address of *host* that can be had; ``::`` takes IPv4 too.

    Raises:
        OSError: the address is not ours, or the port is taken.
    """
    errors = []
    for family, _, _, _, address in await _found(host, port):
        try:
            plain = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            errors.append(error)
            continue
        try:
            if family == socket.AF_INET6:
                plain.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
            plain.bind(address)
        except OSError as error:
            plain.close()
            errors.append(error)
        else:
            return plain
    raise errors[0]


def not_had(host: str, port: int, error: OSError, flag: str) -> Unavailable:
    """Return what a user is told where an address can't be had: ``address_taken``, or ``bad_address``.

    Args:
        host: as it was given.
        port: likewise.
        error: why.
        flag: gives another one.
    """
    where = at(host, port)
    if error.errno == errno.EADDRINUSE:
        return Unavailable("address_taken", f"{where} is taken by another process: stop that, or give another {flag}.")
    if isinstance(error, socket.gaierror):
        why = f"there is no such host ({error.strerror})"
    else:
        why = _WHY.get(error.errno or 0) or (os.strerror(error.errno) if error.errno else str(error))
    return Unavailable("bad_address", f"Can't be at {where}: {why}. Give another {flag}.")
