"""PN GWs by mDNS (RFC 6762), as ``_cpns._udp``: said on each interface by itself, with the addresses that it has there.

So nobody is told of an address that leads elsewhere: none of 127.0.0.0/8 to another machine, none of another link.
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from zeroconf import IPVersion, NonUniqueNameException, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from cpns.ids import EntityId, is_name
from cpns.transport.address import Interface, host_in, interfaces, looks, split_address

PORT: Final = 5353
SERVICE: Final = "_cpns._udp.local."
MAX_NAMES: Final = 64
"""Names that may wait to be asked about in one search."""
ASK_MILLISECONDS: Final = 1500

logging.getLogger("zeroconf").setLevel(logging.ERROR)  # it warns of what others send, and of interfaces that go

Told = Callable[[EntityId, str, int, bool], None]
"""Takes a PN GW, a host and the port of a PAN of it, and whether it calls that a Secure PAN."""


class _OnInterface(Zeroconf):
    """mDNS on one interface: what is asked elsewhere, and heard here all the same, is not answered."""

    def __init__(self, interface: Interface) -> None:
        self._on = interface
        super().__init__(_places([interface]), ip_version=_version([interface]))

    def async_send(
        self,
        out: Any,  # of zeroconf
        addr: str | None = None,
        port: int = PORT,
        v6_flow_scope: tuple[()] | tuple[int, int] = (),
        transport: Any = None,  # of zeroconf
    ) -> None:
        """Send to the group here, or to one who asked, if that one is on this link."""
        zone = f"%{v6_flow_scope[1]}" if v6_flow_scope and v6_flow_scope[1] else ""
        if addr is None or self._on.has(addr.removeprefix("::ffff:") + zone):
            super().async_send(out, addr, port, v6_flow_scope, transport)


def _places(found: Sequence[Interface]) -> list[str | int]:
    """Return the interfaces as zeroconf has them: IPv4 by address, IPv6 by index."""
    v4 = [str(own.ip) for one in found for own in one.addresses if own.version == 4]
    return [*v4, *(one.index for one in found if _speaks_v6(one))]


def _speaks_v6(interface: Interface) -> bool:
    return not interface.is_loopback and any(own.version == 6 for own in interface.addresses)


def _version(found: Sequence[Interface]) -> IPVersion:
    v4, v6 = any(own.version == 4 for one in found for own in one.addresses), any(map(_speaks_v6, found))
    return IPVersion.All if v4 and v6 else IPVersion.V6Only if v6 else IPVersion.V4Only


class Announcement:
    """PANs that are announced, on each interface that they are on; interfaces may come, go and change.

    Args:
        gateway_id: whose they are.
        pans: ``host:port`` and secure of each.
    """

    def __init__(self, gateway_id: EntityId, pans: Sequence[tuple[str, bool]]) -> None:
        self._gateway_id = gateway_id
        self._pans = [(*split_address(bound), secure) for bound, secure in pans]
        self._said: dict[Interface, AsyncZeroconf] = {}
        self._follows = asyncio.get_running_loop().create_task(self._follow())

    async def close(self) -> None:
        """Say goodbye."""
        self._follows.cancel()
        await asyncio.gather(self._follows, return_exceptions=True)
        await asyncio.gather(*map(self._leave, list(self._said)))

    async def _follow(self) -> None:
        async for found in looks():
            wanted = {one for one in found if self._infos(one)}
            await asyncio.gather(*(self._leave(one) for one in self._said.keys() - wanted))
            for zeroconf in self._said.values():
                await zeroconf.zeroconf.async_update_interfaces()  # as in `_look_again`
            await asyncio.gather(*(self._say(one) for one in wanted - self._said.keys()))

    async def _say(self, interface: Interface) -> None:
        try:
            zeroconf = AsyncZeroconf(zc=_OnInterface(interface))
        except (OSError, RuntimeError):  # it has no multicast
            return
        self._said[interface] = zeroconf
        for info in self._infos(interface):
            with contextlib.suppress(OSError, NonUniqueNameException):
                await zeroconf.async_register_service(info, cooperating_responders=True)

    async def _leave(self, interface: Interface) -> None:
        zeroconf = self._said.pop(interface)
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()

    def _infos(self, interface: Interface) -> list[AsyncServiceInfo]:
        """Return what is to be said on *interface*."""
        found = []
        for index, (host, port, secure) in enumerate(self._pans):
            here = interface.at(host)
            if here is None:
                continue
            found.append(
                AsyncServiceInfo(
                    SERVICE,
                    f"{self._gateway_id.replace('.', '-')[:50]}-{index}-{port}.{SERVICE}",
                    addresses=[own.packed for own in here.addresses],
                    port=port,
                    properties={"id": str(self._gateway_id), "secure": "1" if secure else "0"},
                )
            )
        return found


async def browse(told: Told) -> None:
    """Ask on all interfaces who is there, and tell of each PAN and address, until cancelled.

    Returns at once where the machine has no multicast.
    """
    here = interfaces()
    try:
        zeroconf = AsyncZeroconf(interfaces=_places(here), ip_version=_version(here))
    except (OSError, RuntimeError):
        return
    heard: asyncio.Queue[str] = asyncio.Queue(MAX_NAMES)

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is not ServiceStateChange.Removed and not heard.full():
            heard.put_nowait(name)

    browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[changed])
    looks_again = asyncio.get_running_loop().create_task(_look_again(zeroconf))
    try:
        while True:
            info = AsyncServiceInfo(SERVICE, await heard.get())
            if await info.async_request(zeroconf.zeroconf, ASK_MILLISECONDS):
                _tell(info, told)
    finally:
        looks_again.cancel()
        await asyncio.gather(looks_again, return_exceptions=True)
        await browser.async_cancel()
        await zeroconf.async_close()


async def _look_again(zeroconf: AsyncZeroconf) -> None:
    """Have *zeroconf* try again, again and again, where it has no socket: an address of IPv6 takes none at first."""
    async for _ in looks():
        await zeroconf.zeroconf.async_update_interfaces()


def _tell(info: AsyncServiceInfo, told: Told) -> None:
    claimed = info.decoded_properties.get("id")
    if claimed is None or not is_name(claimed) or not info.port:
        return
    secure = info.decoded_properties.get("secure") == "1"
    for text in sorted(info.parsed_scoped_addresses(IPVersion.All), key=_last):
        address, _, zone = text.partition("%")
        if zone or not ipaddress.ip_address(address).is_link_local:
            told(EntityId(claimed), host_in((address, info.port, 0, int(zone or 0))), info.port, secure)


def _last(host: str) -> tuple[bool, bool]:
    """Return what puts an address behind those that lead to more machines."""
    address = ipaddress.ip_address(host)
    return address.is_loopback, address.is_link_local
