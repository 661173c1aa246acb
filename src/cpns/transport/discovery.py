"""Discovery of PN GWs on the PAN by mDNS: ``_cpns._udp``. It finds, and proves nothing; the handshake does."""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zeroconf import IPVersion, NonUniqueNameException, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from cpns.ids import EntityId, is_name

SERVICE: Final = "_cpns._udp.local."


@dataclass(frozen=True, slots=True)
class Found:
    """A PN GW that says it is there.

    Attributes:
        secure: whether it calls that PAN a Secure PAN.
    """

    gateway_id: EntityId
    host: str
    port: int
    secure: bool


class Announcement:
    """PANs that are being announced."""

    def __init__(self, zeroconf: AsyncZeroconf) -> None:
        self._zeroconf = zeroconf

    async def close(self) -> None:
        """Say goodbye."""
        await self._zeroconf.async_unregister_all_services()
        await self._zeroconf.async_close()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


async def announce(gateway_id: EntityId, pans: Sequence[tuple[str, bool]]) -> Announcement | None:
    """Announce ``host:port`` and secure of each PAN; None where the machine has no multicast."""
    hosts = [_split(address)[0] for address, _ in pans]
    here = [ipaddress.ip_address(host) for host in hosts]
    specific = [str(address) for address in here if address.version == 4 and not address.is_unspecified]
    try:
        zeroconf = AsyncZeroconf(interfaces=specific or list(_own_addresses()), ip_version=IPVersion.V4Only)
    except OSError:
        return None
    for index, (address, secure) in enumerate(pans):
        host, port = _split(address)
        addresses = [host] if not ipaddress.ip_address(host).is_unspecified else list(_own_addresses())
        info = AsyncServiceInfo(
            SERVICE,
            f"{gateway_id.replace('.', '-')[:50]}-{index}-{port}.{SERVICE}",
            addresses=[ipaddress.ip_address(item).packed for item in addresses],
            port=port,
            properties={"id": str(gateway_id), "secure": "1" if secure else "0"},
        )
        try:
            await zeroconf.async_register_service(info, cooperating_responders=True)
        except (OSError, NonUniqueNameException):
            continue
    return Announcement(zeroconf)


def _own_addresses() -> Sequence[str]:
    found = {item[4][0] for item in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    return sorted({"127.0.0.1", *map(str, found)})


async def find(timeout: float, gateway_id: EntityId | None, secure: bool) -> Found | None:
    """Return the first PN GW heard within *timeout* seconds that is *gateway_id* (None: any) on such a PAN."""
    try:
        zeroconf = AsyncZeroconf(interfaces=list(_own_addresses()), ip_version=IPVersion.V4Only)
    except OSError:
        return None
    heard: asyncio.Queue[str] = asyncio.Queue()

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Added:
            heard.put_nowait(name)

    browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[changed])
    try:
        async with asyncio.timeout(timeout):
            while True:
                name = await heard.get()
                info = AsyncServiceInfo(SERVICE, name)
                if not await info.async_request(zeroconf.zeroconf, 1500):
                    continue
                found = _found(info)
                if found is None or found.secure != secure or gateway_id not in (None, found.gateway_id):
                    continue
                return found
    except TimeoutError:
        return None
    finally:
        await browser.async_cancel()
        await zeroconf.async_close()


def _found(info: AsyncServiceInfo) -> Found | None:
    claimed = info.decoded_properties.get("id")
    addresses = info.parsed_addresses(IPVersion.V4Only)
    if claimed is None or not is_name(claimed) or not addresses or not info.port:
        return None
    return Found(EntityId(claimed), addresses[0], info.port, info.decoded_properties.get("secure") == "1")
