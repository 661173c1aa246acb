"""What PNEs, and PN GWs of members, ask about service groups, each in its own session, and who answers."""

import base64
import logging
from collections.abc import Awaitable, Callable

from cpns.domain import actor as actors
from cpns.domain.group import KEEP_SECONDS, Group
from cpns.domain.member_list import Policy
from cpns.errors import Refused, Result
from cpns.ids import EntityId, SgId
from cpns.ports import Clock, Randomness
from cpns.server.groups.actions import GroupActions
from cpns.server.groups.queries import GroupQueries
from cpns.server.peers.gateways import FromGateway
from cpns.session.table import Session
from cpns.shares.noted import by
from cpns.transport.dispatch import Row, on
from cpns.wire import sg_messages as sg
from cpns.wire.group_messages import GroupKeyGiven, GroupKeyWanted
from cpns.wire.messages import OutcomeEntry
from cpns.wire.registry import JoinPolicy

_log = logging.getLogger("cpns.server")


class GroupRequests:
    """The handlers.

    Args:
        key_for: gives a PN GW that has members the Group Key that it lacks.
    """

    def __init__(
        self,
        actions: GroupActions,
        queries: GroupQueries,
        key_for: Callable[[EntityId, GroupKeyWanted], Awaitable[GroupKeyGiven]],
        clock: Clock,
        random: Randomness,
    ) -> None:
        self._actions = actions
        self._queries = queries
        self._key_for = key_for
        self._clock = clock
        self._random = random

    def of_pne(self) -> tuple[Row[Session], ...]:
        """Return what a PNE may ask."""
        return (
            on(sg.SgCreateRequest, self._create),
            on(sg.SgDiscoveryRequest, self._discover),
            on(sg.SgJoinRequest, self._join),
            on(sg.SgInviteRequest, self._invite),
            on(sg.SgLeaveRequest, self._leave),
            on(sg.SgExpelRequest, self._expel),
            on(sg.SgOwnerChangeRequest, self._pass_on),
            on(sg.SgDeleteRequest, self._delete),
            on(sg.SgInventoryRequest, self._inventory),
        )

    def of_gateway(self) -> tuple[Row[FromGateway], ...]:
        """Return what a PN GW of members may ask."""
        return (
            on(sg.SgInventoryRequest, self._inventory_of_gateway),
            on(GroupKeyWanted, self._key),
        )

    async def _create(self, asker: Session, request: sg.SgCreateRequest) -> sg.SgCreateResponse:
        pne = asker.peer_id
        sg_id = SgId("sg-" + base64.b32encode(self._random(10)).decode().lower())
        policy = Policy[JoinPolicy(request.policy).name]
        await self._actions.create(
            Group(
                *(sg_id, request.name, request.service, pne, policy, 1, 1, self._clock.now()),
                vouched=bool(request.vouched),
                keep=KEEP_SECONDS if request.keep is None else request.keep,
            )
        )
        _log.info("PNE %s has made the group %s", pne, sg_id, extra=by(pne))
        if not request.invite:
            return sg.SgCreateResponse(Result.SUCCESS, sg_id)
        try:
            results = await self._actions.invite(sg_id, actors.pne(pne), request.invite)
        except Refused as error:  # the group is made, so its ID is told
            results = dict.fromkeys(request.invite, error.result)
        return sg.SgCreateResponse(Result.SUCCESS, sg_id, _entries_of(results))

    async def _join(self, asker: Session, request: sg.SgJoinRequest) -> sg.SgJoinResponse:
        waits = await self._actions.join(request.sg_id, actors.pne(asker.peer_id))
        return sg.SgJoinResponse(Result.PENDING_APPROVAL if waits else Result.SUCCESS)

    async def _invite(self, asker: Session, request: sg.SgInviteRequest) -> sg.SgInviteResponse:
        results = await self._actions.invite(request.sg_id, actors.pne(asker.peer_id), request.invite)
        return sg.SgInviteResponse(Result.SUCCESS, _entries_of(results))

    async def _leave(self, asker: Session, request: sg.SgLeaveRequest) -> sg.SgLeaveResponse:
        await self._actions.leave(request.sg_id, actors.pne(asker.peer_id))
        return sg.SgLeaveResponse(Result.SUCCESS)

    async def _expel(self, asker: Session, request: sg.SgExpelRequest) -> sg.SgExpelResponse:
        await self._actions.expel(request.sg_id, actors.pne(asker.peer_id), request.members)
        return sg.SgExpelResponse(Result.SUCCESS)

    async def _pass_on(self, asker: Session, request: sg.SgOwnerChangeRequest) -> sg.SgOwnerChangeResponse:
        owner = await self._actions.pass_on(request.sg_id, actors.pne(asker.peer_id), request.candidate)
        return sg.SgOwnerChangeResponse(Result.SUCCESS, owner)

    async def _delete(self, asker: Session, request: sg.SgDeleteRequest) -> sg.SgDeleteResponse:
        await self._actions.delete(request.sg_id, actors.pne(asker.peer_id))
        return sg.SgDeleteResponse(Result.SUCCESS)

    async def _discover(self, asker: Session, request: sg.SgDiscoveryRequest) -> sg.SgDiscoveryResponse:
        return await self._queries.discovered(asker, request)

    async def _inventory(self, asker: Session, request: sg.SgInventoryRequest) -> sg.SgInventoryResponse:
        return await self._queries.answer(asker, request)

    async def _inventory_of_gateway(self, asker: FromGateway, request: sg.SgInventoryRequest) -> sg.SgInventoryResponse:
        return await self._queries.answer(asker.peer.session, request)

    async def _key(self, asker: FromGateway, request: GroupKeyWanted) -> GroupKeyGiven:
        return await self._key_for(asker.peer.gateway_id, request)


def _entries_of(results: dict[EntityId, Result]) -> tuple[OutcomeEntry, ...] | None:
    """Return how it ended for each, as a message has it."""
    return tuple(OutcomeEntry(pne, result) for pne, result in results.items()) or None
