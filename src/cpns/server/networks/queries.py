"""What the server tells of the PN Inventory: to PN GWs, members and guests, as far as each may see it (DEF-3)."""

from collections.abc import Sequence
from functools import partial

from cpns.domain.network import Listed, Present
from cpns.domain.presence import Fact
from cpns.errors import Refused, Result
from cpns.ids import EntityId, PnId
from cpns.ports import Clock
from cpns.ports.networks import NetworkStore
from cpns.server.peers.reach import Reach
from cpns.session.table import Session
from cpns.wire import codec
from cpns.wire import pn_messages as pm
from cpns.wire.registry import MAX_MEMBERS, NO_COPY, Presence, Source


class NetworkQueries:
    """The PN Inventory, as one server process tells it.

    Args:
        reach: tells how members can be reached.
    """

    def __init__(self, store: NetworkStore, reach: Reach, clock: Clock) -> None:
        self._store = store
        self._reach = reach
        self._clock = clock

    async def inventory(self, source: Session, request: pm.InventoryRequest) -> pm.InventoryResponse:
        """Answer an INVENTORY Request with what the asker may see.

        A PN GW sees the PNs that it serves, a member the PN that it is in, a guest of that PN itself alone. Where a
        PN GW says `NO_COPY`, it also sees who stands as member there, and is not in it.

        Raises:
            Refused: UNKNOWN_PN, for what does not exist as for what it may not see.
        """
        own = None if source.via is None else await self._store.membership(source.peer_id)
        if source.via is None:
            seen = [*await self._store.networks_of(source.peer_id)]
        else:
            seen = [] if own is None else [own[0]]
        if request.pn_id is None:
            return _listed(seen, request.after or "")
        network = await self._store.network(request.pn_id) if request.pn_id in seen else None
        if network is None:
            raise Refused(Result.UNKNOWN_PN, "not_a_pn_of_the_asker")
        if request.version == network.version:
            return pm.InventoryResponse(Result.SUCCESS, network.pn_id, network.version)
        page: Sequence[Present | Listed]
        wanted = (network.pn_id, request.after or "", MAX_MEMBERS + 1)
        if own is None and request.version == NO_COPY:
            page = await self._store.listed_page(*wanted)
        elif own is None or not own[1].guest:
            page = await self._store.members_page(*wanted)
        else:
            page = [own[1]]
        whole = (Result.SUCCESS, network.pn_id, network.version, network.gateway_id, network.alias, network.owner)
        return codec.page(partial(pm.InventoryResponse, *whole), await self._entries(page))

    async def _entries(self, members: Sequence[Present | Listed]) -> list[pm.InventoryEntry]:
        facts = await self._reach.facts([member.pne_id for member in members if member.guest is not None])
        return [self._entry(member.pne_id, member.guest, facts.get(member.pne_id)) for member in members]

    def _entry(self, pne: EntityId, guest: bool | None, fact: Fact | None) -> pm.InventoryEntry:
        if fact is None:  # it is not in this PN, and where else it is tells nobody
            return pm.InventoryEntry(pne, Presence.AWAY, 0, Source.SERVER)
        age = max(0, int(self._clock.now() - fact.at))
        return pm.InventoryEntry(pne, fact.presence, age, fact.source, guest)


def _listed(served: Sequence[PnId], after: str) -> pm.InventoryResponse:
    """Return which PNs these are: in the order in which they came to be served where that is a page, else by ID."""
    rest = served if len(served) <= MAX_MEMBERS else sorted(one for one in served if one > after)
    more = len(rest) > MAX_MEMBERS or None
    return pm.InventoryResponse(Result.SUCCESS, networks=tuple(rest[:MAX_MEMBERS]), more=more)
