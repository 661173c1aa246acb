"""Discovery of PN GWs on the PAN, by mDNS (``_cpns._udp``) and by CoAP multicast at once (FN-8).

It finds, and proves nothing; the handshake does.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from zeroconf import IPVersion, NonUniqueNameException, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from cpns.ids import EntityId, is_name
from cpns.transport import multicast
from cpns.transport.pan import own_addresses, split_address
from cpns.wire.pn_messages import EntityDiscoveryRequest, EntityDiscoveryResponse
from cpns.wire.registry import Mode

SERVICE: Final = "_cpns._udp.local."
MAX_NAMES: Final = 64
"""mDNS names that may wait to be asked about in one search."""

Suits = Callable[[EntityId, bool], bool]
"""Whether a PN GW, and whether it calls its PAN secure, is what is looked for."""


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
    """PANs that are being announced by mDNS."""

    def __init__(self, zeroconf: AsyncZeroconf) -> None:
        self._zeroconf = zeroconf

    async def close(self) -> None:
        """Say goodbye."""
        await self._zeroconf.async_unregister_all_services()
        await self._zeroconf.async_close()


async def announce(gateway_id: EntityId, pans: Sequence[tuple[str, bool]]) -> Announcement | None:
    """Announce ``host:port`` and secure of each PAN; None where the machine has no multicast."""
    hosts = [split_address(address)[0] for address, _ in pans]
    here = [ipaddress.ip_address(host) for host in hosts]
    specific = [str(address) for address in here if address.version == 4 and not address.is_unspecified]
    try:
        zeroconf = AsyncZeroconf(interfaces=specific or list(own_addresses()), ip_version=IPVersion.V4Only)
    except OSError:
        return None
    for index, (address, secure) in enumerate(pans):
        host, port = split_address(address)
        addresses = [host] if not ipaddress.ip_address(host).is_unspecified else list(own_addresses())
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


async def search(seconds: float, own_id: EntityId, suits: Suits, heard: Callable[[Found], None]) -> None:
    """Ask who is on the PAN for *seconds*, by mDNS and by multicast; tell *heard* of each that answers, and suits.

    Args:
        seconds: how long.
        own_id: the PNE that asks.
        suits: judges ID and Secure PAN of a PN GW.
        heard: may be told of one more than once.
    """

    def told(found: Found) -> None:
        if suits(found.gateway_id, found.secure):
            heard(found)

    searches = [asyncio.create_task(_by_mdns(told)), asyncio.create_task(_by_multicast(own_id, told))]
    try:
        await asyncio.sleep(seconds)
    finally:
        for task in searches:
            task.cancel()
        await asyncio.gather(*searches, return_exceptions=True)


async def _by_multicast(own_id: EntityId, told: Callable[[Found], None]) -> None:
    def heard(found: EntityDiscoveryResponse, host: str, port: int) -> None:
        if found.mode in (Mode.PN_GW, Mode.BOTH):
            told(Found(found.entity_id, host, port, found.pan_secure))

    await multicast.ask(EntityDiscoveryRequest(own_id, Mode.PNE), own_addresses(), heard)


async def _by_mdns(told: Callable[[Found], None]) -> None:
    try:
        zeroconf = AsyncZeroconf(interfaces=list(own_addresses()), ip_version=IPVersion.V4Only)
    except OSError:
        return
    heard: asyncio.Queue[str] = asyncio.Queue(MAX_NAMES)

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Added and not heard.full():
            heard.put_nowait(name)

    browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[changed])
    try:
        while True:
            info = AsyncServiceInfo(SERVICE, await heard.get())
            if await info.async_request(zeroconf.zeroconf, 1500) and (found := _found(info)) is not None:
                told(found)
    finally:
        await browser.async_cancel()
        await zeroconf.async_close()


def _found(info: AsyncServiceInfo) -> Found | None:
    claimed = info.decoded_properties.get("id")
    addresses = info.parsed_addresses(IPVersion.V4Only)
    if claimed is None or not is_name(claimed) or not addresses or not info.port:
        return None
    return Found(EntityId(claimed), addresses[0], info.port, info.decoded_properties.get("secure") == "1")
