"""Multicast on one interface, to "All CoAP Nodes" (RFC 7252 12.8): bytes in and out, IPv4 and IPv6."""

import socket
from typing import Final

from cpns.transport.address import Interface
from cpns.transport.datagrams import Address, Datagrams, Heard, Ours

GROUPS: Final = {4: "224.0.1.187", 6: "ff02::fd"}
"""By the version of IP; that of IPv6 reaches one link."""
PORT: Final = 5683


def versions(interface: Interface) -> list[int]:
    """Return the versions of IP that *interface* has addresses of."""
    return sorted({one.version for one in interface.addresses})


def join(interface: Interface, version: int, heard: Heard, longest: int) -> Datagrams:
    """Take what is sent to the group on one interface; others of this machine may take it too.

    Args:
        interface: that one alone.
        version: of IP.
        heard: takes each datagram, its source, and the group and interface.
        longest: see `Datagrams`.

    Raises:
        OSError: it has no multicast, or the group can't be had at that port.
    """
    plain = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        plain.bind((GROUPS[version], PORT, 0, interface.index)[: 2 if version == 4 else 4])
    except OSError:
        plain.close()
        raise

    def here(data: bytes, source: Address, ours: Ours) -> None:
        if ours.interface == interface.index:  # the kernel hands on what others joined for, too
            heard(data, source, ours)

    joined = Datagrams(plain, here, longest, tells=True)
    try:
        joined.join(GROUPS[version], interface.index)
    except OSError:
        joined.close()
        raise
    return joined


def send(through: Datagrams, data: bytes, interface: Interface, version: int) -> None:
    """Send a datagram to the group by one interface; it is lost where that has no multicast."""
    if version == 4:
        own = next(str(one.ip) for one in interface.addresses if one.version == 4)
        through.send(data, (GROUPS[4], PORT), Ours(own, interface.index))
    else:  # from the address within the link, which the kernel knows
        through.send(data, (GROUPS[6], PORT, 0, interface.index), Ours("", interface.index))
