"""Hosts from which somebody proved itself: when places are short, they need not begin again as strangers.

By host, never by host and ID, so nothing about IDs can be learnt from who gets a place.
"""

from collections import OrderedDict
from typing import Final

from cpns.domain.inventory import KnownHost
from cpns.ids import EntityId
from cpns.ports import Clock
from cpns.ports.entities import EntityStore
from cpns.shares.rate import RateLimit

DAY: Final = 86400.0
KNOWN_SECONDS: Final = 7 * DAY
"""How long a host stays known after somebody proved itself from there."""
WRITTEN_SECONDS: Final = DAY
"""How old the row of a host gets before it is written anew."""
MAX_HOSTS: Final = 4096
"""Hosts that are known; the one that was written longest ago is forgotten first."""
HOSTS_OF_ENTITY: Final = (16 / DAY, 16.0)
"""New hosts a second, and at once, that one entity makes known: who has a key fills the list with no others."""


class KnownHosts:
    """The known hosts of one server process; those of the others are found in the store."""

    def __init__(self, store: EntityStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._hosts: OrderedDict[str, float] = OrderedDict()  # when each was written, oldest first
        self._pace = RateLimit(*HOSTS_OF_ENTITY, clock.monotonic)

    def __contains__(self, host: object) -> bool:
        written = self._hosts.get(host) if isinstance(host, str) else None
        return written is not None and self._clock.now() - written < KNOWN_SECONDS

    async def load(self) -> None:
        """Take up what is in the store."""
        for one in await self._store.known_hosts(self._clock.now() - KNOWN_SECONDS, MAX_HOSTS):
            self._put(one)

    async def proved(self, host: str, entity: EntityId) -> None:
        """*entity* proves itself from *host*; to be awaited beside the commit of that, so that they are one."""
        now = self._clock.now()
        if now - self._hosts.get(host, 0.0) < WRITTEN_SECONDS:
            return
        if host in self._hosts or self._pace.allows(entity):
            one = KnownHost(host, now)
            await self._store.keep_host(one, now - KNOWN_SECONDS, MAX_HOSTS)
            self._put(one)

    def _put(self, one: KnownHost) -> None:
        self._hosts[one.host] = max(one.proved_at, self._hosts.get(one.host, 0.0))
        self._hosts.move_to_end(one.host)
        if len(self._hosts) > MAX_HOSTS:
            self._hosts.popitem(last=False)
