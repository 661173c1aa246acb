"""What the server tells of the SG Inventory, part by part: each is read as a part, and gets over a PAN (DEF-4)."""

from functools import partial
from typing import Final

from cpns.domain.group import Group, Listed
from cpns.domain.member_list import Standing
from cpns.errors import Refused, Result
from cpns.ids import EntityId
from cpns.ports.groups import GroupStore
from cpns.session.table import Session, Sessions
from cpns.wire import codec
from cpns.wire import sg_messages as sg
from cpns.wire.registry import MAX_MEMBERS, JoinPolicy, Place

ONE_MORE: Final = MAX_MEMBERS + 1
"""A page, and whether anything comes after it."""


class GroupQueries:
    """The SG Inventory, as one server process tells it.

    Args:
        sessions: those of this process: they say who is behind a PN GW.
    """

    def __init__(self, store: GroupStore, sessions: Sessions) -> None:
        self._store = store
        self._sessions = sessions

    async def answer(self, source: Session, request: sg.SgInventoryRequest) -> sg.SgInventoryResponse:
        """Answer an SG-INVENTORY Request with what the asker may see: a member its groups, a PN GW those of its PNEs.

        Raises:
            Refused: UNKNOWN_SG, for what does not exist as for what it may not see.
        """
        here = (source.peer_id,) if source.via is not None else behind(self._sessions, source.peer_id)
        after = request.after or ""
        if request.sg_id is None:
            of = await self._store.groups_of(here, after, ONE_MORE)
            return sg.SgInventoryResponse(
                Result.SUCCESS, groups=tuple(of[:MAX_MEMBERS]), more=len(of) > MAX_MEMBERS or None
            )
        found = await self._store.group_page(request.sg_id, source.peer_id, here, after, ONE_MORE, request.member)
        if found is None:
            raise Refused(Result.UNKNOWN_SG, "not_a_group_of_the_asker")
        one = found.group
        if request.version == one.version and request.member is None:
            return sg.SgInventoryResponse(Result.SUCCESS, one.sg_id, one.version)
        make = partial(
            sg.SgInventoryResponse,
            *(Result.SUCCESS, one.sg_id, one.version, one.name, one.owner, one.service, JoinPolicy[one.policy.name]),
            epoch=one.epoch,
            vouched=one.vouched,
            keep=one.keep,
        )
        return codec.page(make, [_member_entry(place) for place in found.listed])

    async def discovered(self, source: Session, request: sg.SgDiscoveryRequest) -> sg.SgDiscoveryResponse:
        """Answer an SG-DISCOVERY Request."""
        pne = source.peer_id
        found = await self._store.discover_groups(
            pne, request.keyword or "", request.service, request.after or "", ONE_MORE
        )
        entries = [await self._entry(pne, one, members=bool(request.member_req)) for one in found]
        return codec.page(partial(sg.SgDiscoveryResponse, Result.SUCCESS), entries)

    async def _entry(self, pne: EntityId, one: Group, *, members: bool) -> sg.SgEntry:
        seen = await self._store.group_page(one.sg_id, None, (pne,), "", MAX_MEMBERS) if members else None
        told = None if seen is None else tuple(place.pne_id for place in seen.listed)
        return sg.SgEntry(one.sg_id, one.name, JoinPolicy[one.policy.name], one.owner, one.version, one.service, told)


def behind(sessions: Sessions, gateway: EntityId) -> tuple[EntityId, ...]:
    """Return the PNEs behind a PN GW, as far as their sessions are of this process."""
    return tuple(session.peer_id for session in sessions if session.via == gateway)


_PLACES: Final = {one: Place[one.name] for one in Standing if one.name in Place.__members__} | {
    Standing.COMING: Place.INVITED,
    Standing.LEAVING: Place.MEMBER,
}
"""Label 42 for each standing: who comes or leaves does so for peers when the next epoch begins."""


def _member_entry(place: Listed) -> sg.SgMemberEntry:
    run, key = (None, None) if place.key is None else (place.key.run, place.key.verify_key)
    return sg.SgMemberEntry(place.pne_id, _PLACES[place.standing], run, key, place.newest)
