"""Addresses of our own: why one can't be had, and what a user is told of it."""

import asyncio
import errno
import os
import socket
from typing import Final

from cpns.errors import Unavailable

_WHY: Final = {
    errno.EADDRNOTAVAIL: "this machine does not have it",
    errno.EACCES: "this user may not have that port",
    errno.EAFNOSUPPORT: "this machine has no addresses of that kind",
}


def at(host: str, port: int) -> str:
    """Return ``HOST:PORT``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def try_udp(host: str, port: int) -> None:
    """Bind a UDP socket and close it again, for the cause where that fails: uvloop tells none.

    Raises:
        OSError: the address is not ours, or the port is taken.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    errors = []
    for family, _, _, _, address in found:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as one:
                one.bind(address)
        except OSError as error:
            errors.append(error)
        else:
            return
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
